"""From settings, processes and endpoint rows to a plan.

The only place where configuration and routing meet. Reads nothing, starts nothing; faults that make a plan impossible
are raised together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import define, evolve, field

from sidecar.config.schema import Pool, Route, Settings, Worker
from sidecar.routing.access import AccessRules, access_rules
from sidecar.routing.changes import changes_of, changes_paths, compression_of
from sidecar.routing.decision import DEFAULTS
from sidecar.routing.hashing import rotations
from sidecar.routing.keys import (
    Callers,
    KeyFunction,
    by_caller,
    by_constant,
    by_origin,
    by_path,
    by_segment,
    by_source,
    by_user,
)
from sidecar.routing.lanes import Lanes
from sidecar.routing.matcher import Patterns
from sidecar.routing.oddities import idle_members
from sidecar.routing.overrides import Override, adjusted
from sidecar.routing.parts import PoolPart, parts_of
from sidecar.routing.plan import Methods, Plan, PlannedPool, PlannedRow, Step
from sidecar.routing.planning import planned_pools
from sidecar.routing.pools import EVENTS, SYNC, Pools, by_method, form_pools
from sidecar.routing.reasons import reason_of
from sidecar.routing.rules import Rule, index, rule
from sidecar.routing.seats import holders_of
from sidecar.routing.workers import Facts, PlannedWorker, with_main
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.mas import with_mas
from sidecar.synapse.names import MAIN
from sidecar.synapse.token_owner import caller_at

UNKNOWN = "unknown"
"""Name of the endpoint of a path that no row has."""
INITIAL = "initial_sync"
POSITIONS = {"sync": b"since", "sliding_sync": b"pos"}
"""Query parameter without which a sync of that pool begins at the beginning."""

_FEDERATION = (("_matrix", "federation"), ("_matrix", "key"))
_ROOM = ("room_id", "room_identifier", "room_alias")


def compile_plan(
    settings: Settings,
    workers: Iterable[PlannedWorker],
    endpoints: Iterable[Endpoint],
    facts: Facts,
    overrides: Sequence[Override] = (),
) -> Plan:
    """The plan for these processes; raises ConfigError where none of several is the main process.

    Pools that `routes` and `fallback` name exist, and so do the workers of pools (`sidecar.config.references`).
    """
    known = {worker.name: worker for worker in with_main(tuple(workers), settings)}
    rows = tuple(by_method(endpoints))
    if facts.mas is not None:
        name, endpoint = facts.mas.name, facts.mas.endpoint
        # No Synapse: it has no /health.
        beside = PlannedWorker(
            name=name, endpoint=endpoint, serves=frozenset(), media=False, settings=Worker(health="")
        )
        known.setdefault(name, beside)
        rows = with_mas(rows)
    known = {name: adjusted(worker, overrides) for name, worker in known.items()}
    pools = form_pools(known, settings.pools, facts)
    rows = tuple(row for row in rows if pools.exists(row))
    callers = Callers({token.encode(): sender for token, sender in facts.appservices.items()})
    return _Compiler(settings, pools, rows, callers, resolves(settings, facts)).plan()


def resolves(settings: Settings, facts: Facts) -> bool:
    """Whether users are asked for whose tokens do not name them; by itself where MAS issues the tokens."""
    wish = settings.tokens.resolve
    return wish == "always" or (wish == "auto" and ("mas" in facts.features or facts.mas is not None))


@define(eq=False)
class _Compiler:
    """Builds the steps, each once, and the automaton that finds them."""

    settings: Settings
    pools: Pools
    rows: tuple[Endpoint, ...]
    callers: Callers
    resolving: bool
    steps: dict[int, Step] = field(factory=dict)
    planned: dict[str, PlannedPool] = field(factory=dict)
    access: AccessRules = field(init=False)

    def __attrs_post_init__(self) -> None:
        service, most = self.pools.facts.mas, self.settings.limits.path_segments
        self.access = access_rules(self.settings.access, most, () if service is None else service.callers)

    def plan(self) -> Plan:
        self.planned = planned_pools(self.settings, self.pools, self._steps(), self.access)
        unknown = self._unknown()
        rules = [rule(number, route) for number, route in enumerate(self.settings.routes)]
        patterns = self._patterns(rules)
        start = patterns.compile(lambda found: self._methods(found, unknown))
        lanes = Lanes(
            pools=self.pools,
            planned=self.planned,
            access=self.access,
            start=start,
            rules=rules,
            unknown=unknown,
            route=self._routed,
        )
        return Plan(
            workers=self.pools.workers,
            pools=self.planned,
            membership=self.pools,
            rows=tuple(self._planned_row(row) for row in self.rows),
            parts=self._parts(lanes),
            problems=tuple(idle_members(self.settings, self.pools, self.rows)),
            start=start,
            splits=patterns.depth + 1,
            unknown=unknown,
            anything=self._preflight(unknown),
            rules=len(rules),
            pathless=index(each for each in rules if each.route.path is None),
            access=self.access,
            callers=self.callers,
            resolving=self.resolving,
            route=self._routed,
        )

    def _parts(self, lanes: Lanes) -> Mapping[str, tuple[PoolPart, ...]]:
        found = parts_of(lanes.all(self._steps()))
        return {name: found[name] for name in self.planned}

    def _patterns(self, rules: Iterable[Rule]) -> Patterns[Endpoint | Rule]:
        patterns: Patterns[Endpoint | Rule] = Patterns()
        for row in self.rows:
            patterns.add(row.path, row)
        for each in rules:
            if each.route.path is not None:
                patterns.add(segments_of(each.route.path), each)
        return patterns

    def _methods(self, found: tuple[Endpoint | Rule, ...], unknown: Step) -> Methods:
        rules = sorted((each for each in found if isinstance(each, Rule)), key=lambda each: each.number)
        rows = [each for each in found if isinstance(each, Endpoint)]
        steps: dict[bytes, Step] = {}
        for row in rows:
            for method in row.methods:
                steps.setdefault(method.encode(), self._step(row))
        if b"GET" in steps:
            steps.setdefault(b"HEAD", steps[b"GET"])
        if rows:
            steps.setdefault(b"OPTIONS", self._preflight(self._step(rows[0])))
        return Methods(steps, unknown, index(rules))

    def _step(self, row: Endpoint) -> Step:
        known = self.steps.get(id(row))
        if known is None:
            pool = self.pools.pool_of(row)
            known = self._plain(row, pool)
            if pool in POSITIONS and row.path[-1] == "sync":
                initial = self._plain(row, self._initial_pool(pool))
                known = evolve(known, position=POSITIONS[pool], initial=initial)
            self.steps[id(row)] = known
        return known

    def _initial_pool(self, pool: str) -> str:
        """Who gave sliding sync workers of its own wants its first requests there too, unless told otherwise."""
        own = pool != SYNC and pool in self.settings.pools and INITIAL not in self.settings.pools
        return pool if own else INITIAL

    def _plain(self, row: Endpoint, pool: str) -> Step:
        members, *fallback = _filled(
            _weights(self.pools.members(pool, row)),
            *map(_weights, self.pools.after(pool, row)),
            # What nobody serves is a 404, and main says so; a hard stream would be a 500.
            last=() if row.hard or self.pools.named_for(row) else (self.pools.main,),
        )
        kind = self._kind(pool, row)
        step = Step(
            endpoint=row.name,
            pool=pool,
            kind=kind,
            key_of=self._key_of(kind, row.path, row, pool),
            members=members,
            fallback=tuple(fallback),
            row=row,
            persisters=self.pools.writers[EVENTS] if pool == EVENTS else (),
            owner_only=EVENTS in self.pools.stated and not self._states_fallback(pool),
            caller_at=caller_at(row),
            guarded=row.path[0] == "_synapse" or row.path[-1] == "**",
            replayable=row.replayable,
            main_knows=self._main_knows(row),
            reason=reason_of(self.pools, row, pool, members),
        )
        return self._finished(step)

    def _main_knows(self, row: Endpoint) -> bool:
        return self.pools.serves(self.pools.main, row)

    def _finished(self, step: Step, route: Route | None = None) -> Step:
        """Add what depends on the pool and on the members, not on the endpoint. `route`: what sends it there."""
        settings = self.settings.pools.get(step.pool, DEFAULTS)
        # The rooms of an event persister are its own, however many there are.
        seats, shares = ((), ()) if step.persisters else self.pools.seats(step.pool, step.members)
        members, *others = _filled(*map(self._in_force, (step.members, *step.fallback)))
        seats = seats if members.keys() <= step.members.keys() else ()
        shared = f"; {len(seats)} of them share the keys, the others replace them"
        made = evolve(
            step,
            members=members,
            fallback=tuple(others),
            settings=settings,
            changes=changes_of(settings, compression_of(self.settings.compress, step.row, route)),
            body_limit=self._body_limit(settings, members),
            federation=step.row is not None and step.row.path[:2] in _FEDERATION,
            coalesce=self.pools.coalesce(step.pool),
            seats=seats,
            shares=shares,
            reason=step.reason if len(seats) in (0, len(members)) else step.reason + shared,
        )
        fallback = tuple(dict.fromkeys(name for group in made.fallback for name in group if name not in made.members))
        orders = seats or rotations(made.members) or ((),)
        return evolve(made, keyless=tuple(made.decision("none", None, order, fallback) for order in orders))

    def _in_force(self, members: Mapping[str, float]) -> dict[str, float]:
        """The weights that these workers have at run time; none of them 0."""
        return {name: share for name in members if (share := self.pools.workers[name].share) > 0}

    def _body_limit(self, settings: Pool, members: Iterable[str]) -> int | None:
        """The pool's own, else the least of what its workers take, and not more than the configuration allows."""
        if settings.request_body is not None:
            return settings.request_body
        limits = [limit for name in members if (limit := self.pools.workers[name].process.body_limit) is not None]
        return min(*limits, self.settings.limits.request_body) if limits else None

    def _kind(self, pool: str, row: Endpoint | None) -> str:
        stated = self.settings.pools.get(pool, DEFAULTS).affinity
        if stated is not None:
            return stated
        return "none" if row is None or pool == MAIN else row.affinity

    def _key_of(self, kind: str, path: Sequence[str], row: Endpoint | None, pool: str) -> KeyFunction | None:
        if row is not None and row.affinity == kind:
            at = _position(path, (row.key,)) if row.key else -1
        else:
            at = _position(path, _ROOM) if kind == "room" else -1
        if kind == "user":
            own = -1 if row is None or at > 0 else caller_at(row)
            return by_caller(self.callers, own) if own > 0 else by_user(self.callers, at)
        if kind in ("room", "session", "path") and at > 0:
            return by_segment(kind, at)
        if kind == "session":
            return by_constant(kind, pool)
        return {"origin": by_origin, "source": by_source, "path": by_path}.get(kind)

    def _unknown(self) -> Step:
        reason = "no endpoint row has this path and method; main answers it, because modules of Synapse mount their own"
        main = {self.pools.main.name: 1.0}
        step = Step(UNKNOWN, MAIN, "none", None, main, (), guarded=True, main_knows=False, reason=reason)
        return self._finished(step)

    def _preflight(self, step: Step) -> Step:
        """OPTIONS, which every process answers alike, so that even a writer has substitutes."""
        reason = "every process answers OPTIONS alike"
        members, *fallback = _filled(step.members, *step.fallback, _weights((self.pools.main,)))
        return self._finished(
            Step(
                step.endpoint,
                step.pool,
                "none",
                None,
                members,
                tuple(fallback),
                step.row,
                reason=reason,
                guarded=step.guarded,
                replayable=True,
                main_knows=step.main_knows,
            )
        )

    def _routed(self, rule: Rule, step: Step) -> Step:
        """A rule's pool as the operator wrote it; the row gives the key, and main for a fallback where it serves."""
        row, pool = step.row, rule.route.pool or MAIN
        planned = self.planned[pool]
        members, *fallback = _filled(
            self._weights_of(planned.workers), self._weights_of(self._substitutes(planned, row))
        )
        path = row.path if row is not None else segments_of(rule.route.path or "")
        kind = self._kind(pool, row)
        return self._finished(
            Step(
                endpoint=step.endpoint,
                pool=pool,
                kind=kind,
                key_of=self._key_of(kind, path, row, pool),
                members=members,
                fallback=tuple(fallback),
                row=row,
                replayable=step.replayable,
                main_knows=row is not None and self._main_knows(row) and not changes_paths(planned.settings),
                strangers=self._strangers(row, (*members, *(name for group in fallback for name in group))),
                reason=f"a route of the configuration sends it to pool {pool}",
            ),
            rule.route,
        )

    def _strangers(self, row: Endpoint | None, names: Iterable[str]) -> tuple[str, ...]:
        """The Synapse workers among those named whose listeners do not serve the row."""
        if row is None:
            return ()
        workers = [self.pools.workers[name] for name in names if name != self.pools.main.name]
        return tuple(each.name for each in workers if each.serves and not row.worker_resources & each.serves)

    def _substitutes(self, planned: PlannedPool, row: Endpoint | None) -> tuple[str, ...]:
        if row is None or self._states_fallback(planned.name) or changes_paths(planned.settings):
            return planned.fallback
        return tuple(worker.name for group in self.pools.after(planned.name, row) for worker in group)

    def _states_fallback(self, pool: str) -> bool:
        return self.settings.pools.get(pool, DEFAULTS).fallback is not None

    def _weights_of(self, names: Iterable[str]) -> dict[str, float]:
        return _weights(self.pools.workers[name] for name in names)

    def _steps(self) -> Iterator[Step]:
        """Those of all rows, and of first requests."""
        for row in self.rows:
            step = self._step(row)
            yield from (each for each in (step, step.initial) if each is not None)

    def _planned_row(self, row: Endpoint) -> PlannedRow:
        step = self._step(row)
        fallback = dict.fromkeys(name for group in step.fallback for name in group if name not in step.members)
        return PlannedRow(
            endpoint=row,
            pool=step.pool,
            affinity=step.kind,
            workers=tuple(step.members),
            sharing=holders_of(step.seats) or tuple(step.members),
            fallback=tuple(fallback),
            reason=step.reason,
        )


def segments_of(path: str) -> tuple[str, ...]:
    """The segments of a path in text, without the empty one in front of the first slash."""
    return tuple(path.removeprefix("/").split("/"))


def _weights(workers: Iterable[PlannedWorker]) -> dict[str, float]:
    """Weights above zero by name, as the file has them (`PlannedWorker.standing`)."""
    weights = {worker.name: worker.standing for worker in workers}
    return {name: weight for name, weight in weights.items() if weight > 0}


def _filled(*groups: Mapping[str, float], last: Sequence[PlannedWorker] = ()) -> list[Mapping[str, float]]:
    """The groups that have anybody in them; where none has, that of `last`, be it empty."""
    return [group for group in groups if group] or [_weights(last)]


def _position(path: Sequence[str], names: Sequence[str]) -> int:
    """Where in a divided path the first of the parameters stands; -1 where none does."""
    for number, segment in enumerate(path, start=1):
        if segment.startswith("{") and segment.strip("{+}") in names:
            return number
    return -1
