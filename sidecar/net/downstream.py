"""A client's connection: octets in both directions, the reasons not to read, and the ways to end it.

Feeds the request reader and hands events to the relay. Knows no workers, no routes, no responses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from sidecar.errors import WireError
from sidecar.net.course import PIPELINED
from sidecar.net.gateway import Gateway, request_limits
from sidecar.net.relay import Relay
from sidecar.net.transport import NOTHING, DirectProtocol, UnderWay
from sidecar.replies import refusal
from sidecar.wire.forwarded import neighbourhood
from sidecar.wire.reader import RequestReader

if TYPE_CHECKING:
    from sidecar.net.proxied import Preamble

_ANYTHING: UnderWay = (1 << 62, 0)


@implementer(IHalfCloseableProtocol, IPushProducer)
class Downstream(DirectProtocol):
    """One client connection.

    It keeps reading while a request is being answered, because only so a client that goes away is noticed at once;
    what it reads ahead is bounded by `limits.pipelined`.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.gateway: Gateway = listener.gateway
        self.reader = RequestReader(listener.reader_limits)
        self.clogged = False
        """The client takes less than it is sent."""
        self._held = 0
        self._lingering = False
        self._linger_left = 0
        self._half_closed = False
        self._left = NOTHING
        self.open = False
        self.peer = ""
        self.scheme = listener.scheme
        self.relay: Relay

    # Twisted calls.

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.open = True
        self.go_direct()
        self.peer = getattr(transport.getPeer(), "host", "")
        if self.peer:
            # A UNIX transport has this method too, and before Twisted 24.11 it fails there.
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self.relay = Relay(self, self.gateway)
        if not self._listener.opened(self):
            self.gateway.counters.connections_refused += 1
            self.close_after(refusal(503, "Too many connections from this address", retry_after=5))

    def dataReceived(self, data: bytes) -> None:
        if self._lingering:
            self._discard(data)
            return
        relay = self.relay
        if relay.tunnelled:
            relay.tunnel_up(data)
            return
        reader = self.reader
        try:
            events = reader.feed(data)
        except WireError as error:
            relay.request_invalid(error)
            return
        if events:
            relay.requests(events)
        elif reader.ended:
            if reader.buffered > self.gateway.limits.pipelined:
                self.hold(PIPELINED)
        else:
            relay.head_begun()

    def readConnectionLost(self) -> None:
        """The client has closed its side; whether it still listens cannot be seen (R-70)."""
        self._half_closed = True
        if not self._lingering:
            self.relay.half_closed()
        elif not self.unsent:
            self.close()

    def writeConnectionLost(self) -> None:
        """Everything is sent and our side is closed; the client has this long to close its own."""
        if self._half_closed:
            self.close()
        elif self._lingering:
            self.linger()

    def linger(self) -> None:
        """Wait for the client's end; longer only for one that has not got everything yet, while it takes some."""
        self._left = _ANYTHING
        self.relay.expect("linger", self.gateway.timeouts.linger)

    def connectionLost(self, reason: TwistedFailure = connectionDone) -> None:
        self.open = False
        self.relay.client_gone()
        self._listener.closed(self)

    def pauseProducing(self) -> None:
        if not self.clogged:
            self.clogged = True
            self._left = self.under_way
            self.relay.client_clogged()

    def resumeProducing(self) -> None:
        if self.clogged:
            self.clogged = False
            self.relay.client_flowing()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` says so too."""

    # What the relay asks for.

    @property
    def reading(self) -> bool:
        transport: Any = self.transport
        return self.open and not self._held and not transport.disconnecting

    def hold(self, reason: int) -> None:
        """Stop reading for `reason`; reading goes on when every reason is gone."""
        if not self._held and self.open:
            transport: Any = self.transport
            transport.pauseProducing()
        self._held |= reason

    def unhold(self, reason: int) -> None:
        if self._held:
            self._held &= ~reason
            if not self._held and self.open and not self._half_closed:
                transport: Any = self.transport
                transport.resumeProducing()

    def close_after(self, octets: bytes) -> None:
        """Send `octets`, then close so that the client can read them: half-close, and discard what still comes.

        Closing with unread input would make the kernel reset the connection and destroy the reply on its way
        (RFC 9112 9.6).
        """
        if octets:
            self.send(octets)
        self._lingering = True
        self._linger_left = self.gateway.limits.linger
        transport: Any = self.transport
        timeouts = self.gateway.timeouts
        self._left = self.under_way
        self.relay.expect("linger", timeouts.linger if self._left == NOTHING else timeouts.stall)
        transport.unregisterProducer()
        self.reader.take_buffered()
        self.end_writing()
        self.unhold(~0)

    def end_writing(self) -> None:
        """What waits is sent, and nothing after it."""
        transport: Any = self.transport
        transport.loseWriteConnection()

    def close(self) -> None:
        """Close without a word, when the client has taken what waits for it."""
        if self.open:
            transport: Any = self.transport
            self._left = self.under_way
            if self._left != NOTHING:
                self.relay.expect("linger", self.gateway.timeouts.stall)
            transport.unregisterProducer()
            transport.loseConnection()

    def abort(self) -> None:
        """Reset, so that the client does not take what it has for complete."""
        if self.open:
            self.open = False
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.abortConnection()

    def took_some(self) -> bool:
        """Whether the client took octets, of those that waited for it, since it clogged or this was last asked."""
        before, self._left = self._left, self.under_way
        return NOTHING < self._left < before

    def _discard(self, data: bytes) -> None:
        self._linger_left -= len(data)
        if self._linger_left < 0:
            self.abort()


class Listener(Factory):
    """Makes a `Downstream` for each connection, and counts them in total and per address."""

    noisy = False

    def __init__(self, gateway: Gateway, scheme: str = "http") -> None:
        self.gateway = gateway
        self.scheme = scheme
        self.reader_limits = request_limits(gateway.limits)
        self.connections: set[Downstream] = set()
        self.awaited: set[Preamble] = set()
        """Connections whose balancer has not said yet whose they are."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after a connection was opened or closed, to stop accepting at the limit and to go on below it."""
        self._per_address: dict[str, int] = {}

    def buildProtocol(self, addr: object) -> Downstream:
        return Downstream(self)

    def use(self, gateway: Gateway) -> None:
        """From its next request on, every connection works with `gateway`; a running exchange keeps what it has.

        How long a head may be holds for new connections.
        """
        self.gateway = gateway
        self.reader_limits = request_limits(gateway.limits)
        for connection in self.connections:
            connection.gateway = gateway
            if connection.relay.exchange is None:
                connection.relay.gateway = gateway

    def opened(self, connection: Downstream) -> bool:
        """Count a connection; False if its address has too many."""
        counters = self.gateway.counters
        counters.connections += 1
        counters.connections_open += 1
        self.connections.add(connection)
        address = neighbourhood(connection.peer)
        count = self._per_address.get(address, 0) + 1
        self._per_address[address] = count
        self.on_change()
        return count <= self.gateway.limits.connections_per_address or self.gateway.forwarded.vouches(connection.peer)

    def closed(self, connection: Downstream) -> None:
        self.connections.discard(connection)
        self.gateway.counters.connections_open -= 1
        address = neighbourhood(connection.peer)
        count = self._per_address[address] - 1
        if count:
            self._per_address[address] = count
        else:
            del self._per_address[address]
        self.on_change()
