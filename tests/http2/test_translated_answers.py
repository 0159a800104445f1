"""What is written to a client of HTTP/1.1, as events of HTTP/2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import WireError
from sidecar.exchange.replies import refusal
from sidecar.http2.answer_reader import AnswerEvent, AnswerHead, AnswerReader, AnswerTrailers
from sidecar.wire.reader import END


def told(octets: bytes, method: bytes = b"GET", cuts: tuple[int, ...] = ()) -> list[AnswerEvent]:
    """The events of an answer that comes in pieces; content in one piece."""
    reader = AnswerReader(method)
    events: list[AnswerEvent] = []
    for start, end in zip((0, *cuts), (*cuts, len(octets)), strict=True):
        events += reader.feed(octets[start:end]) if end > start else []
    content = b"".join(event for event in events if isinstance(event, bytes))
    heads = [event for event in events if isinstance(event, AnswerHead)]
    return [*heads, *([content] if content else []), *events[-1:]]


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\nconnection: close\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n"


@given(st.data(), st.sampled_from([LENGTH, CHUNKED]))
def test_pieces_do_not_matter(data: st.DataObject, octets: bytes) -> None:
    """However an answer is cut, it is the same."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=4)))
    assert told(octets, cuts=tuple(cuts)) == told(octets)


def test_content_with_a_length() -> None:
    """Names in lower case, nothing of the connection, the length as it was."""
    head, content, end = told(LENGTH)
    assert head == AnswerHead(((b":status", b"200"), (b"content-length", b"5"), (b"x-a", b"b")), 5, interim=False)
    assert (content, end) == (b"hello", END)


def test_chunks_and_trailers() -> None:
    """Chunks are of HTTP/1.1; trailers are not."""
    head, content, end = told(CHUNKED)
    assert isinstance(head, AnswerHead)
    assert head.fields == ((b":status", b"200"),)
    assert (content, end) == (b"hello", AnswerTrailers(((b"x-t", b"1"),)))
    assert told(CHUNKED.replace(b"X-T: 1\r\n", b""))[-1] is END


@pytest.mark.parametrize(
    ("octets", "method"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HEAD"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", b"GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET"),
    ],
)
def test_no_content(octets: bytes, method: bytes) -> None:
    """HEAD, 204, 304 and an empty answer end with their head."""
    head, end = told(octets, method)
    assert isinstance(head, AnswerHead)
    assert not head.length
    assert end is END


def test_interim_answers_come_before() -> None:
    """103 and 100 are heads that end nothing (RFC 9113 8.1)."""
    first, second, content, end = told(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + LENGTH)
    assert isinstance(first, AnswerHead)
    assert first == AnswerHead(((b":status", b"103"), (b"link", b"a")), 0, interim=True)
    assert (second, content, end) == (*told(LENGTH)[:2], END)


def test_until_the_end_of_the_connection() -> None:
    """Such an answer ends when no more is written; one with a length that is not reached is cut."""
    reader = AnswerReader(b"GET")
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")[1:] == [b"abc"]
    assert not reader.cut()
    assert reader.ended
    reader = AnswerReader(b"GET")
    reader.feed(LENGTH[:-1])
    assert reader.cut()


def test_our_own_replies() -> None:
    """Are read as any other."""
    head, content, end = told(refusal(400, "no"))
    assert isinstance(head, AnswerHead)
    assert head.fields[0] == (b":status", b"400")
    assert b"no" in content  # type: ignore[operator]
    assert end is END


def test_what_cannot_be_said() -> None:
    """A 101 has no meaning here, nor has more content than was announced."""
    with pytest.raises(WireError):
        told(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    with pytest.raises(WireError):
        told(LENGTH + b"!")
