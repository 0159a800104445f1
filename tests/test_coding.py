"""Answers in gzip: who takes them, which are, what their heads say, and that the content is the same."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.compression import Compress
from sidecar.exchange.changing import Changes, Changing, inward, outward, with_strong_tags
from sidecar.exchange.coding import Coder, accepts_gzip
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import END, ReaderLimits, ResponseReader

JSON = b"Content-Type: application/json"
ACCEPT = b"Accept-Encoding: gzip, deflate, br"


def changing(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", **changes: Any) -> Changing:
    head = RequestHead(b"\r\n".join([start, b"Host: H.example:8448", *lines, b"\r\n"]))
    return Changing(Changes(**({"compress": Compress(min=0)} | changes)), head)


def answered(what: Changing, *lines: bytes, status: bytes = b"200 OK", method: bytes = b"GET", size: int = 9) -> bytes:
    """The head of an answer as a client gets it."""
    framing = (
        [] if any(line.lower().startswith(b"transfer-encoding") for line in lines) else [b"Content-Length: %d" % size]
    )
    raw = b"\r\n".join([b"HTTP/1.1 " + status, *framing, *lines, b"\r\n"])
    return what.answer(ResponseHead(raw, method), close=False, decoded=False)[0]


def coded(what: Changing, *lines: bytes, **others: Any) -> bool:
    return b"Content-Encoding: gzip" in answered(what, *lines, **others)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"gzip", True),
        (b"GZIP;q=0.001", True),
        (b"x-gzip", True),
        (b"br, gzip ; Q=1.000", True),
        (b"*", True),
        (b"*;q=0.5, identity;q=0.4", True),
        (b"", False),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000, *", False),
        (b"*;q=0", False),
        (b"br", False),
        (b"gzip;q=0.5, identity", False),
        (b"gzip;q=2", False),
        (b"gzip;q=0.1234", False),
        (b"gzip;level=1", False),
        (b"gzipped", False),
    ],
)
def test_who_takes_gzip(value: bytes, accepted: bool) -> None:
    """RFC 9110 12.5.3: by name before `*`, with its weight, and not below what is not coded."""
    assert accepts_gzip([value]) is accepted


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_any_octets_are_an_answer_to_who_takes_gzip(values: list[bytes]) -> None:
    """Whatever a client writes there, it is yes or no, and the same for one line and for several."""
    assert accepts_gzip(values) is accepts_gzip([b",".join(values)])


@given(
    st.lists(st.lists(st.binary(max_size=300), max_size=4), min_size=1, max_size=5),
    st.booleans(),
    st.integers(1, 9),
)
def test_the_content_is_the_same(turns: list[list[bytes]], chunked: bool, level: int) -> None:
    """Whatever the splitting, a client has the worker's content after each turn: all that came so far."""
    coder = Coder(level, chunked=chunked)
    content = b""
    told = b""
    for number, pieces in enumerate(turns, start=1):
        for piece in pieces:
            content += piece
            coder.take(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece)
        ended = number == len(turns)
        if chunked and ended:
            coder.take(b"0\r\n\r\n")
        told += coder.give(ended=ended)
        assert undone(told, ended=ended) == content
    assert coder.taken == len(content)


def undone(octets: bytes, *, ended: bool) -> bytes:
    """What a client makes of these: it reads chunks with our own reader, and undoes gzip with Python's."""
    reader = ResponseReader(ReaderLimits())
    reader.next_message(b"GET", decoded=True)
    events = reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + octets)
    assert (END in events) is ended
    content = b"".join(event for event in events if isinstance(event, bytes))
    if ended:
        return gzip.decompress(content)
    return zlib.decompressobj(31).decompress(content)


def test_a_head_says_what_became_of_the_content() -> None:
    """The length goes, chunks come; the coding, Vary and a weak entity tag are told; nothing is promised of ranges."""
    head = answered(
        changing(ACCEPT), JSON, b'ETag: "a"', b"Accept-Ranges: bytes", b"Vary: Origin", b"X: 1", b"Connection: X"
    )
    assert head == (
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: Origin, Accept-Encoding\r\nETag: W/"a"\r\n'
        b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert answered(changing(ACCEPT), JSON, b"Vary: accept-encoding, *").count(b"Vary: accept-encoding, *\r\n") == 1
    weak = answered(changing(ACCEPT), JSON, b'ETag: W/"a"', b"Transfer-Encoding: chunked")
    assert weak.count(b"ETag") == weak.count(b'ETag: W/"a"\r\n') == weak.count(b"Transfer-Encoding") == 1


@pytest.mark.parametrize(
    ("lines", "others"),
    [
        ((b"Content-Type: image/png",), {}),
        ((), {}),
        ((JSON, b"Content-Encoding: br"), {}),
        ((JSON, b"Content-Range: bytes 0-8/9"), {}),
        ((JSON, b"Content-Digest: sha-256=:x:"), {}),
        ((JSON, b"Cache-Control: private, No-Transform"), {}),
        ((JSON, b"Set-Cookie: a=b"), {}),
        ((JSON, b"Trailer: X", b"Transfer-Encoding: chunked"), {}),
        ((JSON,), {"method": b"HEAD"}),
        ((JSON,), {"status": b"204 No Content"}),
        ((JSON,), {"status": b"206 Partial Content"}),
        ((JSON,), {"status": b"304 Not Modified"}),
        ((JSON,), {"status": b"404 Not Found"}),
        ((JSON,), {"size": 0}),
    ],
)
def test_what_goes_as_it_is(lines: tuple[bytes, ...], others: dict[str, bytes]) -> None:
    """What is no content, is a part, has a sum, is coded, must not be changed, or is none of the types."""
    start = others.get("method", b"GET") + b" /x HTTP/1.1"
    assert not coded(changing(ACCEPT, start=start), *lines, **others)
    assert coded(changing(ACCEPT), b"content-type:Application/JSON ; charset=utf-8")


def test_for_whom_an_answer_goes_as_it_is() -> None:
    """For who does not ask for gzip or speaks HTTP/1.0, or where there is no memory, but caches are told; with a cookie
    it is not for caches (BREACH)."""
    full = changing(ACCEPT)
    full.leave_uncompressed()
    for what in (changing(), changing(ACCEPT, start=b"GET /x HTTP/1.0"), full):
        head = answered(what, JSON)
        assert b"Content-Encoding" not in head
        assert b"Vary: Accept-Encoding\r\n" in head
        assert b"Content-Length: 9\r\n" in head
    assert b"Vary" not in answered(changing(ACCEPT, b"Cookie: a=b"), JSON)
    assert b"Vary" not in answered(changing(ACCEPT, compress=Compress(min=10)), JSON)
    until_close = ResponseHead(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n\r\n", b"GET")
    assert changing(ACCEPT).answer(until_close, close=True, decoded=False)[1] is None


def test_a_compressed_answer_can_be_confirmed() -> None:
    """The weak tag that a client was told is asked for in both forms, and what confirms it has the weak one."""
    what = changing(ACCEPT, b'If-None-Match: W/"a", "b"')
    raw = b'GET /x HTTP/1.1\r\nHost: h\r\nif-none-match:W/"a", "b"\r\n\r\n'
    assert what.request(raw, 1000) == b'GET /x HTTP/1.1\r\nHost: h\r\nif-none-match:W/"a", "a", "b"\r\n\r\n'
    assert what.request(raw, len(raw)) == raw
    head = answered(what, b'ETag: "a"', status=b"304 Not Modified", size=0)
    assert b'ETag: W/"a"\r\nVary: Accept-Encoding\r\n' in head
    assert b'ETag: "b"\r\n' in answered(what, b'ETag: "b"', status=b"304 Not Modified", size=0)
    assert changing(b'If-None-Match: W/"a"').request(raw, 1000) == raw


@given(st.binary(max_size=60).filter(lambda octets: b"\r\n" not in octets))
def test_tags_are_added_and_never_lost(value: bytes) -> None:
    """Whatever stands in If-None-Match, all of it still does, and no line more."""
    raw = b"GET / HTTP/1.1\r\nIf-None-Match: " + value + b'\r\nA: W/"x"\r\n\r\n'
    told = with_strong_tags(raw)
    assert told.count(b"\r\n") == raw.count(b"\r\n")
    assert told.endswith(b'\r\nA: W/"x"\r\n\r\n')
    assert len(told) >= len(raw)


PATHS = st.lists(st.sampled_from([b"/x", b"/", b"/%2F", b"/.."])).map(b"".join)
PREFIXES = st.sampled_from([b"", b"/livekit", b"/livekit/a", b"/b"])


@given(PATHS.filter(lambda path: not path.startswith(b"//")), PREFIXES, PREFIXES, st.sampled_from([b"", b"?", b"?a=/"]))
def test_paths_inward_and_back(path: bytes, strip: bytes, add: bytes, query: bytes) -> None:
    """What is taken from a path on its way in is put back on the way out, octet for octet."""
    inside = inward(strip + (path or b"/") + query, strip, add)
    assert inside == add + (path or b"/") + query
    assert outward(inside, strip, add, b"h") == strip + (path or b"/") + query


@pytest.mark.parametrize(
    ("location", "told"),
    [
        (b"/login?a", b"/out/login?a"),
        (b"/in/login", b"/out/in/login"),
        (b"/out/login", b"/out/login"),
        (b"http://H.example:8448/login", b"http://H.example:8448/out/login"),
        (b"https://h.example:8448/", b"https://h.example:8448/out/"),
        (b"https://h.example:8448", b"https://h.example:8448"),
        (b"https://other.example/login", b"https://other.example/login"),
        (b"//other.example/login", b"//other.example/login"),
        (b"login", b"login"),
        (b"", b""),
        (b"io.element:/callback", b"io.element:/callback"),
    ],
)
def test_where_a_service_leads(location: bytes, told: bytes) -> None:
    """Its own places are told as they are reached; everybody else's as they are."""
    what = changing(strip=b"/out", compress=None)
    head = answered(what, b"Location: " + location, status=b"302 Found")
    assert b"\r\nLocation: " + told + b"\r\n" in head


def test_a_client_cannot_make_a_service_lead_elsewhere() -> None:
    """Without its prefix a path can begin with two slashes, which a browser would take for a host."""
    what = changing(strip=b"/out", compress=None)
    assert what.request(b"GET /out//evil.example/a HTTP/1.1\r\n\r\n", 99).startswith(b"GET //evil.example/a ")
    head = answered(what, b"Location: //evil.example/a/", status=b"301 Moved")
    assert b"\r\nLocation: /out//evil.example/a/\r\n" in head


def test_a_service_behind_a_prefix_of_its_own() -> None:
    """What it is given in front of its paths is taken off again, where a whole segment ends."""
    what = changing(strip=b"/out", add=b"/in", compress=None)
    assert what.request(b"GET /out?x HTTP/1.1\r\n\r\n", 99) == b"GET /in/?x HTTP/1.1\r\n\r\n"
    assert what.request(b"GET /outer HTTP/1.1\r\n\r\n", 99) == b"GET /in/outer HTTP/1.1\r\n\r\n"
    assert what.request(b"OPTIONS * HTTP/1.1\r\n\r\n", 99) == b"OPTIONS * HTTP/1.1\r\n\r\n"
    for location, told in ((b"/in/a", b"/out/a"), (b"/in", b"/out/"), (b"/inner", b"/inner"), (b"/a", b"/a")):
        assert b"\r\nLocation: " + told + b"\r\n" in answered(what, b"Location: " + location, status=b"302 Found")
