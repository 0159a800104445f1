"""Readers: bytes in, events out, for one side of a connection.

An event is a head, bytes of a body (in the framing in which they go on), or END. A reader stops at END and keeps what
follows until it is asked for the next message. Knows no routes, no pools, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from attrs import frozen

from sidecar.errors import Fault, WireError
from sidecar.wire.body import ChunkedDelimiter
from sidecar.wire.fields import check_partial_lines
from sidecar.wire.framing import CHUNKED, TUNNEL, UNTIL_CLOSE
from sidecar.wire.grammar import REQUEST_LINE, REQUEST_LINE_PREFIX, REQUEST_START, TARGET_OCTETS
from sidecar.wire.head import RequestHead, ResponseHead, answers, malformed_request_line


class End(Enum):
    """The end of a message."""

    END = "end"


END = End.END

# After this many bytes of a request-line that comes in small pieces, its target is not checked again.
_LONG_LINE = 256

RequestEvent = RequestHead | bytes | End
ResponseEvent = ResponseHead | bytes | End


@frozen(slots=True, kw_only=True)
class ReaderLimits:
    """Bounds in bytes, in lines for `fields`, in elements for `options`; `target` holds for requests only."""

    head: int = 16_000
    target: int = 12 * 1024
    fields: int = 200
    options: int = 32
    chunk_line: int = 1024
    chunk_extensions: int = 16 * 1024
    trailers: int = 8 * 1024

    def chunked(self, *, decoded: bool = False) -> ChunkedDelimiter:
        """A delimiter for one chunked body within these bounds."""
        return ChunkedDelimiter(
            line_limit=self.chunk_line,
            extensions_limit=self.chunk_extensions,
            trailer_limit=self.trailers,
            decoded=decoded,
        )


class BodyReader:
    """What readers of requests and of responses have in common: the body, by its framing."""

    __slots__ = ("_body", "_buffer", "_left", "_limits", "content", "ended")

    def __init__(self, limits: ReaderLimits, *, ended: bool) -> None:
        self._limits = limits
        self._buffer = b""
        self._left = 0
        self._body: ChunkedDelimiter | None = None
        self.ended = ended
        """The message has been read to its end; further bytes belong to the next one."""
        self.content = 0
        """Bytes of content that the chunks of this message announced so far; 0 without chunks."""

    @property
    def body_left(self) -> int:
        """Bytes still to come of a body with Content-Length; 0 for any other."""
        return self._left

    def skip(self, octets: int) -> bool:
        """Bytes of such a body were moved by the kernel; True with the last of them."""
        self._left -= octets
        self.ended = not self._left
        return self.ended

    def _feed_length(self, data: bytes) -> list[bytes | End]:
        left = self._left
        size = len(data)
        if size < left:
            self._left = left - size
            return [data]
        self._left = 0
        self.ended = True
        if size == left:
            return [data, END]
        self._buffer = data[left:]
        return [data[:left], END]

    def _feed_chunked(self, body: ChunkedDelimiter, data: bytes) -> list[bytes | End]:
        out = body.feed(data)
        self.content = body.content
        events: list[bytes | End] = [out] if out else []
        if body.done:
            self._body = None
            self.ended = True
            self._buffer = body.rest
            events.append(END)
        return events


class RequestReader(BodyReader):
    """Reads requests, one after another, from what a client sends."""

    __slots__ = ("_started",)

    def __init__(self, limits: ReaderLimits) -> None:
        super().__init__(limits, ended=False)
        self._started = False  # one empty line may come before a request, not two

    @property
    def buffered(self) -> int:
        """Bytes kept: the part of a head, or of later requests."""
        return len(self._buffer)

    @property
    def in_head(self) -> bool:
        """A head has begun, and is not complete."""
        return not self.ended and not self._left and self._body is None and bool(self._buffer or self._started)

    def go_on(self) -> bool:
        """Go on to the next request if nothing of it is here; else return False and change nothing."""
        if self._buffer or not self.ended:
            return False
        self.ended = self._started = False
        self.content = 0
        return True

    def next_message(self) -> Sequence[RequestEvent]:
        """Go on to the next request with what is buffered."""
        self.ended = False
        self._started = False
        self.content = 0
        if not self._buffer:
            return []
        data = self._buffer
        self._buffer = b""
        return self.feed(data)

    def take_buffered(self) -> bytes:
        """Everything kept, for a tunnel that takes over."""
        data = self._buffer
        self._buffer = b""
        return data

    def whole(self, data: bytes) -> RequestHead | None:
        """The head of a request without content, if `data` is exactly that, and nothing came before it.

        None in all other cases, with nothing changed; then use `feed`.
        """
        if self._buffer or self.ended or self._started or self._left or self._body is not None:
            return None
        size = len(data)
        limits = self._limits
        if size > limits.head or size > limits.target or not data.endswith(b"\r\n\r\n"):
            return None
        # Two heads at once are not accepted: an empty line is no field line.
        try:
            head = RequestHead(data, limits.fields, limits.options)
        except WireError:
            return None
        if head.length:
            return None
        self.ended = True
        return head

    def feed(self, data: bytes) -> Sequence[RequestEvent]:
        """Events in `data`; raises WireError if it is malformed or not supported."""
        if self.ended:
            self._buffer += data
            return []
        if self._left:
            return self._feed_length(data)
        if self._body is not None:
            return self._feed_chunked(self._body, data)
        return self._feed_head(data)

    def _feed_head(self, data: bytes) -> list[RequestEvent]:
        seen = len(self._buffer)
        if seen:
            data = self._buffer + data
        if data[:1] == b"\r" and not self._started:
            # RFC 9112 2.2: one empty line before a request is ignored.
            if data[:2] == b"\r\n":
                self._started = True
                data = data[2:]
                seen = 0
            elif len(data) > 1:
                raise WireError(Fault.SYNTAX, "a bare CR before the request", "RFC 9112 2.2")
        limits = self._limits
        end = data.find(b"\r\n\r\n", seen - 3 if seen > 3 else 0) + 4
        if end < 4 or end > limits.head or data[0] not in REQUEST_START or data[0] == 0x0D:
            self._check_incomplete(data, seen)
            self._buffer = data
            return []
        if end == len(data):
            raw, rest = data, b""
        else:
            raw, rest = data[:end], data[end:]
        if end > limits.target:
            self._check_request_line(raw, raw.find(b"\r\n"))
        head = RequestHead(raw, limits.fields, limits.options)
        if end > limits.target and len(head.target) > limits.target:
            raise WireError(Fault.TARGET_TOO_LONG, "a request-target beyond its limit", "RFC 9112 3")
        self._buffer = b""
        if head.length == 0:
            self.ended = True
            self._buffer = rest
            return [head, END]
        if head.length == CHUNKED:
            self._body = self._limits.chunked()
            return [head, *self._feed_chunked(self._body, rest)] if rest else [head]
        self._left = head.length
        return [head, *self._feed_length(rest)] if rest else [head]

    def _check_incomplete(self, data: bytes, seen: int) -> None:
        """Refuse an incomplete head as soon as it cannot become a valid one, or is too large."""
        if not data:
            return
        if data[0] not in REQUEST_START or (data[0] == 0x0D and (self._started or len(data) > 1)):
            raise WireError(Fault.SYNTAX, "no request begins with this byte", "RFC 9112 3")
        line_end = data.find(b"\r\n")
        if line_end < 0:
            known = seen > _LONG_LINE and not data[seen:].translate(None, TARGET_OCTETS)
            if not known and data != b"\r" and REQUEST_LINE_PREFIX.fullmatch(data) is None:
                raise malformed_request_line(data)
            self._check_line_length(len(data) - data.endswith(b"\r"))
        elif line_end >= seen - 1:
            self._check_request_line(data, line_end)
        check_partial_lines(data, seen)
        if len(data) > self._limits.head:
            raise WireError(Fault.HEAD_TOO_LARGE, "a request head beyond its limit", "RFC 6585 5")

    def _check_request_line(self, data: bytes, end: int) -> None:
        if REQUEST_LINE.fullmatch(data, 0, end) is None:
            raise malformed_request_line(data[:end])
        self._check_line_length(end)

    def _check_line_length(self, length: int) -> None:
        # 32 bytes of method, 8 of version, two blanks.
        if length > self._limits.target + 42:
            raise WireError(Fault.TARGET_TOO_LONG, "a request-target beyond its limit", "RFC 9112 3")


class ResponseReader(BodyReader):
    """Reads the responses that a worker sends on one connection."""

    __slots__ = ("_method", "_untouched", "decoded", "until_close")

    def __init__(self, limits: ReaderLimits) -> None:
        super().__init__(limits, ended=True)
        self._method = b"GET"
        self._untouched = False
        """A response is expected, and nothing has come of it."""
        self.decoded = False
        """Chunked content is passed on without its chunks, for a client of HTTP/1.0."""
        self.until_close = False
        """All further bytes are content, or of a tunnel."""

    @property
    def excess(self) -> bool:
        """There are bytes after the end of the response, which nobody asked for (RFC 9112 9.2)."""
        return self.ended and bool(self._buffer)

    def next_message(self, method: bytes, *, decoded: bool) -> None:
        """Expect the response to a request with `method`."""
        self._method = method
        self._untouched = True
        self.decoded = decoded
        self.ended = False
        self.until_close = False
        self._left = 0
        self._body = None
        self._buffer = b""

    def whole(self, data: bytes) -> ResponseHead | None:
        """The head of a final response, if `data` is exactly that with all of its content, and nothing came before it.

        Changes nothing: use `take_whole` to accept it, or `feed` if it is None.
        """
        # Answers to HEAD are shorter than their heads say, and are not worth remembering.
        if not self._untouched or self._method == b"HEAD":
            return None
        limits = self._limits
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > limits.head:
            return None
        raw = data[:end]
        try:
            head = answers.recent.get(raw) or answers.find(raw)
        except WireError:
            return None
        fields = head.fields
        if head.status < 200 or head.length != len(data) - end:
            return None
        return None if fields.count > limits.fields or len(fields.options) > limits.options else head

    def take_whole(self) -> None:
        """The response that `whole` has seen has been read to its end."""
        self.ended = True
        self._untouched = False

    def feed(self, data: bytes) -> Sequence[ResponseEvent]:
        """Events in `data`; raises WireError if it is malformed."""
        self._untouched = False
        if self._left:
            return self._feed_length(data)
        if self._body is not None:
            return self._feed_chunked(self._body, data)
        if self.until_close:
            return [data]
        if self.ended:
            self._buffer += data
            return []
        events = self._feed_head(data)
        if self._buffer and events and not self.ended:
            self._feed_behind_interim(events)
        return events

    def _feed_behind_interim(self, events: list[ResponseEvent]) -> None:
        """Append what came after an interim response. In a loop, because several may come at once."""
        more = events
        while more and self._buffer and not self.ended:
            rest = self._buffer
            self._buffer = b""
            more = self._feed_head(rest)
            events += more

    def _feed_head(self, data: bytes) -> list[ResponseEvent]:
        seen = len(self._buffer)
        if seen:
            data = self._buffer + data
            self._buffer = b""
        limits = self._limits
        end = data.find(b"\r\n\r\n", seen - 3 if seen > 3 else 0) + 4
        if end < 4 or end > limits.head:
            self._check_incomplete(data, seen)
            self._buffer = data
            return []
        if end == len(data):
            raw, rest = data, b""
        else:
            raw, rest = data[:end], data[end:]
        head = ResponseHead(raw, self._method, limits.fields, limits.options)
        if head.status < 200 and head.interim:
            self._buffer = rest
            return [head]
        length = head.length
        if length == 0:
            self.ended = True
            self._buffer = rest
            return [head, END]
        if length > 0:
            if len(rest) == length:
                self.ended = True
                return [head, rest, END]
            self._left = length
            return [head, *self._feed_length(rest)] if rest else [head]
        if length == CHUNKED:
            self._body = self._limits.chunked(decoded=self.decoded)
            return [head, *self._feed_chunked(self._body, rest)] if rest else [head]
        assert length in (UNTIL_CLOSE, TUNNEL)
        self.until_close = True
        return [head, rest] if rest else [head]

    def _check_incomplete(self, data: bytes, seen: int) -> None:
        if not b"HTTP/1.".startswith(data[:7]):
            raise WireError(Fault.SYNTAX, "a malformed status-line", "RFC 9112 4")
        check_partial_lines(data, seen)
        if len(data) > self._limits.head:
            raise WireError(Fault.HEAD_TOO_LARGE, "a response head beyond its limit", "RFC 6585 5")
