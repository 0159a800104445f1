"""The compiled routing state: what `decide` looks things up in. Made by `sidecar.routing.compile`.

A plan does not change; a reload makes a new one. What it remembers are answers of pure functions, in bounded
dictionaries. Knows nothing of files, sockets or which workers are up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import field, frozen

from sidecar.config.schema import Pool
from sidecar.errors import Problem
from sidecar.exchange.changing import Changes
from sidecar.routing.access import AccessRules
from sidecar.routing.decision import DEFAULTS, Decision
from sidecar.routing.hashing import ranked
from sidecar.routing.keys import OPAQUE, Callers, Key, KeyFunction
from sidecar.routing.matcher import Node, concrete_paths, target_of
from sidecar.routing.parts import PoolPart
from sidecar.routing.pools import Pools
from sidecar.routing.rules import Rule, RuleIndex
from sidecar.routing.seats import Seats, holders_of, seat_of
from sidecar.routing.workers import PlannedWorker
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.names import MAIN
from sidecar.synapse.shards import event_persister

DECISIONS = 32_768
"""Decisions that are remembered, of all endpoints together; when that many are, all are forgotten."""
KEY_LENGTH = 256
"""Longest key whose decision is remembered. User and room ids have at most 255 octets (Matrix, appendices 3.2)."""


@frozen(eq=False)
class Step:
    """Everything about a matched request but its key."""

    endpoint: str
    pool: str
    kind: str
    key_of: KeyFunction | None
    members: Mapping[str, float]
    """Weights of the workers of the pool that serve the endpoint."""
    fallback: tuple[Mapping[str, float], ...]
    """The same of the pools that take the request when all of `members` are down, in order."""
    row: Endpoint | None = None
    persisters: tuple[str, ...] = ()
    """`stream_writers.events` where a room's request goes to the writer of its events first."""
    owner_only: bool = False
    """And to nobody else: any other process would pass the request on to that writer."""
    initial: Step | None = None
    """Taken instead for a request without a position in the stream."""
    position: bytes = b""
    """Query parameter with that position."""
    caller_at: int = -1
    """See `Decision.caller_at`."""
    guarded: bool = False
    """The path could be another spelling of a closed one."""
    replayable: bool | None = None
    settings: Pool = DEFAULTS
    """What the file says of the pool."""
    body_limit: int | None = None
    federation: bool = False
    coalesce: float = 0.0
    """See `Decision.coalesce`."""
    changes: Changes | None = None
    """See `Decision.changes`."""
    main_knows: bool = field(kw_only=True)
    """See `Decision.main_knows`."""
    strangers: tuple[str, ...] = ()
    reason: str = ""
    seats: Seats = ()
    """Where not all members share the keys."""
    shares: tuple[float, ...] = ()
    """Of each seat, how large it is beside the others."""
    keyless: tuple[Decision, ...] = ()
    """The decisions for requests without a key."""
    decided: dict[Key, Decision] = field(factory=dict)
    _sharing: tuple[str, ...] = field(init=False, repr=False)
    _same_fallback: tuple[str, ...] | None = field(init=False, repr=False)
    """The fallback of every key, where no group has an order to choose."""

    @_sharing.default
    def _holders(self) -> tuple[str, ...]:
        return holders_of(self.seats)

    @_same_fallback.default
    def _without_order(self) -> tuple[str, ...] | None:
        if any(len(group) > 1 or group.keys() & self.members.keys() for group in self.fallback):
            return None
        return tuple(dict.fromkeys(name for group in self.fallback for name, weight in group.items() if weight > 0))

    def settle(self, key: Key) -> Decision:
        """The decision for a key, worked out anew."""
        kind, text = key
        candidates = seat_of(self.seats, self.shares, text) if self.seats else ranked(self.members, text)
        owner = event_persister(text, self.persisters) if self.persisters and text[:1] == "!" else None
        if owner in candidates:
            if self.owner_only:
                return self.decision(kind, text, (owner,), ())
            candidates = (owner, *(name for name in candidates if name != owner))
        return self.decision(kind, text, candidates, self._fallback(text, candidates))

    def decision(self, kind: str, key: str | None, candidates: tuple[str, ...], fallback: tuple[str, ...]) -> Decision:
        """A decision with these workers; 503 when there is none at all."""
        return Decision(
            action="forward" if candidates else "refuse",
            endpoint=self.endpoint,
            pool=self.pool,
            kind="user" if kind == OPAQUE else kind,
            key=key,
            caller_at=self.caller_at,
            candidates=candidates,
            fallback=fallback,
            status=None if candidates else 503,
            reason=self.reason,
            replayable=self.replayable,
            settings=self.settings,
            body_limit=self.body_limit,
            federation=self.federation,
            coalesce=self.coalesce,
            main_knows=self.main_knows,
            changes=self.changes,
            strangers=self.strangers,
            sharing=self._sharing,
        )

    def _fallback(self, key: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
        if self._same_fallback is not None:
            return self._same_fallback
        ordered = [name for members in self.fallback for name in ranked(members, key)]
        return tuple(name for name in dict.fromkeys(ordered) if name not in candidates)


@frozen(eq=False)
class Memory:
    """Remembers decisions in the steps that they belong to, and counts them."""

    remembered: list[Step] = field(factory=list, repr=False)

    def keep(self, step: Step, key: Key, decision: Decision) -> None:
        """Remember a decision, unless its key is so long that only a stranger would send it."""
        if len(key[1]) > KEY_LENGTH:
            return
        if len(self.remembered) >= DECISIONS:
            for each in self.remembered:
                each.decided.clear()
            self.remembered.clear()
        self.remembered.append(step)
        step.decided[key] = decision


@frozen(eq=False, slots=True)
class Methods:
    """What is filed under one shape of path."""

    steps: Mapping[bytes, Step]
    """HEAD and OPTIONS included."""
    unmatched: Step
    """For any other method."""
    rules: RuleIndex | None


@frozen(kw_only=True)
class PlannedPool:
    """A pool for people: who is in it and who takes its requests otherwise."""

    name: str
    workers: tuple[str, ...]
    fallback: tuple[str, ...]
    """Names of workers."""
    sharing: tuple[str, ...]
    """Those of the workers that share the keys; all, where the pool is not limited to fewer (`pools.NAME.spread`)."""
    settings: Pool
    """What the file says of it."""

    @property
    def reserve(self) -> tuple[str, ...]:
        """Those of the workers that only replace the others."""
        return tuple(name for name in self.workers if name not in self.sharing)


@frozen(kw_only=True)
class PlannedRow:
    """An endpoint row in force, and where it goes."""

    endpoint: Endpoint
    pool: str
    affinity: str
    workers: tuple[str, ...]
    sharing: tuple[str, ...]
    """See `PlannedPool.sharing`."""
    fallback: tuple[str, ...]
    reason: str


@frozen(eq=False, kw_only=True)
class Plan:
    """All that a decision depends on besides the request."""

    workers: Mapping[str, PlannedWorker]
    pools: Mapping[str, PlannedPool]
    membership: Pools
    """Why they are as they are."""
    rows: tuple[PlannedRow, ...]
    parts: Mapping[str, tuple[PoolPart, ...]]
    """Of each pool: who serves which of its rows."""
    problems: tuple[Problem, ...]
    """What is odd but no reason not to start."""
    start: Node[Methods]
    splits: int
    """At how many slashes a path is divided."""
    unknown: Step
    anything: Step
    """For `OPTIONS *`."""
    rules: int
    """How many rules the operator gave."""
    pathless: RuleIndex | None
    access: AccessRules
    callers: Callers
    """Who sends a request, as its credentials tell."""
    resolving: bool
    """Whether users are asked for whose tokens do not name them (`tokens.resolve`)."""
    route: Callable[[Rule, Step], Step] = field(repr=False)
    """The step of a request that a rule sends to its pool; the other step is what the table says."""
    routed: dict[tuple[str | None, str | None, bool | None, int], Step] = field(factory=dict, repr=False)
    memory: Memory = field(factory=Memory, repr=False)

    @property
    def main(self) -> str:
        """The name of the main process."""
        return next((name for name, worker in self.workers.items() if worker.is_main), MAIN)

    def step_of(self, row: PlannedRow) -> Step:
        """What the automaton has for a row of the table."""
        node = self.start
        for segment in target_of(concrete_paths(row.endpoint.path)[0]).split(b"/", self.splits):
            node = node.get(segment) or node.other
        return node.payload.steps.get(min(row.endpoint.methods).encode()) or node.payload.unmatched
