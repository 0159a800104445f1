"""The connections to one worker: leased, idle, being made, and the queue of those who wait for one.

Takes the newest idle connection first, so that the others can be closed for age. Knows no HTTP and no routes.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sidecar.records.histogram import Histogram
from sidecar.transport.deadlines import Deadlines
from sidecar.upstream.connecting import WorkerEndpoint, generation_of, is_busy
from sidecar.upstream.health import Health
from sidecar.upstream.upstream import Upstream
from sidecar.wire.reader import ReaderLimits, ResponseReader

# A worker whose backlog is full is tried again after at most this many seconds. With jitter, so that instances that
# share a worker do not try at the same moment.
_BUSY_RETRY = 0.02
# Check the inode of the socket at most this often, in seconds.
_GENERATION_CHECK = 1.0


class Refusal(Enum):
    """Why a lease was not given."""

    FULL = "the line is full"


class Waiter(Protocol):
    """Who waits in line for a connection."""

    def leased(self, upstream: Upstream) -> None: ...

    def worker_away(self) -> None:
        """The worker takes no requests now; another one may be better."""


@frozen(slots=True, kw_only=True)
class PoolLimits:
    """Bounds for the connections to one worker; counts, and seconds for `idle_time`."""

    connections: int = 8192
    idle: int = 64
    connecting: int = 32
    waiting: int = 1000
    idle_time: float = 30.0


@define(eq=False)
class WorkerPool:
    """All connections to one worker.

    Invariants: `leased + idle + connecting` is at most `limits.connections`; nobody waits while a connection is
    idle; after `retire` it empties out.
    """

    name: str
    endpoint: WorkerEndpoint
    socket_path: str | None
    """The path, if the endpoint is a UNIX socket; its inode changes when the worker restarts."""
    limits: PoolLimits
    reader_limits: ReaderLimits
    clock: IReactorTime
    deadlines: Deadlines
    health: Health
    leased: int = 0
    connecting: int = 0
    connects: int = 0
    """Connections made so far."""
    failures: int = 0
    """Connections that could not be made so far."""
    on_new_life: Callable[[], None] | None = None
    """Called when the worker has come back, or has restarted."""
    on_first_contact: Callable[[], None] | None = None
    """Called with the first connection to a worker that was not known to be down."""
    draining: bool = False
    """New requests go elsewhere, or wait; running ones finish."""
    retired: bool = False
    """No new requests come; waiting and running ones are served."""
    taking: bool = True
    """It takes all requests: it is up, not drained, and has not just come back."""
    waiting_octets: int = 0
    """Bytes of request bodies that wait here."""
    waits: Histogram = field(factory=Histogram)
    connect_times: Histogram = field(factory=Histogram)
    cuts: int = 0
    """Requests that ended without an answer because the connection did."""
    _idle: list[Upstream] = field(factory=list)
    _waiting: OrderedDict[Waiter, None] = field(factory=OrderedDict)
    _retry: IDelayedCall | None = None
    _sweep: IDelayedCall | None = None
    _looks: int = 0
    _over: bool = False
    """There are more connections than allowed, because the limit was lowered."""
    _lives: int = 0
    _generation: int = 0
    _generation_checked: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.health.tell(self._health_changed)

    def tell(self, *, new_life: Callable[[], None] | None, first_contact: Callable[[], None] | None) -> None:
        """Call these from now on, instead of those before; see `on_new_life` and `on_first_contact`."""
        self.on_new_life = new_life
        self.on_first_contact = first_contact

    @property
    def down(self) -> bool:
        """It is down or stuck, and gets no requests."""
        return not self.health.up

    @property
    def _connections(self) -> int:
        return self.leased + self.connecting + len(self._idle)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """A request runs or waits."""
        return bool(self.leased or self._waiting)

    def lease(self, waiter: Waiter) -> Upstream | Refusal | None:
        """A connection; or None, and `waiter` gets one later; or why not.

        A waiter that gives up calls `leave`.
        """
        upstream = self.take()
        return self.queue(waiter) if upstream is None else upstream

    def take(self) -> Upstream | None:
        """An idle connection."""
        idle = self._idle
        if idle:
            if self.deadlines.recent - self._generation_checked >= _GENERATION_CHECK:
                self._check_generation()
            while idle:
                upstream = idle.pop()
                if upstream.link.idle():
                    self.leased += 1
                    return upstream
                upstream.abort()
        return None

    def queue(self, waiter: Waiter) -> Refusal | None:
        """Give `waiter` a connection as soon as there is one, perhaps before this returns; or why not."""
        if len(self._waiting) >= self.limits.waiting and not self._may_connect():
            return Refusal.FULL
        self._waiting[waiter] = None
        self._connect_more()
        return None

    def weigh(self, octets: int) -> None:
        """Count bytes of waiting request bodies; a negative number takes them off."""
        self.waiting_octets += octets

    def leave(self, waiter: Waiter) -> None:
        """`waiter` does not want a connection any more."""
        self._waiting.pop(waiter, None)
        if self.retired and not self._waiting:
            self._end()

    def release(self, upstream: Upstream) -> None:
        """The lease has ended and the connection can be used again."""
        upstream.rest(self._looks)
        self.leased -= 1
        self.health.hear(self.deadlines.recent)
        if self.retired or self.draining or self._over or upstream.generation != self._generation:
            upstream.abort()
            self._over = self._over and self._connections > self.limits.connections
            self._connect_more()
        elif self._waiting:
            self._hand_over(upstream)
        else:
            self._idle.append(upstream)
            if self._sweep is None or len(self._idle) > self.limits.idle:
                self._tidy()

    def discard(self, upstream: Upstream) -> None:
        """The connection cannot be used again, leased or idle."""
        self.forget(upstream)
        upstream.abort()

    def forget(self, upstream: Upstream) -> None:
        """The connection is gone; another one may be made."""
        if upstream.give_up():
            self.leased -= 1
        elif upstream in self._idle:
            self._idle.remove(upstream)
        if self._waiting:
            self._connect_more()

    def retire(self) -> None:
        """Close idle connections now, and others when their lease ends. Requests in the queue are still served."""
        self.retired = True
        self._close_idle()
        if not self._waiting:
            self._end()

    def start(self) -> None:
        """Start health checks, and follow the worker's addresses."""
        self.health.start()
        self.endpoint.follow(self.moved)

    def moved(self) -> None:
        """Its addresses have changed: connections that were made before are not used for new requests."""
        self._generation += 1
        for upstream in tuple(self._idle):
            self.discard(upstream)
        if self.on_new_life is not None:
            self.on_new_life()

    def _end(self) -> None:
        """Stop health checks and retries."""
        self.health.stop()
        self.endpoint.ignore(self.moved)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    @property
    def reset_means_unread(self) -> bool:
        """After a reset, the request was not acted on: true for Synapse on a UNIX socket."""
        return self.health.synapse and self.socket_path is not None

    def note_cut(self) -> None:
        """A request ended without an answer because its connection did."""
        self.cuts += 1
        self.health.doubt()

    def drain(self) -> None:
        """Serve no new requests until `undrain`. Requests in the queue go to another worker, if there is one."""
        self.draining = True
        self.taking = False
        self._close_idle()
        self._tell_waiters()

    def undrain(self) -> None:
        """Serve new requests again, first those that wait."""
        self.draining = False
        self._judge()
        self._connect_more()

    @property
    def life(self) -> int:
        """A number that changes when the worker restarts; 0: it is down, or has no UNIX socket."""
        return generation_of(self.socket_path)

    def use(self, other: WorkerPool) -> None:
        """Take over the endpoint and the limits of `other`, which is for the same worker."""
        self.endpoint, self.limits, self.reader_limits = other.endpoint, other.limits, other.reader_limits
        self.health.use(other.health)
        while self._idle and self._connections > self.limits.connections:
            self.discard(self._idle[0])
        self._over = self._connections > self.limits.connections
        self._connect_more()

    # Its life.

    def admits(self, lot: float) -> bool:
        """Whether a worker that has just come back gets a request; `lot`, in [0, 1), places it in the worker's
        share."""
        return self.health.up and not self.draining and lot < self.health.share

    def _judge(self) -> None:
        self.taking = self.health.up and not self.draining and not self.health.warming

    def _health_changed(self) -> None:
        self._judge()
        health = self.health
        if not health.up:
            self._tell_waiters()
            return
        if self._lives != health.transitions:
            self._lives = health.transitions
            if self.on_new_life is not None:
                self.on_new_life()
        self._connect_more()

    def _tell_waiters(self) -> None:
        for waiter in tuple(self._waiting):
            waiter.worker_away()

    def _close_idle(self) -> None:
        for upstream in tuple(self._idle):
            self.discard(upstream)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _new_connection(self, began: float) -> Upstream:
        """A connection that is being made since `began`."""
        reader = ResponseReader(self.reader_limits)
        return Upstream(self, reader, self._generation, began, self.deadlines.now())

    # Idle connections.

    def _tidy(self) -> None:
        """Another connection is idle: limit their number and their age."""
        if len(self._idle) > self.limits.idle:
            self.discard(self._idle[0])
        if self._sweep is None:
            self._sweep = self.clock.callLater(self.limits.idle_time / 2, self._close_old)

    def _close_old(self) -> None:
        """Close what has been idle since the last look. Looking twice in each `idle_time` saves a clock reading at each
        lease."""
        self._sweep = None
        for upstream in tuple(self._idle):
            if upstream.idle_since < self._looks:
                self.discard(upstream)
        self._looks += 1
        if self._idle:
            self._sweep = self.clock.callLater(self.limits.idle_time / 2, self._close_old)

    def _check_generation(self) -> None:
        """A worker that restarted has a new socket: connections to the old one are not used for new requests."""
        self._generation_checked = self.deadlines.recent
        generation = generation_of(self.socket_path)
        if generation not in (0, self._generation):
            first_look = not self._generation
            self._generation = generation
            if not first_look and self.on_new_life is not None:
                self.on_new_life()
            for upstream in tuple(self._idle):
                if upstream.generation != generation:
                    self.discard(upstream)

    # New connections.

    def _connect_more(self) -> None:
        """Start connections for waiters without one, within the limits."""
        if self._may_connect():
            self._check_generation()
        while self.connecting < len(self._waiting) and self._may_connect():
            self._connect()

    def _may_connect(self) -> bool:
        """Whether another connection can be made now; a request that waits for it is not in line yet."""
        limits = self.limits
        return (
            self._retry is None
            and self.health.up
            and not self.draining
            and self.connecting < limits.connecting
            and self._connections < limits.connections
        )

    def _connect(self) -> None:
        self.connecting += 1
        self.endpoint.connect(partial(self._new_connection, self.deadlines.now()), self._not_connected)

    def connected(self, upstream: Upstream) -> None:
        """A connection has been made."""
        self.connecting -= 1
        self.connects += 1
        self.connect_times.add(upstream.took)
        if self.connects == 1 and self.on_first_contact is not None:
            self.on_first_contact()
        if self.draining or self._over or not self.health.up:
            upstream.abort()
            self._over = self._over and self._connections > self.limits.connections
        elif self._waiting:
            self._hand_over(upstream)
        elif self.retired:
            upstream.abort()
        else:
            self._idle.append(upstream)
            self._tidy()
        if self._waiting:
            self._connect_more()

    def _hand_over(self, upstream: Upstream) -> None:
        waiter, _ = self._waiting.popitem(last=False)
        self.leased += 1
        waiter.leased(upstream)
        if self.retired and not self._waiting:
            self._end()

    def _not_connected(self, error: BaseException) -> None:
        self.connecting -= 1
        self.failures += 1
        if not is_busy(error):
            self.health.unreachable(error)
        elif self._waiting and self._retry is None:
            delay = _BUSY_RETRY * random.uniform(0.5, 1.0)  # noqa: S311
            self._retry = self.clock.callLater(delay, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._connect_more()
