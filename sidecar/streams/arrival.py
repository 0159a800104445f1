"""A client connection whose protocol is not known yet: HTTP/1.1, or HTTP/2.

With TLS the handshake decides (ALPN, RFC 7301); without TLS the first bytes do (RFC 9113 3.3, prior knowledge).
Afterwards it only represents the connection to the listener.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.http2.frames import PREFACE
from sidecar.relay.gateway import Gateway
from sidecar.relay.passage import Passage
from sidecar.relay.session import Listener, Session, SessionTerms
from sidecar.streams.multiplexer import Multiplexer
from sidecar.transport.link import Link
from sidecar.transport.poller import Poller
from sidecar.transport.transport import SocketLink
from sidecar.transport.twisted_link import SecureLink, TwistedLink

HTTP2 = b"h2"
"""What HTTP/2 inside TLS is called (RFC 9113 3.2)."""


class Arrival:
    """A client connection, from its first byte to its last."""

    def __init__(self, listener: Listener, poller: Poller, scheme: str | None = None) -> None:
        """`scheme`: as a session has it."""
        self._listener = listener
        self._poller = poller
        self._scheme = scheme
        self._spoken: Session | Multiplexer | None = None
        self._begun = b""
        self._admitted = False
        self._link: SocketLink | TwistedLink
        self.expires = float("inf")
        self.slot = float("inf")

    # Called by the session or multiplexer, whose owner this is.

    @property
    def terms(self) -> SessionTerms:
        return self._listener.terms

    def opened(self, connection: Session) -> bool:
        """Whether there was room; it was counted when it came."""
        return self._admitted

    def closed(self, connection: Session) -> None:
        self._listener.closed(self)

    def ended(self) -> None:
        self._listener.closed(self)

    # Called by the listener.

    @property
    def gateway(self) -> Gateway:
        return self._listener.gateway

    @property
    def peer(self) -> str:
        return self._link.peer

    @property
    def busy(self) -> bool:
        return self._spoken is not None and self._spoken.busy

    @property
    def passages(self) -> Iterable[Passage]:
        return () if self._spoken is None else self._spoken.passages

    def use(self, gateway: Gateway) -> None:
        if isinstance(self._spoken, Session):
            self._spoken.use(gateway)

    def drain(self) -> None:
        if self._spoken is None:
            self._link.close()
        else:
            self._spoken.drain()

    def abort(self) -> None:
        self._link.abort()

    # Called by the link, until the protocol is known.

    def connected(self, link: Link) -> None:
        assert isinstance(link, SocketLink | TwistedLink)
        self._link = link
        self._admitted = self._listener.opened(self)
        gateway = self.gateway
        if not (self._admitted or link.secure):
            self._become(Session(self, self._scheme))
        else:
            gateway.deadlines.set(self, gateway.timeouts.handshake if link.secure else gateway.timeouts.idle)

    def shaken(self) -> None:
        link = self._link
        assert isinstance(link, SecureLink)
        if link.negotiated == HTTP2:
            self._become(Multiplexer(self, self._poller, self._scheme))
        else:
            session = Session(self, self._scheme)
            self._become(session)
            session.shaken()

    def received(self, octets: bytes) -> None:
        begun = self._begun + octets
        if PREFACE.startswith(begun):
            if not self._begun:
                self.gateway.deadlines.set(self, self.gateway.timeouts.head)
            if begun != PREFACE:
                self._begun = begun
                return
        speaks_http2 = begun.startswith(PREFACE)
        spoken = Multiplexer(self, self._poller, self._scheme) if speaks_http2 else Session(self, self._scheme)
        self._become(spoken)
        spoken.received(begun)

    def half_closed(self) -> None:
        """Nothing more will come, so there is no request to serve."""
        self._link.close()

    def lost(self, *, clean: bool) -> None:
        self.gateway.deadlines.clear(self)
        self._listener.closed(self)

    def deadline_passed(self) -> None:
        """No request or handshake came in time."""
        self._link.abort()

    def writing_ended(self) -> None:
        """Never called: nothing is sent before the protocol is known."""

    def filled(self) -> None:
        """Never called: see `writing_ended`."""

    def drained(self) -> None:
        """Never called: see `writing_ended`."""

    def _become(self, spoken: Session | Multiplexer) -> None:
        self.gateway.deadlines.clear(self)
        self._begun = b""
        self._spoken = spoken
        self._link.hand_over(spoken)
        if isinstance(spoken, Multiplexer) and not self._admitted:
            self.gateway.counters.connections_refused += 1
            spoken.refuse()
