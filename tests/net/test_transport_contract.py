"""What the edge relies on of Twisted's transports, held against real sockets, and the fake held to the same."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeTransport
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sidecar.net.batching import BatchingReactor
from sidecar.net.transport import READ_SIZE, TwistedLink

from .turns import logged_failures, reactor, spin, turns


class Told:
    """Hands on what a link tells."""

    recorder: Recorder

    def connected(self) -> None: ...

    def received(self, octets: bytes) -> None:
        self.recorder.got += octets
        self.recorder.on_data()

    def lost(self, *, clean: bool) -> None:
        assert clean is isinstance(self.recorder.reason, ConnectionDone)

    def half_closed(self) -> None:
        self.recorder.events.append("read lost")

    def writing_ended(self) -> None:
        self.recorder.events.append("write lost")

    def shaken(self) -> None: ...

    def filled(self) -> None:
        self.recorder.events.append("pause")

    def drained(self) -> None:
        self.recorder.events.append("resume")


class Recorder(TwistedLink):
    """Notes what its transport and the link tell."""

    reading = True

    def __init__(self) -> None:
        handler = Told()
        super().__init__(handler)
        handler.recorder = self
        self.got = bytearray()
        self.events: list[str] = []
        self.reason: Exception | None = None
        self.on_data: Callable[[], None] = lambda: None

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason.value
        super().connectionLost(reason)

    def stopProducing(self) -> None:
        self.events.append("stop")


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    def readConnectionLost(self) -> None:
        self.handler.half_closed()

    def writeConnectionLost(self) -> None:
        self.handler.writing_ended()


class Line:
    """A protocol of ours on a transport; the far end is a plain socket."""

    def __init__(self, kind: str, protocol: Recorder) -> None:
        self.near = protocol
        near, self.far = _tcp_pair() if kind in ("tcp", "batched") else socket.socketpair()
        self.far.setblocking(False)
        self._batching = BatchingReactor(reactor) if kind == "batched" else None
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        (self._batching or reactor).adoptStreamConnection(near.fileno(), near.family, factory)
        near.close()

    def sends(self, octets: bytes) -> None:
        self.far.setblocking(True)
        self.far.sendall(octets)
        self.far.setblocking(False)

    async def reads(self, count: int) -> bytes:
        """Read `count` octets at the far end, turning the reactor."""
        got = bytearray()
        while len(got) < count:
            got += self.reads_now()
            await turns(1)
        return bytes(got)

    def reads_now(self) -> bytes:
        """What is at the far end without a turn of the reactor."""
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return b""

    def ended(self) -> bool:
        """The far end sees the end of what it is sent."""
        try:
            return self.far.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def half_closes(self) -> None:
        self.far.shutdown(socket.SHUT_WR)

    def closes(self) -> None:
        self.far.close()

    async def strike(self) -> None:
        self.far.close()
        if self.near.reason is None:
            self.near.transport.abortConnection()
        while self.near.reason is None:
            await turns(1)
        if self._batching is not None:
            self._batching.close()


class FakeLine:
    """The same upon a FakeTransport."""

    def __init__(self, _kind: str, protocol: Recorder) -> None:
        self.near = protocol
        self._room: int | None = 0
        self._transport = FakeTransport()
        self._transport.connect(protocol)
        self._running = True
        self._turn()

    def _turn(self) -> None:
        if self._running:
            self._transport.turn(room=None if self._room is None else max(0, 200_000 - len(self._transport.taken)))
            reactor.callLater(0, self._turn)

    def sends(self, octets: bytes) -> None:
        self._transport.deliver(octets)

    async def reads(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            got += self.reads_now()
            await turns(1)
        return bytes(got)

    def reads_now(self) -> bytes:
        got = bytes(self._transport.taken)
        self._transport.taken.clear()
        return got

    def ended(self) -> bool:
        return self._transport.write_closed or not self._transport.connected

    def half_closes(self) -> None:
        self._transport.hang_up()

    def closes(self) -> None:
        self._transport.hang_up()

    async def strike(self) -> None:
        self._running = False


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def play(kind: str, scenario: Callable[[Any], Any], protocol: Recorder | None = None) -> None:
    """Run a scenario on a line of a kind."""

    async def whole() -> None:
        line = (FakeLine if kind == "fake" else Line)(kind, protocol or Recorder())
        try:
            await scenario(line)
        finally:
            await line.strike()

    spin(whole())


everywhere = pytest.mark.parametrize("kind", ["tcp", "unix", "batched", "fake"])
on_sockets = pytest.mark.parametrize("kind", ["tcp", "unix", "batched"])


@everywhere
def test_octets_pass_in_order(kind: str) -> None:
    """What is sent arrives in order, in both directions, whatever its size."""

    async def scenario(line: Any) -> None:
        pieces = [b"%d" % n * size for n, size in enumerate((1, 70_000, 3, 1_000_000, 1))]
        for piece in pieces:
            assert line.near.send(piece)
        whole = b"".join(pieces)
        assert await line.reads(len(whole)) == whole
        line.sends(b"x" * 100_000)
        while len(line.near.got) < 100_000:
            await turns(1)

    play(kind, scenario)


@everywhere
def test_producer_is_paused_and_resumed(kind: str) -> None:
    """Above 64 KiB unsent each write pauses, within the write; it resumes when everything has been taken."""

    async def scenario(line: Any) -> None:
        line.near.transport.write(b"a" * 10)
        assert line.near.events == []
        line.near.transport.write(b"a" * 8_000_000)
        assert line.near.events == ["pause"]
        line.near.transport.write(b"b")
        assert line.near.events == ["pause", "pause"]
        await turns()
        assert "resume" not in line.near.events
        await line.reads(8_000_011)
        await turns()
        assert line.near.events == ["pause", "pause", "resume"]

    play(kind, scenario)


@everywhere
def test_pausing_keeps_what_comes(kind: str) -> None:
    """A paused connection gets nothing, not even the end; nothing is lost by it."""

    async def scenario(line: Any) -> None:
        line.near.transport.pauseProducing()
        line.sends(b"abc")
        line.closes()
        await turns()
        assert line.near.got == b""
        assert line.near.reason is None
        line.near.transport.resumeProducing()
        while line.near.reason is None:
            await turns(1)
        assert line.near.got == b"abc"

    play(kind, scenario)


@everywhere
def test_closing_sends_what_is_left(kind: str) -> None:
    """loseConnection sends what waits, and even what is written after it, then ends in good order."""

    async def scenario(line: Any) -> None:
        line.near.transport.write(b"a" * 1_000_000)
        line.near.close()
        line.near.send(b"tail")
        assert await line.reads(1_000_004) == b"a" * 1_000_000 + b"tail"
        while line.near.reason is None:
            await turns(1)
        assert isinstance(line.near.reason, ConnectionDone)
        assert line.ended()

    play(kind, scenario)


@everywhere
def test_half_close(kind: str) -> None:
    """loseWriteConnection sends what waits, then the end, and says so; reading goes on."""

    async def scenario(line: Any) -> None:
        line.near.send(b"abc")
        line.near.transport.loseWriteConnection()
        assert line.near.events == []
        while not line.near.events:
            await turns(1)
        assert line.near.events == ["write lost"]
        assert await line.reads(3) == b"abc"
        assert line.ended()
        line.sends(b"more")
        while line.near.got != b"more":
            await turns(1)
        line.near.transport.loseConnection()
        assert isinstance(line.near.reason, ConnectionDone)

    play(kind, scenario, HalfCloseable())


@everywhere
def test_half_close_of_the_other_side(kind: str) -> None:
    """The end of what the other side sends is told once, and leaves our direction open."""

    async def scenario(line: Any) -> None:
        line.sends(b"abc")
        line.half_closes()
        while not line.near.events:
            await turns(1)
        assert line.near.got == b"abc"
        line.near.send(b"def")
        assert await line.reads(3) == b"def"
        await turns()
        assert line.near.events == ["read lost"]
        assert line.near.reason is None

    play(kind, scenario, HalfCloseable())


@everywhere
def test_end(kind: str) -> None:
    """Where a protocol knows no half-close, the end of the other side is the end of the connection."""

    async def scenario(line: Any) -> None:
        line.sends(b"abc")
        line.closes()
        while line.near.reason is None:
            await turns(1)
        assert line.near.got == b"abc"
        assert isinstance(line.near.reason, ConnectionDone)
        assert line.near.events == ["stop"]

    play(kind, scenario)


@everywhere
def test_abort(kind: str) -> None:
    """abortConnection ends the connection in a later turn, and nothing is received until then."""

    async def scenario(line: Any) -> None:
        line.near.send(b"a" * 8_000_000)
        line.sends(b"abc")
        line.near.transport.abortConnection()
        assert line.near.reason is None
        while line.near.reason is None:
            await turns(1)
        assert isinstance(line.near.reason, ConnectionAborted)
        assert line.near.got == b""

    play(kind, scenario)


# What only sockets show.


@on_sockets
def test_direct_send(kind: str) -> None:
    """What is sent when nothing waits is with the other side before the reactor's next turn."""

    async def scenario(line: Line) -> None:
        await turns()
        assert line.near.send(b"abc")
        assert line.reads_now() == b"abc"
        assert line.near.unsent == 0

    play(kind, scenario)


@on_sockets
def test_partial_send(kind: str) -> None:
    """What the kernel does not take at once waits, is counted, and keeps its order."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.send(b"a" * 8_000_000)
        waiting = line.near.unsent
        assert 0 < waiting < 8_000_000
        line.near.send(b"b" * 10)
        assert line.near.unsent == waiting + 10
        await turns()
        got = line.reads_now()
        while line.near.unsent == waiting + 10:
            got += line.reads_now()
            await turns(1)
        assert line.near.unsent < waiting
        assert got + await line.reads(8_000_010 - len(got)) == b"a" * 8_000_000 + b"b" * 10
        assert line.near.unsent == 0
        line.near.send(b"c")
        assert line.reads_now() == b"c"

    play(kind, scenario)


@on_sockets
def test_send_when_the_kernel_takes_nothing(kind: str) -> None:
    """A kernel that takes nothing is no error."""

    async def scenario(line: Line) -> None:
        await turns()
        handle = line.near.transport.getHandle()
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += handle.send(b"f" * 65536)
        assert line.near.send(b"abc")
        assert line.near.unsent == 3
        assert (await line.reads(filled + 3))[-3:] == b"abc"

    play(kind, scenario)


@on_sockets
def test_send_on_a_broken_connection(kind: str) -> None:
    """A send that fails says so and leaves what can be read readable, however much that is."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.transport.pauseProducing()
        # Closing with unread octets would make the kernel drop the answer on TCP, so nothing is left unread.
        answer = b"z" * 150_000
        line.sends(answer)
        line.far.close()
        await turns()
        while line.near.send(b"x"):
            await turns(1)
        assert line.near.reason is None
        line.near.transport.resumeProducing()
        while line.near.reason is None:
            await turns(1)
        if kind == "unix":
            assert line.near.got == answer

    play(kind, scenario)


@on_sockets
def test_abandoned_writes_keep_the_answer(kind: str) -> None:
    """A peer that answers at length without reading, and closes, is read to its end once writes are abandoned."""

    async def scenario(line: Line) -> None:
        await turns()
        answer = b"z" * 400_000
        line.near.send(b"u" * 8_000_000)
        assert line.near.unsent
        line.near.on_data = line.near.abandon_writes
        line.far.setblocking(False)
        left = memoryview(answer)
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[line.far.send(left) :]
            await turns(1)
        line.far.shutdown(socket.SHUT_WR) if kind != "unix" else line.far.close()
        while line.near.reason is None:
            await turns(1)
        assert line.near.got == answer
        assert line.near.unsent == 0

    play(kind, scenario)


@on_sockets
def test_readable(kind: str) -> None:
    """A look into the kernel sees octets, an end and a reset before the reactor does, and takes nothing away."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.transport.pauseProducing()
        assert not line.near.readable
        line.sends(b"a")
        assert line.near.readable
        line.near.transport.resumeProducing()
        while line.near.got != b"a":
            await turns(1)
        line.near.transport.pauseProducing()
        line.half_closes()
        assert line.near.readable

    play(kind, scenario)


def test_reset() -> None:
    """A reset is seen by a look, by a send and by the reactor as what it is."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.transport.pauseProducing()
        line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.far.close()
        line.near.transport.getHandle().setblocking(False)
        while not line.near.readable:
            await turns(1)
        assert not line.near.send(b"x")
        line.near.transport.resumeProducing()
        while line.near.reason is None:
            await turns(1)

    async def reading(line: Line) -> None:
        await turns()
        line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.far.close()
        while line.near.reason is None:
            await turns(1)
        assert isinstance(line.near.reason, ConnectionLost)
        assert not line.near.send(b"x")

    play("tcp", scenario)
    play("tcp", reading)


@on_sockets
def test_others_get_their_turn(kind: str) -> None:
    """One connection is read for so long in one turn, and not once its protocol has had enough."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.transport.pauseProducing()
        with contextlib.suppress(BlockingIOError):
            while True:
                line.far.send(b"x" * 65536)
        line.near.reading = False
        line.near.transport.resumeProducing()
        while not line.near.got:
            await turns(1)
        assert len(line.near.got) <= 3 * READ_SIZE

    play(kind, scenario)


def test_not_a_socket() -> None:
    """On a transport that is no socket the ordinary way is taken, and nothing is pretended."""

    async def scenario(line: Any) -> None:
        assert line.near.send(b"abc")
        assert line.near.unsent == 0
        assert not line.near.readable
        line.near.abandon_writes()
        assert await line.reads(3) == b"abc"

    play("fake", scenario)


# The reactor within the reactor.


class Faulty(Protocol):
    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("a fault of ours")


def test_a_fault_ends_its_connection_only() -> None:
    """An exception while reading ends that connection, is logged, and leaves the others."""

    async def whole() -> None:
        batching = BatchingReactor(reactor)
        near, far = _tcp_pair()
        batching.adoptStreamConnection(near.fileno(), near.family, Factory.forProtocol(Faulty))
        near.close()
        other = Recorder()
        second, second_far = socket.socketpair()
        batching.adoptStreamConnection(second.fileno(), second.family, Factory.forProtocol(lambda: other))
        second.close()
        far.send(b"x")
        second_far.send(b"y")
        far.setblocking(False)
        while True:
            await turns(1)
            with contextlib.suppress(BlockingIOError):
                assert far.recv(1) == b""
                break
        while other.got != b"y":
            await turns(1)
        batching.close()
        assert isinstance(other.reason, ConnectionLost)
        far.close()
        second_far.close()

    with logged_failures() as failures, pytest.raises(AssertionError, match="a fault of ours"):
        spin(whole())
    assert {str(failure.value) for failure in failures} == {"a fault of ours"}


def test_a_connection_that_is_closed_by_another() -> None:
    """Of two connections that are ready in one turn, one may end the other."""

    async def whole() -> None:
        batching = BatchingReactor(reactor)
        ends = [socket.socketpair() for _ in range(2)]
        recorders = [Recorder(), Recorder()]
        for (near, _), recorder in zip(ends, recorders, strict=True):
            batching.adoptStreamConnection(near.fileno(), near.family, Factory.forProtocol(lambda one=recorder: one))
            near.close()
        for one, other in (recorders, recorders[::-1]):
            one.on_data = lambda other=other: other.transport.connectionLost(Failure(ConnectionLost()))
        for _, far in ends:
            far.send(b"x")
        await turns()
        assert sorted(bytes(recorder.got) for recorder in recorders) == [b"", b"x"]
        batching.close()
        for _, far in ends:
            far.close()

    spin(whole())


def test_the_process_is_the_outer_reactors() -> None:
    """Time, threads and the process are left to the reactor that runs."""

    async def whole() -> None:
        batching = BatchingReactor(reactor)
        assert abs(batching.seconds() - reactor.seconds()) < 5
        called: list[str] = []
        batching.callFromThread(called.append, "thread")
        call = batching.callLater(0, called.append, "later")
        assert call in reactor.getDelayedCalls()
        await turns()
        assert sorted(called) == ["later", "thread"]
        assert batching.getThreadPool() is reactor.getThreadPool()
        assert batching.logPrefix() == "sidecar"
        batching.close()

    spin(whole())
