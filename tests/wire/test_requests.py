"""Requests, form by form (HTTP.md 1.1 to 1.3: R-1 to R-41): what is served, what is refused and how, what goes on."""

from __future__ import annotations

import pytest

from sidecar.errors import Fault, WireError
from sidecar.exchange.replies import STATUS_OF_FAULT
from sidecar.wire.framing import CHUNKED
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import END, ReaderLimits, RequestReader
from wire.reading import LIMITS, octet_by_octet, read_requests, refused

HOST = b"Host: hs1.test\r\n"


def with_line(line: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n"


def with_start(line: bytes, host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"\r\n"


def with_chunks(chunks: bytes) -> bytes:
    return b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def with_length(value: bytes, body: bytes = b"") -> bytes:
    return b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length:" + value + b"\r\n\r\n" + body


# Requirement, status, octets.
REFUSED = [
    # lines end with CRLF only.
    ("R-1", 400, b"GET /x HTTP/1.1\nHost: hs1.test\n\n"),
    ("R-1", 400, b"GET /x HTTP/1.1\r\nHost: hs1.test\n\r\n"),
    ("R-1", 400, b"GET /x HTTP/1.1\nHost: hs1.test\r\n\r\n"),
    ("R-1", 400, with_line(b"X-A: b\n")),
    ("R-1", 400, with_line(b"X-A: b\nX-B: c")),
    # no bare CR.
    ("R-2", 400, with_line(b"X-A: a\rContent-Length: 5")),
    ("R-2", 400, with_line(b"X-A: a\r")),
    ("R-2", 400, with_line(b"\rX-A: a")),
    ("R-2", 400, b"GET /x HTTP/1.1\rHost: hs1.test\r\r"),
    ("R-2", 400, with_start(b"GET /x\r HTTP/1.1")),
    ("R-2", 400, with_start(b"GET /x HTTP/1.1\r")),
    # one empty line before a request, no more, and only CRLF.
    ("R-3", 400, b"\r\n\r\n" + with_line(b"X: y")),
    ("R-3", 400, b"\n" + with_line(b"X: y")),
    ("R-3", 400, b"\r" + with_line(b"X: y")),
    ("R-3", 400, b"\r\n" * 4000),
    # no request begins so.
    ("R-4", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("R-4", 400, b"\x00" * 8),
    ("R-4", 400, b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"),
    ("R-4", 400, b"\xff\xfeGET / HTTP/1.1\r\n\r\n"),
    ("R-4", 400, b" GET /x HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("R-4", 400, b"SSH-2.0-OpenSSH_9.2\r\n"),
    ("R-4", 400, b'{"jsonrpc":2}\n'),
    ("R-4", 400, b"PRI * HTTP/2.0\n"),
    # single blanks.
    ("R-5", 400, with_start(b"GET  /x HTTP/1.1")),
    ("R-5", 400, with_start(b"GET /x  HTTP/1.1")),
    ("R-5", 400, with_start(b"GET /x HTTP/1.1 ")),
    ("R-5", 400, with_start(b"GET /a b HTTP/1.1")),
    ("R-5", 400, with_start(b"GET\t/x\tHTTP/1.1")),
    ("R-5", 400, with_start(b"GET\x0b/x HTTP/1.1")),
    ("R-5", 400, with_start(b"GET/x HTTP/1.1")),
    ("R-5", 400, with_start(b"GET HTTP/1.1")),
    ("R-5", 400, with_start(b"GET")),
    # versions.
    ("R-6", 505, with_start(b"GET /x HTTP/2.0")),
    ("R-6", 505, with_start(b"GET /x HTTP/0.9")),
    ("R-6", 505, with_start(b"GET /x HTTP/1.2")),
    ("R-6", 505, with_start(b"GET /x HTTP/3.0")),
    ("R-6", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("R-6", 400, with_start(b"GET /x HTTP/1.10")),
    ("R-6", 400, with_start(b"GET /x HTTP/01.1")),
    ("R-6", 400, with_start(b"GET /x HTTP/1.")),
    ("R-6", 400, with_start(b"GET /x HTTP/1")),
    ("R-6", 400, with_start(b"GET /x http/1.1")),
    ("R-6", 400, with_start(b"GET /x HTTP/1.1x")),
    ("R-6", 400, with_start(b"GET /x HTTP/1.\xb9")),
    ("R-6", 400, with_start(b"GET /x HTTP 1.1")),
    ("R-6", 400, with_start(b"GET /x ICAP/1.0")),
    # no HTTP/0.9.
    ("R-7", 400, b"GET /x\r\n"),
    ("R-7", 400, b"GET /x\r\n\r\n"),
    # methods are tokens of at most 32 octets.
    ("R-8", 400, with_start(b"GE(T /x HTTP/1.1")),
    ("R-8", 400, with_start(b"GET\x00 /x HTTP/1.1")),
    ("R-8", 400, with_start(b"G\xcbT /x HTTP/1.1")),
    ("R-8", 400, with_start(b"M" * 33 + b" /x HTTP/1.1")),
    ("R-8", 400, b"M" * 20_000),
    # CONNECT and TRACE.
    ("R-9", 405, with_start(b"CONNECT hs1.test:443 HTTP/1.1")),
    ("R-9", 405, with_start(b"CONNECT hs1.test:443 HTTP/1.0")),
    ("R-9", 405, with_start(b"CONNECT /x HTTP/1.1")),
    ("R-9", 405, with_start(b"TRACE /x HTTP/1.1")),
    # forms of the target.
    ("R-10", 400, with_start(b"GET * HTTP/1.1")),
    ("R-10", 400, with_start(b"OPTIONS *x HTTP/1.1")),
    ("R-10", 400, with_start(b"GET hs1.test:443 HTTP/1.1")),
    ("R-10", 400, with_start(b"GET x/y HTTP/1.1")),
    ("R-10", 400, with_start(b"GET ?a HTTP/1.1")),
    ("R-10", 400, with_start(b"GET \\x HTTP/1.1")),
    # absolute-form.
    ("R-12", 400, with_start(b"GET http://evil.test/x HTTP/1.1")),
    ("R-12", 400, with_start(b"GET http://hs1.test:80/x HTTP/1.1")),
    ("R-12", 400, with_start(b"GET http://u:p@hs1.test/x HTTP/1.1")),
    ("R-12", 400, with_start(b"GET http:///x HTTP/1.1", b"Host:\r\n")),
    ("R-12", 400, with_start(b"GET ftp://hs1.test/x HTTP/1.1")),
    ("R-12", 400, with_start(b"GET http:/x HTTP/1.1")),
    ("R-12", 400, with_start(b"GET http://hs1.test\\x HTTP/1.1")),
    ("R-12", 400, with_start(b"GET http://hs1.test/x HTTP/1.1", b"X: y\r\n")),
    ("R-12", 400, with_start(b"GET http://hs1.test/x HTTP/1.0", b"X: y\r\n")),
    # octets that have no place in a target.
    ("R-13", 400, with_start(b"GET /a#/../../_synapse/admin HTTP/1.1")),
    ("R-13", 400, with_start(b"GET /a# HTTP/1.1")),
    ("R-14", 400, with_start(b"GET /\xc3\xa9 HTTP/1.1")),
    ("R-14", 400, with_start(b"GET /\x80 HTTP/1.1")),
    ("R-14", 400, with_start(b"GET /\x7f HTTP/1.1")),
    ("R-14", 400, with_start(b"GET /\x00 HTTP/1.1")),
    ("R-14", 400, with_start(b"GET /\x0b HTTP/1.1")),
    # limits.
    ("R-15", 414, with_start(b"GET /" + b"a" * LIMITS.target + b" HTTP/1.1")),
    ("R-15", 414, b"GET /" + b"a" * 70_000),
    ("R-15", 431, with_line(b"X: " + b"a" * LIMITS.head)),
    ("R-15", 431, with_line(b"X: y\r\n" * LIMITS.fields)),
    ("R-15", 431, b"GET /x HTTP/1.1\r\n" + b"X: y\r\n" * LIMITS.head),
    # field names.
    ("R-16", 400, with_line(b"Content-Length : 5")),
    ("R-16", 400, with_line(b"Content-Length\t: 5")),
    ("R-16", 400, with_line(b": v")),
    ("R-16", 400, with_line(b":")),
    ("R-16", 400, with_line(b"garbage")),
    ("R-16", 400, with_line(b"X A: v")),
    ("R-16", 400, with_line(b"X(A: v")),
    ("R-16", 400, with_line(b"X@A: v")),
    ("R-16", 400, with_line(b'"X": v')),
    ("R-16", 400, with_line(b"Content-Length\x85: 5")),
    ("R-16", 400, with_line(b"X\x00A: v")),
    ("R-16", 400, with_line(b"X\x7fA: v")),
    # folded lines.
    ("R-17", 400, with_line(b"X: a\r\n b")),
    ("R-17", 400, with_line(b"X: a\r\n\tb")),
    ("R-17", 400, with_line(b"X: a\r\n ")),
    ("R-17", 400, with_line(b"Transfer-Encoding:\r\n chunked")),
    ("R-17", 400, b"GET /x HTTP/1.1\r\n Host: hs1.test\r\n\r\n"),
    ("R-17", 400, b"GET /x HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n"),
    # control octets in values.
    *(
        ("R-18", 400, with_line(b"X: a" + bytes([octet]) + b"b"))
        for octet in [*range(9), *range(11, 32), 127]
        if octet != 13
    ),
    # Host.
    ("R-21", 400, b"GET /x HTTP/1.1\r\n\r\n"),
    ("R-21", 400, b"GET /x HTTP/1.1\r\nX: y\r\n\r\n"),
    ("R-21", 400, with_line(b"Host: hs1.test")),
    ("R-21", 400, with_line(b"host: evil")),
    ("R-21", 400, b"GET /x HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
    *(
        ("R-21", 400, with_start(b"GET /x HTTP/1.1", b"Host: " + value + b"\r\n"))
        for value in (
            b"a b",
            b"a,b",
            b"a/b",
            b"u@a",
            b"a:80x",
            b"a:-1",
            b"a:123456",
            b"[::1",
            b"::1",
            b"[x]",
            b"a\xff",
            b"a\x00",
        )
    ),
    # Content-Length is digits.
    *(
        ("R-22", 400, with_length(b" " + value, b"12345"))
        for value in (
            b"+5",
            b"-5",
            b"0x5",
            b"5 5",
            b"5,",
            b"",
            b"0_5",
            b"5\xa0",
            b"5.0",
            b"5e0",
            b"\xb2",
            b"5;",
            b'"5"',
        )
    ),
    ("R-22", 400, with_length(b" \x0b5", b"12345")),
    ("R-22", 400, with_length(b" 18446744073709551621", b"12345")),
    ("R-22", 400, with_length(b" " + b"1" * 4500)),
    # one Content-Length.
    ("R-23", 400, with_length(b" 5, 5", b"12345")),
    ("R-23", 400, with_length(b" 5,5", b"12345")),
    ("R-23", 400, with_length(b" 5\r\nContent-Length: 5", b"12345")),
    ("R-23", 400, with_length(b" 5\r\ncontent-length: 0", b"12345")),
    ("R-23", 400, with_length(b"\r\nContent-Length: 42")),
    # the only transfer coding is chunked, once, in HTTP/1.1.
    *(
        ("R-25", 501, with_line(b"Transfer-Encoding: " + value))
        for value in (
            *(b"identity", b"gzip", b"gzip, chunked", b"chunked, chunked", b",chunked", b"chunked,", b'"chunked"'),
            *(b"chunked;q=1", b"xchunked", b"chunke", b"", b"chunked\xa0", b"chunked, identity"),
        )
    ),
    ("R-25", 400, with_line(b"Transfer-Encoding: \x0bchunked")),
    ("R-25", 400, with_line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    ("R-25", 400, with_line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
    ("R-25", 400, b"POST /x HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # not both.
    ("R-26", 400, with_line(b"Content-Length: 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"),
    ("R-26", 400, with_line(b"Transfer-Encoding: chunked\r\nContent-Length: 5") + b"0\r\n\r\n"),
    ("R-26", 400, with_line(b"Transfer-Encoding: chunked\r\nContent-Length: 0") + b"0\r\n\r\n"),
    ("R-26", 400, with_line(b"Transfer-Encoding: chunked\r\nContent-Length: x") + b"0\r\n\r\n"),
    # what Connection must not name, and what is no option.
    *(
        ("R-27", 400, with_line(b"Connection: close, " + name))
        for name in (
            b"Content-Length",
            b"transfer-encoding",
            b"HOST",
            b"Authorization",
            b"X-Forwarded-For",
            b"Content-Type",
            b"Cookie",
        )
    ),
    ("R-27", 400, with_line(b"X: y\r\nConnection: x\r\nConnection: host")),
    ("R-27", 400, with_line(b"Connection: a b")),
    ("R-27", 400, with_line(b'Connection: "close"')),
    # chunk-size lines, and what stands behind the data.
    *(
        ("R-29", 400, with_chunks(line + b"\r\nhello\r\n0\r\n\r\n"))
        for line in (
            b"0x5",
            b"+5",
            b" 5",
            b"5 ",
            b"5\t",
            b"-5",
            b"",
            b"g",
            b"5.",
            b"0_5",
            b"\x0b5",
            b"5\x00",
            b"\xb5",
            b"5,5",
        )
    ),
    ("R-29", 400, with_chunks(b"5\nhello\r\n0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"5\rhello\r\n0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"5\r\r\nhello\r\n0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"5\r\nhelloXX0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"5\r\nhello\n0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"5\r\nhello\r0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"5\r\nhello0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"4\r\nhello\r\n0\r\n\r\n")),
    ("R-29", 400, with_chunks(b"10000000000000005\r\nhello")),
    ("R-29", 400, with_chunks(b"FFFFFFFFFFFFFFFFF\r\nhello")),
    ("R-29", 400, with_chunks(b"0" * 2000)),
    # extensions.
    ("R-30", 400, with_chunks(b"5;a\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"5;\r\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"2;\nxx\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"5 ;a\r\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"5;a b\r\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"5;a=\r\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b'5;a="b\r\nhello\r\n0\r\n\r\n')),
    ("R-30", 400, with_chunks(b'5;a="b\r\n"\r\nhello\r\n0\r\n\r\n')),
    ("R-30", 400, with_chunks(b"5;a\x00\r\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"5;a=" + b"b" * LIMITS.chunk_line + b"\r\nhello\r\n0\r\n\r\n")),
    ("R-30", 400, with_chunks(b"5;" + b"a" * 100_000)),
    ("R-30", 400, with_chunks(b"1;" + b"a" * 1000 + b"\r\nx\r\n") + (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 16),
    # trailers.
    ("R-31", 400, with_chunks(b"0\r\nGET /x HTTP/1.1\r\n\r\n")),
    ("R-31", 400, with_chunks(b"0\r\nX : v\r\n\r\n")),
    ("R-31", 400, with_chunks(b"0\r\nX: v\r\n folded\r\n\r\n")),
    ("R-31", 400, with_chunks(b"0\r\nX: v\n\r\n")),
    ("R-31", 400, with_chunks(b"0\r\nX: a\rb\r\n\r\n")),
    ("R-31", 400, with_chunks(b"0\r\nX: a\x00b\r\n\r\n")),
    ("R-31", 400, with_chunks(b"0\r\n: v\r\n\r\n")),
    ("R-31", 431, with_chunks(b"0\r\n" + b"X: y\r\n" * LIMITS.trailers)),
    ("R-31", 431, with_chunks(b"0\r\nX: " + b"y" * LIMITS.trailers)),
    # expectations.
    ("R-38", 417, with_line(b"Expect: 200-ok")),
    ("R-38", 417, with_line(b"Expect: 100-continue, x")),
    ("R-38", 417, with_line(b"Expect: 100-continue\r\nExpect: x")),
    # R-42 of requests: a response is no request.
    ("R-5", 400, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
]


@pytest.mark.parametrize(("requirement", "status", "stream"), REFUSED)
def test_a_malformed_request_is_refused_in_one_way_however_it_arrives(
    requirement: str, status: int, stream: bytes
) -> None:
    """Whole, octet by octet and with a tail: the same fault, and the status that the requirement names."""
    fault = refused(stream)
    assert fault is not None, requirement
    assert STATUS_OF_FAULT[fault] == status, requirement


# Requirement, what a client sends, what goes on (None: the same octets).
SERVED = [
    ("R-1", with_line(b"X: y"), None),
    ("R-1", b"GET /x HTTP/1.1\r\nHost:\r\n\r\n", None),
    ("R-3", b"\r\n" + with_line(b"X: y"), with_line(b"X: y")),
    ("R-3", with_length(b" 2", b"hi") + b"\r\n" + with_line(b"X: y"), with_length(b" 2", b"hi") + with_line(b"X: y")),
    ("R-6", b"GET /x HTTP/1.0\r\n\r\n", None),
    ("R-8", with_start(b"get /x HTTP/1.1"), None),
    ("R-8", with_start(b"M!#$%&'*+-.^_`|~09 /x HTTP/1.1"), None),
    ("R-8", with_start(b"M" * 32 + b" /x HTTP/1.1"), None),
    ("R-10", with_start(b"OPTIONS * HTTP/1.1"), None),
    # targets are not touched.
    *(
        ("R-11", with_start(b"GET " + target + b" HTTP/1.1"), None)
        for target in (
            *(
                b"/",
                b"//",
                b"//evil.test/x",
                b"/./a/../b",
                b"/%2e%2e/%2E",
                b"/a%2fb%2Fc",
                b"/;p",
                b"/?",
                b"/??",
                b"/?&&",
            ),
            *(b"/a+b", b"/%00", b"/%25", b"/%252f", b"/%41", b"/%zz", b"/%", b"/?a=http://b/", b"/:80", b"/http://x/"),
            *(
                b"/_matrix/client/v3/rooms/%21kQ:hs1.test/event/%24a%2fb",
                b"/rooms/!x:y/@z",
                b"/a//b/./c/%2E%2e/%2f;x?&&?",
            ),
        )
    ),
    # absolute-form is cut, not rebuilt.
    ("R-12", with_start(b"GET http://hs1.test//a/../%2e HTTP/1.1"), with_start(b"GET //a/../%2e HTTP/1.1")),
    ("R-12", with_start(b"GET HTTPS://HS1.test/x?y HTTP/1.1"), with_start(b"GET /x?y HTTP/1.1")),
    ("R-12", with_start(b"GET http://hs1.test HTTP/1.1"), with_start(b"GET / HTTP/1.1")),
    ("R-12", with_start(b"GET http://hs1.test?x=y HTTP/1.1"), with_start(b"GET /?x=y HTTP/1.1")),
    ("R-12", with_start(b"OPTIONS http://hs1.test HTTP/1.1"), with_start(b"OPTIONS * HTTP/1.1")),
    ("R-12", with_start(b"OPTIONS http://hs1.test/ HTTP/1.1"), with_start(b"OPTIONS / HTTP/1.1")),
    ("R-12", with_start(b"GET http://hs1.test/ HTTP/1.0"), with_start(b"GET / HTTP/1.0")),
    (
        "R-12",
        with_start(b"GET http://[::1]:8008/x HTTP/1.1", b"Host: [::1]:8008\r\n"),
        with_start(b"GET /x HTTP/1.1", b"Host: [::1]:8008\r\n"),
    ),
    ("R-14", with_start(b'GET /"<>\\^`{|}?f={"a":1} HTTP/1.1'), None),
    ("R-15", with_start(b"GET /" + b"a" * 7999 + b" HTTP/1.1"), None),
    ("R-15", with_start(b"M" * 32 + b" /" + b"a" * (LIMITS.target - 1) + b" HTTP/1.1"), None),
    ("R-15", with_line(b"X: " + b"a" * (LIMITS.head - len(with_line(b"X: ")))), None),
    ("R-15", with_line(b"X: y\r\n" * (LIMITS.fields - 2) + b"X: z"), None),
    # fields are not touched.
    ("R-16", with_line(b"X:\r\nY: \r\nZ:  a \t b \t"), None),
    ("R-18", with_line(b"X: \xa0v\x85\t\xff"), None),
    ("R-19", with_line(b"X-Multi: one\r\nx-Other:o\r\nX-Multi: two\r\nX_Under: 1"), None),
    ("R-20", with_line(b'Authorization: X-Matrix ,,origin="a,b",,\r\nAuthorization: X-Matrix key="b"'), None),
    *(
        ("R-21", with_start(b"GET /x HTTP/1.1", b"hOST:" + value + b"\r\n"), None)
        for value in (
            b"a",
            b" a ",
            b"a:80",
            b"a:",
            b"1.2.3.4:65535",
            b"[::1]",
            b"[2001:db8::1]:80",
            b"xn--a.b_c",
            b"a%20",
            b"",
        )
    ),
    ("R-21", b"GET /x HTTP/1.0\r\nX: y\r\n\r\n", None),
    # lengths are decimal and go on in canonical form.
    ("R-24", with_length(b" 5", b"12345"), None),
    ("R-24", with_length(b"5 \t", b"12345"), None),
    ("R-24", with_length(b" 0"), None),
    ("R-24", with_length(b" 010", b"1234567890"), with_length(b" 10", b"1234567890")),
    ("R-24", with_length(b" 00"), with_length(b" 0")),
    ("R-25", with_chunks(b"0\r\n\r\n"), None),
    ("R-25", with_chunks(b"0\r\n\r\n").replace(b"chunked", b"CHUNKED"), with_chunks(b"0\r\n\r\n")),
    # no method decides about a body.
    *(
        (
            "R-28",
            with_start(method + b" /x HTTP/1.1", HOST + b"Content-Length: 19\r\n") + b"GET / HTTP/1.1\r\n\r\n\n",
            None,
        )
        for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"XYZ")
    ),
    *(("R-28", with_start(method + b" /x HTTP/1.1"), None) for method in (b"POST", b"PUT", b"PATCH")),
    # chunks, and what is cut from them.
    ("R-29", with_chunks(b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"), None),
    ("R-29", with_chunks(b"0005\r\nhello\r\n000\r\n\r\n"), with_chunks(b"5\r\nhello\r\n0\r\n\r\n")),
    ("R-29", with_chunks(b"0" * 1000 + b"5\r\nhello\r\n0\r\n\r\n"), with_chunks(b"5\r\nhello\r\n0\r\n\r\n")),
    ("R-29", with_chunks(b"2\r\n\r\n\r\n0\r\n\r\n"), None),
    ("R-30", with_chunks(b'5;a="x;y\\"z"\r\nhello\r\n0;b;c=d\r\n\r\n'), with_chunks(b"5\r\nhello\r\n0\r\n\r\n")),
    ("R-30", with_chunks(b'5;a="\x80\t"\r\nhello\r\n0\r\n\r\n'), with_chunks(b"5\r\nhello\r\n0\r\n\r\n")),
    (
        "R-30",
        with_chunks(b"5;" + b"a" * (LIMITS.chunk_line - 2) + b"\r\nhello\r\n0\r\n\r\n"),
        with_chunks(b"5\r\nhello\r\n0\r\n\r\n"),
    ),
    # trailers that nobody could mistake for framing or routing go on.
    ("R-31", with_chunks(b"0\r\nX-Checksum: 1\r\nexpires:0\r\n\r\n"), None),
    ("R-31", with_chunks(b"0\r\nContent-Length: 99\r\n\r\n"), with_chunks(b"0\r\n\r\n")),
    (
        "R-31",
        with_chunks(b"0\r\nA: b\r\nHOST: evil\r\ntransfer-encoding: x\r\nC:\r\n\r\n"),
        with_chunks(b"0\r\nA: b\r\nC:\r\n\r\n"),
    ),
    ("R-31", with_chunks(b"0\r\nX: " + b"y" * (LIMITS.trailers - 5) + b"\r\n\r\n"), None),
    # fields of this hop, and what Connection names.
    (
        "R-35",
        with_line(b"Connection: keep-alive\r\nKeep-Alive: 5\r\nX: y\r\nProxy-Connection: x\r\nTE: trailers"),
        with_line(b"X: y"),
    ),
    (
        "R-35",
        with_line(b"X: y\r\nx-HOP: 1\r\nConnection: X-hop , ,\r\nX-Hop:\r\nX-Hopper: 2"),
        with_line(b"X: y\r\nX-Hopper: 2"),
    ),
    ("R-35", with_line(b"X-Hop: 1\r\nConnection: close\r\nX: y\r\nCONNECTION:x-hop"), with_line(b"X: y")),
    ("R-35", with_line(b"Proxy-Authorization: Basic x\r\nX: y"), with_line(b"X: y")),
    ("R-35", b"GET /x HTTP/1.0\r\nConnection: keep-alive, x-a\r\nX-A: b\r\n\r\n", b"GET /x HTTP/1.0\r\n\r\n"),
    # an upgrade is offered alone or not at all; never HTTP/2.
    (
        "R-36",
        with_line(b"Connection: keep-alive, Upgrade\r\nUPGRADE: websocket\r\nX: y"),
        with_line(b"X: y\r\nConnection: Upgrade\r\nUpgrade: websocket"),
    ),
    ("R-36", with_line(b"Upgrade: websocket\r\nX: y"), with_line(b"X: y")),
    ("R-36", with_line(b"Connection: Upgrade\r\nX: y"), with_line(b"X: y")),
    ("R-36", with_line(b"Connection: Upgrade\r\nX: y\r\nUpgrade:"), with_line(b"X: y")),
    ("R-36", with_line(b"Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b\r\nX: y"), with_line(b"X: y")),
    ("R-36", with_line(b"Connection: Upgrade\r\nX: y\r\nUpgrade: websocket, H2C"), with_line(b"X: y")),
    (
        "R-36",
        with_line(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\nX: y"),
        with_line(b"X: y"),
    ),
    ("R-36", with_line(b"Connection: Upgrade\r\nUpgrade: websocket\r\nHTTP2-Settings: A\r\nX: y"), with_line(b"X: y")),
    ("R-36", b"GET /x HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"GET /x HTTP/1.0\r\n\r\n"),
    # the expectation goes on; HTTP/1.0 has none.
    ("R-38", with_line(b"Expect: 100-Continue"), None),
    ("R-38", b"PUT /x HTTP/1.0\r\nExpect: 100-continue\r\nX: y\r\n\r\n", b"PUT /x HTTP/1.0\r\nX: y\r\n\r\n"),
    ("R-38", b"PUT /x HTTP/1.0\r\nExpect: anything\r\n\r\n", b"PUT /x HTTP/1.0\r\n\r\n"),
    # what a client says of itself is cut; what is true is added.
    (
        "R-77",
        with_line(b"X-Forwarded-For: 1.2.3.4\r\nX: y\r\nx-forwarded-for:5\r\nX-FORWARDED-PROTO: https"),
        with_line(b"X: y"),
    ),
]


@pytest.mark.parametrize(("requirement", "stream", "expected"), SERVED)
def test_a_good_request_goes_on_as_it_came(requirement: str, stream: bytes, expected: bytes | None) -> None:
    """Octet for octet but for the declared edits, however it arrives."""
    whole = read_requests([stream])
    assert whole.fault is None, requirement
    assert whole.passed_on == (stream if expected is None else expected), requirement
    assert all(message.ended for message in whole.messages)
    assert read_requests(octet_by_octet(stream)) == whole


@pytest.mark.parametrize(
    "octet",
    sorted(
        set(range(256))
        - set(b"!#$%&'*+-.^_`|~\r")
        - set(range(0x30, 0x3A))
        - set(range(0x41, 0x5B))
        - set(range(0x61, 0x7B))
    ),
)
def test_an_octet_that_begins_no_request_is_refused_at_once(octet: int) -> None:
    """R-4: nobody waits for the end of its line."""
    reader = RequestReader(LIMITS)
    with pytest.raises(WireError) as refusal:
        reader.feed(bytes([octet]))
    assert refusal.value.fault is Fault.SYNTAX


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET  ",
        b"GET\t",
        b"GE(",
        b"GET /a b",
        b"GET /a#",
        b"GET /\x80",
        b"GET /x HTTP/1.10",
        b"M" * 33,
        b"\r\n\r",
        b"\rG",
        b"GET / HTTP/1.1\n",
    ],
)
def test_a_request_line_that_can_no_longer_become_good_is_refused_at_once(beginning: bytes) -> None:
    """R-5: what cannot end well is not waited for."""
    assert read_requests([beginning]).fault is Fault.SYNTAX


@pytest.mark.parametrize("octets", [b"0x", b"5 ", b"10000000000000005", b"5\n", b"5\rx", b"\r", b"5;a\x00"])
def test_a_chunk_size_line_that_can_no_longer_become_good_is_refused_at_once(octets: bytes) -> None:
    """R-29: an overlong size is not waited for."""
    expected = None if octets == b"\r" else Fault.FRAMING
    assert read_requests([with_chunks(octets)]).fault is expected


def test_a_refused_request_lets_nothing_be_read_after_it() -> None:
    """R-34: the first is served, the second refused, and the third is never seen."""
    stream = with_line(b"A: 1") + with_line(b"bad") + with_line(b"A: 3")
    reading = read_requests([stream])
    assert [message.passed_on for message in reading.messages] == [with_line(b"A: 1")]
    assert reading.fault is Fault.SYNTAX


def test_a_request_in_a_body_is_content() -> None:
    """R-28: CL.0 and 0.CL: what is framed as content never becomes a request."""
    canary = with_start(b"GET /canary HTTP/1.1")
    reading = read_requests([with_length(b" %d" % len(canary), canary) + with_line(b"X: y")])
    assert [message.head.target for message in reading.messages] == [b"/x", b"/x"]
    assert reading.messages[0].body == canary


@pytest.mark.parametrize(
    "cut",
    [
        with_length(b" 50", b"12345"),
        with_chunks(b"5\r\nhel"),
        with_chunks(b"0\r\n"),
        with_chunks(b"0\r\n\r"),
        with_chunks(b"0\r\nX: y\r\n"),
    ],
)
def test_a_body_that_is_cut_never_ends(cut: bytes) -> None:
    """R-33: no end, and no last chunk, until the last octet is there."""
    (message,) = read_requests(octet_by_octet(cut)).messages
    assert not message.ended
    assert not message.body.endswith(b"0\r\n\r\n")
    assert b"0\r\n" not in message.body


@pytest.mark.parametrize(
    ("stream", "persistent"),
    [
        (with_line(b"X: y"), True),
        (with_line(b"Connection: keep-alive"), True),
        (with_line(b"Connection: close"), False),
        (with_line(b"Connection: Keep-Alive,CLOSE"), False),
        (with_line(b"Connection: x\r\nX: y\r\nconnection:close"), False),
        (with_line(b"Connection: closed"), True),
        (b"GET /x HTTP/1.0\r\n\r\n", False),
        (b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_the_client_decides_whether_its_connection_goes_on(stream: bytes, *, persistent: bool) -> None:
    """RFC 9112 9.3: `close` in any line, any case, any place; HTTP/1.0 always closes."""
    assert RequestHead(stream).persistent is persistent


def test_what_is_added_stands_behind_the_lines_of_the_client() -> None:
    """R-77: one block of our own lines, before the empty line."""
    head = RequestHead(with_line(b"X: y"))
    assert head.passed_on(b"X-Forwarded-For: 1.2.3.4\r\n") == with_line(b"X: y\r\nX-Forwarded-For: 1.2.3.4")


def test_a_reader_tells_what_it_waits_for() -> None:
    """R-76: an idle connection, a head that has begun, a body, and a request that is complete, are told apart."""
    reader = RequestReader(LIMITS)
    states = []
    for octets in (
        b"",
        b"\r",
        b"\n",
        b"POST /x HTTP/1.1\r\n" + HOST,
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello",
        b"\r\n0\r\n\r\n",
        b"GET",
    ):
        reader.feed(octets)
        states.append((reader.in_head, reader.ended, reader.content, reader.buffered))
    assert states == [
        (False, False, 0, 0),
        (True, False, 0, 1),
        (True, False, 0, 0),
        (True, False, 0, 18 + len(HOST)),
        (False, False, 0, 0),
        (False, False, 5, 0),
        (False, True, 5, 0),
        (False, True, 5, 3),
    ]
    assert reader.next_message() == []
    assert (reader.in_head, reader.content) == (True, 0)


def test_what_follows_a_request_belongs_to_a_tunnel_if_one_takes_over() -> None:
    """R-36: octets behind the request are kept apart until it is known what they are."""
    reader = RequestReader(LIMITS)
    reader.feed(with_line(b"Connection: Upgrade\r\nUpgrade: x") + b"\x00\x01")
    reader.feed(b"\x02")
    assert reader.take_buffered() == b"\x00\x01\x02"
    assert reader.buffered == 0


@pytest.mark.parametrize("length", [1, 5, CHUNKED])
def test_a_body_that_comes_with_its_head_and_one_that_does_not_are_the_same(length: int) -> None:
    """The reader hands on a head before it knows of any content."""
    stream = (
        with_chunks(b"5\r\nhello\r\n0\r\n\r\n")
        if length == CHUNKED
        else with_length(b" %d" % length, b"hello"[:length])
    )
    at = stream.index(b"\r\n\r\n") + 4
    assert read_requests([stream[:at], stream[at:]]) == read_requests([stream])


def test_limits_of_bytes_are_exact() -> None:
    """R-15: what just fits is served, one octet more is refused, in any segmentation."""
    limits = ReaderLimits(head=200, target=20, fields=3, chunk_line=8, chunk_extensions=6, trailers=10)
    for stream, fault in [
        (with_start(b"GET /" + b"a" * 19 + b" HTTP/1.1"), None),
        (with_start(b"M" * 32 + b" /" + b"a" * 19 + b" HTTP/1.1"), None),
        (with_start(b"GET /" + b"a" * 20 + b" HTTP/1.1"), Fault.TARGET_TOO_LONG),
        (with_start(b"GET /" + b"a" * 150 + b" HTTP/1.1"), Fault.TARGET_TOO_LONG),
        (with_line(b"X: " + b"a" * (200 - len(with_line(b"X: ")))), None),
        (with_line(b"X: " + b"a" * (201 - len(with_line(b"X: ")))), Fault.HEAD_TOO_LARGE),
        (with_line(b"A:\r\nB:"), None),
        (with_line(b"A:\r\nB:\r\nC:"), Fault.HEAD_TOO_LARGE),
        (with_chunks(b"00000005\r\nhello\r\n0\r\n\r\n"), None),
        (with_chunks(b"000000005\r\nhello\r\n0\r\n\r\n"), Fault.FRAMING),
        (with_chunks(b"1;aa\r\nx\r\n1;aa\r\nx\r\n0\r\n\r\n"), None),
        (with_chunks(b"1;aa\r\nx\r\n1;aa\r\nx\r\n0;a\r\n\r\n"), Fault.FRAMING),
        (with_chunks(b"0\r\nA: 45\r\nB:\r\n\r\n"), Fault.HEAD_TOO_LARGE),
        (with_chunks(b"0\r\nA: 45678\r\n\r\n"), None),
        (with_chunks(b"0\r\nA: 456789\r\n\r\n"), Fault.HEAD_TOO_LARGE),
    ]:
        for segments in ([stream], octet_by_octet(stream)):
            reading = read_requests(segments, limits)
            assert reading.fault is fault, stream
            assert bool(reading.complete) is (fault is None), stream


def test_octets_that_go_past_the_reader_are_counted() -> None:
    """A body with Content-Length may be spliced; the reader is told, and ends where the body ends."""
    reader = RequestReader(LIMITS)
    reader.feed(with_length(b" 10", b"abc"))
    assert (reader.body_left, reader.ended) == (7, False)
    assert not reader.skip(4)
    assert reader.feed(b"xy") == [b"xy"]
    assert reader.skip(1)
    assert (reader.body_left, reader.ended, reader.in_head) == (0, True, False)
    assert reader.next_message() == []
    assert len(reader.feed(with_line(b"X: y"))) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: a, b, c, d\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n",
        b"GET /a HTTP/1.1\r\nA: b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10 + b"\r\n",
        b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"TRACE /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nG",
        b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n",
    ],
)
def test_what_is_seen_as_a_whole_is_what_is_read(raw: bytes) -> None:
    """A request that comes all at once is judged as if it had been read piece by piece, or is not seen as one."""
    limits = ReaderLimits(target=64, fields=8, options=3)
    short, long = RequestReader(limits), RequestReader(limits)
    head = short.whole(raw)
    try:
        events = list(long.feed(raw))
    except WireError:
        assert head is None
        return
    if head is None:
        assert [type(event) for event in short.feed(raw)] == [type(event) for event in events]
        return
    first, last = events
    assert isinstance(first, RequestHead)
    assert last is END
    assert head.passed_on(b"F: x\r\n") == first.passed_on(b"F: x\r\n")
    for name in ("method", "target", "origin", "http11", "persistent", "upgrade", "length"):
        assert getattr(head, name) == getattr(first, name), name
    assert short.ended
    assert not short.buffered


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "connection", "content-encoding", "content-length", "content-range", "content-type"),
        *("cookie", "expect", "host", "keep-alive", "max-forwards", "proxy-authorization", "proxy-connection"),
        *("set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-for"),
        *("x-forwarded-proto", "x-request-id", "cache-control", "range"),
    ],
)
def test_fields_that_no_trailer_may_have(name: str) -> None:
    """R-31: whoever merges it into the head would act on it (RFC 9110 6.5.1), so it does not go on."""
    lines = b"%s: 1\r\nx-%s: 1\r\n" % (name.encode(), name.encode())
    (message,) = read_requests([with_chunks(b"0\r\n" + lines + b"\r\n")]).messages
    assert message.body == b"0\r\nx-%s: 1\r\n\r\n" % name.encode()


def test_a_head_is_refused_with_the_first_octet_beyond_its_limit() -> None:
    """Not with the last one that may come, and not later."""
    head = b"GET /x HTTP/1.1\r\n" + HOST + b"X-A: "
    limits = ReaderLimits(head=len(head) + 10)
    reader = RequestReader(limits)
    assert list(reader.feed(head + b"a" * 10)) == []
    with pytest.raises(WireError) as raised:
        reader.feed(b"a")
    assert raised.value.fault is Fault.HEAD_TOO_LARGE
