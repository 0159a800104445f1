"""TLS on our own plain socket: the transport for Twisted's TLS. Knows neither certificates nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sidecar.transport.link import Link


@implementer(ITransport, IConsumer)
class TlsTransport:
    """Connects a link with a TLS protocol of Twisted, as handler of the one and transport of the other."""

    disconnecting = False

    def __init__(self, build: Callable[[Link], IProtocol]) -> None:
        """`build` makes the protocol for a link."""
        self._build = build
        self._producer: Any = None
        self.link: Link
        self._protocol: IProtocol

    # Called by the link.

    def connected(self, link: Link) -> None:
        self.link = link
        self._protocol = self._build(link)
        self._protocol.makeConnection(self)

    def received(self, octets: bytes) -> None:
        self._protocol.dataReceived(octets)

    def lost(self, *, clean: bool) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))

    def filled(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def drained(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()

    def half_closed(self) -> None:
        """The other end closed without TLS's close_notify, as if the connection had been cut."""
        self.link.abort()

    def writing_ended(self) -> None:
        """Never called: TLS ends both directions at once."""

    def shaken(self) -> None:
        """Never called: the handshake goes through here."""

    # Called by TLS.

    def write(self, data: bytes) -> None:
        self.link.send(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.link.send(b"".join(data))

    def loseConnection(self) -> None:
        self.link.close()

    def abortConnection(self) -> None:
        self.link.abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.link.pause()

    def resumeProducing(self) -> None:
        self.link.resume()

    def stopProducing(self) -> None:
        self.link.abort()

    def getPeer(self) -> IAddress:
        peer = self.link.peer
        if not peer:
            return UNIXAddress(None)
        return (IPv6Address if ":" in peer else IPv4Address)("TCP", peer, 0)

    def getHost(self) -> IAddress:
        return UNIXAddress(None)
