"""From compiled steps to lanes: which rows and routes lead to which pool, and whether clients can get there.

The last part of making a plan. Reads nothing; what it finds is told by `sidecar.routing.parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from sidecar.routing.access import AccessRules, closed_resource
from sidecar.routing.matcher import Node, concrete_paths, target_of
from sidecar.routing.parts import Lane
from sidecar.routing.plan import Methods, PlannedPool, Step
from sidecar.routing.pools import Pools
from sidecar.routing.rules import Rule
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.names import MAIN


def is_open(row: Endpoint, access: AccessRules) -> bool:
    """Whether `access` lets anybody reach the endpoint."""
    resource = closed_resource(b"/" + "/".join(row.path).encode(), known=True)
    return resource is None or bool(access.networks.get(resource))


@frozen(eq=False, kw_only=True)
class Lanes:
    """What the lanes of a plan depend on."""

    pools: Pools
    planned: Mapping[str, PlannedPool]
    access: AccessRules
    start: Node[Methods]
    rules: Sequence[Rule]
    """All of the operator's, in the order of the file."""
    unknown: Step
    route: Callable[[Rule, Step], Step]

    def all(self, steps: Iterable[Step]) -> Iterator[Lane]:
        """Every lane. `steps` are those of the rows."""
        found = {MAIN}
        yield self._lane(self.unknown, self.unknown.endpoint, frozenset())
        taking = [rule for rule in self.rules if rule.route.path is None and (rule.takes_all or rule.route.table)]
        for step in steps:
            row = step.row
            assert row is not None
            found.add(step.pool)
            reachable = is_open(row, self.access) and not self._is_taken(row, taking)
            yield from _by_owner(step, self._lane(step, row.name, row.methods, reachable=reachable))
        for rule in self.rules:
            if rule.route.pool is not None:
                found.add(rule.route.pool)
                yield from self._of_rule(rule)
        for name in self.planned.keys() - found:
            # Nothing leads there but the fallback of another pool.
            workers = self.planned[name].workers
            # Whoever falls back here goes by the key alone.
            yield Lane(pool=name, endpoint=name, workers=workers, required=self._serve_synapse(workers))

    def _lane(self, step: Step, endpoint: str, methods: frozenset[str], *, reachable: bool = True) -> Lane:
        row, workers = step.row, tuple(step.members)
        named = () if workers or row is None else self.pools.named_for(row)
        mounted = self.pools.is_mounted(row, step.members)
        return Lane(
            pool=step.pool,
            endpoint=endpoint,
            methods=methods,
            workers=workers,
            fallback=_each_once(step),
            seats=step.seats,
            named=named,
            mounted=mounted,
            required=step.pool == MAIN or bool(named) or (mounted and self._serve_synapse(workers)),
            open=reachable,
        )

    def _serve_synapse(self, workers: Iterable[str]) -> bool:
        """Whether any of them is a process of Synapse: what is none may be down, and clients do not wait for it."""
        return any(self.pools.workers[name].serves for name in workers)

    def _of_rule(self, rule: Rule) -> Iterator[Lane]:
        """What a route sends to its pool: rows under its very path, or anything."""
        path = rule.route.path
        steps = [] if path is None or path.endswith("**") else list(self._under(path, rule))
        for step in steps or [self.unknown]:
            methods = frozenset(method.decode() for method in rule.methods)
            routed = self._lane(self.route(rule, step), f"routes[{rule.number}]", methods)
            # What the operator sends somewhere is not for the table to judge.
            required = routed.pool == MAIN or self._serve_synapse(routed.workers)
            yield evolve(routed, mounted=True, required=required)

    def _under(self, path: str, rule: Rule) -> Iterator[Step]:
        found: dict[int, Step] = {}
        for methods in self._ends(path.removeprefix("/").split("/")):
            for method, step in methods.steps.items():
                if step.row is not None and method != b"OPTIONS" and (not rule.methods or method in rule.methods):
                    found[id(step)] = step
        yield from found.values()

    def _ends(self, path: Sequence[str]) -> Iterator[Methods]:
        """What is filed where a path leads, with each of its alternatives."""
        for concrete in concrete_paths(path):
            node = self.start
            for segment in target_of(concrete).split(b"/"):
                node = node.get(segment) or node.other
            yield node.payload

    def _is_taken(self, row: Endpoint, pathless: Sequence[Rule]) -> bool:
        """Whether routes take all requests for a row, so that its own workers get none."""
        return all(
            _takes([*(() if methods.rules is None else methods.rules.all()), *pathless], row)
            for methods in self._ends(row.path)
        )


def _by_owner(step: Step, lane: Lane) -> Iterator[Lane]:
    """The lane of each event persister, whose rooms are nobody else's; one lane, where others do as well."""
    persisters = tuple(dict.fromkeys(step.persisters)) if step.owner_only and step.kind == "room" else ()
    owners = [name for name in persisters if name in step.members]
    if len(persisters) < 2 or not owners:
        yield lane
        return
    for owner in owners:
        yield evolve(lane, workers=(owner,), fallback=(), share=f"rooms of {owner}")
    if len(owners) < len(persisters):
        yield evolve(lane, share="other rooms")


def _each_once(step: Step) -> tuple[tuple[str, ...], ...]:
    """The substitutes of a step, without who is one already or serves it anyway."""
    seen = set(step.members)
    groups = []
    for group in step.fallback:
        groups.append(tuple(name for name in group if name not in seen))
        seen.update(group)
    return tuple(filter(None, groups))


def _takes(rules: Iterable[Rule], row: Endpoint) -> bool:
    for rule in sorted(rules, key=lambda rule: rule.number):
        if rule.route.table:
            return False
        if rule.takes_all and (not rule.methods or row.methods <= {method.decode() for method in rule.methods}):
            return True
    return False
