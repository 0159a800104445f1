"""What a location of nginx does with a request: rewrite phase, access phase, proxy. Knows nothing of how it was found.

Understood are `set`, `return`, `rewrite` to another address, `if` around these, `allow` and `deny`, and `proxy_pass`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from attrs import frozen

from sidecar.importing.asked import Action, Position, ProxyVerdict
from sidecar.importing.expressions import compiled
from sidecar.importing.nginx_locations import Location
from sidecar.importing.nginx_tree import Directive, first
from sidecar.importing.nginx_values import Values
from sidecar.importing.prefixes import Prefixes, of_places, of_replacement
from sidecar.routing.access import is_within

REWRITING = ("set", "return", "rewrite", "if", "break")
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSES = ("fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass")
_CLOSED = 444


@frozen
class Target:
    """Where a `proxy_pass` goes, after its variables were filled in."""

    pool: str
    rest: str
    """A path in it, with which nginx replaces a part of the request's."""


def target_of(value: str) -> Target:
    """`http://pool/rest`, `http://host:8008`, `http://unix:/run/x.sock:/rest`."""
    _, _, address = value.rpartition("://")
    if address.startswith("unix:"):
        path, _, rest = address.removeprefix("unix:").partition(":")
        return Target(f"unix:{path}", rest)
    pool, slash, rest = address.partition("/")
    return Target(pool, slash + rest)


def rewritten(directives: Iterable[Directive], values: Values, place: Position | None) -> ProxyVerdict | None:
    """The answer of the rewrite phase; None where the request goes on. `place` None: the line that answers."""
    for each in directives:
        if each.name == "set" and len(each.args) > 1:
            values.own[each.args[0].removeprefix("$")] = values.fill(each.args[1])
        elif each.name == "return" and each.args:
            return returned(each, values, place or each.place)
        elif each.name == "rewrite" and len(each.args) > 1:
            verdict = _rewrite(each, values, place or each.place)
            if verdict is not None:
                return verdict
        elif each.name == "if" and _holds(each.args, values):
            if any(inner.name not in REWRITING for inner in each.block or ()):
                values.doubts.append(f"the `if` of {each.place} does something besides answering")
            verdict = rewritten(each.block or (), values, place)
            if verdict is not None:
                return verdict
    return None


def returned(directive: Directive, values: Values, place: Position) -> ProxyVerdict:
    """The verdict of a `return`."""
    code, *text = directive.args
    if not code.isdigit():
        code, text = "302", [code]
    status, body = int(code), values.fill(text[0]) if text else ""
    if status in _REDIRECTS:
        return ProxyVerdict(action="redirect", status=status, location=body, place=place, doubts=tuple(values.doubts))
    action: Action = "refuse" if status >= 400 else "respond"
    # A code without an answer: nginx hangs up.
    status = status if 200 <= status < 600 else _CLOSED
    return ProxyVerdict(action=action, status=status, body=body, place=place, doubts=tuple(values.doubts))


def _rewrite(directive: Directive, values: Values, place: Position) -> ProxyVerdict | None:
    expression, replacement, *flags = directive.args
    pattern = compiled(expression)
    match = pattern.search(values.uri) if pattern is not None else None
    if match is None:
        return None
    values.matched(match)
    if replacement.startswith(("http://", "https://", "$scheme")) or {"redirect", "permanent"} & set(flags):
        status = 301 if "permanent" in flags else 302
        return ProxyVerdict(action="redirect", status=status, location=values.fill(replacement), place=place)
    values.rewrite(values.fill(replacement), directive.place, of_replacement(expression, replacement))
    return None


def _holds(args: Sequence[str], values: Values) -> bool:
    """The condition of an `if`; those on files do not hold."""
    words = [word for word in args if word not in ("(", ")")]
    if len(words) == 1 and words[0].startswith("$"):
        return values.fill(words[0]) not in ("", "0")
    if len(words) == 3 and words[0].startswith("$"):
        value, sign, other = values.fill(words[0]), words[1], words[2]
        if sign in ("=", "!="):
            return (value == values.fill(other)) == (sign == "=")
        pattern = compiled(other, ignore_case=sign.endswith("*"))
        match = pattern.search(value) if pattern is not None else None
        if match is not None:
            values.matched(match)
        return (match is not None) != sign.startswith("!")
    values.doubts.append("an `if` that tests for files")
    return False


def admitted(rules: Iterable[Directive], address: str) -> bool:
    """Whether `allow` and `deny`, in their order, let an address in."""
    for each in rules:
        who = each.args[0] if each.args else ""
        if who == "all" or (who != "unix:" and _within(address, who)):
            return each.name == "allow"
    return True


def _within(address: str, network: str) -> bool:
    try:
        return is_within(address, (ip_network(network, strict=False),))
    except ValueError:
        return False


def served(location: Location, values: Values) -> ProxyVerdict:
    """What a location does with a request that no rewriting answers."""
    doubts = tuple(dict.fromkeys(values.doubts))
    if not admitted(location.settings("allow", "deny"), values.real_ip):
        return ProxyVerdict(action="refuse", status=403, place=location.place, doubts=doubts)
    basic = location.setting("auth_basic")
    told = values.asked.fields.get("authorization", "").lower()
    if basic is not None and basic.args[:1] != ("off",) and not told.startswith("basic "):
        return ProxyVerdict(action="refuse", status=401, place=location.place, doubts=doubts)
    proxy = first(location.directives, "proxy_pass")
    if proxy is not None and proxy.args:
        target = target_of(values.fill(proxy.args[0]))
        replaced = _replaced(target.rest, proxy, location, values)
        return ProxyVerdict(
            action="forward",
            pool=target.pool or proxy.args[0],
            place=location.place,
            rewrites=values.rewrites or replaced,
            prefixes=_prefixes(target.rest, proxy, location) if replaced and not values.rewrites else values.prefixes,
            doubts=tuple(dict.fromkeys(values.doubts)),
        )
    if any(first(location.directives, name) for name in _PASSES):
        return ProxyVerdict(
            action="unclear",
            place=location.place,
            doubts=(*doubts, "nginx forwards it with a protocol other than HTTP"),
        )
    return ProxyVerdict(action="files", place=location.place, doubts=doubts)


def _replaced(rest: str, proxy: Directive, location: Location, values: Values) -> str:
    """What a path in `proxy_pass` makes of the request's; empty where that stays as it is."""
    if not rest or rest in (values.asked.target, values.uri, values.asked.path):
        return ""
    if "$" not in proxy.args[0] and location.modifier in ("", "^~") and rest == location.text:
        return ""
    return f"{proxy.place} replaces the path with {rest if '$' not in proxy.args[0] else proxy.args[0]}"


def _prefixes(rest: str, proxy: Directive, location: Location) -> Prefixes | None:
    """The same where only the beginning of the path is another."""
    if "$" in proxy.args[0] or location.modifier not in ("", "^~"):
        return None
    return of_places(location.text, rest)
