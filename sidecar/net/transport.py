"""What we know of Twisted's transports beyond their interfaces; every use of it is in this module.

A plain `write` waits for the next turn of the reactor; sending at once when nothing waits to be sent saves a poll for
each message. Twisted reads a UNIX socket with `recvmsg`, ready for descriptors that nobody sends here; `recv` is
cheaper. Together that is a third of what a proxied request costs. `tests/net/test_transport_contract.py` holds this
module against real sockets.
"""

from __future__ import annotations

import socket
from errno import ECONNRESET
from fcntl import ioctl
from select import POLLIN, poll
from struct import Struct
from termios import TIOCOUTQ
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IProtocol, IPushProducer
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from sidecar.net.link import Handler, Sending, UnderWay

_INT = Struct("i")

READ_SIZE = 65536
"""Bytes asked of the kernel at a time."""
MOST_READS = 4
"""How often a connection is read in one turn if each time it gave as much as was asked for; then others get theirs."""


@implementer(IPushProducer)
class TwistedLink(Protocol):
    """A link on a transport of Twisted's, which sends and receives without detours where that is a plain socket.

    Its own producer towards its transport, so that it learns when more waits than should.
    """

    handler: Handler
    open: bool = False
    secure: bool = False
    peer: str = ""
    was_reset: bool = False
    paused: bool = False
    splice: Sending | None = None
    """What sends a body to us past this link (net/splicing.py)."""
    diverted: bool = False
    """What we receive goes past this link."""
    _socket: socket.socket | None = None
    _look: poll | None = None

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    # Twisted calls.

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.open = True
        if isinstance(transport, Connection) and not transport.TLS:
            # The short way, from now on; for TLS and for what is no socket the ordinary one stays.
            self._socket = transport.socket
            self.read_directly()
        self.peer = getattr(transport.getPeer(), "host", "")
        if self.peer:
            # A UNIX transport has this method too, and before Twisted 24.11 it fails there.
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self.handler.connected()

    def dataReceived(self, data: bytes) -> None:
        self.handler.received(data)

    def connectionLost(self, reason: TwistedFailure = connectionDone) -> None:
        self.open = False
        self.handler.lost(clean=reason.check(ConnectionDone) is not None)

    def pauseProducing(self) -> None:
        self.handler.filled()

    def resumeProducing(self) -> None:
        self.handler.drained()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` says so too."""

    # The handler asks.

    def send(self, octets: bytes) -> bool:
        transport: Any = self.transport
        direct = self._socket
        if direct is None or transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting:
            transport.write(octets)
            return True
        try:
            sent = direct.send(octets)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent != len(octets):
            transport.write(octets[sent:])
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
        # Without it, the failure of a write that nobody needs any more tears down a connection from which an answer
        # can still be read.
        transport: Any = self.transport
        if self._socket is not None:
            transport.dataBuffer = b""
            transport.offset = 0
            transport._tempDataBuffer = []
            transport._tempDataLen = 0
            transport.stopWriting()

    @property
    def closing(self) -> bool:
        transport: Any = self.transport
        return bool(transport.disconnecting)

    @property
    def readable(self) -> bool:
        if self._socket is None:
            return False
        look = self._look
        if look is None:
            # A look with `recv` ends in an exception nearly always, which costs as much as three of these.
            look = self._look = poll()
            look.register(self._socket, POLLIN)
        return bool(look.poll(0))

    @property
    def unsent(self) -> int:
        transport: Any = self.transport
        if self._socket is None:
            return 0
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting if self.splice is None else waiting + self.splice.unsent

    @property
    def under_way(self) -> UnderWay:
        unsent = self.unsent
        return (unsent, 0) if unsent else (0, in_kernel(self.descriptor))

    # A splice asks.

    @property
    def direct(self) -> bool:
        """The transport is a plain socket."""
        return self._socket is not None

    @property
    def descriptor(self) -> int:
        """The socket's; -1 when it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def divert(self, receive: Any) -> None:
        """Let the reactor call `receive` when there is something to read."""
        self.diverted = True
        transport: Any = self.transport
        transport.doRead = receive

    def read_directly(self) -> None:
        """Let the reactor call `_receive` when there is something to read."""
        self.diverted = False
        if self._socket is not None:
            transport: Any = self.transport
            transport.doRead = self._receive

    def take(self, splice: Sending | None) -> None:
        """Octets are sent past this link from now on; None: not any more."""
        self.splice = splice

    @property
    def reading(self) -> bool:
        """More may be read now: neither is somebody in the way, nor is the connection being closed."""
        transport: Any = self.transport
        return self.open and not self.paused and not transport.disconnecting

    def _receive(self) -> BaseException | None:
        """What the reactor calls when there is something to read."""
        assert self._socket is not None
        receive = self._socket.recv
        reads = MOST_READS
        while reads:
            reads -= 1
            try:
                data = receive(READ_SIZE)
            except BlockingIOError:
                return None
            except OSError as error:
                self.was_reset = error.errno == ECONNRESET
                return CONNECTION_LOST
            if not data:
                return CONNECTION_DONE
            self.handler.received(data)
            if len(data) < READ_SIZE or self.diverted or not self.reading:
                return None
        return None


@implementer(IHalfCloseableProtocol)
class HalfCloseableLink(TwistedLink):
    """A link whose directions end one after the other."""

    def readConnectionLost(self) -> None:
        self.handler.half_closed()

    def writeConnectionLost(self) -> None:
        self.handler.writing_ended()


@implementer(IHandshakeListener)
class SecureLink(TwistedLink):
    """A link inside TLS, which has no half of a close: what we end is ended when the other end says so too."""

    secure = True

    def handshakeCompleted(self) -> None:
        self.handler.shaken()

    def end_writing(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()
        self.handler.writing_ended()

    @property
    def unsent(self) -> int:
        return unsent_by_tls(self.transport) if self.open else 0

    @property
    def descriptor(self) -> int:
        transport: Any = self.transport
        number: int = transport.fileno()
        return number


def in_kernel(descriptor: int) -> int:
    """How many octets the kernel has taken that the other end has not acknowledged: a reset would lose them."""
    if descriptor < 0:
        return 0
    count: int = _INT.unpack(ioctl(descriptor, TIOCOUTQ, _INT.pack(0)))[0]
    return count


def hand_over(transport: Any, protocol: IProtocol, peer: str | None) -> None:
    """Let `protocol` have a connection that another one has had so far, as if it had been made from `peer`.

    `peer` is an address in text; None: where the connection really comes from.
    """
    if peer is not None:
        address = (IPv6Address if ":" in peer else IPv4Address)("TCP", peer, 0)
        transport.getPeer = lambda: address
        if transport.socket.family == socket.AF_UNIX:
            # Now that it has a peer with an address it is taken for TCP.
            transport.setTcpNoDelay = lambda _enabled: None
    transport.protocol = protocol
    protocol.makeConnection(transport)


def unsent_by_tls(transport: Any) -> int:
    """How many octets wait above and below TLS for the kernel to take them."""
    below = transport.transport
    waiting: int = len(below.dataBuffer) - below.offset + below._tempDataLen
    above = transport._aggregator
    return waiting + sum(map(len, transport._appSendBuffer)) + sum(map(len, getattr(above, "_buffer", ())))
