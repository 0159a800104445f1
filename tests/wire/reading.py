"""What a reader made of a stream, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from attrs import define, field, frozen

from sidecar.errors import Fault, WireError
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import END, End, ReaderLimits, RequestReader, ResponseReader

LIMITS = ReaderLimits()


@define
class Message:
    """One message as it goes on: its head without lines of this hop, and its body in the framing that is passed on."""

    head: RequestHead | ResponseHead = field(eq=lambda head: (head._line, head.fields.raw, head.length))
    body: bytes = b""
    ended: bool = False

    @property
    def passed_on(self) -> bytes:
        if isinstance(self.head, RequestHead):
            return self.head.passed_on(b"") + self.body
        return self.head.passed_on(close=False, decoded=False) + self.body


@frozen
class Reading:
    messages: list[Message]
    fault: Fault | None

    @property
    def complete(self) -> list[Message]:
        return [message for message in self.messages if message.ended]

    @property
    def passed_on(self) -> bytes:
        return b"".join(message.passed_on for message in self.messages)


Feed = Callable[[], Sequence[RequestHead | ResponseHead | bytes | End]]


def _collect(feeds: Iterable[Feed]) -> Reading:
    messages: list[Message] = []
    try:
        for feed in feeds:
            for event in feed():
                if event is END:
                    messages[-1].ended = True
                elif isinstance(event, bytes):
                    messages[-1].body += event
                else:
                    messages.append(Message(event))
    except WireError as error:
        return Reading(messages, error.fault)
    return Reading(messages, None)


def read_requests(segments: Iterable[bytes], limits: ReaderLimits = LIMITS) -> Reading:
    """All requests that arrive in `segments`, one after another, as a client's connection would see them."""
    reader = RequestReader(limits)

    def feeds() -> Iterable[Feed]:
        for segment in segments:
            yield partial(reader.feed, segment)
            while reader.ended and reader.buffered:
                yield reader.next_message
        if reader.ended:
            yield reader.next_message

    return _collect(feeds())


def read_response(
    segments: Iterable[bytes], method: bytes = b"GET", limits: ReaderLimits = LIMITS, *, decoded: bool = False
) -> Reading:
    """The responses to one request with `method`: any interim ones, and a final one."""
    reader = ResponseReader(limits)
    reader.next_message(method, decoded=decoded)
    return _collect(partial(reader.feed, segment) for segment in segments)


def octet_by_octet(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def refused(stream: bytes) -> Fault | None:
    """The fault of the first request in `stream`, which must not depend on how the stream arrives."""
    whole = read_requests([stream]).fault
    assert read_requests(octet_by_octet(stream)).fault is whole
    with_tail = read_requests([stream + b"GET /tail HTTP/1.1\r\nHost: h\r\n\r\n"]).fault
    assert (with_tail is None) is (whole is None)
    return whole
