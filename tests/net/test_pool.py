"""The pool of connections against a trivial model, and what it makes of real sockets that come and go."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEndpoint, FakeQuestions, FakeTransport
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet import error as connecting
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import Clock

from sidecar.transport.deadlines import Deadlines
from sidecar.transport.poller import Poller
from sidecar.upstream.asking import serves
from sidecar.upstream.connecting import TcpEndpoint, UnixEndpoint, describe, is_busy
from sidecar.upstream.health import Health, HealthLimits, NoAnswerError, Question, WorkerState
from sidecar.upstream.pool import PoolLimits, Refusal, WorkerPool
from sidecar.upstream.resolving import Names
from sidecar.upstream.upstream import Upstream
from sidecar.wire.reader import ReaderLimits

from .peers import Worker
from .turns import reactor, spin, turns

SHORTAGE = OSError(errno.EMFILE, "Too many open files")
BUSY = connecting.ConnectError()
AWAY = connecting.ConnectionRefusedError(errno.ECONNREFUSED, "refused")
MISSING = connecting.ConnectError(errno.ENOENT, "missing")


class Waiting:
    """Waits in line, holds what it gets, and notes what it was told."""

    def __init__(self) -> None:
        self.upstream: Upstream | None = None
        self.told_away = 0
        self.lost: list[bool] = []

    @property
    def held(self) -> Upstream:
        assert self.upstream is not None
        return self.upstream

    def leased(self, upstream: Upstream) -> None:
        assert self.upstream is None
        self.upstream = upstream
        upstream.lend(self, b"GET", decoded=False)

    def worker_away(self) -> None:
        self.told_away += 1

    def upstream_data(self, octets: bytes) -> None: ...

    def upstream_lost(self, *, clean: bool) -> None:
        self.upstream = None
        self.lost.append(clean)

    def upstream_clogged(self) -> None: ...

    def upstream_flowing(self) -> None: ...


def pool_of(
    endpoint: object, clock: Clock, limits: PoolLimits, path: str | None = None, ask: Question | None = None
) -> WorkerPool:
    health = Health(name="w", ask=ask or FakeQuestions(), clock=clock, limits=QUICK, describe=describe)
    pool = WorkerPool(
        name="w",
        endpoint=endpoint,  # type: ignore[arg-type]
        socket_path=path,
        limits=limits,
        reader_limits=ReaderLimits(),
        clock=clock,
        deadlines=Deadlines(clock),
        health=health,
    )
    health.start()
    return pool


QUICK = HealthLimits(interval=0, slow_start=0)
"""Asked only when it is down."""


LIMITS = PoolLimits(connections=4, idle=2, connecting=2, waiting=3, idle_time=30.0)


class PoolModel(RuleBasedStateMachine):
    """P7: within its limits, newest first, in order, nothing dead, and empty in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.questions = FakeQuestions()
        self.pool = pool_of(self.endpoint, self.clock, LIMITS, ask=self.questions)
        self.leases: list[Waiting] = []
        self.line: deque[Waiting] = deque()
        self.idle: list[Upstream] = []
        self.retired = False

    @initialize()
    def begin(self) -> None:
        self.clock.advance(100)

    def _settle(self) -> None:
        """Let connections end that were aborted, and move whoever was served from the line to the leases."""
        for transport in tuple(self.endpoint.made):
            transport.turn()
            if not transport.connected:
                self.endpoint.made.remove(transport)
        while self.line and self.line[0].upstream is not None:
            self.leases.append(self.line.popleft())
        assert all(waiting.upstream is None for waiting in self.line), "served out of turn"
        self.idle = list(self.pool._idle)

    @precondition(lambda self: not self.retired)
    @rule()
    def lease(self) -> None:
        waiting = Waiting()
        newest = next((one for one in reversed(self.idle) if one.link.open), None)
        leased = self.pool.lease(waiting)
        if isinstance(leased, Upstream):
            assert leased is newest
            waiting.leased(leased)
            self.leases.append(waiting)
        elif leased is None:
            assert newest is None
            self.line.append(waiting)
        else:
            assert leased is Refusal.FULL
            assert len(self.line) >= LIMITS.waiting
        self._settle()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        waiting = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        upstream, waiting.upstream = waiting.held, None
        self.pool.release(upstream)
        self._settle()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        waiting = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        upstream, waiting.upstream = waiting.held, None
        self.pool.discard(upstream)
        self._settle()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), clean=st.booleans())
    def lose_a_leased_one(self, data: st.DataObject, clean: bool) -> None:
        waiting = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        transport: FakeTransport = waiting.held.link.transport  # type: ignore[attr-defined]
        transport.hang_up(clean=clean)
        transport.turn()
        assert waiting.lost == [clean]
        self._settle()

    @precondition(lambda self: self.idle)
    @rule(data=st.data(), octets=st.booleans())
    def spoil_an_idle_one(self, data: st.DataObject, octets: bool) -> None:
        upstream = data.draw(st.sampled_from(self.idle))
        transport: FakeTransport = upstream.link.transport  # type: ignore[attr-defined]
        if octets:
            transport.deliver(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        else:
            transport.hang_up()
        transport.turn()
        self._settle()
        assert upstream not in self.idle

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiting = data.draw(st.sampled_from(list(self.line)))
        self.line.remove(waiting)
        self.pool.leave(waiting)
        self.pool.leave(waiting)
        self._settle()

    @precondition(lambda self: self.endpoint.attempts)
    @rule()
    def accept(self) -> None:
        self.endpoint.accept()
        self._settle()

    @precondition(lambda self: self.questions.open)
    @rule()
    def answers(self) -> None:
        self.questions.answer()
        self._settle()
        assert not self.pool.down

    @precondition(lambda self: self.questions.open)
    @rule(error=st.sampled_from([AWAY, MISSING, NoAnswerError("it is slow")]))
    def does_not_answer(self, error: Exception) -> None:
        before = [waiting.told_away for waiting in self.line]
        self.questions.fail(error)
        told = self.pool.down
        assert [waiting.told_away for waiting in self.line] == [n + told for n in before]
        self._settle()

    @precondition(lambda self: self.endpoint.attempts)
    @rule(error=st.sampled_from([BUSY, AWAY, MISSING]))
    def refuse(self, error: Exception) -> None:
        before = [waiting.told_away for waiting in self.line]
        was_down = self.pool.down
        self.endpoint.refuse(error)
        assert self.pool.down == (was_down or error is not BUSY)
        assert [waiting.told_away for waiting in self.line] == [n + (error is not BUSY) for n in before]
        self._settle()

    @rule(seconds=st.sampled_from([0.01, 0.5, 10.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._settle()

    @rule()
    def retire(self) -> None:
        self.retired = True
        self.pool.retire()
        for waiting in self.line:
            self.pool.leave(waiting)
        self.line.clear()
        self._settle()

    @invariant()
    def counts_agree(self) -> None:
        pool = self.pool
        assert pool.leased == len(self.leases)
        assert pool.waiting == len(self.line) <= LIMITS.waiting + LIMITS.connecting
        assert pool.connecting == len(self.endpoint.attempts)
        assert pool.idle == len(self.idle)

    @invariant()
    def within_the_limits(self) -> None:
        pool = self.pool
        assert pool.leased + pool.idle + pool.connecting <= LIMITS.connections
        assert pool.idle <= LIMITS.idle
        assert pool.connecting <= LIMITS.connecting

    @invariant()
    def nothing_dead_is_leased_or_idle(self) -> None:
        assert all(waiting.upstream.link.open and waiting.upstream.link.transport.connected for waiting in self.leases)
        assert all(upstream.link.open for upstream in self.idle)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Who waits does so because a connection is being made, will be tried, or none may be made."""
        pool = self.pool
        if self.line:
            assert not self.idle
            found_out = pool.down and (self.questions.open or self.clock.getDelayedCalls())
            assert pool.connecting or pool._retry is not None or pool.leased == LIMITS.connections or found_out

    @invariant()
    def empties_out(self) -> None:
        if self.retired:
            assert not self.idle
            assert len(self.endpoint.made) == len(self.leases)

    def teardown(self) -> None:
        for transport in self.endpoint.made:
            assert transport.connected


PoolModel.TestCase.settings = settings(deadline=None, max_examples=50)
TestPool = PoolModel.TestCase


def test_idle_connections_are_closed_in_time() -> None:
    """An idle connection is closed after `idle_time` at the latest, and not before half of it."""
    clock = Clock()
    endpoint = FakeEndpoint()
    pool = pool_of(endpoint, clock, PoolLimits(idle_time=30.0))
    waiting = Waiting()
    pool.lease(waiting)
    transport = endpoint.accept()
    for _ in range(5):
        pool.release(waiting.held)
        clock.advance(14.9)
        assert pool.lease(waiting) is waiting.upstream
        waiting.held.lend(waiting, b"GET", decoded=False)
        clock.advance(100)
        transport.turn()
        assert transport.connected
    pool.release(waiting.held)
    clock.pump([1.0] * 30)
    transport.turn()
    assert not transport.connected
    assert not clock.getDelayedCalls()


def test_a_busy_worker_is_not_down() -> None:
    """A full backlog is tried again soon, and is not taken for a worker that is down (F-6)."""
    clock = Clock()
    endpoint = FakeEndpoint()
    pool = pool_of(endpoint, clock, PoolLimits())
    waiting = Waiting()
    pool.lease(waiting)
    for _ in range(20):
        endpoint.refuse(BUSY)
        assert not pool.down
        assert not waiting.told_away
        clock.advance(0.03)
        assert len(endpoint.attempts) == 1
    endpoint.accept()
    assert waiting.upstream is not None
    assert pool.failures == 20
    assert pool.connects == 1


def test_a_shortage_of_ours_is_not_the_workers_fault() -> None:
    """Without a descriptor for a connection the worker is neither down nor stuck, and the request waits (F-15)."""
    clock, endpoint, questions = Clock(), FakeEndpoint(), FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    waiting = Waiting()
    pool.lease(waiting)
    endpoint.refuse(SHORTAGE)
    assert not pool.down
    assert not waiting.told_away
    pool.health.doubt()
    for _ in range(20):
        questions.fail(SHORTAGE)
        assert pool.health.state is WorkerState.UP
        clock.advance(0.5)
    questions.answer()
    endpoint.accept()
    assert waiting.upstream is not None


def test_a_worker_that_is_away_is_asked_with_patience() -> None:
    """Questions to a worker that is down become rarer, up to half a second, and go on when nobody waits."""
    clock = Clock()
    endpoint = FakeEndpoint()
    questions = FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    waiting = Waiting()
    pool.lease(waiting)
    endpoint.refuse(MISSING)
    assert pool.down
    assert pool.health.reason == os.strerror(errno.ENOENT)
    pool.leave(waiting)
    asked = questions.asked
    for _ in range(1000):
        clock.advance(0.01)
        while questions.open:
            questions.fail(AWAY)
    assert 20 <= questions.asked - asked <= 60
    assert not endpoint.attempts
    assert pool.lease(waiting) is None
    clock.advance(0.6)
    questions.answer()
    assert not pool.down
    endpoint.accept()
    assert waiting.upstream is not None


def test_draining() -> None:
    """A pool that drains closes what is idle or comes back, leases nothing, and goes on with who waits."""
    endpoint = FakeEndpoint()
    pool = pool_of(endpoint, Clock(), PoolLimits())
    running, idle, late = Waiting(), Waiting(), Waiting()
    for waiter in (running, idle):
        pool.lease(waiter)
        endpoint.accept()
    assert running.upstream is not None
    assert idle.upstream is not None
    pool.release(idle.held)
    assert pool.admits(0.0)
    pool.drain()
    assert not pool.admits(0.0)
    assert (pool.leased, pool.idle) == (1, 0)
    assert pool.lease(late) is None
    pool.release(running.held)
    assert (pool.leased, pool.idle) == (0, 0)
    assert not endpoint.attempts
    pool.undrain()
    assert pool.admits(0.0)
    endpoint.accept()
    assert late.upstream is not None


def test_drained_while_connecting() -> None:
    """Who waits when a pool is drained is told; a connection that is made afterwards is closed."""
    endpoint = FakeEndpoint()
    pool = pool_of(endpoint, Clock(), PoolLimits())
    waiter = Waiting()
    pool.lease(waiter)
    pool.drain()
    assert waiter.told_away == 1
    transport = endpoint.accept()
    transport.turn()
    assert not transport.connected
    assert waiter.upstream is None
    pool.undrain()
    endpoint.accept()
    assert waiter.upstream is not None


def test_drained_while_away() -> None:
    """Whether a worker is back is found out while it is drained, too."""
    clock = Clock()
    endpoint, questions = FakeEndpoint(), FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    waiter = Waiting()
    pool.lease(waiter)
    endpoint.refuse(AWAY)
    pool.drain()
    clock.advance(1)
    questions.answer()
    assert not pool.down
    assert not endpoint.attempts
    pool.leave(waiter)
    pool.retire()
    assert not clock.getDelayedCalls()


def test_retired_while_connecting() -> None:
    """Who waits when a pool retires is still served; then nothing is tried any more."""
    clock = Clock()
    endpoint, questions = FakeEndpoint(), FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    first, second, third = Waiting(), Waiting(), Waiting()
    for waiter in (first, second, third):
        pool.lease(waiter)
    pool.retire()
    endpoint.refuse(MISSING)
    pool.leave(third)
    endpoint.accept().turn()
    clock.advance(1)
    questions.answer()
    endpoint.accept()
    endpoint.accept()
    assert first.upstream is not None
    assert second.upstream is not None
    assert pool.busy
    pool.release(first.held)
    pool.release(second.held)
    assert not pool.busy
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("error", "busy", "words"),
    [
        (connecting.ConnectError(), True, "An error occurred while connecting."),
        (connecting.ConnectError(errno.EAGAIN, "again"), True, os.strerror(errno.EAGAIN)),
        (OSError(errno.EMFILE, "many"), True, "[Errno 24] many"),
        (connecting.ConnectError(errno.ENOBUFS, "none"), True, os.strerror(errno.ENOBUFS)),
        (OSError(errno.EACCES, "no"), False, "[Errno 13] no"),
        (MISSING, False, "No such file or directory"),
        (AWAY, False, "Connection refused"),
        (connecting.TimeoutError(), False, "User timeout caused connection failure."),
        (connecting.UnknownHostError(), False, "Hostname couldn't be looked up."),
        (ValueError(), False, "ValueError"),
    ],
)
def test_what_a_failure_means(error: Exception, busy: bool, words: str) -> None:
    """Only a full backlog means busy; everything else means down, and is told in the system's words."""
    assert is_busy(error) is busy
    assert describe(error).startswith(words)


# With real sockets.


def on_socket(path: Path, clock: Clock, **limits: object) -> WorkerPool:
    endpoint = UNIXClientEndpoint(reactor, str(path))
    mine = UnixEndpoint(Poller(reactor), str(path))

    def ask() -> Deferred[bool]:
        return Deferred.fromCoroutine(serves(reactor, endpoint, "", 5.0))

    return pool_of(mine, clock, PoolLimits(**limits), str(path), ask)  # type: ignore[arg-type]


async def leased(pool: WorkerPool, clock: Clock) -> Waiting:
    """A lease, as soon as there is one; time passes for the pool meanwhile."""
    waiting = Waiting()
    at_once = pool.lease(waiting)
    if isinstance(at_once, Upstream):
        waiting.leased(at_once)
    while waiting.upstream is None:
        await turns(1)
        clock.advance(0.05)
    return waiting


def test_missing_file_and_stale_file(tmp_path: Path) -> None:
    """A socket file that is missing, or that nobody listens on, means down; that it ends is found out by asking."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        path = tmp_path / "w.sock"
        pool = on_socket(path, clock)
        waiting = Waiting()
        pool.lease(waiting)
        while not pool.down:
            await turns(1)
        pool.leave(waiting)
        assert pool.health.reason == "No such file or directory"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        while pool.health.reason != "Connection refused":
            clock.advance(0.6)
            await turns(1)
        path.unlink()
        worker = Worker(path).start()
        while pool.down:
            clock.advance(0.6)
            await turns(1)
        await (await worker.connection()).end()
        pool.retire()
        await worker.stop()

    spin(scenario())


def test_full_backlog(tmp_path: Path) -> None:
    """A real worker with a full backlog is busy, and gets the request when it accepts again (F-6)."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        path = tmp_path / "w.sock"
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
            listener.bind(str(path))
            listener.listen(0)
            filler.connect(str(path))
            pool = on_socket(path, clock)
            waiting = Waiting()
            pool.lease(waiting)
            while pool.failures < 3:
                clock.advance(0.03)
                await turns(1)
            assert not pool.down
            accepted, _ = listener.accept()
            while waiting.upstream is None:
                clock.advance(0.03)
                await turns(1)
            pool.discard(waiting.held)
            pool.retire()
            await turns()
            accepted.close()

    spin(scenario())


def test_no_descriptor_for_a_connection(tmp_path: Path) -> None:
    """With all descriptors in use a request waits until one is free; the worker is not to blame."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        worker = Worker(tmp_path / "w.sock").start()
        attempts: list[None] = []
        real = UnixEndpoint(Poller(reactor), str(worker.path))

        class Exhausted:
            """Has no descriptor at first."""

            follow = ignore = lambda *_: None

            def connect(self, handler: Any, failed: Any) -> None:
                attempts.append(None)
                if len(attempts) < 3:
                    failed(OSError(errno.EMFILE, "Too many open files"))
                else:
                    real.connect(handler, failed)

        pool = pool_of(Exhausted(), clock, PoolLimits())
        waiting = Waiting()
        assert pool.lease(waiting) is None
        assert (pool.connecting, pool.down) == (0, False)
        while waiting.upstream is None:
            await turns(1)
            clock.advance(0.03)
        assert len(attempts) == 3
        pool.discard(waiting.held)
        pool.retire()
        await (await worker.connection()).vanishes()
        await worker.stop()

    spin(scenario())


def test_restarted_worker(tmp_path: Path) -> None:
    """When the socket file was replaced, connections to the one before are not used again (R-57, F-24)."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        path = tmp_path / "w.sock"
        old = Worker(path).start()
        pool = on_socket(path, clock)
        first, second = await leased(pool, clock), await leased(pool, clock)
        pool.release(first.held)
        # As at a deployment that moves a new socket over the old one, whose process goes on for a while.
        new = Worker(tmp_path / "new.sock").start()
        (tmp_path / "new.sock").rename(path)
        clock.advance(2.0)
        pool.deadlines.recent = clock.seconds()
        third = await leased(pool, clock)
        while not new.accepted:
            await turns(1)
        assert len(new.accepted) == 1
        await (await old.connection()).end()
        old_lease = second.held
        pool.release(old_lease)
        assert not old_lease.link.open
        pool.release(third.held)
        assert pool.idle == 1
        pool.retire()
        # Twisted removes the path at which it began to listen.
        await old.stop()
        (tmp_path / "new.sock").touch()
        await new.stop()

    spin(scenario())


def test_connections_of_a_worker_that_went(tmp_path: Path) -> None:
    """While the socket file is missing, connections that are alive are still used."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        path = tmp_path / "w.sock"
        worker = Worker(path).start()
        pool = on_socket(path, clock)
        lease = await leased(pool, clock)
        pool.release(lease.held)
        path.unlink()
        clock.advance(2.0)
        pool.deadlines.recent = clock.seconds()
        again = await leased(pool, clock)
        assert pool.connects == 1
        pool.discard(again.held)
        pool.retire()
        path.touch()
        await worker.stop()

    spin(scenario())


def test_what_the_reactor_has_not_seen_yet(tmp_path: Path) -> None:
    """Octets, or the end, that have just come on an idle connection keep it from being leased (R-58)."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        worker = Worker(tmp_path / "w.sock").start()
        pool = on_socket(worker.path, clock)
        for spoil in (lambda far: far.send(b"x"), lambda far: far.shutdown(socket.SHUT_RDWR)):
            lease = await leased(pool, clock)
            connection = await worker.connection()
            pool.release(lease.held)
            spoil(connection.transport.getHandle())
            waiting = Waiting()
            assert pool.lease(waiting) is None
            while waiting.upstream is None:
                await turns(1)
            await worker.connection()
            pool.discard(waiting.held)
        pool.retire()
        await worker.stop()
        await turns(10)

    spin(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "both"])
def test_a_worker_on_tcp(host: str) -> None:
    """A worker on TCP has no socket file, and is reached all the same, be it at the last of its addresses."""

    async def scenario() -> None:
        clock = Clock()
        clock.advance(100)
        worker = Worker(Path("unused"))
        port = reactor.listenTCP(0, worker, interface="127.0.0.1")
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        assert ip_address(address.host).is_loopback
        # A name takes a look-up, an address none.
        names = Names(reactor)
        if host == "both":
            names.resolve = lambda _: ("127.0.0.2", "::1", "127.0.0.1")
        endpoint = TcpEndpoint(Poller(reactor), names, host, address.port, 2.0)
        pool = pool_of(endpoint, clock, PoolLimits())
        lease = await leased(pool, clock)
        pool.release(lease.held)
        clock.advance(2.0)
        pool.deadlines.recent = clock.seconds()
        again = await leased(pool, clock)
        assert pool.connects == 1
        pool.discard(again.held)
        pool.retire()
        await port.stopListening()
        await (await worker.connection()).end("reset")

    spin(scenario())


def test_a_port_that_nobody_listens_on() -> None:
    """A refused connection over TCP says so, and one that is never answered ends after its time."""

    async def scenario() -> None:
        poller = Poller(reactor)
        failures: list[BaseException] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            number = free.getsockname()[1]
            endpoint = TcpEndpoint(poller, Names(reactor), "127.0.0.1", number, 2.0)
            endpoint.connect(lambda: pytest.fail("connected"), failures.append)
            while not failures:
                await turns(1)
            assert describe(failures.pop()) == "Connection refused"
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            number = full.getsockname()[1]
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", number))
            endpoint = TcpEndpoint(poller, Names(reactor), "127.0.0.1", number, 0.2)
            endpoint.connect(lambda: pytest.fail("connected"), failures.append)
            while not failures:
                await turns(1)
            assert "timed out" in describe(failures.pop())
            for filler in fillers:
                filler.close()
        endpoint = TcpEndpoint(poller, Names(reactor), "no.such.host.invalid", 1, 0.2)
        endpoint.connect(lambda: pytest.fail("connected"), failures.append)
        while not failures:
            await turns(1)
        poller.close()

    spin(scenario())


@pytest.mark.parametrize("served", [False, True])
def test_a_retired_pool_asks_as_long_as_somebody_waits(served: bool) -> None:
    """Whether the last one is served or leaves: then nobody needs to know how the worker is."""
    clock, endpoint, questions = Clock(), FakeEndpoint(), FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    first, last = Waiting(), Waiting()
    assert pool.lease(first) is pool.lease(last) is None
    pool.retire()
    endpoint.accept()
    pool.health.doubt()
    questions.answer()
    if served:
        endpoint.accept()
    else:
        pool.leave(last)
    assert (last.upstream is not None) is served
    pool.health.doubt()
    assert (questions.asked, questions.open) == (1, [])
    assert not clock.getDelayedCalls()


def test_nobody_asks_for_a_worker_whose_pool_has_retired() -> None:
    """What was due is called off: no timer is left behind."""
    clock, endpoint, questions = Clock(), FakeEndpoint(), FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    pool.health.doubt()
    questions.fail(AWAY)
    assert clock.getDelayedCalls()
    pool.retire()
    assert not clock.getDelayedCalls()


def test_a_retired_pool_that_is_served_is_not_ended_before() -> None:
    """Retiring ends what asks at once where nobody waits, and only there."""
    clock, endpoint = Clock(), FakeEndpoint()
    followed: list[str] = []
    endpoint.ignore = lambda _moved: followed.append("ignored")  # type: ignore[assignment, method-assign]
    pool = pool_of(endpoint, clock, PoolLimits())
    waits = Waiting()
    pool.lease(waits)
    pool.retire()
    assert followed == []
    endpoint.accept()
    assert followed == ["ignored"]
    empty = pool_of(endpoint, clock, PoolLimits())
    empty.retire()
    assert followed == ["ignored", "ignored"]


def test_a_worker_that_has_come_back_is_told_of() -> None:
    """Once for each time, and to whoever asked for it, if anybody did."""
    clock, endpoint, questions = Clock(), FakeEndpoint(), FakeQuestions()
    pool = pool_of(endpoint, clock, PoolLimits(), ask=questions)
    lives: list[int] = []
    pool.health.doubt()
    questions.fail(AWAY)
    pool.health.appeared()
    questions.answer()
    pool.on_new_life = lambda: lives.append(pool.connects)
    pool.health.doubt()
    questions.fail(AWAY)
    assert lives == []
    pool.health.appeared()
    questions.answer()
    assert (pool.health.up, lives) == (True, [0])
