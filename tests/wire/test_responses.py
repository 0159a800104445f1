"""Responses, form by form (HTTP.md 1.4 and 1.5: R-42 to R-54): what is relayed, what is refused, what is reused."""

from __future__ import annotations

import pytest

from sidecar.errors import Fault, WireError
from sidecar.wire.framing import TUNNEL, UNTIL_CLOSE
from sidecar.wire.head import ResponseHead
from sidecar.wire.reader import END, End, ReaderLimits, ResponseReader
from wire.reading import LIMITS, octet_by_octet, read_response

OK = b"HTTP/1.1 200 OK\r\n"


def with_line(line: bytes) -> bytes:
    return OK + b"Content-Length: 0\r\n" + line + b"\r\n\r\n"


def with_start(line: bytes) -> bytes:
    return line + b"\r\nContent-Length: 0\r\n\r\n"


def with_chunks(chunks: bytes) -> bytes:
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


REFUSED = [
    *(
        ("R-42", with_start(line))
        for line in (
            *(b"HTTP/2 200 OK", b"http/1.1 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK"),
            *(
                b"HTTP/1.1 +200 OK",
                b"HTTP/1.1 2_0 OK",
                b"HTTP/1.1 000 OK",
                b"HTTP/1.1 099 OK",
                b"HTTP/1.1 200",
                b"<html>",
            ),
            *(b"HTTP/3.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 2\xb20 OK"),
            *(
                b"SSH-2.0-x",
                b"\x00\x01\x02garbage",
                b" HTTP/1.1 200 OK",
                b"\r\nHTTP/1.1 200 OK",
                b"HTTP/1.1 200 a\x00b",
            ),
            *(b"HTTP/1.1 200 a\x7fb", b"GET / HTTP/1.1"),
        )
    ),
    ("R-42", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    *(
        ("R-43", with_line(line))
        for line in (
            *(
                b"X-A: a\rSet-Cookie: evil=1",
                b"X-A: a\nSet-Cookie: evil=1",
                b"X : a",
                b": a",
                b"garbage",
                b"X: a\r\n b",
            ),
            *(b"X: a\x00", b"X\xff: a", b"X: \x0b"),
        )
    ),
    ("R-43", OK + b" X: folded\r\nContent-Length: 0\r\n\r\n"),
    *(
        ("R-44", OK + b"Content-Length: " + value + b"\r\n\r\n12345")
        for value in (b"+5", b"5, 5", b"", b"0x5", b"5 5", b"1" * 19)
    ),
    ("R-44", OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345"),
    ("R-44", OK + b"Content-Length: 5\r\ncontent-length: 3\r\n\r\n12345"),
    ("R-44", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    *(
        ("R-44", OK + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n")
        for value in (
            b"cow",
            b"identity",
            b"gzip, chunked",
            b"chunked, chunked",
            b"",
            b"chunked;x",
            b"chunked\r\nTransfer-Encoding: chunked",
        )
    ),
    ("R-44", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    *(
        ("R-46", with_chunks(chunks))
        for chunks in (
            b"g\r\n",
            b"5\r\nhelloXX",
            b"5 \r\nhello\r\n",
            b"5\nhello\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nbad\r\n\r\n",
        )
    ),
    ("R-49", with_line(b"X: " + b"a" * LIMITS.head)),
    ("R-49", with_line(b"X: y\r\n" * LIMITS.fields + b"X: z")),
    ("R-49", OK + b"X: y\r\n" * LIMITS.head),
]


@pytest.mark.parametrize(("requirement", "stream"), REFUSED)
def test_a_malformed_response_is_refused_however_it_arrives(requirement: str, stream: bytes) -> None:
    """Whole, octet by octet and with a tail."""
    whole = read_response([stream]).fault
    assert whole is not None, requirement
    assert read_response(octet_by_octet(stream)).fault is whole
    assert read_response([stream, b"tail"]).fault is whole


SERVED = [
    ("R-48", with_line(b"X: y"), None),
    ("R-42", with_start(b"HTTP/1.1 200 "), None),
    ("R-42", with_start(b"HTTP/1.1 299 \t\xe9 is fine"), None),
    ("R-42", with_start(b"HTTP/1.1 999 x"), None),
    ("R-48", with_start(b"HTTP/1.1 502 Bad Gateway"), None),
    ("R-48", with_line(b"Server: Synapse\r\nset-cookie:a\r\nDATE: x\r\nSet-Cookie: a\r\nLocation: /%2f"), None),
    ("R-48", OK + b"Content-Length: 5\r\n\r\nhello", None),
    ("R-48", with_chunks(b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), None),
    ("R-24", OK + b"Content-Length: 005\r\n\r\nhello", OK + b"Content-Length: 5\r\n\r\nhello"),
    ("R-24", OK + b"Content-Length: 00\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"),
    ("R-25", with_chunks(b"0\r\n\r\n").replace(b"chunked", b"Chunked"), with_chunks(b"0\r\n\r\n")),
    ("R-30", with_chunks(b"05;a\r\nhello\r\n0;b\r\n\r\n"), with_chunks(b"5\r\nhello\r\n0\r\n\r\n")),
    # RFC 9112 2.3: a gateway sends its own version.
    ("R-48", with_start(b"HTTP/1.0 200 OK"), with_start(b"HTTP/1.1 200 OK")),
    (
        "R-35",
        with_line(
            b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX: y\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nx-hop:2\r\nTE: x"
        ),
        with_line(b"X: y"),
    ),
    # What frames the message is never cut, whatever Connection names.
    ("R-27", with_line(b"Connection: content-length"), OK + b"Content-Length: 0\r\n\r\n"),
    (
        "R-27",
        with_chunks(b"0\r\n\r\n").replace(b"\r\n\r\n0", b"\r\nConnection: transfer-encoding\r\n\r\n0"),
        with_chunks(b"0\r\n\r\n"),
    ),
    ("R-40", b"HTTP/1.1 100 Continue\r\n\r\n" + with_line(b"X: y"), None),
    ("R-40", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + with_line(b"X: y"), None),
]


@pytest.mark.parametrize(("requirement", "stream", "expected"), SERVED)
def test_a_good_response_goes_on_as_it_came(requirement: str, stream: bytes, expected: bytes | None) -> None:
    """Octet for octet but for the declared edits, however it arrives."""
    whole = read_response([stream])
    assert whole.fault is None, requirement
    assert whole.passed_on == (stream if expected is None else expected), requirement
    assert whole.messages[-1].ended
    assert read_response(octet_by_octet(stream)) == whole


@pytest.mark.parametrize(
    ("method", "stream"),
    [
        (b"HEAD", OK + b"Content-Length: 5000\r\n\r\n"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD", OK + b"X: y\r\n\r\n"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n'),
        (b"GET", b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_some_responses_have_no_body_whatever_their_fields_say(method: bytes, stream: bytes) -> None:
    """R-45: HEAD, 204 and 304 end with the head, which is passed on as it is."""
    reader = ResponseReader(LIMITS)
    reader.next_message(method, decoded=False)
    head, end = reader.feed(stream)
    assert end is END
    assert isinstance(head, ResponseHead)
    assert head.passed_on(close=False, decoded=False) == stream
    assert head.persistent


@pytest.mark.parametrize(
    ("stream", "passed"),
    [
        (
            b"HTTP/1.1 204 No Content\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        ),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX: y\r\n\r\n", b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nX: y\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (
            b"HTTP/1.1 102 Processing\r\nConnection: X\r\nX: y\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
        ),
    ],
)
def test_no_content_is_announced_where_there_can_be_none(stream: bytes, passed: bytes) -> None:
    """A client that believes the field waits for content; so may the worker be about to write it."""
    reader = ResponseReader(LIMITS)
    reader.next_message(b"GET", decoded=False)
    head = reader.feed(stream)[0]
    assert isinstance(head, ResponseHead)
    assert head.passed_on(close=False, decoded=False) == passed
    assert head.passed_on(close=True, decoded=True) == passed[:-2] + b"Connection: close\r\n\r\n"
    assert not head.persistent


def test_no_length_is_a_length() -> None:
    """What Synapse sends with each 204 is passed on as it is."""
    stream = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
    head = ResponseHead(stream, b"OPTIONS")
    assert (head.passed_on(close=False, decoded=False), head.persistent) == (stream, True)


@pytest.mark.parametrize(
    "cut",
    [
        OK + b"Content-Length: 50\r\n\r\nhello",
        with_chunks(b"5\r\nhel"),
        with_chunks(b"5\r\nhello\r\n"),
        with_chunks(b"0\r\n"),
        with_chunks(b"0\r\nX: y\r\n"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20",
        OK + b"Content-Length: 0\r\n",
    ],
)
def test_a_response_that_is_cut_never_ends(cut: bytes) -> None:
    """R-46, R-40: no end and no last chunk."""
    for segments in ([cut], octet_by_octet(cut)):
        reading = read_response(segments)
        assert reading.fault is None
        assert b"0\r\n\r\n" not in b"".join(message.body for message in reading.messages)
        assert not any(message.ended for message in reading.messages if not message.head.interim)


def test_a_response_without_framing_lasts_until_the_connection_ends() -> None:
    """R-47: everything is content, and the end is not ours to see."""
    reader = ResponseReader(LIMITS)
    reader.next_message(b"GET", decoded=False)
    head, content = reader.feed(OK + b"X: y\r\n\r\nHTTP/1.1 ")
    assert isinstance(head, ResponseHead)
    assert (head.length, head.persistent, content, reader.until_close) == (UNTIL_CLOSE, False, b"HTTP/1.1 ", True)
    assert reader.feed(b"200 OK\r\n\r\n") == [b"200 OK\r\n\r\n"]
    assert head.passed_on(close=True, decoded=False) == OK + b"X: y\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("stream", "persistent"),
    [
        (with_line(b"X: y"), True),
        (with_line(b"Connection: keep-alive"), True),
        (with_line(b"Connection: x, Close"), False),
        (with_line(b"Connection: x\r\nConnection: CLOSE"), False),
        (with_start(b"HTTP/1.0 200 OK"), False),
        (with_start(b"HTTP/1.0 200 OK\r\nConnection: keep-alive"), True),
        (with_start(b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close"), False),
        (OK + b"\r\n", False),
        (OK + b"Connection: keep-alive\r\n\r\n", False),
    ],
)
def test_the_worker_decides_whether_its_connection_goes_on(stream: bytes, *, persistent: bool) -> None:
    """R-50, R-51: close in any line, any case, any place; HTTP/1.0; no framing."""
    assert ResponseHead(stream, b"GET").persistent is persistent


@pytest.mark.parametrize(
    ("method", "stream"),
    [
        (b"GET", with_line(b"X: y") + b"x"),
        (b"HEAD", OK + b"Content-Length: 5\r\n\r\nhello"),
        (b"GET", OK + b"Content-Length: 2\r\n\r\nhello"),
        (b"GET", with_chunks(b"0\r\n\r\n\r\n")),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n0\r\n\r\n"),
        (b"GET", with_line(b"X: y") * 2),
    ],
)
def test_octets_behind_a_response_are_noticed_and_kept_back(method: bytes, stream: bytes) -> None:
    """R-53: in the same read or later; the next response starts with a clean slate."""
    for segments in ([stream], octet_by_octet(stream)):
        reader = ResponseReader(LIMITS)
        reader.next_message(method, decoded=False)
        events = [event for segment in segments for event in reader.feed(segment)]
        assert events.count(END) == 1
        assert events[-1] is END
        assert reader.excess
        reader.next_message(b"GET", decoded=False)
        assert not reader.excess


def test_nothing_behind_a_response_is_no_excess() -> None:
    """R-53, the other way."""
    reader = ResponseReader(LIMITS)
    assert reader.ended
    reader.next_message(b"GET", decoded=False)
    assert not reader.ended
    reader.feed(with_line(b"X: y"))
    assert (reader.ended, reader.excess) == (True, False)


def test_any_number_of_interim_responses_is_read_without_recursion() -> None:
    """R-40: how many are too many is decided elsewhere; reading them must not exhaust the stack."""
    interim = b"HTTP/1.1 102 \r\n\r\n"
    reader = ResponseReader(LIMITS)
    reader.next_message(b"GET", decoded=False)
    events = reader.feed(interim * 3000 + with_line(b"X: y"))
    assert [event.status for event in events[:-1] if isinstance(event, ResponseHead)] == [102] * 3000 + [200]
    assert events[-1] is END


def test_chunks_are_taken_off_for_a_client_of_http_1_0() -> None:
    """R-41: content alone, and no Transfer-Encoding in the head."""
    stream = with_chunks(b"5;x\r\nhello\r\n02\r\n\r\n\r\n0\r\nX: y\r\n\r\n")
    for segments in ([stream], octet_by_octet(stream)):
        (message,) = read_response(segments, decoded=True).messages
        assert message.ended
        assert message.body == b"hello\r\n"
        assert isinstance(message.head, ResponseHead)
        assert message.head.passed_on(close=True, decoded=True) == OK + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"X: y", b"Content-Length: 0\r\nX: y\r\nConnection: close\r\n\r\n"),
        (b"Connection: keep-alive, x\r\nX: y", b"Content-Length: 0\r\nConnection: close\r\n\r\n"),
    ],
)
def test_a_closing_response_says_so_once(line: bytes, expected: bytes) -> None:
    """RFC 9112 9.6: one Connection: close, ours."""
    assert ResponseHead(with_line(line), b"GET").passed_on(close=True, decoded=False) == OK + expected


def _switching(lines: bytes) -> ResponseHead:
    return ResponseHead(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n", b"GET")


def test_a_matching_101_opens_a_tunnel() -> None:
    """R-36: with one Connection line of ours, without what Connection names, and without any framing."""
    head = _switching(
        b"connection: upgrade, x-hop\r\nUPGRADE: WebSocket\r\nX-Hop: 1\r\nContent-Length: 5\r\nX: y\r\nTE: x\r\n"
    )
    assert (head.length, head.interim) == (TUNNEL, False)
    expected = b"HTTP/1.1 101 Switching Protocols\r\nUPGRADE: WebSocket\r\nX: y\r\nConnection: Upgrade\r\n\r\n"
    assert head.switched(b"foo, websocket") == expected


@pytest.mark.parametrize(
    ("offer", "lines"),
    [
        (b"websocket", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        (b"websocket", b"Connection: Upgrade\r\nUpgrade: websocket, x\r\n"),
        (b"websocket", b"Connection: Upgrade\r\n"),
        (b"websocket", b"Upgrade: websocket\r\n"),
        (b"websocket", b"Connection: close\r\nUpgrade: websocket\r\n"),
    ],
)
def test_a_101_that_does_not_match_is_refused(offer: bytes, lines: bytes) -> None:
    """R-36, R-37: only what was offered can be switched to."""
    with pytest.raises(WireError) as refusal:
        _switching(lines).switched(offer)
    assert refusal.value.fault is Fault.SYNTAX


def test_behind_a_101_nothing_is_a_message() -> None:
    """R-36: octets of a tunnel are handed on as they come."""
    reader = ResponseReader(LIMITS)
    reader.next_message(b"GET", decoded=False)
    stream = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    head, octets = reader.feed(stream + b"HTTP/1.1 200")
    assert isinstance(head, ResponseHead)
    assert (octets, reader.feed(b"\x00"), reader.until_close) == (b"HTTP/1.1 200", [b"\x00"], True)


def test_limits_of_a_response_are_exact() -> None:
    """R-49: what just fits is relayed, one octet more is refused, in any segmentation."""
    limits = ReaderLimits(head=100, fields=3)
    for stream, fault in [
        (with_line(b"X: " + b"a" * (100 - len(with_line(b"X: ")))), None),
        (with_line(b"X: " + b"a" * (101 - len(with_line(b"X: ")))), Fault.HEAD_TOO_LARGE),
        (with_line(b"A:\r\nB:"), None),
        (with_line(b"A:\r\nB:\r\nC:"), Fault.HEAD_TOO_LARGE),
    ]:
        for segments in ([stream], octet_by_octet(stream)):
            assert read_response(segments, limits=limits).fault is fault


def test_octets_that_go_past_the_reader_are_counted() -> None:
    """A body with Content-Length may be spliced; the reader is told, and ends where the body ends."""
    reader = ResponseReader(LIMITS)
    reader.next_message(b"GET", decoded=False)
    reader.feed(OK + b"Content-Length: 10\r\n\r\nabc")
    assert (reader.body_left, reader.ended) == (7, False)
    assert not reader.skip(4)
    assert reader.skip(3)
    assert (reader.body_left, reader.ended, reader.excess) == (0, True, False)
    reader.feed(b"x")
    assert reader.excess


WHOLE = [
    *(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"),
    *(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", b"HTTP/1.0 200 OK\r\nContent-Length: 02\r\n\r\nab"),
    *(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\nA: b\r\n\r\n", b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n"),
    *(
        b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ),
    *(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, x\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"A: b\r\n" * 10 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a, b, c, d\r\n\r\n",
]


def told(event: ResponseHead | bytes | End) -> object:
    """What can be compared of an event."""
    return event.passed_on(close=False, decoded=False) if isinstance(event, ResponseHead) else event


@pytest.mark.parametrize("raw", WHOLE)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_what_is_seen_as_a_whole_is_what_is_read(method: bytes, raw: bytes) -> None:
    """An answer that comes all at once goes on as if it had been read piece by piece, or is not seen as one at all."""
    limits = ReaderLimits(fields=8, options=3)
    short, long = ResponseReader(limits), ResponseReader(limits)
    for reader in (short, long):
        reader.next_message(method, decoded=False)
    head = short.whole(raw)
    try:
        events = list(long.feed(raw))
    except WireError:
        assert head is None
        return
    if head is None:
        assert list(map(told, short.feed(raw))) == list(map(told, events))
        return
    first = events[0]
    assert isinstance(first, ResponseHead)
    assert events[-1] is END
    content = b"".join(event for event in events[1:] if isinstance(event, bytes))
    assert head.relayed(raw) == first.passed_on(close=False, decoded=False) + content
    assert (head.status, head.persistent, head.length) == (first.status, first.persistent, first.length)
    short.take_whole()
    assert short.ended
    assert not short.excess
