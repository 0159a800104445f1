"""What the edge relies on of Twisted's transports, held against real sockets, and the fake held to the same."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeTransport
from twisted.internet.protocol import Factory

from sidecar.transport.link import Link
from sidecar.transport.poller import Poller
from sidecar.transport.transport import READ_SIZE, SocketLink
from sidecar.transport.twisted_link import HalfCloseableLink, TwistedLink

from .turns import logged_failures, reactor, spin, turns


class Recorder:
    """A handler that notes what its link tells it."""

    link: Any

    def __init__(self, *, half_closeable: bool = False) -> None:
        self.half_closeable = half_closeable
        self.got = bytearray()
        self.events: list[str] = []
        self.clean: bool | None = None
        """How it ended; None: not yet."""
        self.on_data: Callable[[], None] = lambda: None

    def connected(self, link: Link) -> None:
        self.link = link

    def received(self, octets: bytes) -> None:
        self.got += octets
        self.on_data()

    def lost(self, *, clean: bool) -> None:
        self.clean = clean

    def half_closed(self) -> None:
        self.events.append("read lost")

    def writing_ended(self) -> None:
        self.events.append("write lost")

    def shaken(self) -> None:
        raise AssertionError("there is no TLS here")

    def filled(self) -> None:
        self.events.append("pause")

    def drained(self) -> None:
        self.events.append("resume")


class Line:
    """A link of ours, or of Twisted's; the far end is a plain socket."""

    def __init__(self, kind: str, handler: Recorder) -> None:
        self.near = handler
        near, self.far = socket.socketpair() if kind == "unix" else _tcp_pair()
        self.far.setblocking(False)
        self._poller = Poller(reactor)
        if kind != "twisted":
            SocketLink(self._poller, near, "", half_closeable=handler.half_closeable).begin(handler)
            return
        factory = Factory.forProtocol(lambda: twisted_link(handler))
        factory.noisy = False
        reactor.adoptStreamConnection(near.fileno(), near.family, factory)
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
        if self.near.clean is None:
            self.near.link.abort()
        while self.near.clean is None:
            await turns(1)
        self._poller.close()


class FakeLine:
    """The same upon a FakeTransport."""

    def __init__(self, _kind: str, handler: Recorder) -> None:
        self.near = handler
        self._room: int | None = 0
        self._transport = FakeTransport()
        self._transport.connect(twisted_link(handler))
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


def twisted_link(handler: Recorder) -> TwistedLink:
    return HalfCloseableLink(handler) if handler.half_closeable else TwistedLink(handler)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def play(kind: str, scenario: Callable[[Any], Any], handler: Recorder | None = None) -> None:
    """Run a scenario on a line of a kind."""

    async def whole() -> None:
        line = (FakeLine if kind == "fake" else Line)(kind, handler or Recorder())
        try:
            await scenario(line)
        finally:
            await line.strike()

    spin(whole())


everywhere = pytest.mark.parametrize("kind", ["tcp", "unix", "twisted", "fake"])
on_sockets = pytest.mark.parametrize("kind", ["tcp", "unix"])


@everywhere
def test_octets_pass_in_order(kind: str) -> None:
    """What is sent arrives in order, in both directions, whatever its size."""

    async def scenario(line: Any) -> None:
        pieces = [b"%d" % n * size for n, size in enumerate((1, 70_000, 3, 1_000_000, 1))]
        for piece in pieces:
            assert line.near.link.send(piece)
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
        line.near.link.send(b"a" * 10)
        assert line.near.events == []
        line.near.link.send(b"a" * 8_000_000)
        assert line.near.events == ["pause"]
        line.near.link.send(b"b")
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
        line.near.link.pause()
        line.sends(b"abc")
        line.closes()
        await turns()
        assert line.near.got == b""
        assert line.near.clean is None
        line.near.link.resume()
        while line.near.clean is None:
            await turns(1)
        assert line.near.got == b"abc"

    play(kind, scenario)


@everywhere
def test_closing_sends_what_is_left(kind: str) -> None:
    """loseConnection sends what waits, and even what is written after it, then ends in good order."""

    async def scenario(line: Any) -> None:
        line.near.link.send(b"a" * 1_000_000)
        line.near.link.close()
        line.near.link.send(b"tail")
        assert await line.reads(1_000_004) == b"a" * 1_000_000 + b"tail"
        while line.near.clean is None:
            await turns(1)
        assert line.near.clean
        assert line.ended()

    play(kind, scenario)


@everywhere
def test_half_close(kind: str) -> None:
    """loseWriteConnection sends what waits, then the end, and says so; reading goes on."""

    async def scenario(line: Any) -> None:
        line.near.link.send(b"abc")
        line.near.link.end_writing()
        assert line.near.events == []
        while not line.near.events:
            await turns(1)
        assert line.near.events == ["write lost"]
        assert await line.reads(3) == b"abc"
        assert line.ended()
        line.sends(b"more")
        while line.near.got != b"more":
            await turns(1)
        line.near.link.close()
        while line.near.clean is None:
            await turns(1)
        assert line.near.clean

    play(kind, scenario, Recorder(half_closeable=True))


@everywhere
def test_half_close_of_the_other_side(kind: str) -> None:
    """The end of what the other side sends is told once, and leaves our direction open."""

    async def scenario(line: Any) -> None:
        line.sends(b"abc")
        line.half_closes()
        while not line.near.events:
            await turns(1)
        assert line.near.got == b"abc"
        line.near.link.send(b"def")
        assert await line.reads(3) == b"def"
        await turns()
        assert line.near.events == ["read lost"]
        assert line.near.clean is None

    play(kind, scenario, Recorder(half_closeable=True))


@everywhere
def test_end(kind: str) -> None:
    """Where a protocol knows no half-close, the end of the other side is the end of the connection."""

    async def scenario(line: Any) -> None:
        line.sends(b"abc")
        line.closes()
        while line.near.clean is None:
            await turns(1)
        assert line.near.got == b"abc"
        assert line.near.clean

    play(kind, scenario)


@everywhere
def test_abort(kind: str) -> None:
    """abortConnection ends the connection in a later turn, and nothing is received until then."""

    async def scenario(line: Any) -> None:
        line.near.link.send(b"a" * 8_000_000)
        line.sends(b"abc")
        line.near.link.abort()
        assert line.near.clean is None
        while line.near.clean is None:
            await turns(1)
        assert line.near.clean is False
        assert line.near.got == b""

    play(kind, scenario)


# What only sockets show.


@on_sockets
def test_direct_send(kind: str) -> None:
    """What is sent when nothing waits is with the other side before the reactor's next turn."""

    async def scenario(line: Line) -> None:
        await turns()
        assert line.near.link.send(b"abc")
        assert line.reads_now() == b"abc"
        assert line.near.link.unsent == 0

    play(kind, scenario)


@on_sockets
def test_partial_send(kind: str) -> None:
    """What the kernel does not take at once waits, is counted, and keeps its order."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.link.send(b"a" * 8_000_000)
        waiting = line.near.link.unsent
        assert 0 < waiting < 8_000_000
        line.near.link.send(b"b" * 10)
        assert line.near.link.unsent == waiting + 10
        await turns()
        got = line.reads_now()
        while line.near.link.unsent == waiting + 10:
            got += line.reads_now()
            await turns(1)
        assert line.near.link.unsent < waiting
        assert got + await line.reads(8_000_010 - len(got)) == b"a" * 8_000_000 + b"b" * 10
        assert line.near.link.unsent == 0
        line.near.link.send(b"c")
        assert line.reads_now() == b"c"

    play(kind, scenario)


@on_sockets
def test_send_when_the_kernel_takes_nothing(kind: str) -> None:
    """A kernel that takes nothing is no error."""

    async def scenario(line: Line) -> None:
        await turns()
        handle = line.near.link.socket
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += handle.send(b"f" * 65536)
        assert line.near.link.send(b"abc")
        assert line.near.link.unsent == 3
        assert (await line.reads(filled + 3))[-3:] == b"abc"

    play(kind, scenario)


@on_sockets
def test_send_on_a_broken_connection(kind: str) -> None:
    """A send that fails says so and leaves what can be read readable, however much that is."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.link.pause()
        # Closing with unread octets would make the kernel drop the answer on TCP, so nothing is left unread.
        answer = b"z" * 150_000
        line.sends(answer)
        line.far.close()
        await turns()
        while line.near.link.send(b"x"):
            await turns(1)
        assert line.near.clean is None
        line.near.link.resume()
        while line.near.clean is None:
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
        line.near.link.send(b"u" * 8_000_000)
        assert line.near.link.unsent
        line.near.on_data = line.near.link.abandon_writes
        line.far.setblocking(False)
        left = memoryview(answer)
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[line.far.send(left) :]
            await turns(1)
        line.far.shutdown(socket.SHUT_WR) if kind != "unix" else line.far.close()
        while line.near.clean is None:
            await turns(1)
        assert line.near.got == answer
        assert line.near.link.unsent == 0

    play(kind, scenario)


@on_sockets
def test_idle(kind: str) -> None:
    """A look into the kernel sees octets, an end and a reset before the reactor does, and takes nothing away."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.link.pause()
        assert line.near.link.idle()
        line.sends(b"a")
        assert not line.near.link.idle()
        line.near.link.resume()
        while line.near.got != b"a":
            await turns(1)
        line.near.link.pause()
        line.half_closes()
        assert not line.near.link.idle()

    play(kind, scenario)


def test_reset() -> None:
    """A reset is seen by a look, by a send and by the reactor as what it is."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.link.pause()
        line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.far.close()
        line.near.link.socket.setblocking(False)
        while line.near.link.idle():
            await turns(1)
        assert not line.near.link.send(b"x")
        line.near.link.resume()
        while line.near.clean is None:
            await turns(1)

    async def reading(line: Line) -> None:
        await turns()
        line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.far.close()
        while line.near.clean is None:
            await turns(1)
        assert line.near.clean is False
        assert not line.near.link.send(b"x")

    play("tcp", scenario)
    play("tcp", reading)


@on_sockets
def test_others_get_their_turn(kind: str) -> None:
    """One connection is read for so long in one turn, and not once its protocol has had enough."""

    async def scenario(line: Line) -> None:
        await turns()
        line.near.link.pause()
        with contextlib.suppress(BlockingIOError):
            while True:
                line.far.send(b"x" * 65536)
        line.near.on_data = line.near.link.pause
        line.near.link.resume()
        while not line.near.got:
            await turns(1)
        assert len(line.near.got) <= READ_SIZE

    play(kind, scenario)


def test_not_a_socket() -> None:
    """On a transport that is no socket the ordinary way is taken, and nothing is pretended."""

    async def scenario(line: Any) -> None:
        assert line.near.link.send(b"abc")
        assert line.near.link.unsent == 0
        assert line.near.link.idle()
        line.near.link.abandon_writes()
        assert await line.reads(3) == b"abc"

    play("fake", scenario)


# The poller.


class Faulty(Recorder):
    """Fails at the first octet."""

    def received(self, octets: bytes) -> None:
        raise RuntimeError("a fault of ours")


def linked(poller: Poller, handler: Recorder) -> socket.socket:
    """The far end of a link of `handler`."""
    near, far = socket.socketpair()
    SocketLink(poller, near, "", half_closeable=False).begin(handler)
    far.setblocking(False)
    return far


def test_a_fault_ends_its_connection_only() -> None:
    """An exception while reading ends that connection, is logged, and leaves the others."""

    async def whole() -> None:
        poller = Poller(reactor)
        faulty, other = Faulty(), Recorder()
        far, second_far = linked(poller, faulty), linked(poller, other)
        far.send(b"x")
        second_far.send(b"y")
        while faulty.clean is None or other.got != b"y":
            await turns(1)
        assert (faulty.clean, other.clean) == (False, None)
        assert far.recv(1) == b""
        other.link.close()
        await turns(2)
        poller.close()
        far.close()
        second_far.close()

    with logged_failures() as failures, pytest.raises(AssertionError, match="a fault of ours"):
        spin(whole())
    assert {str(failure.value) for failure in failures} == {"a fault of ours"}


def test_a_connection_that_is_closed_by_another() -> None:
    """Of two connections that are ready in one turn, one may end the other."""

    async def whole() -> None:
        poller = Poller(reactor)
        recorders = [Recorder(), Recorder()]
        ends = [linked(poller, recorder) for recorder in recorders]
        for one, other in (recorders, recorders[::-1]):
            one.on_data = other.link.abort
        for far in ends:
            far.send(b"x")
        await turns()
        assert sorted(bytes(recorder.got) for recorder in recorders) == [b"", b"x"]
        for recorder in recorders:
            recorder.link.abort()
        await turns()
        assert [recorder.clean for recorder in recorders] == [False, False]
        poller.close()
        for far in ends:
            far.close()

    spin(whole())


def test_the_end_of_the_poller() -> None:
    """Links that are left are ended, and their handlers told; one that is closed later does no harm."""

    async def whole() -> None:
        poller = Poller(reactor)
        recorder = Recorder()
        far = linked(poller, recorder)
        poller.close()
        assert recorder.clean is False
        recorder.link.close()
        recorder.link.abort()
        far.close()
        await turns(2)

    spin(whole())


def test_others_of_the_process_get_their_turn() -> None:
    """However busy our sockets are, the reactor's own timers come between."""

    async def whole() -> None:
        poller = Poller(reactor)
        one, other = Recorder(), Recorder()
        far, other_far = linked(poller, one), linked(poller, other)
        near_to_near = [far, other_far]
        one.on_data = lambda: near_to_near[1].send(b"y")  # type: ignore[assignment]
        other.on_data = lambda: near_to_near[0].send(b"x")  # type: ignore[assignment]
        far.send(b"x")
        await turns(3)
        assert one.got
        assert other.got
        for recorder in (one, other):
            recorder.on_data = lambda: None
            recorder.link.abort()
        await turns()
        poller.close()
        far.close()
        other_far.close()

    spin(whole())
