"""What HAProxy fetches of a request, and how it converts it: `path`, `hdr(host),lower`, `path,word(5,/)`.

After "7.3. Fetching samples" of HAProxy's configuration manual; only what decides where Matrix requests go. Knows
nothing of conditions or backends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

from attrs import define, field, frozen

from sidecar.importing.asked import Asked
from sidecar.importing.expressions import compiled
from sidecar.importing.prefixes import Prefixes

_PART = re.compile(r"([\w.-]+)(?:\(((?:\\.|[^()\\]|\([^()]*\))*)\))?", re.ASCII)

SUFFIXES = ("beg", "dir", "dom", "end", "len", "reg", "sub", "str")
"""`path_beg` is `path` with the method `beg`."""


@frozen
class Sample:
    """An expression: what is fetched and by which arguments, and the converters behind it."""

    fetch: str
    args: tuple[str, ...]
    converters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    method: str = ""
    """The matching method that the name of the fetch brings along."""


def sample(text: str) -> Sample | None:
    """The sample that `text` means; None where it cannot be read."""
    parts: list[tuple[str, tuple[str, ...]]] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None or (at and text[at - 1] != ","):
            return None
        parts.append((match[1], tuple(match[2].split(",")) if match[2] else ()))
        at = match.end() + 1
        if at <= len(text) and text[at - 1 : at] not in (",", ""):
            return None
    if not parts:
        return None
    (name, args), *converters = parts
    stem, _, suffix = name.rpartition("_")
    if stem and suffix in SUFFIXES and stem in _FETCHES:
        return Sample(stem, args, tuple(converters), suffix)
    return Sample(name, args, tuple(converters))


Patterns = Callable[[str], "Sequence[str] | None"]
"""The lines of a file of patterns, or of keys and values; None where it cannot be read."""


@define(eq=False)
class Sight:
    """One request, and what rules on the way have set."""

    asked: Asked
    source: str
    patterns: Patterns = lambda _name: None
    servers: Mapping[str, int] = field(factory=dict)
    """How many servers each backend has, all of which count as up."""
    variables: dict[str, str] = field(factory=dict)
    doubts: list[str] = field(factory=list)
    rewrites: str = ""
    """What was put in place of the path, and where."""
    prefixes: Prefixes | None = None
    """The same, if it was done once and only the beginning is another."""

    def rewrite(self, prefixes: Prefixes | None, how: str) -> None:
        """A rule has made another path, in the way of `how`; `prefixes`: where only the beginning is another."""
        self.prefixes = None if self.rewrites else prefixes
        self.rewrites = how

    def come_from(self, source: str) -> None:
        """A rule has set another address of the client."""
        self.source = source

    def values(self, wanted: Sample) -> list[str]:
        """All values of a sample, none where the request has none or it is not known here."""
        fetch = _FETCHES.get(wanted.fetch)
        if fetch is None:
            self.doubts.append(f"import does not know `{wanted.fetch}`")
            return []
        values = fetch(self, wanted.args)
        for name, args in wanted.converters:
            convert = self._converter(name, args)
            if convert is None:
                self.doubts.append(f"import does not know the converter `{name}`, or cannot read its file")
                return []
            values = [found for value in values if (found := convert(value, args)) is not None]
        return values

    def _converter(self, name: str, args: Sequence[str]) -> Convert | None:
        if name.startswith("map") and args:
            return self._map(name, args)
        if name == "nbsrv":
            return lambda value, _args: str(self.servers[value]) if value in self.servers else None
        return self._concatenated if name == "concat" else _CONVERTERS.get(name)

    def _concatenated(self, value: str, args: Sequence[str]) -> str:
        """`concat(start,variable,end)`."""
        start, name, end = (*args, "", "", "")[:3]
        return value + start + self.variables.get(name, "") + end

    def _map(self, name: str, args: Sequence[str]) -> Convert | None:
        """`map_reg(file,default)` and its like: the value beside the first key that fits."""
        fits = _MAPS.get(re.sub("_(?:str|int|ip|key)$", "", name.removeprefix("map")) or "_str")
        lines = self.patterns(args[0])
        if fits is None or lines is None:
            return None
        table = [line.split(None, 1) for line in lines]

        def look_up(value: str, _args: Sequence[str]) -> str | None:
            found = (entry[1] for entry in table if len(entry) > 1 and fits(value, entry[0]))
            return next(found, args[1] if len(args) > 1 else None)

        return look_up

    def value(self, wanted: Sample) -> str | None:
        """The last of its values, as HAProxy takes the last occurrence of a field."""
        found = self.values(wanted)
        return found[-1] if found else None


Fetch = Callable[[Sight, Sequence[str]], list[str]]


def _fields(sight: Sight, args: Sequence[str]) -> list[str]:
    """`hdr(name)`: the values, divided at commas."""
    value = sight.asked.fields.get(args[0].lower()) if args else None
    return [] if value is None else [part.strip(" \t") for part in value.split(",")]


def _whole_field(sight: Sight, args: Sequence[str]) -> list[str]:
    value = sight.asked.fields.get(args[0].lower()) if args else None
    return [] if value is None else [value]


def _parameter(sight: Sight, args: Sequence[str]) -> list[str]:
    for pair in sight.asked.query.split("&"):
        name, _, value = pair.partition("=")
        if args and name == args[0]:
            return [value]
    return []


def _cookie(sight: Sight, args: Sequence[str]) -> list[str]:
    pairs = (pair.strip().partition("=") for pair in sight.asked.fields.get("cookie", "").split(";"))
    return [value for name, _, value in pairs if args and name == args[0]]


def _path(sight: Sight, _args: Sequence[str]) -> list[str]:
    target = sight.asked.path
    scheme, _, rest = target.partition("://")
    if not target.startswith("/") and scheme and rest:
        return [f"/{rest.partition('/')[2]}"]
    return [target]


_FETCHES: Mapping[str, Fetch] = {
    "path": _path,
    "pathq": lambda sight, args: [_path(sight, args)[0] + sight.asked.target[len(sight.asked.path) :]],
    "url": lambda sight, _args: [sight.asked.target],
    "query": lambda sight, _args: [sight.asked.query],
    "method": lambda sight, _args: [sight.asked.method],
    "base": lambda sight, args: [sight.asked.fields.get("host", "") + _path(sight, args)[0]],
    "hdr": _fields,
    "req.hdr": _fields,
    "req.fhdr": _whole_field,
    "fhdr": _whole_field,
    "url_param": _parameter,
    "urlp": _parameter,
    "cook": _cookie,
    "req.cook": _cookie,
    "src": lambda sight, _args: [sight.source],
    "dst_port": lambda sight, _args: [str(sight.asked.port or "")],
    "var": lambda sight, args: [sight.variables[args[0]]] if args and args[0] in sight.variables else [],
    "str": lambda _sight, args: [",".join(args)],
    "ssl_fc": lambda sight, _args: ["1" if sight.asked.tls else "0"],
    "ssl_fc_sni": lambda sight, _args: [sight.asked.host] if sight.asked.tls else [],
    "req.ssl_sni": lambda sight, _args: [sight.asked.host] if sight.asked.tls else [],
    "nbsrv": lambda sight, args: [str(sight.servers.get(args[0], 0) if args else 0)],
    "hdr_cnt": lambda sight, args: [str(len(_fields(sight, args)))],
    "req.hdr_cnt": lambda sight, args: [str(len(_fields(sight, args)))],
    "req.fhdr_cnt": lambda sight, args: [str(len(_whole_field(sight, args)))],
    "bool": lambda _sight, args: ["1" if args[:1] == ("true",) else "0"],
    "always_true": lambda _sight, _args: ["1"],
    "always_false": lambda _sight, _args: ["0"],
}


def _matches(value: str, expression: str) -> bool:
    pattern = compiled(expression)
    return pattern is not None and pattern.search(value) is not None


_MAPS: Mapping[str, Callable[[str, str], bool]] = {
    "_str": str.__eq__,
    "_beg": str.startswith,
    "_end": str.endswith,
    "_sub": str.__contains__,
    "_reg": _matches,
}

Convert = Callable[[str, Sequence[str]], "str | None"]


def _word(value: str, args: Sequence[str]) -> str | None:
    """The nth word, counted from 1, or from the end below 0; empty words do not count."""
    words = [word for word in _divided(value, args) if word]
    return _nth(words, args)


def _field(value: str, args: Sequence[str]) -> str | None:
    return _nth(_divided(value, args), args)


def _divided(value: str, args: Sequence[str]) -> list[str]:
    signs = "".join(args[1:2]) or ","
    return re.split(f"[{re.escape(signs)}]", value)


def _nth(parts: Sequence[str], args: Sequence[str]) -> str | None:
    number = int(args[0]) if args and args[0].lstrip("-").isdigit() else 0
    index = number - 1 if number > 0 else number
    return parts[index] if number and -len(parts) <= index < len(parts) else None


def _replaced(value: str, args: Sequence[str]) -> str | None:
    pattern = compiled(args[0], ignore_case="i" in "".join(args[2:3])) if args else None
    if pattern is None:
        return None
    try:
        return pattern.sub("".join(args[1:2]), value, count=0 if "g" in "".join(args[2:3]) else 1)
    except (re.error, IndexError):
        return None


_CONVERTERS: Mapping[str, Convert] = {
    "lower": lambda value, _args: value.lower(),
    "upper": lambda value, _args: value.upper(),
    "word": _word,
    "field": _field,
    "url_dec": lambda value, _args: unquote(value, "latin-1"),
    "regsub": _replaced,
    "bool": lambda value, _args: "0" if value in ("", "0") else "1",
    "not": lambda value, _args: "1" if value in ("", "0") else "0",
    "length": lambda value, _args: str(len(value)),
}
