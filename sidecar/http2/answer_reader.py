"""Turns what is written to an HTTP/1.1 client into what an HTTP/2 client gets: heads, content without framing,
trailers.

Reads only what the relay and our own replies have written, in canonical form. Knows no streams and no windows.
"""

from __future__ import annotations

from attrs import frozen

from sidecar.errors import Fault, WireError
from sidecar.wire.body import ChunkedDelimiter
from sidecar.wire.fields import OWS
from sidecar.wire.framing import CHUNKED, HOP_BY_HOP, UNTIL_CLOSE
from sidecar.wire.head import OctetMemory, ResponseHead
from sidecar.wire.reader import END, End

SentFields = tuple[tuple[bytes, bytes], ...]

# RFC 9113 8.2.2: no connection-specific fields.
_NOT_SENT = HOP_BY_HOP | {b"transfer-encoding"}
_ANY = 1 << 30
"""No limit: the writer has checked it."""


@frozen(slots=True)
class AnswerHead:
    """The fields of an interim or final answer."""

    fields: SentFields
    """`:status` first."""
    length: int
    """Bytes of content, or one of the framings of `wire.framing`."""
    interim: bool


@frozen(slots=True)
class AnswerTrailers:
    """Fields after the content; they end the answer."""

    fields: SentFields


AnswerEvent = AnswerHead | bytes | AnswerTrailers | End


class AnswerReader:
    """Reads one answer, with the interim ones before it, as it is written to a client of HTTP/1.1."""

    __slots__ = ("_body", "_buffer", "_is_head", "_left", "begun", "ended")

    def __init__(self, method: bytes) -> None:
        self._is_head = method == b"HEAD"
        self._buffer = b""
        self._left = 0
        self._body: ChunkedDelimiter | None = None
        self.begun = False
        """The head of the final answer has been read."""
        self.ended = False

    def feed(self, octets: bytes) -> list[AnswerEvent]:
        """Events in `octets`; an answer ends with END or AnswerTrailers. Raises WireError if it is malformed."""
        if self.begun:
            return self._content(octets)
        events: list[AnswerEvent] = []
        if self._buffer:
            octets = self._buffer + octets
            self._buffer = b""
        while not self.begun:
            end = octets.find(b"\r\n\r\n") + 4
            if end < 4:
                self._buffer = octets
                return events
            head = _head_of(octets[:end], is_head=self._is_head)
            events.append(head)
            octets = octets[end:]
            if not head.interim:
                self._begin(head.length)
        if octets or self.ended:
            events += self._content(octets)
        return events

    def cut(self) -> bool:
        """The end of what is written; whether that is too early."""
        if self.begun and self._left == UNTIL_CLOSE:
            self.ended = True
        return not self.ended

    def _begin(self, length: int) -> None:
        self.begun = True
        self._left = length
        self.ended = length == 0
        if length == CHUNKED:
            self._body = ChunkedDelimiter(line_limit=_ANY, extensions_limit=_ANY, trailer_limit=_ANY, decoded=True)

    def _content(self, octets: bytes) -> list[AnswerEvent]:
        body = self._body
        if body is not None:
            data = body.feed(octets)
            events: list[AnswerEvent] = [data] if data else []
            if body.done:
                self._body = None
                self.ended = True
                self._left = 0
                events.append(AnswerTrailers(_trailers(body.trailer)) if body.trailer else END)
            return events
        if self._left == UNTIL_CLOSE:
            return [octets]
        if len(octets) > self._left:
            raise WireError(Fault.FRAMING, "more content than its length", "RFC 9110 8.6")
        self._left -= len(octets)
        if self._left:
            return [octets]
        self.ended = True
        return [octets, END] if octets else [END]


def _head_of(raw: bytes, *, is_head: bool) -> AnswerHead:
    return _answer_head(raw, b"HEAD") if is_head else _heads.recent.get(raw) or _heads.find(raw)


def _answer_head(raw: bytes, method: bytes) -> AnswerHead:
    head = ResponseHead(raw, method, _ANY, _ANY)
    if head.status == 101:
        raise WireError(Fault.SYNTAX, "a 101, which HTTP/2 does not have", "RFC 9113 8.6")
    unsent = {*_NOT_SENT, *head.fields.options} - {b"content-length"}
    fields = [(b":status", b"%d" % head.status)]
    fields += [pair for pair in _pairs(raw[raw.find(b"\r\n") + 2 : -4]) if pair[0] not in unsent]
    return AnswerHead(tuple(fields), head.length, head.interim)


def _answer_to_any(raw: bytes) -> AnswerHead:
    return _answer_head(raw, b"GET")


_heads: OctetMemory[AnswerHead] = OctetMemory(_answer_to_any)
"""The head of an answer, except to HEAD. Remembered, because many answers of one second have the same."""


def _pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    for line in lines.split(b"\r\n") if lines else ():
        name, _, value = line.partition(b":")
        pairs.append((name.lower(), value.strip(OWS)))
    return pairs


def _trailers(lines: bytes) -> SentFields:
    return tuple(pair for pair in _pairs(lines[:-2]) if pair[0] not in _NOT_SENT)
