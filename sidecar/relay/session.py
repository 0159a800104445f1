"""One client connection: it reads requests one after another, and makes a passage for each.

Owns what concerns the connection and none of its requests: reading ahead, the deadlines of a head and between requests,
and the ways to end. Knows no workers and no routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import frozen

from sidecar.errors import WireError
from sidecar.exchange.failures import Failure
from sidecar.exchange.replies import STATUS_OF_FAULT, refusal
from sidecar.records.record import NO_ENDPOINT, Record
from sidecar.relay.awaited import HEAD, IDLE, Awaited
from sidecar.relay.client import PIPELINED
from sidecar.relay.gateway import Gateway, request_limits
from sidecar.relay.passage import Passage
from sidecar.relay.states import TUNNEL
from sidecar.transport.link import NOTHING, Link, UnderWay
from sidecar.transport.splicing import WORTH_IT
from sidecar.wire.forwarded import neighbourhood
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import END, ReaderLimits, RequestEvent, RequestReader

_ANYTHING: UnderWay = (1 << 62, 0)


@frozen
class SessionTerms:
    """What a session begins with."""

    gateway: Gateway
    scheme: str
    """What its client used, where nobody else says so."""
    reader_limits: ReaderLimits
    """The bounds of its requests."""


class Session:
    """One client connection.

    It keeps reading while a request is being answered, to notice at once when a client leaves; what it reads ahead is
    bounded by `limits.pipelined`.
    """

    __slots__ = (
        *("_half_closed", "_held", "_left", "_linger_left", "_lingering", "_owner", "_pumping", "awaited"),
        *("clogged", "expires", "gateway", "link", "passage", "peer", "reader", "scheme", "slot"),
    )

    link: Link

    def __init__(self, owner: SessionOwner, scheme: str | None = None) -> None:
        """`scheme`: what the client used with a balancer before us, empty where nobody knows; None: as in the terms."""
        self._owner = owner
        terms = owner.terms
        self.gateway: Gateway = terms.gateway
        """What the next request works with."""
        self.scheme = terms.scheme if scheme is None else scheme
        self.peer = ""
        self.reader = RequestReader(terms.reader_limits)
        self.passage: Passage | None = None
        """The request that runs."""
        self.clogged = False
        self.awaited = IDLE
        self.expires = self.slot = float("inf")
        self._pumping = False
        self._held = 0
        self._lingering = False
        self._linger_left = 0
        self._half_closed = False
        self._left = NOTHING

    def use(self, gateway: Gateway) -> None:
        """Work with `gateway` from the next request on; one that runs keeps what it has."""
        self.gateway = gateway

    @property
    def busy(self) -> bool:
        """A request runs."""
        return self.passage is not None

    @property
    def passages(self) -> Iterable[Passage]:
        """The requests that run."""
        return () if self.passage is None else (self.passage,)

    # Called by the link.

    def connected(self, link: Link) -> None:
        self.link = link
        self.peer = link.peer
        timeouts = self.gateway.timeouts
        # A client inside TLS cannot send a request before the handshake.
        self.expect(IDLE, timeouts.handshake if link.secure else timeouts.idle)
        if not self._owner.opened(self):
            self.gateway.counters.connections_refused += 1
            self.close_after(refusal(503, "Too many connections from this address", retry_after=5))

    def shaken(self) -> None:
        if not self._lingering:
            self.expect(IDLE, self.gateway.timeouts.idle)

    def received(self, octets: bytes) -> None:
        if self._lingering:
            self._discard(octets)
            return
        passage, reader = self.passage, self.reader
        if passage is None:
            head = reader.whole(octets)
            if head is not None:
                # The common case: a whole request without a body.
                passage = self.passage = Passage(self, self.gateway, head)
                passage.begin(head)
                if self.passage is None:
                    self.go_on()
                else:
                    passage.send()
                return
        elif passage.state is TUNNEL:
            passage.tunnel_up(octets)
            return
        try:
            events = reader.feed(octets)
        except WireError as error:
            self.invalid(error)
            return
        if events:
            self._requests(events)
        elif not reader.ended:
            self._head_begun()
        elif reader.buffered > self.gateway.limits.pipelined:
            self.hold(PIPELINED)

    def half_closed(self) -> None:
        """The client has closed its side; it may still read."""
        self._half_closed = True
        passage = self.passage
        if self._lingering:
            if not self.link.unsent:
                self.close()
        elif passage is not None:
            if passage.half_closed():
                self._gone()
                self.close()
        elif self.reader.in_head:
            self._refuse(400, Failure.CLIENT_CUT)
        else:
            self.close()

    def writing_ended(self) -> None:
        """All is sent and our side is closed; now the client has to close its side in time."""
        if self._half_closed:
            self.close()
        elif self._lingering:
            self._linger()

    def lost(self, *, clean: bool) -> None:
        self._gone()
        self._owner.closed(self)

    def filled(self) -> None:
        if not self.clogged:
            self.clogged = True
            self._left = self.link.under_way
            if self.passage is not None:
                self.passage.client_clogged()

    def drained(self) -> None:
        if self.clogged:
            self.clogged = False
            if self.passage is not None:
                self.passage.client_flowing()

    # Requests.

    def _requests(self, events: Sequence[RequestEvent]) -> None:
        """Handle events of one request; the reader stops at its end."""
        for event in events:
            passage = self.passage
            if event.__class__ is RequestHead:
                passage = self.passage = Passage(self, self.gateway, event)
                passage.begin(event)
            elif passage is None:
                # It was refused or has ended; ignore the rest of it.
                break
            elif event is END:
                passage.request_ended()
            else:
                passage.body(event)  # type: ignore[arg-type]
        passage = self.passage
        if passage is None:
            self.go_on()
            return
        passage.send()
        if self.passage is passage and self.reader.body_left > WORTH_IT:
            passage.splice_up()

    def go_on(self) -> None:
        """Go on with requests that were read ahead. In a loop, because our own reply ends a request at once."""
        if self._pumping:
            return
        reader = self.reader
        if not self._lingering and self.link.open and reader.go_on():
            # The common case: nothing was read ahead.
            gateway = self.gateway
            self.awaited = IDLE
            gateway.deadlines.set(self, gateway.timeouts.idle)
            return
        self._pumping = True
        try:
            while self.passage is None and self.link.open and reader.ended and not self._lingering:
                try:
                    events = reader.next_message()
                except WireError as error:
                    self.invalid(error)
                    return
                self.unhold(PIPELINED)
                self.expect(IDLE, self.gateway.timeouts.idle)
                if events:
                    self._requests(events)
                else:
                    if reader.buffered:
                        self._head_begun()
                    return
        finally:
            self._pumping = False

    def passage_ended(self) -> None:
        self.passage = None

    def _head_begun(self) -> None:
        """A request has begun and its head is not complete. The deadline is for the whole head."""
        if self.passage is None and self.awaited is not HEAD and self.reader.in_head:
            self.expect(HEAD, self.gateway.timeouts.head)

    def invalid(self, error: WireError) -> None:
        """What the client sent is no request that we serve; nothing after it is interpreted."""
        self.gateway.counters.refused += 1
        status = STATUS_OF_FAULT[error.fault]
        self.gateway.tell_rule(self.peer, status, str(error))
        if self.passage is not None:
            self.passage.invalid(status, error)
        else:
            note_refused(self.gateway, self.peer, status, "malformed")
            self.close_after(refusal(status, str(error)))

    def _refuse(self, status: int, failure: Failure) -> None:
        """Refuse what is no request yet."""
        self.gateway.counters.refused += 1
        note_refused(self.gateway, self.peer, status, failure.ending)
        self.close_after(refusal(status, failure.reason))

    # Deadlines.

    def expect(self, awaited: Awaited, seconds: float) -> None:
        """Let `deadline_passed` be called unless something else is expected before."""
        self.awaited = awaited
        self.gateway.deadlines.set(self, seconds)

    def deadline_passed(self) -> None:
        """What was awaited did not happen in time."""
        awaited, passage = self.awaited, self.passage
        if awaited is HEAD:
            self._refuse(408, Failure.CLIENT_SLOW_HEAD)
        elif awaited in _OF_THE_CLIENT and self._is_slow():
            self.expect(awaited, self.gateway.timeouts.stall)
        elif passage is not None:
            passage.overdue(awaited)
        elif awaited is IDLE:
            self.close()
        else:
            self.abort()

    def _is_slow(self) -> bool:
        """Slow, but not stalled: it took some bytes since it clogged or since the last look."""
        before, self._left = self._left, self.link.under_way
        return NOTHING < self._left < before

    # Reading.

    def hold(self, reason: int) -> None:
        """Stop reading for `reason`; reading goes on when every reason is gone."""
        if not self._held:
            self.link.pause()
        self._held |= reason

    def unhold(self, reason: int) -> None:
        if self._held:
            self._held &= ~reason
            if not self._held and not self._half_closed:
                self.link.resume()

    # The ends.

    def drain(self) -> None:
        """The sidecar is stopping: end after the running exchange, or now if there is none."""
        if self.passage is not None:
            self.passage.last()
        elif self.awaited is IDLE:
            self.close()

    def close_after(self, octets: bytes) -> None:
        """Send `octets`, then close so that the client can read them: half-close, and discard what still comes.

        Closing with unread input would make the kernel reset the connection and destroy the reply on its way
        (RFC 9112 9.6).
        """
        link, timeouts = self.link, self.gateway.timeouts
        if octets:
            link.send(octets)
        self._begin_linger()
        self._left = link.under_way
        self.expect(Awaited.LINGER, timeouts.linger if self._left == NOTHING else timeouts.stall)
        link.quiet()
        self.reader.take_buffered()
        link.end_writing()
        self.unhold(~0)

    def _begin_linger(self) -> None:
        self._lingering = True
        self._linger_left = self.gateway.limits.linger

    def _linger(self) -> None:
        """Wait until the client closes; longer only while it still takes what was sent."""
        self._left = _ANYTHING
        self.expect(Awaited.LINGER, self.gateway.timeouts.linger)

    def _discard(self, octets: bytes) -> None:
        self._linger_left -= len(octets)
        if self._linger_left < 0:
            self.abort()

    def close(self) -> None:
        """Close without a reply, once the client has taken what was sent."""
        link = self.link
        if not link.open:
            return
        self._left = link.under_way
        if self._left != NOTHING:
            self.expect(Awaited.LINGER, self.gateway.timeouts.stall)
        link.close()
        if link.secure and link.open:
            # Discard what the client sends until it has closed, too.
            self._begin_linger()
            self._linger()

    def abort(self) -> None:
        """Reset, so that the client does not take a cut answer for a complete one."""
        self.link.abort()

    def vanish(self) -> None:
        """The client takes nothing any more. While we do not read, a failed write is the only sign that it is gone."""
        self.abort()
        self._gone()

    def _gone(self) -> None:
        self.gateway.deadlines.clear(self)
        if self.passage is not None:
            self.passage.client_gone()


_OF_THE_CLIENT = frozenset((IDLE, Awaited.LINGER, Awaited.STALL, Awaited.TUNNEL))
"""Deadlines that are extended while the client still takes what was sent."""


def note_refused(gateway: Gateway, peer: str, status: int, ending: str) -> None:
    """Note what a client at `peer` sent that is no request, and so has no exchange."""
    if gateway.observed:
        now = gateway.deadlines.now()
        request_id = "-" if gateway.request_ids is None else gateway.request_ids.make()
        gateway.notes.take(
            Record(
                client=peer or "127.0.0.1",
                method=b"-",
                endpoint=NO_ENDPOINT,
                status=status,
                began=now,
                ended=now,
                ending=ending,
                request_id=request_id,
            )
        )


class ClientConnection(Protocol):
    """A client connection of any protocol."""

    @property
    def peer(self) -> str:
        """The client's address."""

    @property
    def busy(self) -> bool:
        """A request runs on it."""

    @property
    def passages(self) -> Iterable[Passage]:
        """The requests that run on it."""

    def use(self, gateway: Gateway) -> None:
        """Work with `gateway` from the next request on."""

    def drain(self) -> None:
        """The sidecar is stopping: end after the running requests, or now if there are none."""

    def abort(self) -> None:
        """Reset."""


class SessionOwner(Protocol):
    """Counts a session, and knows how it begins."""

    @property
    def terms(self) -> SessionTerms: ...

    def opened(self, connection: Session) -> bool:
        """It has begun; False if its address has too many."""

    def closed(self, connection: Session) -> None:
        """It is over."""


class Abortable(Protocol):
    """A connection on which there is no request yet."""

    def abort(self) -> None:
        """Reset."""


class Listener:
    """What the sessions of one port share. Counts them, in total and per address."""

    def __init__(self, gateway: Gateway, *, secure: bool = False) -> None:
        """`secure`: its connections are inside TLS."""
        self.terms = SessionTerms(gateway, "https" if secure else "http", request_limits(gateway.limits))
        self.connections: set[ClientConnection] = set()
        self.awaited: set[Abortable] = set()
        """Connections whose PROXY header has not come yet."""
        self.on_change: Callable[[], None] = lambda: None
        self._per_address: dict[str, int] = {}

    @property
    def gateway(self) -> Gateway:
        """What new connections begin with."""
        return self.terms.gateway

    def tell(self, changed: Callable[[], None]) -> None:
        """Call `changed` after a connection was opened or closed, so that accepting stops at the limit and resumes
        below it."""
        self.on_change = changed

    def use(self, gateway: Gateway) -> None:
        """From its next request on, every connection works with `gateway`.

        A new limit of a head applies to new connections.
        """
        self.terms = SessionTerms(gateway, self.terms.scheme, request_limits(gateway.limits))
        for connection in self.connections:
            connection.use(gateway)

    def opened(self, connection: ClientConnection) -> bool:
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

    def closed(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self.gateway.counters.connections_open -= 1
        address = neighbourhood(connection.peer)
        count = self._per_address[address] - 1
        if count:
            self._per_address[address] = count
        else:
            del self._per_address[address]
        self.on_change()
