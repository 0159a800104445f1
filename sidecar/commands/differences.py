"""What differs between two deployments in where requests go, and what share of keys another worker gets.

Each endpoint and each route with a path is asked in both with a request that was made up: without fields, from an
address that is nobody's. Knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from sidecar.commands.listing import answer_of, conditions_of, fallback_of, sharing_of, shown_methods
from sidecar.config.schema import Route
from sidecar.explaining.what_if import movement, step_of
from sidecar.loading.deployment import Deployment
from sidecar.routing.compile import segments_of
from sidecar.routing.decide import decide
from sidecar.routing.matcher import concrete_paths, target_of
from sidecar.routing.plan import Plan, Step
from sidecar.wire.fields import FieldSection

_PEER = "192.0.2.1"
_NO_FIELDS = FieldSection(b"\r\n\r\n")
_GOING_ON = b"?since=0&pos=0"
"""Without it a sync is an initial one."""


@frozen
class RouteTarget:
    """Where requests of one kind go."""

    pool: str
    affinity: str
    workers: Mapping[str, float] = field(factory=dict)
    """Weights by name."""
    sharing: tuple[str, ...] = ()
    """Those that share the keys; the others replace them."""
    fallback: tuple[str, ...] = ()
    persisters: tuple[str, ...] = ()
    answer: str = ""
    """Instead of all that, where the sidecar answers by itself: `refuse 403`."""

    def told(self) -> str:
        """The same in a few words."""
        if self.answer:
            return self.answer
        names = {name: name if weight == 1 else f"{name}*{weight:g}" for name, weight in self.workers.items()}
        workers = [names[name] for name in self.sharing]
        reserve = [told for name, told in names.items() if name not in self.sharing]
        workers += [f"then {', '.join(reserve)}"] if reserve else []
        fallback = f", else {', '.join(self.fallback)}" if self.fallback else ""
        return f"{self.pool} by {self.affinity}: {', '.join(workers) or 'nobody'}{fallback}"

    def as_json(self) -> dict[str, Any]:
        """The same with names."""
        workers, fallback = dict(self.workers), list(self.fallback)
        return {
            "action": self.answer or "forward",
            "pool": self.pool,
            "affinity": self.affinity,
            "workers": workers,
            "sharing": list(self.sharing),
            "fallback": fallback,
        }


@define
class Change:
    """Endpoints of one path that go elsewhere. `share` is that of the keys that move, None where there are none."""

    path: str
    endpoint: str
    before: RouteTarget
    after: RouteTarget
    share: float | None
    methods: tuple[str, ...] = ()

    def told_share(self) -> str:
        """The share for people."""
        return "they have no keys" if self.share is None else f"{self.share:.1%} of their keys move"

    def as_json(self) -> dict[str, Any]:
        """The object that `diff --json` prints for an endpoint."""
        return {
            "methods": list(self.methods),
            "path": self.path,
            "endpoint": self.endpoint,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "moved": self.share,
        }


def changes_between(before: Deployment, after: Deployment) -> list[Change]:
    """Every path and method that goes elsewhere, in the order of the table."""
    return _Comparison(before.plan, after.plan).changes(_paths(before, after))


def facts_between(before: Deployment, after: Deployment) -> list[tuple[str, str, str]]:
    """What else differs and decides where requests go: release, routes, access; each with both values in text."""
    pairs = [
        ("endpoint table", before.table.release, after.table.release),
        ("forwarded.trust", _networks(before.settings.forwarded.trust), _networks(after.settings.forwarded.trust)),
    ]
    for resource in before.plan.access.networks:
        pairs.append(
            (
                f"access.{resource}",
                _networks(before.plan.access.networks[resource]),
                _networks(after.plan.access.networks[resource]),
            )
        )
    old, new = before.settings.routes, after.settings.routes
    for number in range(max(len(old), len(new))):
        one, other = old[number : number + 1], new[number : number + 1]
        if one != other:
            pairs.append((f"routes[{number}]", _told(one), _told(other)))
    return [pair for pair in pairs if pair[1] != pair[2] or pair[0].startswith("routes")]


def _networks(networks: Iterable[object]) -> str:
    return ", ".join(map(str, networks)) or "nobody"


def _told(routes: Sequence[Route]) -> str:
    for route in routes:
        outcome = f"pool {route.pool}" if route.pool else " ".join(str(part) for part in answer_of(route) if part)
        conditions = conditions_of(route)
        return f"{' '.join(route.method or ('*',))} {route.path or '/**'} -> {outcome}" + (
            f" if {conditions}" if conditions else ""
        )
    return "none"


_Paths = Mapping[tuple[str, ...], Mapping[str, None]]


def _paths(*deployments: Deployment) -> _Paths:
    """Methods by divided path, of all endpoints and routes with a path."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for deployment in deployments:
        for row in deployment.plan.rows:
            found.setdefault(row.endpoint.path, {}).update(dict.fromkeys(shown_methods(row.endpoint.methods)))
    for deployment in deployments:
        for route in deployment.settings.routes:
            if route.path is not None:
                found.setdefault(segments_of(route.path), {}).update(dict.fromkeys(route.method or ("GET",)))
    return found


@define(eq=False)
class _Comparison:
    before: Plan
    after: Plan
    shares: dict[str, float | None] = field(factory=dict)
    """By all that a share depends on; hundreds of endpoints have the same workers."""

    def changes(self, paths: _Paths) -> list[Change]:
        found: dict[str, Change] = {}
        for path, methods in paths.items():
            for method in methods:
                for change in self._of_endpoint(path, method):
                    same = found.setdefault(repr((change.path, change.before, change.after)), change)
                    same.methods = tuple(dict.fromkeys((*same.methods, method)))
        return list(found.values())

    def _of_endpoint(self, path: tuple[str, ...], method: str) -> Iterator[Change]:
        """One change where all alternatives of the path share it, else one for each that changes."""
        for query, label in ((_GOING_ON, ""), (b"", " (initial)")) if path[-1] == "sync" else ((_GOING_ON, ""),):
            choices = concrete_paths(path)
            changes = [self._of_path(choice, method, query, label) for choice in choices]
            found = [change for change in changes if change is not None]
            if len(found) == len(choices) and all(_alike(change, found[0]) for change in found):
                found = [evolve(found[0], path="/" + "/".join(path) + label)]
            yield from found

    def _of_path(self, path: tuple[str, ...], method: str, query: bytes, label: str) -> Change | None:
        target = target_of(path) + query
        (one, step), (other, following) = (_destination(method, target, plan) for plan in (self.before, self.after))
        if one == other:
            return None
        share = None if step is None or following is None else self._share(step, following, path)
        endpoint = following.endpoint if following is not None else ""
        return Change("/" + "/".join(path) + label, endpoint, one, other, share)

    def _share(self, step: Step, following: Step, path: tuple[str, ...]) -> float | None:
        segments = target_of(path).split(b"/", self.before.splits)
        found = step.key_of(segments, b"", _NO_FIELDS, _PEER) if step.key_of is not None else None
        key = None if found is None else found[1]
        alike = [
            (each.kind, each.key_of is None, each.members, each.seats, each.persisters) for each in (step, following)
        ]
        known = repr((key if key == step.pool else None, alike))
        if known not in self.shares:
            moved = movement(step, following, key=key)
            self.shares[known] = None if moved is None else moved.share
        return self.shares[known]


def _alike(one: Change, other: Change) -> bool:
    return (one.before, one.after) == (other.before, other.after)


def _destination(method: str, target: bytes, plan: Plan) -> tuple[RouteTarget, Step | None]:
    step = step_of(method.encode(), target, _NO_FIELDS, _PEER, plan)
    if step is None:
        decision = decide(method.encode(), target, _NO_FIELDS, _PEER, plan)
        return RouteTarget("", "none", answer=f"{decision.action} {decision.status}"), None
    return RouteTarget(step.pool, step.kind, step.members, sharing_of(step), fallback_of(step), step.persisters), step
