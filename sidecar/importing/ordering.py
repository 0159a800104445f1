"""The lines of a foreign file, in its order, as routes: what is not Synapse's becomes one, what is goes to the table.

A line for Synapse becomes a route with `table: true` where one below it would take its requests. Knows neither proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from attrs import define, evolve, field, frozen

from sidecar.importing.asked import Position
from sidecar.importing.draft import OwnRoute
from sidecar.importing.paths import covers
from sidecar.importing.prefixes import NO_PREFIXES, Prefixes

Fate = Literal["route", "table", "spelled", "shadowed", "lost", "nameless", "port"]
Route = dict[str, Any]
_COARSE = ("/_matrix/**", "/_synapse/**")
"""What is Synapse's where an expression cannot be said as a path."""
_MANY = 6
_SIGNED = "it changes the path of requests to Synapse; the sidecar does not, because signatures cover the path"


@frozen(eq=False)
class Settled:
    """What became of a line: `route`, known to the `table`, `spelled` out by endpoints, or nothing, and why."""

    own: OwnRoute
    fate: Fate
    routes: tuple[Route, ...] = ()


@frozen(eq=False)
class Spelled:
    """An endpoint that a line decides: its path as a route has it, its method, and what the line does with it."""

    conditions: Mapping[str, Any]
    outcome: Mapping[str, Any]


@define(eq=False)
class Ordering:
    """Takes lines one by one. `routes` is what has come of them."""

    is_synapse: Callable[[str], bool]
    pool_name: Callable[[str, Prefixes], str]
    """The pool of an upstream with these prefixes; empty where none of its servers has an address."""
    spelled: Callable[[Position], Sequence[Spelled]]
    routes: list[Route] = field(factory=list)
    settled: list[Settled] = field(factory=list)
    _held: list[tuple[Route, bool]] = field(factory=list)
    """Routes to the table that are written when one follows that would take their requests; and whether they are only
    roughly what the line says."""

    def take(self, lines: Iterable[OwnRoute]) -> None:
        """All lines, the first first."""
        for own in lines:
            if own.prefixes != NO_PREFIXES and self.is_synapse(own.upstream):
                own = evolve(own, why_not=_SIGNED, upstream="")
            fate, routes = self._taken(own)
            self.settled.append(Settled(own, fate, tuple(routes)))

    def take_elsewhere(self, lines: Iterable[OwnRoute]) -> None:
        """Lines of other ports: what is Synapse's there is Synapse's, whatever else the first ports do with it."""
        for own in lines:
            if own.upstream and self.is_synapse(own.upstream) and own.conditions.get("path") is None:
                conditions = {key: own.conditions[key] for key in ("host", "scheme") if key in own.conditions}
                self._held.append(({**conditions, "path": _COARSE[0], "table": True}, True))

    def take_rest(self, lines: Iterable[OwnRoute]) -> None:
        """The same lines again, for names of which the first ports know nothing; others cannot be told apart here."""
        known = {host for route in self.routes for host in route.get("host", ())}
        for own in lines:
            hosts = own.conditions.get("host", ())
            if own.upstream and self.is_synapse(own.upstream):
                self.settled.append(Settled(own, "table"))
            elif not own.why_not and (
                (hosts and known.isdisjoint(hosts)) or (own.upstream and own.conditions.get("path") is not None)
            ):
                self.take([own])
            else:
                self.settled.append(Settled(own, "port"))

    def _taken(self, own: OwnRoute) -> tuple[Fate, Sequence[Route]]:
        if own.why_not:
            return self._without_path(own)
        conditions = dict(own.conditions)
        if not own.upstream:
            return self._added({**conditions, **own.outcome}) if own.outcome else ("lost", ())
        if self.is_synapse(own.upstream):
            self._held.append(({**conditions, "table": True}, False))
            return "table", ()
        name = self.pool_name(own.upstream, own.prefixes)
        return self._added({**conditions, "pool": name}) if name else ("nameless", ())

    def _without_path(self, own: OwnRoute) -> tuple[Fate, Sequence[Route]]:
        if own.upstream and self.is_synapse(own.upstream):
            rough = {key: own.conditions[key] for key in ("host", "scheme") if key in own.conditions}
            self._held += [({**rough, "path": path, "table": True}, True) for path in _COARSE]
            return "table", ()
        routes = [{**each.conditions, **each.outcome} for each in self.spelled(own.place)]
        for route in routes:
            self._added(route)
        return ("spelled", routes) if routes else ("lost", ())

    def _added(self, route: Route) -> tuple[Fate, Sequence[Route]]:
        before = [*self.routes, *(held for held, rough in self._held if not rough)]
        if any(takes_all(each, route) for each in before):
            return "shadowed", ()
        kept: list[tuple[Route, bool]] = []
        wanted: list[Route] = []
        for held, rough in self._held:
            if covers(route.get("path"), held.get("path")) and _meet(held, route):
                wanted.append(held)
            else:
                kept.append((held, rough))
        self._held = kept
        broad = all(covers(route.get("path"), root) for root in _COARSE)
        for held in _condensed(wanted) if broad else wanted:
            if not any("table" in each and takes_all(each, held) for each in self.routes):
                self.routes.append(held)
        self.routes.append(route)
        return "route", (route,)


def _condensed(routes: Sequence[Route]) -> list[Route]:
    """The same, but for many below one root: then all below it, whose unknown paths are Synapse's to refuse."""
    groups: dict[tuple[str, str], list[Route]] = {}
    for route in routes:
        root = next((each for each in _COARSE if covers(each, route.get("path"))), str(route.get("path")))
        others = repr({key: value for key, value in route.items() if key != "path"})
        groups.setdefault((root, others), []).append(route)
    found: list[Route] = []
    for (root, _), group in groups.items():
        found += [{**group[0], "path": root}] if len(group) > _MANY else group
    return found


def takes_all(one: Route, other: Route) -> bool:
    """Whether a route takes every request that another one would."""
    if not covers(one.get("path"), other.get("path")):
        return False
    for key in ("host", "method", "source"):
        if key in one and not (key in other and all(_among(each, one[key]) for each in other[key])):
            return False
    return "scheme" not in one or one["scheme"] == other.get("scheme")


def _among(name: str, names: Sequence[str]) -> bool:
    return name in names or any(each.startswith("*.") and name.endswith(each[1:]) for each in names)


def _meet(one: Route, other: Route) -> bool:
    """Whether some request fits both but for the path."""
    for key in ("host", "method", "source"):
        if key in one and key in other:
            both = any(_among(each, other[key]) for each in one[key]) or any(
                _among(each, one[key]) for each in other[key]
            )
            if not both:
                return False
    return bool(one.get("scheme", other.get("scheme")) == other.get("scheme", one.get("scheme")))
