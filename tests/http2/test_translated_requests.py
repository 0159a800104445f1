"""What becomes of the fields of an HTTP/2 request: one head that means the same, or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Fault, WireError
from sidecar.http2.requests import request_head, trailer_lines
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import END, ReaderLimits, RequestReader

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"example.org"), (b":path", b"/a")]
Fields = list[tuple[bytes, bytes]]


def text(alphabet: str, *, least: int = 1, most: int = 12) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, min_size=least, max_size=most).map(lambda found: found.encode("latin-1"))


VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
NAMES = text("abcdefghijklmnopqrstuvwxyz0123456789-_!#$%&'*+.^`|~").filter(
    lambda name: name not in {b"te", b"host", b"expect", b"cookie", b"upgrade", b"connection"}
)
VALUES = text(VISIBLE + "\x80\xff \t", least=0).map(lambda value: value.strip(b" \t"))
TARGETS = text(VISIBLE.replace("#", ""), least=0).map(lambda rest: b"/" + rest)
ORDINARY = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@given(
    method=st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST", b"OPTIONS", b"x"]),
    target=TARGETS,
    host=st.sampled_from([b"example.org", b"EXAMPLE.org:8448", b"[::1]:1"]),
    fields=ORDINARY,
    ended=st.booleans(),
)
def test_what_is_well_formed_is_a_request_that_means_the_same(
    method: bytes, target: bytes, host: bytes, fields: Fields, *, ended: bool
) -> None:
    """Our own reader takes it as one request: the octets of its target as they were, its fields in their order."""
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", host), (b":path", target)]
    request = request_head([*pseudo, *fields], ended=ended)
    head, *rest = RequestReader(ReaderLimits()).feed(request.raw)
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, head.fields.host) == (method, target, host)
    assert rest == ([END] if ended else [])
    assert request.chunked is not ended
    expected = [b"Host: " + host, *(name + b": " + value for name, value in fields)]
    found = request.raw.split(b"\r\n")[1:-2]
    assert found == expected + [b"Transfer-Encoding: chunked"] * request.chunked


ANY = st.binary(max_size=12)
ODD = st.one_of(
    st.tuples(ANY, ANY),
    st.tuples(st.sampled_from([b"host", b"te", b"cookie", b"content-length", b"connection", b":path", b"X"]), ANY),
    st.tuples(NAMES, st.sampled_from([b"a\r\nb: c", b"a\nb", b"a\0b", b" a", b"a ", b"0\r\n\r\nGET / HTTP/1.1"])),
)


@given(pseudo=st.permutations(GET), fields=st.lists(ODD, max_size=4), path=ANY, ended=st.booleans())
def test_nothing_becomes_two_requests(pseudo: Fields, fields: Fields, path: bytes, *, ended: bool) -> None:
    """Whatever comes is refused, by the translation or by the reader, or is one head with nothing behind it."""
    reader = RequestReader(ReaderLimits())
    whole = [(name, b"/" + path if name == b":path" else value) for name, value in pseudo] + fields
    try:
        request = request_head(whole, ended=ended)
        head, *rest = reader.feed(request.raw)
    except WireError:
        return
    assert isinstance(head, RequestHead)
    assert rest in ([], [END])
    assert not reader.buffered
    assert head.target == b"/" + path
    assert head.fields.count == 1 + request.chunked + len({name for name, _ in fields if name == b"cookie"}) + sum(
        name not in (b"cookie", b"host", b"te") for name, _ in fields
    )


def test_octets_of_the_path_stay() -> None:
    """`%2F`, `//` and dots are the worker's to understand."""
    path = b"/_matrix//client/%2F%2e/../x?a=%20&&b"
    assert request_head([*GET[:3], (b":path", path)], ended=True).raw.startswith(b"GET " + path + b" HTTP/1.1\r\n")


def test_crumbs_of_cookies_are_one_field() -> None:
    """RFC 9113 8.2.3."""
    fields = [*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")]
    assert request_head(fields, ended=True).raw.endswith(b"\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n")


def test_te_trailers_stays_here() -> None:
    """It concerns this hop."""
    assert b"te:" not in request_head([*GET, (b"te", b"trailers")], ended=True).raw


def test_host_alone_will_do() -> None:
    """And both, where they are the same."""
    assert b"\r\nHost: b\r\n" in request_head([*GET[:2], GET[3], (b"host", b"b")], ended=True).raw
    assert request_head([*GET, (b"host", b"Example.ORG")], ended=True).raw.count(b"xample") == 1


def without(name: bytes) -> Fields:
    return [pair for pair in GET if pair[0] != name]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ([*GET, (b"x", b"a\r\nb: c")], "8.2.1"),
        ([*GET, (b"x", b"a\nb")], "8.2.1"),
        ([*GET, (b"x", b"a\0b")], "8.2.1"),
        ([*GET, (b"x", b" a")], "8.2.1"),
        ([*GET, (b"x\r\ny", b"a")], "8.2.1"),
        ([*GET, (b"x: y", b"a")], "8.2.1"),
        ([*GET, (b"Accept", b"a")], "8.2.1"),
        ([*GET, (b"", b"a")], "8.2.1"),
        ([*GET, (b"connection", b"close")], "8.2.2"),
        ([*GET, (b"keep-alive", b"1")], "8.2.2"),
        ([*GET, (b"proxy-connection", b"close")], "8.2.2"),
        ([*GET, (b"transfer-encoding", b"chunked")], "8.2.2"),
        ([*GET, (b"upgrade", b"websocket")], "8.2.2"),
        ([*GET, (b"te", b"gzip")], "8.2.2"),
        ([*GET, (b"te", b"trailers, gzip")], "8.2.2"),
        ([*GET, (b":path", b"/b")], "8.3"),
        ([(b"x", b"y"), *GET], "8.3"),
        ([*GET, (b":status", b"200")], "8.3"),
        ([*GET, (b":protocol", b"websocket")], "8.3"),
        (without(b":method"), "8.3.1"),
        (without(b":scheme"), "8.3.1"),
        (without(b":path"), "8.3.1"),
        (without(b":authority"), "8.3.1"),
        ([*without(b":authority"), (b":authority", b"")], "8.3.1"),
        ([*GET, (b"host", b"evil.example")], "8.3.1"),
        ([*GET, (b"host", b"example.org"), (b"host", b"example.org")], "RFC 9112 3.2"),
        ([*without(b":method"), (b":method", b"GET /x HTTP/1.1\r\nHost:")], "8.2.1"),
        ([*without(b":path"), (b":path", b"")], "8.3.1"),
        ([*without(b":path"), (b":path", b"a")], "8.3.1"),
        ([*without(b":path"), (b":path", b"*")], "8.3.1"),
        ([*without(b":path"), (b":path", b"/ HTTP/1.1\r\nx: y")], "8.2.1"),
        ([*without(b":path"), (b":path", b"/a b")], "8.3.1"),
        ([*without(b":path"), (b":path", b"/a#b")], "8.3.1"),
        ([*without(b":path"), (b":path", b"/\xc3\xa9")], "8.3.1"),
        ([*without(b":path"), (b":path", b"http://example.org/")], "8.3.1"),
        ([*without(b":scheme"), (b":scheme", b"ftp")], "8.3.1"),
    ],
)
def test_malformed(fields: Fields, rule: str) -> None:
    """RFC 9113 8.1.1: an intermediary must not pass these on. CVE-2025-57804 and its like are among them."""
    with pytest.raises(WireError) as caught:
        request_head(fields, ended=True)
    assert rule in caught.value.section


def test_what_is_not_served() -> None:
    """CONNECT, and a length of content that is not there."""
    with pytest.raises(WireError) as caught:
        request_head([(b":method", b"CONNECT"), (b":authority", b"example.org:1")], ended=False)
    assert caught.value.fault is Fault.METHOD
    with pytest.raises(WireError) as caught:
        request_head([*GET, (b"content-length", b"3")], ended=True)
    assert caught.value.fault is Fault.FRAMING


@pytest.mark.parametrize("lengths", [[b"3", b"3"], [b"3", b"4"], [b"+3"], [b"3, 3"], [b"0x3"]])
def test_the_reader_refuses_other_lengths(lengths: list[bytes]) -> None:
    """Once, and digits only."""
    fields = [*GET, *((b"content-length", length) for length in lengths)]
    with pytest.raises(WireError) as caught:
        RequestReader(ReaderLimits()).feed(request_head(fields, ended=False).raw)
    assert caught.value.fault is Fault.FRAMING


def test_trailers() -> None:
    """As lines; no pseudo-header field is among them (RFC 9113 8.1)."""
    assert trailer_lines([(b"x", b"y"), (b"z", b"")]) == b"x: y\r\nz: \r\n"
    for field in ((b":path", b"/"), (b"X", b"y"), (b"x", b"y\r\nz: a"), (b"connection", b"close")):
        with pytest.raises(WireError):
            trailer_lines([field])
