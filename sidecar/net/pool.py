"""The connections to one worker: leased, idle, being made, and the line of those who wait for one.

Newest idle connection first, so that the rest can grow old and be closed. Knows no HTTP and no routes.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure as TwistedFailure

from sidecar.net.deadlines import Deadlines
from sidecar.net.upstream import Upstream
from sidecar.telemetry import logger
from sidecar.wire.reader import ReaderLimits, ResponseReader

# A worker that is away is tried again after these seconds: first, and at most. Jittered, so that instances that
# share a worker do not try in step.
_FIRST_RETRY = 0.02
_LAST_RETRY = 0.5
# A stat of the socket at most this often, in seconds.
_GENERATION_CHECK = 1.0


class Refusal(Enum):
    """Why a lease was not given."""

    FULL = "the line is full"


class Waiter(Protocol):
    """Who waits in line for a connection."""

    def leased(self, upstream: Upstream) -> None: ...

    def worker_away(self) -> None: ...


@frozen(slots=True, kw_only=True)
class PoolLimits:
    """Bounds for the connections to one worker; counts, and seconds for `idle_time`."""

    connections: int = 8192
    idle: int = 64
    connecting: int = 32
    waiting: int = 1000
    idle_time: float = 30.0


class _UpstreamFactory(Factory):
    noisy = False

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def buildProtocol(self, addr: object) -> Upstream:
        return self._pool.new_connection()


@define(eq=False)
class WorkerPool:
    """All connections to one worker.

    Invariants: `leased + idle + connecting` is at most `limits.connections`; nobody waits while a connection is
    idle; after `retire` it empties out.
    """

    name: str
    endpoint: IStreamClientEndpoint
    socket_path: str | None
    """Where the endpoint is a UNIX socket: its path, whose inode tells one life of the worker from the next."""
    limits: PoolLimits
    reader_limits: ReaderLimits
    clock: IReactorTime
    deadlines: Deadlines
    leased: int = 0
    connecting: int = 0
    connects: int = 0
    """Connections made so far."""
    failures: int = 0
    """Connections that could not be made so far."""
    down: bool = False
    """The last attempt to connect failed, and not for being busy."""
    on_new_life: Callable[[], None] | None = None
    """Called when the worker has come back, or turns out to have been started anew."""
    on_first_contact: Callable[[], None] | None = None
    """Called with the first connection to a worker that was not known to be away."""
    draining: bool = False
    """New requests go elsewhere, or wait for the end of this; running ones finish."""
    retired: bool = False
    """Nobody comes any more, but who waits or runs is served to the end."""
    reason: str = ""
    """Why it is, or was last, down."""
    _idle: list[Upstream] = field(factory=list)
    _waiting: deque[Waiter] = field(factory=deque)
    _retry: IDelayedCall | None = None
    _sweep: IDelayedCall | None = None
    _retry_after: float = _FIRST_RETRY
    _factory: _UpstreamFactory = field(init=False)
    _generation: int = 0
    _generation_checked: float = 0.0
    _log: Logger = field(factory=lambda: logger("sidecar.pool"))

    def __attrs_post_init__(self) -> None:
        self._factory = _UpstreamFactory(self)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Somebody is being served, or waits for it."""
        return bool(self.leased or self._waiting)

    def lease(self, waiter: Waiter) -> Upstream | Refusal | None:
        """A connection at once; or None, and `waiter` is told later; or why not.

        A waiter that gives up calls `leave`.
        """
        idle = self._idle
        if idle:
            if self.deadlines.recent - self._generation_checked >= _GENERATION_CHECK:
                self._check_generation()
            while idle:
                upstream = idle.pop()
                if upstream.open and not upstream.readable:
                    self.leased += 1
                    return upstream
                upstream.abort()
        if len(self._waiting) >= self.limits.waiting and not self._may_connect():
            return Refusal.FULL
        self._waiting.append(waiter)
        self._connect_more()
        return None

    def leave(self, waiter: Waiter) -> None:
        """`waiter` does not want a connection any more."""
        try:
            self._waiting.remove(waiter)
        except ValueError:
            return

    def release(self, upstream: Upstream) -> None:
        """The lease has ended and the connection can be used again."""
        upstream.holder = None
        if upstream.paused:
            upstream.resume()
        self.leased -= 1
        if self.retired or self.draining or upstream.generation != self._generation:
            upstream.abort()
            self._connect_more()
        elif self._waiting:
            self._hand_over(upstream)
        else:
            self._put_back(upstream)

    def discard(self, upstream: Upstream) -> None:
        """The connection cannot be used again, leased or idle."""
        self.forget(upstream)
        upstream.abort()

    def forget(self, upstream: Upstream) -> None:
        """The connection is gone, and makes room for another one."""
        if upstream.holder is not None:
            upstream.holder = None
            self.leased -= 1
        elif upstream in self._idle:
            self._idle.remove(upstream)
        if self._waiting:
            self._connect_more()

    def retire(self) -> None:
        """Close what is idle, and everything else when its lease ends. Who is in line already is still served."""
        self.retired = True
        self._close_idle()
        if self._retry is not None and not self._waiting:
            self._retry.cancel()
            self._retry = None

    def drain(self) -> None:
        """Serve no new requests until `undrain`. Who waits in line goes elsewhere, if there is somewhere else."""
        self.draining = True
        self._close_idle()
        for waiter in tuple(self._waiting):
            waiter.worker_away()

    def undrain(self) -> None:
        """Serve new requests again, first those that wait."""
        self.draining = False
        self._connect_more()

    def _close_idle(self) -> None:
        for upstream in tuple(self._idle):
            self.discard(upstream)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def new_connection(self) -> Upstream:
        return Upstream(self, ResponseReader(self.reader_limits), self._generation)

    # Idle connections.

    def _put_back(self, upstream: Upstream) -> None:
        upstream.old = False
        self._idle.append(upstream)
        if len(self._idle) > self.limits.idle:
            self.discard(self._idle[0])
        if self._sweep is None:
            self._sweep = self.clock.callLater(self.limits.idle_time / 2, self._close_old)

    def _close_old(self) -> None:
        """Close what has been idle since the last sweep. Two sweeps in `idle_time` need no clock at each lease."""
        self._sweep = None
        for upstream in tuple(self._idle):
            if upstream.old:
                self.discard(upstream)
            else:
                upstream.old = True
        if self._idle:
            self._sweep = self.clock.callLater(self.limits.idle_time / 2, self._close_old)

    def _check_generation(self) -> None:
        """A worker that started anew has a new socket: connections to the old one are not used for new requests."""
        self._generation_checked = self.deadlines.recent
        if self.socket_path is None:
            return
        try:
            status = os.stat(self.socket_path)
        except OSError:
            return
        generation = hash((status.st_dev, status.st_ino, status.st_ctime_ns))
        if generation != self._generation:
            first_look = not self._generation
            self._generation = generation
            if not first_look and self.on_new_life is not None:
                self.on_new_life()
            for upstream in tuple(self._idle):
                if upstream.generation != generation:
                    self.discard(upstream)

    # New connections.

    def _connect_more(self) -> None:
        """Start as many connections as there are waiters without one, within the limits."""
        if self._may_connect():
            self._check_generation()
        while self.connecting < len(self._waiting) and self._may_connect():
            self._connect()

    def _may_connect(self) -> bool:
        """Whether one more connection can be made now; who waits for that is not in line yet."""
        limits = self.limits
        return (
            self._retry is None
            and not self.draining
            and self.connecting < limits.connecting
            and self.leased + self.connecting + len(self._idle) < limits.connections
        )

    def _connect(self) -> None:
        self.connecting += 1
        self.endpoint.connect(self._factory).addErrback(self._not_connected)

    def connected(self, upstream: Upstream) -> None:
        """A connection has been made."""
        self.connecting -= 1
        self.connects += 1
        self._retry_after = _FIRST_RETRY
        if self.down:
            self.down = False
            self._log.info("worker {name} accepts connections again", name=self.name)
            if self.on_new_life is not None:
                self.on_new_life()
        elif self.connects == 1 and self.on_first_contact is not None:
            self.on_first_contact()
        if self.draining:
            upstream.abort()
        elif self._waiting:
            self._hand_over(upstream)
        elif self.retired:
            upstream.abort()
        else:
            self._put_back(upstream)
        if self._waiting:
            self._connect_more()

    def _hand_over(self, upstream: Upstream) -> None:
        waiter = self._waiting.popleft()
        self.leased += 1
        waiter.leased(upstream)

    def _not_connected(self, failure: TwistedFailure) -> None:
        self.connecting -= 1
        self.failures += 1
        busy = is_busy(failure.value)
        if not busy and not self.down:
            self.down = True
            self.reason = describe(failure.value)
            self._log.warn("worker {name} is away: {reason}", name=self.name, reason=self.reason)
        if (self._waiting or (self.down and not self.retired)) and self._retry is None:
            delay = self._retry_after * random.uniform(0.5, 1.0)  # noqa: S311
            self._retry_after = _FIRST_RETRY if busy else min(self._retry_after * 2, _LAST_RETRY)
            self._retry = self.clock.callLater(delay, self._try_again)
        if not busy:
            for waiter in tuple(self._waiting):
                waiter.worker_away()

    def _try_again(self) -> None:
        self._retry = None
        if self._waiting and not self.draining:
            self._connect_more()
        elif self.down and not self.connecting and not self.retired:
            # Nobody waits, but requests go elsewhere until somebody finds out that it is back.
            self._connect()


def is_busy(error: BaseException | None) -> bool:
    """The worker is there, but its backlog is full.

    Linux answers a connect to a full UNIX backlog with EAGAIN; Twisted takes that for «in progress» and then reports
    a bare ConnectError for a connection that ended.
    """
    return type(error) is ConnectError and error.osError in (None, errno.EAGAIN)


def describe(error: BaseException | None) -> str:
    """A connection error in a few words, without Twisted's class names."""
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return os.strerror(number)
    return str(error).strip() or type(error).__name__
