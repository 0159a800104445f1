"""Connections that begin with a header of the PROXY protocol: reads it, then hands over to the client's handler.

It comes before TLS and HTTP. Afterwards the connection is as if the client had made it. Knows no requests, and not the
format of a header.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from sidecar.errors import WireError
from sidecar.observe.telemetry import logger
from sidecar.relay.session import Listener
from sidecar.transport.link import Handler, Link
from sidecar.transport.transport import SocketLink
from sidecar.wire.proxy_protocol import read_proxy_header

_log = logger("sidecar")

_UNIX_PEER = "a UNIX peer"


@define(eq=False)
class Complaints:
    """Whether a faulty balancer was logged: one line until it sends a valid header again."""

    told: bool = False

    def better(self) -> None:
        """A valid header has come."""
        self.told = False

    def complain(self, peer: str, why: str) -> None:
        """Log a connection without one."""
        if not self.told:
            self.told = True
            _log.warn("a connection from {peer} was closed: {why}", peer=peer or _UNIX_PEER, why=why)


class Preamble:
    """A connection until its header is complete."""

    def __init__(self, listener: Listener, complaints: Complaints, handler: Callable[[str], Handler]) -> None:
        """`handler` makes the next handler, for the scheme in the header (empty: none)."""
        self._listener = listener
        self._complaints = complaints
        self._handler = handler
        self._begun = b""
        self._link: SocketLink
        self.expires = 0.0
        self.slot = float("inf")

    def connected(self, link: Link) -> None:
        assert isinstance(link, SocketLink)
        self._link = link
        gateway = self._listener.gateway
        self._listener.awaited.add(self)
        gateway.counters.connections_open += 1
        gateway.deadlines.set(self, gateway.timeouts.proxy_header)
        self._listener.on_change()

    def received(self, octets: bytes) -> None:
        self._begun += octets
        try:
            header = read_proxy_header(self._begun, self._listener.gateway.limits.proxy_header)
        except WireError as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._complaints.better()
            self._end()
            handler = self._handler(header.scheme)
            self._link.hand_over(handler, header.client)
            rest = self._begun[header.size :]
            if rest:
                handler.received(rest)

    def deadline_passed(self) -> None:
        """The header did not come in time."""
        self._refuse("no PROXY header came in time")

    def abort(self) -> None:
        """Reset; there is no request yet."""
        self._link.abort()

    def half_closed(self) -> None:
        """Nothing more will come, so there is no request to serve."""
        self._link.close()

    def lost(self, *, clean: bool) -> None:
        if self in self._listener.awaited:
            self._end()
            self._listener.on_change()

    def writing_ended(self) -> None:
        """Never called: nothing is sent before the header."""

    def shaken(self) -> None:
        """Never called: TLS begins after the header."""

    def filled(self) -> None:
        """Never called: see `writing_ended`."""

    def drained(self) -> None:
        """Never called: see `writing_ended`."""

    def _refuse(self, why: str) -> None:
        self._listener.gateway.counters.connections_refused += 1
        # Peers in forwarded.proxy_protocol belong to the administrator; one line until the next valid header is enough.
        self._complaints.complain(self._link.peer, why)
        self.abort()

    def _end(self) -> None:
        """Stop counting this connection, without a call of `on_change`: its handler may count it again at once."""
        gateway = self._listener.gateway
        gateway.deadlines.clear(self)
        gateway.counters.connections_open -= 1
        self._listener.awaited.discard(self)
