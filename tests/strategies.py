"""Messages for property tests: well-formed ones, as text that can be spoilt, and ways to cut octets into pieces."""

from __future__ import annotations

from hypothesis import strategies as st

TCHARS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
FIELD_TEXT = "\t " + VISIBLE + "".join(map(chr, range(0x80, 0x100)))

CRLF = b"\r\n"


def octets(alphabet: str, minimum: int = 0, maximum: int = 20) -> st.SearchStrategy[bytes]:
    """Octets of `alphabet`: drawn as any octets, which is much cheaper than one by one, and then translated."""
    table = bytes(ord(alphabet[octet % len(alphabet)]) for octet in range(256))
    return st.binary(min_size=minimum, max_size=maximum).map(lambda drawn: drawn.translate(table))


TOKENS = octets(TCHARS, 1, 12)
TARGETS = octets(VISIBLE.replace("#", ""), 0, 40).map(lambda rest: b"/" + rest)
FIELD_VALUES = octets(FIELD_TEXT, 0, 24)
BLANKS = octets(" \t", 0, 3)

# Names that mean something to us, so that they meet each other often enough, in any spelling.
_KNOWN_NAMES = st.sampled_from(
    [
        b"Authorization",
        b"Content-Type",
        b"Cookie",
        b"Date",
        b"ETag",
        b"Set-Cookie",
        b"X_Under",
        b"Accept",
        b"X-A",
        b"X-B",
    ]
)
FIELD_NAMES = st.one_of(_KNOWN_NAMES, _KNOWN_NAMES.map(bytes.upper), TOKENS.map(lambda name: b"x-" + name))

END_TO_END_LINES = st.builds(b"%b:%b%b".__mod__, st.tuples(FIELD_NAMES, BLANKS, FIELD_VALUES))
HOP_BY_HOP_LINES = st.sampled_from(
    [
        b"Connection: keep-alive",
        b"connection:x-b",
        b"CONNECTION: close , keep-alive",
        b"Connection: ,, X-A,",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Upgrade: websocket",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
    ]
)

CONTENTS = st.binary(max_size=64)

_EXTENSIONS = st.one_of(
    st.just(b""),
    st.builds(b";%b".__mod__, TOKENS),
    st.builds(b";%b=%b".__mod__, st.tuples(TOKENS, TOKENS)),
    st.builds(b';%b="%b"'.__mod__, st.tuples(TOKENS, octets("\t !#[]~;,=\x80\xff" + "abc", 0, 8))),
    st.just(rb';a="x;y\"z"'),
)
TRAILER_LINES = st.one_of(END_TO_END_LINES, st.sampled_from([b"Content-Length: 99", b"Host: evil", b"Expires: 0"]))


@st.composite
def chunked_bodies(draw: st.DrawFn, *, canonical: bool = False) -> tuple[bytes, bytes]:
    """A chunked body as octets, and its content. `canonical`: in the only form that is passed on."""
    body = b""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    for chunk in chunks:
        size = draw(st.sampled_from([b"%x", b"%X"])) % len(chunk)
        if not canonical:
            size = draw(st.sampled_from([b"", b"0", b"000"])) + size + draw(_EXTENSIONS)
        body += size + CRLF + chunk + CRLF
    if canonical:
        return body + b"0\r\n\r\n", b"".join(chunks)
    trailers = b"".join(line + CRLF for line in draw(st.lists(TRAILER_LINES, max_size=3)))
    return body + draw(st.sampled_from([b"0", b"00"])) + draw(_EXTENSIONS) + CRLF + trailers + CRLF, b"".join(chunks)


@st.composite
def framed(draw: st.DrawFn, *, canonical: bool = False) -> tuple[list[bytes], bytes, bytes]:
    """Field lines that frame a body, the body as octets, and its content."""
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    if kind == "none":
        return [], b"", b""
    if kind == "chunked":
        body, content = draw(chunked_bodies(canonical=canonical))
        value = b"chunked" if canonical else draw(st.sampled_from([b"chunked", b"Chunked", b"CHUNKED"]))
        return [draw(st.sampled_from([b"Transfer-Encoding: ", b"transfer-encoding:"])) + value], body, content
    content = draw(CONTENTS)
    zeros = b"" if canonical else draw(st.sampled_from([b"", b"0", b"000"]))
    return (
        [draw(st.sampled_from([b"Content-Length: ", b"CONTENT-LENGTH:\t"])) + zeros + b"%d" % len(content)],
        content,
        content,
    )


@st.composite
def requests(draw: st.DrawFn, *, canonical: bool = False) -> tuple[bytes, bytes]:
    """A request that is served, as octets, and its content. `canonical`: without lines of this hop."""
    framing, body, content = draw(framed(canonical=canonical))
    lines = [draw(st.sampled_from([b"Host: hs1.test", b"host:[::1]:8008", b"HOST: a.b:80 "])), *framing]
    lines += draw(st.lists(END_TO_END_LINES, max_size=4))
    if not canonical:
        lines += draw(st.lists(HOP_BY_HOP_LINES, max_size=2))
    lines = draw(st.permutations(lines))
    method = draw(
        st.one_of(st.sampled_from([b"GET", b"PUT", b"POST", b"HEAD"]), TOKENS.map(lambda token: b"M" + token))
    )
    return method + b" " + draw(TARGETS) + b" HTTP/1.1\r\n" + b"".join(
        line + CRLF for line in lines
    ) + CRLF + body, content


@st.composite
def responses(draw: st.DrawFn, *, canonical: bool = False) -> tuple[bytes, bytes]:
    """A response to GET with a length or chunks, as octets, and its content."""
    framing, body, content = draw(framed(canonical=canonical).filter(lambda case: bool(case[0])))
    lines = framing + draw(st.lists(END_TO_END_LINES, max_size=4))
    if not canonical:
        lines += draw(st.lists(HOP_BY_HOP_LINES, max_size=2))
    lines = draw(st.permutations(lines))
    status = draw(st.integers(200, 999).filter(lambda code: code not in (204, 304)))
    start = b"HTTP/1.1 %d " % status + draw(FIELD_VALUES)
    return start + CRLF + b"".join(line + CRLF for line in lines) + CRLF + body, content


@st.composite
def pieces(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """`stream` cut at any places."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=6)))
    return [piece for piece in map(lambda a, b: stream[a:b], [0, *cuts], [*cuts, len(stream)]) if piece]


# What turns a good message into another one, or into none.
_SPOILERS = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b":", b",", b";", b'"', b"#", b"0", b"1", b"\xa0"),
        *(b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: gzip, chunked", b"\r\nContent-Length: 5"),
        *(b"\r\nContent-Length: 0", b"\r\nHost: evil", b"\r\n folded", b"\r\nConnection: host", b"\r\nExpect: x"),
    ]
)


@st.composite
def spoilt(draw: st.DrawFn, messages: st.SearchStrategy[tuple[bytes, bytes]]) -> bytes:
    """Well-formed messages with one to three places changed, mostly near line ends, where parsers differ."""
    stream = draw(messages)[0]
    for _ in range(draw(st.integers(1, 3))):
        ends = [at for at in range(len(stream)) if stream[at] in b"\r\n: ;"] or [0]
        at = draw(st.one_of(st.sampled_from(ends), st.integers(0, len(stream))))
        removed = draw(st.integers(0, 2))
        stream = stream[:at] + draw(st.one_of(_SPOILERS, st.just(b""))) + stream[at + removed :]
    return stream
