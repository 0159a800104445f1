"""One request of a connection of HTTP/2. For its session, it is the link of an HTTP/1.1 client that sends one request.

So waiting, limits, records and ends work the same for both protocols. Knows no frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sidecar.errors import WireError
from sidecar.http2.answer_reader import AnswerEvent, AnswerHead, AnswerReader, AnswerTrailers
from sidecar.http2.conversation import Conversation
from sidecar.http2.faults import ErrorCode
from sidecar.http2.requests import FieldList, request_head, trailer_lines
from sidecar.relay.session import Session
from sidecar.transport.link import UnderWay
from sidecar.transport.transport import MOST_UNSENT
from sidecar.wire.reader import END


class Carrier(Protocol):
    """What a stream needs of its connection."""

    peer: str
    conversation: Conversation

    def waits(self, stream: Stream) -> None:
        """It has something to send."""

    def later(self, stream: Stream) -> None:
        """Call its `go_on` after the code that runs now."""


class Stream:
    """A request and its answer."""

    __slots__ = (
        *("_carrier", "_chunked", "_ending", "_filled", "_in", "_input_ended", "number", "_out", "_quiet", "_reader"),
        *("_session", "_trailers", "_unsent", "gone", "open", "paused", "peer", "was_reset"),
    )

    secure = False
    """TLS belongs to the connection."""

    def __init__(self, carrier: Carrier, number: int, session: Session) -> None:
        self._carrier = carrier
        self.number = number
        self._session = session
        self.peer = carrier.peer
        self.open = True
        self.paused = False
        self.was_reset = False
        self.gone = False
        """Nothing is sent or received on it any more; the session does not know yet."""
        self._chunked = False
        self._input_ended = False
        self._in: list[tuple[bytes, int]] = []
        self._reader = AnswerReader(b"GET")
        self._out: list[bytes] = []
        self._unsent = 0
        self._trailers: Sequence[tuple[bytes, bytes]] = ()
        self._ending = False
        self._filled = False
        self._quiet = False

    # Called by the connection.

    def begin(self, fields: FieldList, *, ended: bool) -> None:
        """The request has come; `ended`: as a whole."""
        self._input_ended = ended
        session = self._session
        session.connected(self)
        try:
            request = request_head(fields, ended=ended)
        except WireError as error:
            session.invalid(error)
            return
        self._chunked = request.chunked
        self._reader = AnswerReader(request.method)
        session.received(request.raw)

    def content(self, octets: bytes, size: int, *, ended: bool) -> None:
        """A part of its body, which takes `size` bytes of the windows until it was passed on."""
        self._take_in(b"%x\r\n%b\r\n" % (len(octets), octets) if self._chunked and octets else octets, size)
        if ended:
            self._end_input(b"")

    def trailers(self, fields: FieldList) -> None:
        """The end of its body. Without chunks, trailers cannot be passed on, and are dropped (RFC 9110 6.5.1)."""
        try:
            self._end_input(trailer_lines(fields))
        except WireError as error:
            self._input_ended = True
            self._session.invalid(error)

    def cancelled(self) -> None:
        """The client wants no answer any more."""
        if not self.gone:
            self._leave(clean=False)

    def abandon(self) -> None:
        """The connection is gone, or is not read any more; `tell` is called later."""
        self.gone = True
        self.open = False
        self.was_reset = True
        self._in.clear()

    def _end_input(self, trailers: bytes) -> None:
        self._input_ended = True
        if self._chunked:
            self._take_in(b"0\r\n%b\r\n" % trailers, 0)

    def _take_in(self, octets: bytes, size: int) -> None:
        self._in.append((octets, size))
        if not self.paused:
            self.go_on()

    def go_on(self) -> None:
        """Give the session what has come, until it pauses."""
        while self._in and not (self.paused or self.gone):
            octets, size = self._in.pop(0)
            if octets:
                self._session.received(octets)
            self._carrier.conversation.taken(self.number, size)

    def tell(self) -> None:
        """Notify the session that it is over."""
        for _, size in self._in:
            self._carrier.conversation.taken(self.number, size)
        self._in.clear()
        self._session.lost(clean=not self.was_reset)

    # Called by the session.

    def send(self, octets: bytes) -> bool:
        if self.gone:
            return False
        for event in self._reader.feed(octets):
            if not self.gone:
                self._pass(event)
        if self._unsent > MOST_UNSENT and not self._quiet:
            self._filled = True
            self._session.filled()
        return True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if self._in:
                self._carrier.later(self)

    def end_writing(self) -> None:
        if self._reader.cut():
            self.abort()
        elif not self._ending:
            self._ending = True
            self._carrier.waits(self)

    close = end_writing

    def abort(self) -> None:
        if not self.gone:
            self._carrier.conversation.cut(self.number, ErrorCode.INTERNAL_ERROR)
            self._leave(clean=False)

    def quiet(self) -> None:
        self._quiet = True

    def abandon_writes(self) -> None:
        """Never called: only a worker's link is asked this."""

    def idle(self) -> bool:
        return self.open

    @property
    def unsent(self) -> int:
        return self._unsent

    @property
    def under_way(self) -> UnderWay:
        return (self._unsent, 0)

    # What waits to be sent.

    def _pass(self, event: AnswerEvent) -> None:
        if event.__class__ is AnswerHead:
            ended = self._reader.ended and not event.interim and event.length == 0
            self._carrier.conversation.answer(self.number, event.fields, ended=ended)
            if ended:
                self._sent_all()
            self._carrier.waits(self)
        elif event is END:
            self._ending = True
            self._carrier.waits(self)
        elif event.__class__ is AnswerTrailers:
            self._trailers = event.fields
            self._ending = True
            self._carrier.waits(self)
        elif event:
            assert isinstance(event, bytes)
            self._out.append(event)
            self._unsent += len(event)
            self._carrier.waits(self)

    def pour(self) -> bool:
        """Send one frame, if flow control allows; whether there may be another one."""
        if self.gone:
            return False
        conversation = self._carrier.conversation
        if not self._out:
            return self._finish()
        room = conversation.room(self.number)
        if room <= 0:
            return False
        piece = self._piece(room)
        last = self._ending and not self._out and not self._trailers
        conversation.content(self.number, piece, ended=last)
        if last:
            self._sent_all()
        elif not self._out and self._filled:
            self._filled = False
            if not self._quiet:
                self._session.drained()
        return not self.gone

    def _piece(self, room: int) -> bytes:
        """At most `room` bytes of what waits."""
        pieces = []
        while self._out and room:
            octets = self._out.pop(0)
            if len(octets) > room:
                self._out.insert(0, octets[room:])
                octets = octets[:room]
            room -= len(octets)
            self._unsent -= len(octets)
            pieces.append(octets)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _finish(self) -> bool:
        """All content is sent; if that is the end, say so."""
        if self._ending:
            if self._trailers:
                self._carrier.conversation.answer(self.number, self._trailers, ended=True)
            else:
                self._carrier.conversation.content(self.number, b"", ended=True)
            self._sent_all()
        return False

    def _sent_all(self) -> None:
        """The answer is complete, so the rest of the request is not needed (RFC 9113 8.1)."""
        if not self._input_ended:
            self._carrier.conversation.cut(self.number, ErrorCode.NO_ERROR)
        self._leave(clean=True)

    def _leave(self, *, clean: bool) -> None:
        self.gone = True
        self.open = False
        self.was_reset = not clean
        self._out.clear()
        self._unsent = 0
        self._carrier.later(self)
