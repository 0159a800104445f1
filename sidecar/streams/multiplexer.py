"""One client connection of HTTP/2: makes a session for each request, and shares the connection among them.

Owns what concerns the connection and not its requests: whose turn it is to send, the deadlines between requests, and
the ways to end. Knows no workers and no routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sidecar.http2.conversation import (
    Conversation,
    ConversationBounds,
    ConversationEvent,
    RoomMade,
    StreamBegun,
    StreamCancelled,
    StreamContent,
    StreamTrailers,
)
from sidecar.http2.faults import ConversationError, ErrorCode
from sidecar.observe.telemetry import logger
from sidecar.relay.gateway import Gateway
from sidecar.relay.passage import Passage
from sidecar.relay.session import Session, SessionTerms, note_refused
from sidecar.streams.stream import Stream
from sidecar.transport.link import NOTHING, Link
from sidecar.transport.poller import Poller
from sidecar.transport.transport import MOST_UNSENT

_FIELD_OVERHEAD = 32
"""What a field counts for besides its bytes (RFC 9113 6.5.2)."""
_SMALLEST_WINDOW, _LARGEST_WINDOW = 65535, 2**31 - 1

_log = logger("sidecar.http2")


class MultiplexerOwner(Protocol):
    """Counts a connection, and knows how its sessions begin."""

    @property
    def terms(self) -> SessionTerms: ...

    def ended(self) -> None:
        """It is over."""


class Multiplexer:
    """A connection, from the first byte of HTTP/2 to the last."""

    def __init__(self, owner: MultiplexerOwner, poller: Poller, scheme: str | None = None) -> None:
        """`scheme`: as a session has it."""
        self._owner = owner
        self._poller = poller
        self._scheme = scheme
        self._streams: dict[int, Stream] = {}
        self._sessions: dict[int, Session] = {}
        self._waiting: dict[Stream, None] = {}
        """Streams that have something to send, in the order of their turns."""
        self._blocked: dict[Stream, None] = {}
        """Streams that wait for flow control."""
        self._later: list[Stream] = []
        self._turning = False
        self._clogged = False
        self._owed = 0
        """Bytes that were sent since the client stopped taking them."""
        self._leaving = False
        self._closing = False
        self._left = NOTHING
        self._linger_left = 0
        self._heading = False
        self.link: Link
        self.peer = ""
        self.conversation: Conversation
        self.expires = float("inf")
        self.slot = float("inf")

    # Called by sessions, whose owner this is.

    @property
    def terms(self) -> SessionTerms:
        return self._owner.terms

    def opened(self, connection: Session) -> bool:
        """Not counted: the connection is."""
        return True

    def closed(self, connection: Session) -> None:
        """Not counted, see `opened`."""

    # Called by the listener.

    @property
    def gateway(self) -> Gateway:
        return self._owner.terms.gateway

    @property
    def busy(self) -> bool:
        return bool(self._streams)

    @property
    def passages(self) -> Iterable[Passage]:
        return [session.passage for session in self._sessions.values() if session.passage is not None]

    def drain(self) -> None:
        """Let running requests end, and those that are on their way; then close."""
        if not self._leaving and not self._closing:
            self._leaving = True
            self.conversation.announce()
            self._turn()

    def refuse(self) -> None:
        """The client's address has too many connections."""
        self._end(ErrorCode.ENHANCE_YOUR_CALM)

    def abort(self) -> None:
        self.link.abort()

    # Called by the link.

    def connected(self, link: Link) -> None:
        self.link = link
        self.peer = link.peer
        gateway = self.gateway
        self.conversation = Conversation(bounds_of(gateway), gateway.deadlines.now())
        gateway.deadlines.set(self, gateway.timeouts.idle)
        self._flush()

    def received(self, octets: bytes) -> None:
        if self._closing:
            self._discard(octets)
            return
        self._turning = True
        try:
            for event in self.conversation.receive(octets, self.gateway.deadlines.now()):
                self._take(event)
        except ConversationError as error:
            self._break(error)
        finally:
            self._turning = False
        self._leaving |= self.conversation.farewell
        self._turn()
        self._watch_head()

    def half_closed(self) -> None:
        """The client sends no more, not even WINDOW_UPDATE frames: it has left."""
        self._abandon()
        self._closing = True
        self.link.close()

    def lost(self, *, clean: bool) -> None:
        self._abandon()
        self._closing = True
        self.gateway.deadlines.clear(self)
        self._owner.ended()

    def filled(self) -> None:
        self._clogged = True

    def drained(self) -> None:
        if self._clogged:
            self._clogged = False
            self._owed = 0
            self.link.resume()
            self._turn()

    def writing_ended(self) -> None:
        """All is sent; the deadline of `_end` waits for the client to close."""

    def shaken(self) -> None:
        """Never called: the handshake was over before."""

    # Events of the client.

    def _take(self, event: ConversationEvent) -> None:
        if isinstance(event, StreamBegun):
            self._begin(event)
            return
        if isinstance(event, RoomMade):
            self._waiting.update(self._blocked)
            self._blocked.clear()
            return
        stream = self._streams.get(event.stream)
        if stream is None or stream.gone:
            if isinstance(event, StreamContent):
                self.conversation.taken(event.stream, event.size)
        elif isinstance(event, StreamContent):
            stream.content(event.octets, event.size, ended=event.ended)
        elif isinstance(event, StreamCancelled):
            stream.cancelled()
        else:
            assert isinstance(event, StreamTrailers)
            stream.trailers(event.fields)

    def _begin(self, event: StreamBegun) -> None:
        if not self._streams:
            self.gateway.deadlines.clear(self)
        session = Session(self, self._scheme)
        stream = Stream(self, event.stream, session)
        self._streams[event.stream] = stream
        self._sessions[event.stream] = session
        stream.begin(event.fields, ended=event.ended)

    def _break(self, error: ConversationError) -> None:
        """The client broke a rule: nothing more of it is interpreted, and its requests end."""
        gateway = self.gateway
        gateway.counters.refused += 1
        note_refused(gateway, self.peer, 0, "malformed")
        _log.debug("an HTTP/2 connection from {peer} was ended: {error}", peer=self.peer, error=str(error))
        self._abandon()
        self._end(error.code)

    def _abandon(self) -> None:
        """The client does not want the answers any more."""
        streams = list(self._streams.values())
        self._streams.clear()
        self._sessions.clear()
        for stream in streams:
            stream.abandon()
        self._waiting.clear()
        self._blocked.clear()
        self._later.clear()
        # Only now, because the end of one may let another one go on.
        for stream in streams:
            stream.tell()

    # Called by streams. Takes effect after the code that runs now.

    def waits(self, stream: Stream) -> None:
        self._waiting[stream] = None
        self._soon()

    def later(self, stream: Stream) -> None:
        self._later.append(stream)
        self._soon()

    def _soon(self) -> None:
        if not self._turning:
            self._turning = True
            self._poller.soon(self._turn)

    # Turns.

    def _turn(self) -> None:
        """Let streams go on, send what the client can take, and end when nothing is left."""
        self._turning = True
        try:
            while self._later or (self._waiting and not self._clogged):
                self._go_on()
                self._pour()
        finally:
            self._turning = False
        self._flush()
        if self._leaving and not self._streams and not self._closing:
            self._end(ErrorCode.NO_ERROR)

    def _go_on(self) -> None:
        while self._later:
            later, self._later = self._later, []
            for stream in later:
                if not stream.gone:
                    stream.go_on()
                elif self._streams.get(stream.number) is stream:
                    del self._streams[stream.number]
                    del self._sessions[stream.number]
                    self._blocked.pop(stream, None)
                    stream.tell()
                    self._rest()

    def _pour(self) -> None:
        """One frame of each stream in turn, until the client takes no more."""
        waiting = self._waiting
        while waiting and not self._clogged:
            stream = next(iter(waiting))
            del waiting[stream]
            if stream.pour():
                waiting[stream] = None
            elif stream.unsent:
                self._blocked[stream] = None
            if self.conversation.unsent > MOST_UNSENT:
                self._flush()

    def _flush(self) -> None:
        octets = self.conversation.take()
        if not octets or not self.link.open:
            return
        clogged = self._clogged
        if not self.link.send(octets):
            self.link.abort()
        elif clogged:
            self._owed += len(octets)
            if self._owed > MOST_UNSENT:
                # It sends requests, and does not read the answers.
                self.link.pause()

    # Deadlines.

    def _rest(self) -> None:
        """A request has ended; if it was the last, the client has to send another one in time."""
        if not self._streams and not self._closing:
            gateway = self.gateway
            gateway.deadlines.set(self, gateway.timeouts.idle)

    def _watch_head(self) -> None:
        """The fields of a request have to be complete within the deadline of a head."""
        heading = self.conversation.in_block
        if heading is self._heading or self._closing:
            return
        self._heading = heading
        gateway = self.gateway
        if heading:
            gateway.deadlines.set(self, gateway.timeouts.head)
        elif self._streams:
            gateway.deadlines.clear(self)
        else:
            gateway.deadlines.set(self, gateway.timeouts.idle)

    def deadline_passed(self) -> None:
        """No request came in time, or not all of one, or the client does not take what was sent."""
        if not self._closing:
            self._abandon()
            self._end(ErrorCode.NO_ERROR)
            return
        before, self._left = self._left, self.link.under_way
        if NOTHING < self._left < before:
            self.gateway.deadlines.set(self, self.gateway.timeouts.stall)
        else:
            self.link.abort()

    def _end(self, code: int) -> None:
        """Send GOAWAY, and close so that the client can read it: see `Session.close_after`."""
        if self._closing:
            return
        self._closing = True
        self.conversation.end(code)
        self._flush()
        gateway, link = self.gateway, self.link
        self._left = link.under_way
        self._linger_left = gateway.limits.linger
        gateway.deadlines.set(self, gateway.timeouts.linger if self._left == NOTHING else gateway.timeouts.stall)
        link.quiet()
        link.resume()
        link.end_writing()

    def _discard(self, octets: bytes) -> None:
        self._linger_left -= len(octets)
        if self._linger_left < 0:
            self.link.abort()


def bounds_of(gateway: Gateway) -> ConversationBounds:
    """What a client may do on one connection, as the settings say."""
    limits = gateway.limits
    return ConversationBounds(
        streams=limits.http2_streams,
        window=_window(limits.http2_window),
        connection_window=_window(limits.http2_connection_window),
        fields=limits.request_head + _FIELD_OVERHEAD * limits.request_fields,
        idle_frames=limits.http2_idle_frames,
        resets=limits.http2_resets,
    )


def _window(size: int) -> int:
    """A window that HTTP/2 can have (RFC 9113 6.9.1, 6.9.2)."""
    return min(max(size, _SMALLEST_WINDOW), _LARGEST_WINDOW)
