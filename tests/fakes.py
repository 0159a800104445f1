"""Fakes for fast tests: a transport that behaves like Twisted's, and workers behind such transports.

`tests/net/test_transport_contract.py` holds the transport against real sockets. Twisted's own doubles differ from
them where it matters here: they never pause a producer, know no half-close, and lose a connection at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

from sidecar.transport.link import Handler
from sidecar.transport.twisted_link import TwistedLink

BUFFER = 65536
READ = 65536


class FakeTransport:
    """One end of a connection that is moved on by hand: `turn` is a turn of the reactor.

    The other end is played by a test: what it was sent is in `taken`, and it uses `deliver` and `hang_up`.
    """

    TLS = False

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._peer = IPv4Address("TCP", host, 12345)
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.aborting = False
        self.reading = True
        self.write_closed = False
        self.taken = bytearray()
        """What the kernel took, and the other end with it."""
        self._unsent = b""
        self._write_closing = False
        self._producer: Any = None
        self._producer_paused = False
        self._incoming = bytearray()
        self._end: Exception | None = None

    def connect(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    # What protocols call.

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing here waits to be joined with more."""

    def getPeer(self) -> IPv4Address:
        return self._peer

    def write(self, data: bytes) -> None:
        if not self.connected or self.write_closed or not data:
            return
        self._unsent += data
        if self._producer is not None and len(self._unsent) > BUFFER:
            self._producer_paused = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self.reading = True

    def loseConnection(self) -> None:
        if not self.connected or self.disconnecting:
            return
        self.reading = False
        if self.write_closed:
            self._lose(ConnectionDone())
        else:
            self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self._write_closing = True

    def abortConnection(self) -> None:
        if self.connected:
            self.aborting = True
            self.reading = False

    # What the test does.

    def deliver(self, octets: bytes) -> None:
        """The other end sent these."""
        self._incoming += octets

    def hang_up(self, *, clean: bool = True) -> None:
        """The other end closed in good order, or was reset."""
        self._end = ConnectionDone() if clean else ConnectionLost()
        if not clean:
            self._unsent = b""

    def turn(self, *, read: int = READ, room: int | None = None) -> None:
        """Read at most `read` octets, and let the kernel take at most `room`."""
        if self.aborting and self.connected:
            self._lose(ConnectionAborted())
        if self.connected and self.reading:
            self._read(read)
        if self.connected and not self.aborting:
            self._write(room)

    def _read(self, most: int) -> None:
        if self._incoming:
            data = bytes(self._incoming[: min(most, READ)])
            del self._incoming[: len(data)]
            if data:
                self.protocol.dataReceived(data)
        elif isinstance(self._end, ConnectionDone) and IHalfCloseableProtocol.providedBy(self.protocol):
            self._end = None
            self.reading = False
            self.protocol.readConnectionLost()
        elif self._end is not None:
            self._lose(self._end)

    def _write(self, room: int | None) -> None:
        took = len(self._unsent) if room is None else min(room, len(self._unsent))
        self.taken += self._unsent[:took]
        had = bool(self._unsent) or self._write_closing or self.disconnecting
        self._unsent = self._unsent[took:]
        if self._unsent or not had:
            return
        if self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._lose(ConnectionDone())
        elif self._write_closing and not self.write_closed:
            self.write_closed = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()

    def _lose(self, reason: Exception) -> None:
        self.connected = False
        self.reading = False
        if self._producer is not None:
            self._producer.stopProducing()
            self._producer = None
        self.protocol.connectionLost(Failure(reason))


class FakeEndpoint:
    """A client endpoint whose attempts to connect wait until the test decides them."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Callable[[], Handler], Callable[[BaseException], None]]] = []
        self.made: list[FakeTransport] = []
        self.on_attempt: Callable[[], None] = lambda: None

    def connect(self, handler: Callable[[], Handler], failed: Callable[[BaseException], None]) -> None:
        self.attempts.append((handler, failed))
        self.on_attempt()

    def follow(self, moved: Callable[[], None]) -> None:
        """It stays where it is."""

    def ignore(self, moved: Callable[[], None]) -> None:
        """It stays where it is."""

    def accept(self) -> FakeTransport:
        """Let the oldest attempt succeed."""
        handler, _ = self.attempts.pop(0)
        transport = FakeTransport()
        self.made.append(transport)
        transport.connect(TwistedLink(handler()))
        return transport

    def refuse(self, error: Exception) -> None:
        """Let the oldest attempt fail."""
        self.attempts.pop(0)[1](error)


class FakeQuestions:
    """Questions to a worker for its health, which wait until the test answers them."""

    def __init__(self) -> None:
        self.open: list[Deferred[bool]] = []
        self.asked = 0

    def __call__(self) -> Deferred[bool]:
        self.asked += 1
        question: Deferred[bool] = Deferred()
        self.open.append(question)
        return question

    def answer(self) -> None:
        """Let the worker say that it serves."""
        self.open.pop(0).callback(True)

    def fail(self, error: Exception) -> None:
        """Let the question fail."""
        self.open.pop(0).errback(Failure(error))
