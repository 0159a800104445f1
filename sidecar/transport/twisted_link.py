"""Links on transports of Twisted: inside TLS, and for endpoints whose connections are no plain sockets.

Uses only public interfaces of Twisted. Plain sockets are in `sidecar.transport.transport`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sidecar.transport.link import NOTHING, Handler, Link, UnderWay


@implementer(IPushProducer)
class TwistedLink(Protocol):
    """A link on any transport of Twisted. Registers as its producer, to notice back-pressure."""

    open: bool = False
    secure: bool = False
    peer: str = ""
    was_reset: bool = False
    paused: bool = False
    closing: bool = False

    def __init__(self, handler: Handler, below: Link | None = None) -> None:
        """`below`: the link below TLS, if known."""
        self.handler = handler
        self.below = below

    def hand_over(self, handler: Handler) -> None:
        """Set the handler."""
        self.handler = handler
        handler.connected(self)

    # Called by Twisted.

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.open = True
        self.peer = getattr(transport.getPeer(), "host", "") if self.below is None else self.below.peer
        transport.registerProducer(self, True)
        self.handler.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self.handler.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        self.handler.lost(clean=reason.check(ConnectionDone) is not None)

    def pauseProducing(self) -> None:
        self.handler.filled()

    def resumeProducing(self) -> None:
        self.handler.drained()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` is called, too."""

    # Called by the handler.

    def send(self, octets: bytes) -> bool:
        transport: Any = self.transport
        transport.write(octets)
        return True

    def pause(self) -> None:
        if not self.paused and self.open:
            self.paused = True
            transport: Any = self.transport
            transport.pauseProducing()

    def resume(self) -> None:
        if self.paused and self.open:
            self.paused = False
            transport: Any = self.transport
            transport.resumeProducing()

    def end_writing(self) -> None:
        transport: Any = self.transport
        transport.loseWriteConnection()

    def close(self) -> None:
        if self.open:
            self.closing = True
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()

    def abort(self) -> None:
        if self.open:
            self.open = False
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.abortConnection()

    def quiet(self) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()

    def abandon_writes(self) -> None:
        """Ignored: Twisted cannot discard what waits. It is sent, or fails."""

    def idle(self) -> bool:
        return self.open

    @property
    def unsent(self) -> int:
        return 0 if self.below is None or not self.open else self.below.unsent

    @property
    def under_way(self) -> UnderWay:
        return NOTHING if self.below is None else self.below.under_way


@implementer(IHalfCloseableProtocol)
class HalfCloseableLink(TwistedLink):
    """A link whose directions are closed separately."""

    def readConnectionLost(self) -> None:
        self.handler.half_closed()

    def writeConnectionLost(self) -> None:
        self.handler.writing_ended()


@implementer(IHandshakeListener)
class SecureLink(TwistedLink):
    """A link inside TLS, which has no half-close: it ends when the other end has closed, too."""

    secure = True

    @property
    def negotiated(self) -> bytes | None:
        """The protocol that was negotiated in the handshake (ALPN); None: none."""
        transport: Any = self.transport
        negotiated: bytes | None = transport.negotiatedProtocol
        return negotiated

    def handshakeCompleted(self) -> None:
        self.handler.shaken()

    def end_writing(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()
        self.handler.writing_ended()
