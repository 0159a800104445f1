"""What `/api/status` reported, as values: for the page, which makes it itself, and for `top`, which fetches it.

What is absent has a default, so that an older or newer sidecar can be looked at. Knows no HTML and no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen
from cattrs import Converter, transform_error

from sidecar.admin.words import duration
from sidecar.routing.parts import PoolPart

BAD = frozenset(("down", "stuck"))
"""States in which a worker gets no requests, and nobody wanted that."""


_WORDS = {
    "start": "started",
    "stop": "stopping",
    "flaps": "flapping",
    "drain": "drained",
    "undrain": "resumed",
    "adjusted": "changed",
    "reload": "reloaded",
    "refused": "reload refused",
    "version": "new version",
    "shed": "turned away",
    "remember": "not remembered",
}
"""Kinds of events in words, where the name of the kind is none."""


@frozen(kw_only=True)
class RecentWorker:
    """One worker in the last minute."""

    requests_per_second: float | None = None
    errors: int = 0
    p50: float | None = None
    """Seconds to the first byte of an answer, as p99."""
    p99: float | None = None
    slowest: float | None = None
    """The longest of them."""
    curve: tuple[float, ...] = ()
    """Requests a second in the last half minute, oldest first."""
    hour: tuple[float | None, ...] = ()
    """The same in the last hour."""


@frozen(kw_only=True)
class Lately:
    """A pool or an endpoint in the last minute."""

    requests_per_second: float | None = None
    requests: int = 0
    errors: int = 0
    seconds: float | None = None
    """What its exchanges took together; from the head of a request to the end, as the other times."""
    p50: float | None = None
    p99: float | None = None
    slowest: float | None = None


@frozen(kw_only=True)
class HotFacts:
    """A user, a room, a server or an address with many requests."""

    hash: str = ""
    requests: int = 0
    per_second: float = 0.0
    share: float = 0.0
    """Of all requests of its kind."""


@frozen(kw_only=True)
class HottestFacts:
    """Those with the most, of the last one to two minutes."""

    seconds: float = 0.0
    keys: Mapping[str, tuple[HotFacts, ...]] = field(factory=dict)
    """By kind: `user`, `room`, `origin`, `address`."""


HOT_KINDS = {"user": "Users", "room": "Rooms", "origin": "Servers", "address": "Addresses"}
"""What the kinds are called."""


@frozen(kw_only=True)
class ProcessFacts:
    """What the process uses, and what it may."""

    cpu: float | None = None
    """The share of one core."""
    memory: int | None = None
    """Bytes."""
    files: int | None = None
    files_limit: int | None = None
    connections_limit: int | None = None
    """How many client connections may be open."""


@frozen(kw_only=True)
class OverrideFacts:
    """A value that was set at run time."""

    value: float = 0.0
    file: float = 0.0
    by: str = ""


def where_each(states: Mapping[str, str]) -> str:
    """Which instances are in which state: `up on m-1, m-3; draining on m-2`; empty for none."""
    on = {state: [name for name, other in states.items() if other == state] for state in states.values()}
    return "; ".join(f"{state} on {', '.join(names)}" for state, names in on.items())


@frozen(kw_only=True)
class WorkerFacts:
    """One worker."""

    name: str
    state: str = "up"
    healthy: bool | None = None
    """It answers, whether it is drained or not."""
    heard: float | None = None
    """Seconds since it answered anything last."""
    life: int | None = None
    """Changes when it listens at its socket again; 0: it does not, or it has none."""
    reason: str = ""
    changed: float | None = None
    """Seconds since its state changed last, or since the start."""
    changes: int = 0
    slow_start: bool = False
    """It has just come back, and gets only a part of its requests."""
    leased: int = 0
    idle: int = 0
    connecting: int = 0
    waiting: int = 0
    connects: int = 0
    failures: int = 0
    cuts: int = 0
    weight: float = 1.0
    maximum: int | None = None
    overrides: Mapping[str, OverrideFacts] = field(factory=dict)
    """By `weight` and `maximum`: what was set at run time, and is not what the file says."""
    recent: RecentWorker = RecentWorker()
    states: Mapping[str, str] = field(factory=dict)
    """By instance, where not all of them have it in the same state."""
    adjustments: Mapping[str, str] = field(factory=dict)
    """By instance, what was set at run time in words, where that is not the same on all."""

    @property
    def whereabouts(self) -> str:
        """Which instances have it in which state; empty where all agree."""
        return where_each(self.states)

    @property
    def drained(self) -> bool:
        """On every instance."""
        return set(self.states.values()) == {"draining"} if self.states else self.state == "draining"

    @property
    def undrained(self) -> bool:
        """On every instance, too."""
        return "draining" not in (self.states.values() or (self.state,))

    @property
    def adjusted(self) -> str:
        """What was set at run time in words; empty where there is nothing."""
        if self.adjustments:
            return "; ".join(f"{text or 'as the file says'} on {name}" for name, text in self.adjustments.items())
        return ", ".join(f"{what} {each.value:g} (file: {each.file:g})" for what, each in self.overrides.items())


@frozen(kw_only=True)
class PoolFacts:
    """Who is in a pool, and who stands in."""

    workers: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    affinity: str | None = None
    running: int | None = None
    """Requests that a worker has, where the pool has an entrance."""
    waiting: int = 0
    """Requests that wait, wherever."""
    admitted: int | None = None
    """Requests that have passed its entrance; None: as many as run."""
    concurrency: int = 0
    """How many may at once; 0: any number."""
    queued: int | None = None
    """Of those that wait, how many do so at the entrance; None: all of them."""
    asking: int = 0
    """Of those that wait, how many do so until their user is known."""
    parts: tuple[PoolPart, ...] = ()
    recent: Lately = Lately()

    @property
    def taken(self) -> int | None:
        """How many of its places are."""
        return self.running if self.admitted is None else self.admitted

    def divided(self, name: str) -> tuple[PoolPart, ...]:
        """Its parts; of a sidecar that does not report them, all as one."""
        fallback = (self.fallback,) if self.fallback else ()
        return self.parts or (PoolPart(name=name, pool=name, workers=self.workers, fallback=fallback),)


@frozen(kw_only=True)
class ServerFacts:
    """One server of a balancer."""

    state: str = "up"
    reason: str = ""
    changed: float | None = None
    """Seconds since it went up or down, or since the start."""
    changes: int = 0
    connections: int = 0
    most: int | None = None
    failures: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@frozen(kw_only=True)
class BalancerFacts:
    """A balancer, and its servers by name."""

    listening: tuple[str, ...] = ()
    balance: str = ""
    connections: int = 0
    most: int = 0
    waiting: int = 0
    servers: Mapping[str, ServerFacts] = field(factory=dict)


@frozen(kw_only=True)
class Misroutes:
    """Requests for one endpoint that a worker did not know."""

    endpoint: str = ""
    worker: str = ""
    count: int = 0
    ago: float | None = None
    """Seconds since the last of them, if that was seen."""


@frozen
class Wait:
    """Requests that wait for the same thing."""

    count: int
    place: str
    why: str


@frozen(kw_only=True)
class Failures:
    """Exchanges of a pool that failed for one reason in the last minute."""

    pool: str = ""
    reason: str = ""
    told: str = ""
    """The same in words."""
    count: int = 0


@frozen(kw_only=True)
class RecentWhole:
    """The sidecar in the last minute."""

    seconds: float = 0.0
    per_second: Mapping[str, float] = field(factory=dict)
    more: Mapping[str, int] = field(factory=dict)
    """By how much each counter grew."""
    failures: tuple[Failures, ...] = ()
    refusals: tuple[Failures, ...] = ()
    """Requests that were refused because of what they are."""
    statuses: Mapping[str, int] = field(factory=dict)
    """How many were answered with 2xx, 3xx, and so on."""


@frozen(kw_only=True)
class Reloaded:
    """How the last reload ended."""

    accepted: bool = True
    problems: tuple[str, ...] = ()
    """Why it was refused."""
    changes: tuple[str, ...] = ()
    """What it changed."""

    @property
    def told(self) -> tuple[str, ...]:
        """The one or the other."""
        return self.changes if self.accepted else self.problems


@frozen(kw_only=True)
class Happened:
    """An event of the list; see `sidecar.history.events`."""

    time: str = ""
    """When it began, UTC."""
    ago: float = 0.0
    """Seconds since it happened last."""
    seconds: float = 0.0
    """For so long it has happened again and again."""
    kind: str = ""
    about: str = ""
    text: str = ""
    by: str = ""
    count: int = 1
    instance: str = ""
    """Where it happened, if there are several instances."""

    @property
    def word(self) -> str:
        """What happened, in one or two words."""
        return _WORDS.get(self.kind, self.kind)

    @property
    def told(self) -> str:
        """The text, where it happened, and how often and for how long where that was not once."""
        text = f"{self.instance}: {self.text}" if self.instance else self.text
        if self.count == 1:
            return text
        span = f" in {duration(self.seconds)}" if self.seconds >= 1 else ""
        return f"{self.count:,} times{span}: {text}"


@frozen(kw_only=True)
class InstanceFacts:
    """One of several instances, in short."""

    name: str
    endpoint: str = ""
    own: bool = False
    """It is the one that was asked."""
    answered: bool = False
    why: str = ""
    """Why it has not answered."""
    remark: str = ""
    kind: Literal["ready", "draining", "stuck", "down"] = "ready"
    """As `sidecar.admin.verdict` has it, like `word` and `told`."""
    word: str = ""
    told: str = ""
    host: str = ""
    version: str = ""
    uptime: float | None = None
    requests_per_second: float | None = None
    in_flight: int | None = None
    waiting: int | None = None
    clients: int | None = None
    cpu: float | None = None
    memory: int | None = None


@frozen(kw_only=True)
class MaintenanceFacts:
    """Maintenance mode, while it is on."""

    text: str = ""
    retry_after: int = 0
    by: str = ""


@frozen(kw_only=True)
class Snapshot:
    """Everything."""

    version: str
    host: str = ""
    uptime: float = 0.0
    ready: bool = True
    reasons: tuple[str, ...] = ()
    """Why it is not ready."""
    stopping: bool = False
    maintenance: MaintenanceFacts | None = None
    actions: str = "api"
    listening: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(factory=dict)
    workers: Mapping[str, WorkerFacts]
    leaving: tuple[WorkerFacts, ...] = ()
    pools: Mapping[str, PoolFacts] = field(factory=dict)
    balancers: Mapping[str, BalancerFacts] = field(factory=dict)
    misroutes: tuple[Misroutes, ...] = ()
    problems: tuple[str, ...] = ()
    reload: Reloaded | None = None
    recent: RecentWhole = RecentWhole()
    events: tuple[Happened, ...] = ()
    """The newest first."""
    errors: int = 0
    """How many of the problems are errors."""
    hour: Mapping[str, tuple[float | None, ...]] = field(factory=dict)
    """Of the sidecar: `rate`, `errors`, `p50`, `p99`, `slowest` and `waiting` in the last hour, oldest first."""
    busiest: Mapping[str, Lately] = field(factory=dict)
    """Endpoints that had requests in the last minute."""
    process: ProcessFacts = ProcessFacts()
    hottest: HottestFacts = HottestFacts()
    instances: tuple[InstanceFacts, ...] = ()
    """All of them, the one that was asked first, where there are several; then numbers are sums."""

    @property
    def silent(self) -> list[InstanceFacts]:
        """Instances that have not answered."""
        return [each for each in self.instances if not each.answered]

    @property
    def parts(self) -> list[PoolPart]:
        """Of all pools."""
        return [part for name, pool in self.pools.items() for part in pool.divided(name)]

    def takes(self, name: str) -> bool:
        """Whether the worker of this name is given new requests."""
        worker = self.workers.get(name)
        return worker is not None and worker.state == "up"

    @property
    def refusal(self) -> tuple[str, ...]:
        """Why the last reload changed nothing; empty if it was accepted, or there was none."""
        return () if self.reload is None else self.reload.problems

    @property
    def in_flight(self) -> int:
        """Requests that a worker has now."""
        return sum(worker.leased for worker in (*self.workers.values(), *self.leaving))

    @property
    def waits(self) -> list[Wait]:
        """What waits now, and why."""
        workers = [
            Wait(worker.waiting, f"for {worker.name}", _why(worker))
            for worker in (*self.workers.values(), *self.leaving)
            if worker.waiting
        ]
        pools = [
            Wait(queued, f"for a place in pool {name}", f"{pool.taken} of {pool.concurrency} are taken")
            for name, pool in self.pools.items()
            if (queued := pool.waiting if pool.queued is None else pool.queued)
        ]
        asking = sum(pool.asking for pool in self.pools.values())
        users = [Wait(asking, "for their user", "Synapse was asked whose their tokens are")] if asking else []
        return workers + pools + users

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self.counters.get("parked", sum(wait.count for wait in self.waits))

    @property
    def ailing(self) -> list[str]:
        """Names of the workers that are not there."""
        return [name for name, worker in self.workers.items() if worker.state in BAD]


def _why(worker: WorkerFacts) -> str:
    if worker.state == "up":
        return "a connection is being made" if worker.connecting else "all connections to it are taken"
    return f"it is {worker.state}" + (f" ({worker.reason})" if worker.reason else "")


_CONVERTER = Converter()


def snapshot(told: Mapping[str, Any]) -> Snapshot:
    """The values of what `/api/status` reported. Raises ValueError if it is something else."""
    try:
        return _CONVERTER.structure(told, Snapshot)
    except Exception as error:
        raise ValueError("; ".join(transform_error(error))) from error
