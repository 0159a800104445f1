"""Connections that begin with a header of the PROXY protocol: read it, then let the client's handler go on from there.

It stands in front of TLS and of HTTP and leaves nothing behind: afterwards the connection is what it would be if the
client had made it. Knows no requests, and no layout of a header.
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
    """Whether the log has been told that a balancer does not do as it should: one line until it does better."""

    told: bool = False

    def better(self) -> None:
        """A header has come."""
        self.told = False

    def complain(self, peer: str, why: str) -> None:
        """Tell of a connection without one."""
        if not self.told:
            self.told = True
            _log.warn("a connection from {peer} was closed: {why}", peer=peer or _UNIX_PEER, why=why)


class Preamble:
    """A connection as long as its header is not complete."""

    def __init__(self, listener: Listener, complaints: Complaints, handler: Callable[[str], Handler]) -> None:
        """`handler` makes what goes on, for the scheme that the header tells (empty: none)."""
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
        """Reset; nobody has asked for anything yet."""
        self._link.abort()

    def half_closed(self) -> None:
        """Nothing more will come, so there is nobody to serve."""
        self._link.close()

    def lost(self, *, clean: bool) -> None:
        if self in self._listener.awaited:
            self._end()
            self._listener.on_change()

    def writing_ended(self) -> None:
        """Never told: nothing is sent before the header."""

    def shaken(self) -> None:
        """Never told: TLS begins behind the header."""

    def filled(self) -> None:
        """Never told: see `writing_ended`."""

    def drained(self) -> None:
        """Never told: see `writing_ended`."""

    def _refuse(self, why: str) -> None:
        self._listener.gateway.counters.connections_refused += 1
        # Who is in forwarded.proxy_protocol is the operator's; one line until it does better is enough.
        self._complaints.complain(self._link.peer, why)
        self.abort()

    def _end(self) -> None:
        """Nobody has been told that there is a connection less: there may be one more at once."""
        gateway = self._listener.gateway
        gateway.deadlines.clear(self)
        gateway.counters.connections_open -= 1
        self._listener.awaited.discard(self)
