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
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

if TYPE_CHECKING:
    from sidecar.net.splicing import Splice

_INT = Struct("i")

UnderWay = tuple[int, int]
"""Octets that wait for the kernel to take them, and octets in the kernel that the other end has not acknowledged.

Of two the greater is the earlier, as long as nothing is added.
"""
NOTHING: UnderWay = (0, 0)

READ_SIZE = 65536
"""Bytes asked of the kernel at a time."""
MOST_READS = 4
"""How often a connection is read in one turn if each time it gave as much as was asked for; then others get theirs."""


class DirectProtocol(Protocol):
    """A protocol that sends and receives on its transport's socket without detours, where it is a plain socket.

    Subclasses call `go_direct` in `connectionMade`.
    """

    _socket: socket.socket | None = None
    _look: poll | None = None
    splice: Splice | None = None
    """What sends a body to us past this protocol (net/splicing.py)."""
    was_reset: bool = False
    """The connection ended by a reset: the other end had not read all that it was sent."""
    diverted: bool = False
    """What we receive goes past this protocol."""

    def go_direct(self) -> None:
        """Take the short way from now on; for TLS and for transports that are no sockets, the ordinary one stays."""
        transport: Any = self.transport
        if isinstance(transport, Connection) and not transport.TLS:
            self._socket = transport.socket
            self.read_directly()

    def read_directly(self) -> None:
        """Let the reactor call `_receive` when there is something to read."""
        if self._socket is not None:
            transport: Any = self.transport
            transport.doRead = self._receive

    @property
    def direct(self) -> bool:
        """The transport is a plain socket."""
        return self._socket is not None

    @property
    def descriptor(self) -> int:
        """The socket's; -1 when it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def send(self, octets: bytes) -> bool:
        """Send `octets`, at once where it can be, else when the kernel takes them.

        False only if the connection is broken and not one octet was taken. Reading goes on all the same, because an
        answer may be waiting there.
        """
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
            self.dataReceived(data)
            if len(data) < READ_SIZE or self.diverted or not self.reading:
                return None
        return None

    @property
    def reading(self) -> bool:
        """More may be read now: neither is somebody in the way, nor is the connection being closed."""
        raise NotImplementedError

    @property
    def under_way(self) -> UnderWay:
        """What the other end has not taken yet. The kernel is of interest when nothing waits for it any more."""
        unsent = self.unsent
        return (unsent, 0) if unsent else (0, in_kernel(self.descriptor))

    @property
    def unsent(self) -> int:
        """How many octets wait for the kernel to take them."""
        transport: Any = self.transport
        if self._socket is None:
            return 0
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting if self.splice is None else waiting + self.splice.unsent

    def pauseProducing(self) -> None:
        """The kernel takes no more octets for now."""
        raise NotImplementedError

    def resumeProducing(self) -> None:
        """It has taken all that waited."""
        raise NotImplementedError

    @property
    def readable(self) -> bool:
        """Something can be read, be it the end of file: a connection that should be idle must not be used any more."""
        if self._socket is None:
            return False
        look = self._look
        if look is None:
            # A look with `recv` ends in an exception nearly always, which costs as much as three of these.
            look = self._look = poll()
            look.register(self._socket, POLLIN)
        return bool(look.poll(0))

    def abandon_writes(self) -> None:
        """Forget what waits to be sent, and keep reading.

        Without it, the failure of a write that nobody needs any more tears down a connection from which an answer
        can still be read.
        """
        transport: Any = self.transport
        if self._socket is not None:
            transport.dataBuffer = b""
            transport.offset = 0
            transport._tempDataBuffer = []
            transport._tempDataLen = 0
            transport.stopWriting()


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
