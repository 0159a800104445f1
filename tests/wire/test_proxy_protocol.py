"""The PROXY protocol, against a second reader written from its specification, against Twisted's, and octet by octet."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

from sidecar.errors import WireError
from sidecar.wire.proxy_protocol import FIXED_PART, LONGEST_LINE, ProxyHeader, read_proxy_header

LIMIT = 2048
SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
REFUSED = "refused"


def read(octets: bytes, limit: int = LIMIT) -> ProxyHeader | str | None:
    try:
        return read_proxy_header(octets, limit)
    except WireError:
        return REFUSED


def binary(content: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack(">BBH", command, family, len(content) if length is None else length) + content


def vector(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


# The model: the words of the specification one after another, for octets that are all there.


def model(octets: bytes, limit: int) -> ProxyHeader | str:
    if octets.startswith(SIGNATURE):
        return model_of_version_2(octets, limit)
    end = octets[:107].find(b"\r\n")
    return REFUSED if end < 0 else model_of_version_1(octets[:end], end + 2)


def model_of_version_1(line: bytes, size: int) -> ProxyHeader | str:
    words = line.split(b" ")
    if words[0] != b"PROXY" or b"\r" in line or b"\n" in line or len(words) < 2:
        return REFUSED
    if words[1] == b"UNKNOWN":
        return ProxyHeader(None, size)
    family = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}.get(words[1])
    if family is None or len(words) != 6:
        return REFUSED
    for port in words[4:]:
        if not (port.isdigit() and str(int(port)).encode() == port and int(port) < 65536):
            return REFUSED
    try:
        packed = [socket.inet_pton(family, word.decode("ascii")) for word in words[2:4]]
    except (OSError, ValueError):
        return REFUSED
    return ProxyHeader(in_text(packed[0]), size)


def model_of_version_2(octets: bytes, limit: int) -> ProxyHeader | str:
    if len(octets) < 16:
        return REFUSED
    command, family, length = octets[12], octets[13], octets[14] * 256 + octets[15]
    content = octets[16 : 16 + length]
    if command not in (0x20, 0x21) or length > limit or len(content) < length:
        return REFUSED
    if command == 0x20 or family == 0:
        return ProxyHeader(None, 16 + length)
    width = {0x11: 4, 0x21: 16, 0x31: 108}.get(family)
    if width is None:
        return REFUSED
    addresses = 216 if family == 0x31 else 2 * width + 4
    rest = content[addresses:]
    if len(content) < addresses:
        return REFUSED
    while rest:
        if len(rest) < 3 or len(rest) < 3 + rest[1] * 256 + rest[2]:
            return REFUSED
        rest = rest[3 + rest[1] * 256 + rest[2] :]
    return ProxyHeader(None if family == 0x31 else in_text(content[:width]), 16 + length)


def in_text(packed: bytes) -> str:
    address = ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


# What comes.

PORTS = st.integers(0, 65535)
V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6) | st.sampled_from([IPv6Address("::"), IPv6Address("::1"), IPv6Address("::ffff:192.0.2.1")])
PAIRS = st.tuples(V4, V4) | st.tuples(V6, V6)
VECTORS = st.lists(st.builds(vector, st.integers(0, 255), st.binary(max_size=40)), max_size=4).map(b"".join)


SPELLINGS: list[Callable[[Any], str]] = [str, lambda one: str(one.exploded), lambda one: str(one).upper()]


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    source, target = draw(PAIRS)
    family = 4 if isinstance(source, IPv4Address) else 6
    spell: Callable[[Any], str] = draw(st.sampled_from(SPELLINGS))
    return f"PROXY TCP{family} {spell(source)} {spell(target)} {draw(PORTS)} {draw(PORTS)}\r\n".encode()


@st.composite
def binaries(draw: st.DrawFn) -> bytes:
    source, target = draw(PAIRS)
    addresses = source.packed + target.packed + struct.pack(">HH", draw(PORTS), draw(PORTS))
    family = 0x11 if isinstance(source, IPv4Address) else 0x21
    return binary(addresses + draw(VECTORS), family=family)


OTHERS = st.sampled_from(
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n",
        binary(b"", command=0x20, family=0),
        binary(b"\xff" * 7, command=0x20, family=0xFF),
        binary(b"\xff" * 7, family=0),
        binary(b"\0" * 216 + vector(4, b"x"), family=0x31),
    ]
)
HEADERS = lines() | binaries() | OTHERS


PUT = st.sampled_from([b"\r", b"\n", b" ", b"0", b":", b"::", b"256", b"UNKNOWN", b"%1"])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A header with some octets replaced, cut out or put in."""
    octets = bytearray(draw(HEADERS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(octets)))
        cut = draw(st.integers(0, 2))
        put = draw(
            st.binary(max_size=2) | st.sampled_from([b"\r", b"\n", b" ", b"0", b":", b"::", b"256", b"UNKNOWN", b"%1"])
        )
        octets[at : at + cut] = put
    return bytes(octets)


BEHIND = st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\r\n"])
STREAMS = st.builds(bytes.__add__, HEADERS | spoilt() | st.binary(max_size=40), BEHIND)
KNOWN = [
    b"P",
    b"PROXY",
    b"PROXY \r\n",
    b"PROXY  UNKNOWN\r\n",
    b"PROXY UNKNOWN \r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN\n\r\n",
    b"PROXY UNKNOWN \r \r\n",
    b"PROXY UNKNOWN \n \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 -1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 01 1\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2 1 1\r\n",
    b"PROXY TCP4 ::1 ::1 1 1\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1 1\r\n",
    b"PROXY TCP6 ::1 ::g 1 1\r\n",
    b"PROXY TCP6 ::1%1 ::1 1 1\r\n",
    b"PROXY TCP6 ::1 1:2 1 1\r\n",
    b"PROXY TCP6 1.2.3.4:80 ::1 1 1\r\n",
    b"PROXY TCP6 00000::1 ::1 1 1\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 1 1\r\n",
    b"proxy TCP4 192.0.2.1 192.0.2.2 1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1\n",
    SIGNATURE + b"\x21",
    binary(b"\0" * 11),
    binary(b"\0" * 12 + b"\x04\x00"),
    binary(b"\0" * 12 + b"\x04\x00\x01"),
    binary(b"\0" * 12 + b"\x04\x00\x01x"),
    binary(b"\0" * 12, command=0x22),
    binary(b"\0" * 12, command=0x11),
    binary(b"\0" * 12, family=0x12),
    binary(b"\0" * 12, family=0x10),
    binary(b"\0" * 12, family=0x01),
    binary(b"\0" * 35, family=0x21),
    binary(b"\0" * 215, family=0x31),
    binary(b"", length=LIMIT + 1),
    SIGNATURE[:-1] + b"\x0b",
    b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01",
]


Test = TypeVar("Test", bound=Callable[..., Any])


def with_known(test: Test) -> Test:
    for stream in KNOWN:
        test = example(stream)(test)
    return test


@with_known
@given(STREAMS)
def test_any_octets_are_read_as_the_model_reads_them(stream: bytes) -> None:
    """Total; and what is complete is the same header, or refused, in both."""
    found = read(stream)
    # What is not complete the model, which sees the end of the stream, refuses.
    assert model(stream, LIMIT) == (REFUSED if found is None else found)


@with_known
@given(STREAMS)
def test_segments_change_nothing(stream: bytes) -> None:
    """A header is the same however it arrives; what is refused is never taken with more octets, and the reverse."""
    whole = read(stream)
    before: ProxyHeader | str | None = None
    for end in range(len(stream) + 1):
        found = read(stream[:end])
        if before is not None:
            assert found == before
        before = found
    assert before == whole
    if isinstance(whole, ProxyHeader):
        assert read(stream[: whole.size - 1]) is None


@given(lines())
def test_lines_come_back(line: bytes) -> None:
    """A line tells its source address and its size, and Twisted's reader sees the same."""
    words = line.split()
    assert read(line + b"more") == ProxyHeader(in_text(ip_address(words[2].decode()).packed), len(line))
    assert V1Parser.parse(line[:-2]).source.host.encode() == words[2]


@given(binaries())
def test_binary_headers_come_back(octets: bytes) -> None:
    """The same for version 2, whatever vectors follow."""
    host = V2Parser.parse(octets).source.host
    text = host if isinstance(host, str) else host.decode()  # the one or the other, as Twisted is old
    header = read(octets + b"more")
    assert isinstance(header, ProxyHeader)
    assert (header.client, header.size) == (in_text(ip_address(text).packed), len(octets))


@given(st.binary(max_size=LONGEST_LINE))
def test_unknown_is_read_to_its_end(rest: bytes) -> None:
    """Anything up to the CRLF, which must be among the first 107 octets."""
    rest = rest.replace(b"\r", b"").replace(b"\n", b"")
    line = b"PROXY UNKNOWN " + rest + b"\r\n"
    assert read(line) == (ProxyHeader(None, len(line)) if len(line) <= 107 else REFUSED)


@pytest.mark.parametrize("fill", [105, 106])
def test_the_longest_line(fill: int) -> None:
    """107 octets with CRLF are taken; 107 without its end are not waited for."""
    begun = b"PROXY UNKNOWN ".ljust(fill, b"x")
    assert read(begun) is None
    assert (read(begun + b"\r\n") == REFUSED) is (fill == 106)
    assert read(begun.ljust(107, b"x")) == REFUSED


@pytest.mark.parametrize("limit", [0, 12, 100, 65535])
def test_the_length_of_a_binary_header_is_limited(limit: int) -> None:
    """A header at the limit is taken; one above it is refused with its sixteenth octet."""
    assert read(binary(b"\0" * limit, command=0x20), limit) == ProxyHeader(None, FIXED_PART + limit)
    if limit < 65535:
        too_long = binary(b"", length=limit + 1)
        assert read(too_long[:-1], limit) is None
        assert read(too_long, limit) == REFUSED


def test_what_is_refused_is_told_without_its_octets() -> None:
    """A message of a client without a header could hold a token."""
    with pytest.raises(WireError) as caught:
        read_proxy_header(b"GET /?access_token=secret HTTP/1.1\r\n\r\n", LIMIT)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        (b"", ""),
        (b"\x00\xff\xff\xff\xff", "http"),
        (b"\x02\x01\x01\x01\x01", "http"),
        (b"\x01\x00\x00\x00\x00", "https"),
        (b"\x07\x00\x00\x00\x00", "https"),
    ],
)
def test_the_scheme_is_in_the_first_octet_of_the_tls_vector(value: bytes, scheme: str) -> None:
    """PP2_CLIENT_SSL is its lowest bit (2.2.6), whatever else is said, and whatever vectors stand around it."""
    content = bytes(12) + vector(0x04, b"\x01\x01") + vector(0x20, value) + vector(0x04, b"\x01\x01")
    header = read(binary(content))
    assert isinstance(header, ProxyHeader)
    assert header.scheme == scheme


def test_a_tls_vector_that_ends_before_its_value_is_refused() -> None:
    """It announces an octet, and the header ends where that would stand."""
    assert read(binary(bytes(12) + struct.pack(">BH", 0x20, 1))) == REFUSED
