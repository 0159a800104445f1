"""Connections that begin with a header of the PROXY protocol: read it, then let the client's protocol go on from there.

It stands in front of TLS and of HTTP and leaves nothing behind: afterwards the connection is what it would be if the
client had made it. Knows no requests, and no layout of a header.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure as TwistedFailure

from sidecar.errors import WireError
from sidecar.net.session import Listener, Session
from sidecar.net.transport import HalfCloseableLink, hand_over
from sidecar.telemetry import logger
from sidecar.wire.proxy_protocol import read_proxy_header

_log = logger("sidecar")


class Preamble(Protocol):
    """A connection as long as its header is not complete."""

    def __init__(self, proxied: Proxied, address: IAddress) -> None:
        self._proxied = proxied
        self._address = address
        self._begun = b""
        self.expires = 0.0
        self.slot = 0

    def connectionMade(self) -> None:
        gateway = self._proxied.listener.gateway
        self._proxied.listener.awaited.add(self)
        gateway.counters.connections_open += 1
        gateway.deadlines.set(self, gateway.timeouts.proxy_header)
        self._proxied.listener.on_change()

    def dataReceived(self, data: bytes) -> None:
        self._begun += data
        try:
            header = read_proxy_header(self._begun, self._proxied.listener.gateway.limits.proxy_header)
        except WireError as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._proxied.complained = False
            self._end()
            protocol = self._proxied.factory.buildProtocol(self._address)
            assert protocol is not None
            if isinstance(protocol, HalfCloseableLink) and isinstance(protocol.handler, Session):
                # Not inside TLS here; whether it was before the balancer, only the header can tell.
                protocol.handler.came_by(header.scheme)
            hand_over(self.transport, protocol, header.client)
            rest = self._begun[header.size :]
            if rest:
                protocol.dataReceived(rest)

    def deadline_passed(self) -> None:
        """The header did not come in time."""
        self._refuse("no PROXY header came in time")

    def abort(self) -> None:
        """Reset; nobody has asked for anything yet."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: TwistedFailure = connectionDone) -> None:
        if self in self._proxied.listener.awaited:
            self._end()
            self._proxied.listener.on_change()

    def _refuse(self, why: str) -> None:
        proxied = self._proxied
        proxied.listener.gateway.counters.connections_refused += 1
        if not proxied.complained:
            # Who is in forwarded.proxy_protocol is the operator's; one line until it does better is enough.
            proxied.complained = True
            peer = getattr(self._address, "host", "a UNIX peer")
            _log.warn("a connection from {peer} was closed: {why}", peer=peer, why=why)
        self.abort()

    def _end(self) -> None:
        """Nobody has been told that there is a connection less: there may be one more at once."""
        gateway = self._proxied.listener.gateway
        gateway.deadlines.clear(self)
        gateway.counters.connections_open -= 1
        self._proxied.listener.awaited.discard(self)


class Proxied(Factory):
    """Makes a `Preamble` for who has to announce its clients, and what `factory` makes for everybody else."""

    noisy = False

    def __init__(self, listener: Listener, factory: IProtocolFactory, *, everywhere: bool, here: bool) -> None:
        """`factory` leads to `listener`, perhaps through TLS.

        `here`: the header is expected on this entry of `listen` in particular; `everywhere`: on none in particular.
        """
        self.listener = listener
        self.factory = factory
        self._here = here
        self._expecting = here or everywhere
        self.complained = False
        """The log has been told that a balancer does not do as it should."""

    def buildProtocol(self, addr: Any) -> Any:
        if self._expecting and self._announces(addr):
            return Preamble(self, addr)
        return self.factory.buildProtocol(addr)

    def _announces(self, address: IAddress) -> bool:
        host = getattr(address, "host", "")
        # UNIX peers are on this host and trusted; but a plain `unix:` has them without a header, as ever.
        return self.listener.gateway.forwarded.announces(host) if host else self._here
