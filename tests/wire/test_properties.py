"""What holds for all octets: nothing is lost, nothing depends on segments, nothing else is raised, nothing is laxer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import BLANKS, END_TO_END_LINES, HOP_BY_HOP_LINES, chunked_bodies, pieces, requests, responses, spoilt

from sidecar.errors import Fault, WireError
from sidecar.wire import head as head_module
from sidecar.wire.body import ChunkedDelimiter
from sidecar.wire.framing import HOP_BY_HOP, NOT_PASSED_ON
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import ReaderLimits, RequestReader, ResponseReader
from wire.reading import LIMITS, Reading, octet_by_octet, read_requests, read_response
from wire.strict import dechunk, strict_request, strict_response

SMALL = ReaderLimits(head=120, target=24, fields=6, chunk_line=12, chunk_extensions=20, trailers=40)

# Forms that once were read in two ways, or that readers are known to differ on.
CHUNKED_HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
KNOWN = [
    b"\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /y HTTP/1.1\r\nHost: h\r\n\r\n",
    CHUNKED_HEAD + b"5\r\nhelloXX0\r\n\r\n",
    CHUNKED_HEAD + b"0 ;\r\n\r\n",
    CHUNKED_HEAD + b'1;a="\r\n"\r\nx\r\n0\r\n\r\n',
    CHUNKED_HEAD + b"0;a\r\nHost: x\r\nX: y\r\n\r\n",
    b"M" * 33 + b" /x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\nX: \x0b\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n",
]


# As many served as refused.
MAYBE_SPOILT = st.one_of(spoilt(requests()), requests().map(lambda message: message[0]))


Test = TypeVar("Test", bound=Callable[..., Any])


def with_known(test: Test, **others: object) -> Test:
    for stream in KNOWN:
        test = example(stream=stream, **others)(test)
    return test


# P1.


@given(st.lists(requests(canonical=True), min_size=1, max_size=3), st.data())
def test_canonical_requests_go_on_octet_for_octet(messages: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """P1: what goes on of any number of pipelined requests, in any segments, is what came."""
    stream = b"".join(message for message, _ in messages)
    reading = read_requests(data.draw(pieces(stream)))
    assert reading.fault is None
    assert reading.passed_on == stream
    assert len(reading.complete) == len(messages)


@given(responses(canonical=True), st.data())
def test_canonical_responses_go_on_octet_for_octet(message: tuple[bytes, bytes], data: st.DataObject) -> None:
    """P1, the other way."""
    reading = read_response(data.draw(pieces(message[0])))
    assert reading.fault is None
    assert reading.passed_on == message[0]


@given(requests(), st.data())
def test_the_declared_edits_are_the_only_ones(message: tuple[bytes, bytes], data: st.DataObject) -> None:
    """P1: the same start-line and end-to-end lines, the same content, framed canonically."""
    stream, content = message
    reading = read_requests(data.draw(pieces(stream)))
    (read,) = reading.complete
    before, after = strict_request(stream), strict_request(read.passed_on)
    assert after.end == len(read.passed_on)
    assert after.content == before.content == content
    assert after.start == before.start
    options = {option.strip(b" \t").lower() for value in before.values(b"connection") for option in value.split(b",")}
    cut = NOT_PASSED_ON | options | {b"transfer-encoding", b"content-length", b"upgrade", b"connection"}
    lines = [
        line
        for line in stream.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        if line.partition(b":")[0].lower() not in cut
    ]
    passed = read.passed_on.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert [line for line in passed if line.partition(b":")[0].lower() not in cut] == lines
    # Nothing of this hop is left, but for an upgrade that is offered.
    names = {name.lower() for name, _ in after.fields}
    assert names & cut <= {
        b"transfer-encoding",
        b"content-length",
        *((b"connection", b"upgrade") if read.head.upgrade else ()),
    }


# P2.


def _assert_same_in_all_segments(
    read: Callable[..., Reading], stream: bytes, segments: list[bytes], *, same_fault: bool
) -> None:
    whole = read([stream])
    for reading in (read(octet_by_octet(stream)), read(segments)):
        assert (reading.fault is None) is (whole.fault is None)
        assert reading.complete == whole.complete
        if whole.fault is None:
            assert reading.messages == whole.messages
        elif same_fault:
            assert reading.fault is whole.fault


@partial(with_known, at=7)
@given(stream=MAYBE_SPOILT, at=st.integers(0, 400))
def test_segments_of_requests_change_nothing(stream: bytes, at: int) -> None:
    """P2: the same messages, or the same fault."""
    _assert_same_in_all_segments(read_requests, stream, [stream[:at], stream[at:]], same_fault=True)


@given(spoilt(requests()), st.data())
def test_segments_of_requests_change_nothing_near_limits(stream: bytes, data: st.DataObject) -> None:
    """P2: as above, where limits are met all the time; which of two faults comes first may differ."""
    _assert_same_in_all_segments(
        lambda segments: read_requests(segments, SMALL), stream, data.draw(pieces(stream)), same_fault=False
    )


@given(spoilt(responses()), st.booleans(), st.sampled_from([LIMITS, SMALL]), st.data())
def test_segments_of_responses_change_nothing(
    stream: bytes,
    decoded: bool,
    limits: ReaderLimits,
    data: st.DataObject,
) -> None:
    """P2, the other way."""
    _assert_same_in_all_segments(
        lambda segments: read_response(segments, limits=limits, decoded=decoded),
        stream,
        data.draw(pieces(stream)),
        same_fault=limits is LIMITS,
    )


# P3.


def _most_kept(limits: ReaderLimits) -> int:
    return limits.head + limits.chunk_line + limits.trailers + 2


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"GET / HTTP/1.1\r\n", b"\r\n", b"Host: h\r\n"])), max_size=8
    )
)
def test_any_octets_are_requests_or_a_wire_error(segments: list[bytes]) -> None:
    """P3: no other exception, and no buffer beyond the limits."""
    reader = RequestReader(SMALL)
    try:
        for segment in segments:
            reader.feed(segment)
            while reader.ended and reader.buffered:
                reader.next_message()
            assert reader.buffered <= _most_kept(SMALL)
    except WireError:
        return


@given(spoilt(responses()), st.data())
def test_any_octets_are_responses_or_a_wire_error(stream: bytes, data: st.DataObject) -> None:
    """P3, the other way; a head that is kept is never longer than its limit."""
    reader = ResponseReader(SMALL)
    reader.next_message(data.draw(st.sampled_from([b"GET", b"HEAD"])), decoded=data.draw(st.booleans()))
    try:
        for segment in data.draw(pieces(stream)):
            reader.feed(segment)
            assert reader.ended or len(reader._buffer) <= SMALL.head
    except WireError:
        return


@pytest.mark.parametrize("endless", [b"a", b"A: b\r\n", b"\r\n", b"\x00", b"5", b"0;a"])
@pytest.mark.parametrize(
    "start", [b"", b"GET /", b"GET / HTTP/1.1\r\n", CHUNKED_HEAD, CHUNKED_HEAD + b"0\r\n", CHUNKED_HEAD + b'5;a="']
)
def test_what_never_ends_is_refused_and_not_kept(start: bytes, endless: bytes) -> None:
    """P3, R-15: a flood of anything is refused within the limits of the thing that it pretends to be."""
    if start == CHUNKED_HEAD + b"0\r\n" and endless == b"\r\n":
        return  # this one ends
    reader = RequestReader(SMALL)
    reader.feed(start)
    flood = [endless] * (_most_kept(SMALL) + 1)
    with pytest.raises(WireError):
        list(map(reader.feed, flood))


# P4.


def _h11_request(stream: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Method, target, content and end of the first request, as h11 reads it; raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    request, content = connection.next_event(), b""
    assert isinstance(request, h11.Request)
    while isinstance(event := connection.next_event(), h11.Data):
        content += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    return request.method, request.target, content, len(stream) - len(connection.trailing_data[0])


@with_known
@given(stream=MAYBE_SPOILT)
def test_requests_that_are_served_are_what_strict_readers_read(stream: bytes) -> None:
    """P4: a strict reader of what came, and one of what goes on, see the same request with the same end."""
    reading = read_requests([stream])
    if not reading.complete:
        return
    served = reading.complete[0]
    before = strict_request(stream)
    after = strict_request(served.passed_on)
    assert after.end == len(served.passed_on)
    assert (before.start[0], before.start[1], before.content) == (served.head.method, served.head.target, after.content)
    rest = read_requests([stream[before.end :]])
    assert rest.messages == reading.messages[1:]
    assert _h11_request(served.passed_on) == (served.head.method, served.head.origin, after.content, after.end)


@given(MAYBE_SPOILT)
def test_requests_that_come_in_are_read_alike_by_h11(stream: bytes) -> None:
    """P4: h11 finds the same end of the same request in what came, where its own quirks do not stand against it."""
    reading = read_requests([stream])
    if not reading.complete or stream.startswith(b"\r\n"):  # h11 takes no empty line before a request
        return
    served = strict_request(stream)
    assert _h11_request(stream) == (served.start[0], served.start[1], served.content, served.end)


@given(spoilt(responses()))
def test_responses_that_are_relayed_are_what_strict_readers_read(stream: bytes) -> None:
    """P4, the other way; R-32: what a client sees is read alike by the checker and by h11."""
    reader = ResponseReader(LIMITS)
    reader.next_message(b"GET", decoded=False)
    try:
        reader.feed(stream)
    except WireError:
        return
    if not reader.ended:
        return
    (message,) = read_response([stream]).messages
    before, after = strict_response(stream), strict_response(message.passed_on)
    assert (before.content, before.start[1:]) == (after.content, after.start[1:])
    assert reader.excess is (before.end < len(stream))
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(message.passed_on)
    assert connection.next_event().status_code == int(after.start[1])
    content = b""
    while isinstance(event := connection.next_event(), h11.Data):
        content += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert (content, connection.trailing_data[0]) == (after.content, b"")


@given(chunked_bodies(), st.binary(max_size=8), st.booleans(), st.data())
def test_chunks_mean_what_the_model_says(
    body: tuple[bytes, bytes],
    tail: bytes,
    decoded: bool,
    data: st.DataObject,
) -> None:
    """P4: content, count of content, end of body and canonical form are those of a trivial model."""
    octets, content = body
    delimiter = ChunkedDelimiter(line_limit=1024, extensions_limit=4096, trailer_limit=4096, decoded=decoded)
    out, tail_after_end = b"", b""
    for piece in data.draw(pieces(octets + tail)):
        if delimiter.done:
            tail_after_end += piece
        else:
            out += delimiter.feed(piece)
    assert delimiter.done
    assert delimiter.rest + tail_after_end == tail
    assert delimiter.content == len(content)
    if decoded:
        assert out == content
        return
    passed, trailers, end = dechunk(out)
    assert (passed, end) == (content, len(out))
    assert not {name.lower() for name, _ in trailers} & {
        b"content-length",
        b"host",
        b"transfer-encoding",
        b"authorization",
    }
    assert b";" not in b"".join(line for line in out.split(b"\r\n") if line[:1].isdigit() and len(line) < 3)


# Heads.


@given(st.lists(st.one_of(END_TO_END_LINES, HOP_BY_HOP_LINES), max_size=8), st.booleans())
def test_a_response_loses_exactly_the_lines_of_this_hop(lines: list[bytes], close: bool) -> None:
    """R-35, R-48: every other line passes byte for byte and in order."""
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
    head = ResponseHead(start + b"".join(line + b"\r\n" for line in lines) + b"\r\n", b"GET")
    pairs = [(line.partition(b":")[0].lower(), line) for line in lines]
    options = {
        option.strip(b" \t").lower()
        for name, line in pairs
        if name == b"connection"
        for option in line.partition(b":")[2].split(b",")
    }
    kept = [line for name, line in pairs if name not in HOP_BY_HOP | options]
    expected = (
        start + b"".join(line + b"\r\n" for line in kept) + (b"Connection: close\r\n" if close else b"") + b"\r\n"
    )
    assert head.passed_on(close=close, decoded=False) == expected


# Memory of field sections.


def _head_or_fault(raw: bytes) -> RequestHead | Fault:
    try:
        return RequestHead(raw)
    except WireError as error:
        return error.fault


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=3), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.lists(requests(), min_size=3, max_size=3),
)
def test_remembered_sections_change_nothing_and_leak_nothing(
    uses: list[tuple[int, bytes, bool, bool]], messages: list[tuple[bytes, bytes]]
) -> None:
    """Equal sections of different clients: each gets its own forwarded lines, version and target, cold or warm."""
    sections = [message.partition(b"\r\n\r\n")[0].partition(b"\r\n")[2] for message, _ in messages]
    for which, client, http11, cold in uses:
        raw = b"GET /%b HTTP/1.%d\r\n%b\r\n\r\n" % (client.hex().encode(), http11, sections[which])
        forwarded = b"X-Forwarded-For: %b\r\n" % client.hex().encode()
        if cold:
            head_module._requests.clear()
        warm = _head_or_fault(raw)
        head_module._requests.clear()
        fresh = _head_or_fault(raw)
        if isinstance(warm, Fault):
            assert fresh is warm
            continue
        passed = warm.passed_on(forwarded)
        assert passed.count(b"X-Forwarded-For: ") == 1
        assert passed.endswith(forwarded + b"\r\n")
        assert fresh.passed_on(forwarded) == passed
        for name in ("method", "target", "origin", "http11", "length", "persistent", "upgrade"):
            assert getattr(fresh, name) == getattr(warm, name)


def test_memory_of_sections_is_bounded() -> None:
    """No client can fill it: neither with many sections nor with long ones."""
    remembered = head_module._requests
    remembered.clear()
    for number in range(2 * head_module.MOST_SECTIONS + 1):
        RequestHead(b"GET / HTTP/1.1\r\nHost: h\r\nX: %d\r\n\r\n" % number)
        assert len(remembered) <= head_module.MOST_SECTIONS
    newest = b"\r\nHost: h\r\nX: %d\r\n\r\n" % number
    assert newest in remembered.recent
    remembered.clear()
    RequestHead(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * head_module.LONGEST_SECTION + b"\r\n\r\n")
    assert not len(remembered)


def test_a_refused_section_is_refused_again() -> None:
    """A fault is not remembered as a section without one."""
    for _ in range(2):
        with pytest.raises(WireError):
            RequestHead(b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n")


@given(BLANKS, BLANKS)
def test_blanks_around_a_length_do_not_matter(before: bytes, after: bytes) -> None:
    """RFC 9112 5.1: and they go on as they came."""
    raw = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:" + before + b"7" + after + b"\r\n\r\n"
    head = RequestHead(raw)
    assert head.length == 7
    assert head.passed_on(b"") == raw
