"""Which location of nginx a path finds, nested ones too. After ngx_http_core_find_location."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from sidecar.importing.asked import Position
from sidecar.importing.expressions import compiled
from sidecar.importing.nginx_tree import Directive, first


@frozen(eq=False)
class Location:
    """A location, or the server around all of them; `above` are the blocks around it, the outermost first."""

    modifier: str
    """`=`, `^~`, `~`, `~*`, `@`, or empty for a prefix."""
    text: str
    directives: tuple[Directive, ...]
    place: Position
    pattern: re.Pattern[str] | None
    inner: tuple[Location, ...]
    above: tuple[Location, ...] = ()

    @property
    def redirects_to_slash(self) -> bool:
        """Whether the same path without its last slash is sent here (only before a proxy)."""
        is_prefix = self.modifier in ("", "^~") and self.text.endswith("/")
        return is_prefix and first(self.directives, "proxy_pass") is not None

    def setting(self, name: str) -> Directive | None:
        """The directive of this name that holds here: the own one, else the nearest around."""
        for block in (self, *reversed(self.above)):
            found = first(block.directives, name)
            if found is not None:
                return found
        return None

    def settings(self, *names: str) -> tuple[Directive, ...]:
        """All directives of these names at the nearest level that has any, as lists are inherited."""
        for block in (self, *reversed(self.above)):
            found = tuple(each for each in block.directives if each.name in names)
            if found:
                return found
        return ()


def location(directive: Directive, above: tuple[Location, ...] = ()) -> Location:
    """The location of a `location`, `server` or `http` directive, with those inside it."""
    sign, text = _named(directive.args) if directive.name == "location" else ("", "")
    own = Location(
        sign,
        text,
        directive.block or (),
        directive.place,
        compiled(text, ignore_case=sign == "~*") if sign.startswith("~") else None,
        (),
        above,
    )
    inner = tuple(location(each, (*above, own)) for each in directive.inside("location"))
    return Location(own.modifier, own.text, own.directives, own.place, own.pattern, inner, above)


def _named(args: Sequence[str]) -> tuple[str, str]:
    if len(args) > 1:
        return args[0], args[1]
    text = args[0] if args else ""
    for sign in ("^~", "~*", "~", "=", "@"):
        if text.startswith(sign):
            return sign, text[len(sign) :]
    return "", text


@frozen(eq=False)
class Found:
    """What a path led to: a location, and what its expression captured, or a redirect to the path with a slash."""

    location: Location
    match: re.Match[str] | None = None
    slash: bool = False


def find(uri: str, outer: Location) -> Found | None:
    """The location of a normalized path below `outer`; None where none of them takes it."""
    for each in outer.inner:
        if each.modifier == "=" and each.text == uri:
            return Found(each)
    prefixes = [each for each in outer.inner if each.modifier in ("", "^~")]
    for each in prefixes:
        if each.redirects_to_slash and each.text[:-1] == uri:
            return Found(each, slash=True)
    longest = max(
        (each for each in prefixes if uri.startswith(each.text)), key=lambda each: len(each.text), default=None
    )
    within = find(uri, longest) if longest is not None else None
    if within is not None and (within.slash or within.location.modifier in ("=", "~", "~*")):
        return within
    if longest is None or longest.modifier != "^~":
        for each in outer.inner:
            match = each.pattern.search(uri) if each.pattern is not None else None
            if match is not None:
                return find(uri, each) or Found(each, match)
    return within or (None if longest is None else Found(longest))
