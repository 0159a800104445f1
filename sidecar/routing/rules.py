"""The operator's own routes: conditions on a request, tried in the order of the file before the endpoint table.

Routes with a `path` are found by the automaton of `sidecar.routing.matcher`, those with plain host names by a look-up;
only the few that have neither are tried one by one. Knows nothing of pools beyond their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import frozen

from sidecar.config.schema import Network, Route
from sidecar.config.wildcards import is_like, parts_of
from sidecar.routing.access import is_within
from sidecar.routing.keys import Fields
from sidecar.synapse.identifiers import query_pattern


@frozen(eq=False, slots=True)
class Rule:
    """One entry of `routes:`, ready to be asked. `number` counts from 0 in the file."""

    number: int
    route: Route
    hosts: frozenset[bytes]
    domains: tuple[bytes, ...]
    """`.example.org` for `*.example.org`."""
    methods: frozenset[bytes]
    query: tuple[re.Pattern[bytes], ...]
    """Each finds a parameter that has to be there."""
    header: tuple[tuple[bytes, bytes | None], ...]
    like: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    """Names of fields, and the parts of the pattern that one of the values has to be like."""
    source: tuple[Network, ...]

    def holds(self, method: bytes, query: bytes, fields: Fields, peer: str, scheme: str) -> bool:
        """Whether every condition but that on the path holds."""
        return (
            (not self.methods or method in self.methods)
            and (self.route.scheme is None or self.route.scheme == scheme)
            and (self.route.host is None or self._host_holds(host_of(fields)))
            and (not self.source or is_within(peer, self.source))
            and (not self.header or _headers_hold(self.header, fields))
            and (not self.like or _are_like(self.like, fields))
            and (not self.query or _query_holds(self.query, b"&" + query))
        )

    @property
    def takes_all(self) -> bool:
        """Whether it has no condition but those on path and method."""
        route = self.route
        return (
            route.scheme is None and route.host is None and not (self.source or self.header or self.like or self.query)
        )

    def _host_holds(self, host: bytes) -> bool:
        return host in self.hosts or host.endswith(self.domains)


@frozen(eq=False, slots=True)
class RuleIndex:
    """Rules of one path, or those of none, by host name where they have nothing but plain ones."""

    by_host: Mapping[bytes, tuple[Rule, ...]]
    others: tuple[Rule, ...]

    def all(self) -> dict[Rule, None]:
        """Each rule once."""
        return dict.fromkeys((*(rule for rules in self.by_host.values() for rule in rules), *self.others))

    def first(self, method: bytes, query: bytes, fields: Fields, peer: str, scheme: str) -> Rule | None:
        """The first rule of the file that holds."""
        named = self.by_host.get(host_of(fields), ()) if self.by_host else ()
        found = [_first(rules, method, query, fields, peer, scheme) for rules in (named, self.others) if rules]
        return earlier(*found) if len(found) == 2 else found[0] if found else None


def rule(number: int, route: Route) -> Rule:
    """Compile one route. A route for GET is one for HEAD too."""
    hosts = [host.lower().encode() for host in route.host or ()]
    methods = {method.upper().encode() for method in route.method or ()}
    return Rule(
        number,
        route,
        frozenset(host for host in hosts if not host.startswith(b"*.")),
        tuple(host[1:] for host in hosts if host.startswith(b"*.")),
        frozenset(methods | ({b"HEAD"} if b"GET" in methods else set())),
        tuple(query_pattern(*pair) for pair in _pairs(route.query or {})),
        tuple((name.lower(), value) for name, value in _pairs(route.header or {})),
        tuple((name.lower().encode(), parts_of(pattern)) for name, pattern in (route.header_like or {}).items()),
        route.source or (),
    )


def index(rules: Iterable[Rule]) -> RuleIndex | None:
    """File rules, which are in the order of the file; None where there are none."""
    by_host: dict[bytes, list[Rule]] = {}
    others = []
    for each in rules:
        if each.hosts and not each.domains:
            for host in each.hosts:
                by_host.setdefault(host, []).append(each)
        else:
            others.append(each)
    if not by_host and not others:
        return None
    return RuleIndex({host: tuple(found) for host, found in by_host.items()}, tuple(others))


def earlier(one: Rule | None, other: Rule | None) -> Rule | None:
    """Of two rules the one that stands earlier in the file."""
    if one is None or other is None:
        return one or other
    return one if one.number < other.number else other


def host_of(fields: Fields) -> bytes:
    """The host of a request in lower case, without port and the brackets' contents untouched."""
    host = (fields.get(b"host") or b"").lower()
    name, colon, port = host.rpartition(b":")
    return name if colon and not port.strip(b"0123456789") else host


def _first(rules: Iterable[Rule], method: bytes, query: bytes, fields: Fields, peer: str, scheme: str) -> Rule | None:
    for each in rules:
        if each.holds(method, query, fields, peer, scheme):
            return each
    return None


def _pairs(conditions: Mapping[str, str | None]) -> tuple[tuple[bytes, bytes | None], ...]:
    return tuple((name.encode(), None if value is None else value.encode()) for name, value in conditions.items())


def _headers_hold(conditions: Iterable[tuple[bytes, bytes | None]], fields: Fields) -> bool:
    for name, wanted in conditions:
        values = fields.get_all(name)
        if not values or (wanted is not None and wanted not in values):
            return False
    return True


def _are_like(conditions: Iterable[tuple[bytes, tuple[bytes, ...]]], fields: Fields) -> bool:
    return all(any(is_like(value, parts) for value in fields.get_all(name)) for name, parts in conditions)


def _query_holds(conditions: Iterable[re.Pattern[bytes]], query: bytes) -> bool:
    return all(condition.search(query) for condition in conditions)
