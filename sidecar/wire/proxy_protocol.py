"""The PROXY protocol, versions 1 and 2: what a balancer says about the client at the beginning of a connection.

A header is parsed from the bytes that have come so far, again each time more of them come; nothing is guessed. Section
numbers are those of HAProxy's `proxy-protocol.txt`. Knows no sockets, and not which peers are trusted.
"""

from __future__ import annotations

import re
from struct import unpack_from

from attrs import frozen

from sidecar.errors import Fault, WireError
from sidecar.wire.forwarded import parse_address

LONGEST_LINE = 107
"""Bytes of a header of version 1, CRLF included (2.1)."""
FIXED_PART = 16
"""Bytes of a header of version 2 before what its length counts (2.2)."""
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21

_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rb"%b(?:\.%b){3}" % (_OCTET, _OCTET)
# Short text of allowed characters; `ipaddress` checks whether it is an address.
_IPV6 = rb"[0-9A-Fa-f:.]{2,45}"
_PORT = rb"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"
_TCP4 = rb"TCP4 (?P<v4>%b) %b %b %b" % (_IPV4, _IPV4, _PORT, _PORT)
_TCP6 = rb"TCP6 (?P<v6>%b) (?P<w6>%b) %b %b" % (_IPV6, _IPV6, _PORT, _PORT)
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|%b|%b)" % (_TCP4, _TCP6))
_BEGINNING = b"PROXY "

# Family and transport of version 2 (2.2): bytes of the two addresses with their ports, and of one of those addresses.
_STREAMS = {0x11: (12, 4), 0x21: (36, 16), 0x31: (216, 0)}
_UNSPECIFIED = 0x00
_TLS_VECTOR = 0x20
_BY_TLS = 0x01
"""Type of the vector about TLS, and the bit in its first byte that says that the client used it (2.2.5)."""


@frozen(slots=True)
class ProxyHeader:
    """A header of either version."""

    client: str | None
    """The client's address; None if the balancer connects for itself, or does not know it."""
    size: int
    """Bytes that the header takes."""
    scheme: str = ""
    """`https` or `http` if the balancer says whether the client used TLS."""


def read_proxy_header(octets: bytes, limit: int) -> ProxyHeader | None:
    """The header at the beginning of `octets`; None if it is not complete yet.

    `limit` is the largest length (in bytes after the fixed part) of a header of version 2. Raises WireError as soon as
    the bytes cannot become a header within the limits.
    """
    if not octets:
        return None
    if octets[:1] == b"P":
        return _line(octets)
    if octets[:1] == b"\r":
        return _binary(octets, limit)
    raise _malformed("no PROXY header where one is due", "2")


def _line(octets: bytes) -> ProxyHeader | None:
    end = octets.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        begun = octets[:LONGEST_LINE]
        if not (begun.startswith(_BEGINNING) or _BEGINNING.startswith(begun)):
            raise _malformed("no PROXY header where one is due", "2.1")
        if b"\n" in begun or b"\r" in begun[:-1]:
            raise _malformed("a bare CR or LF in the PROXY line", "2.1")
        if len(begun) == LONGEST_LINE:
            raise _malformed(f"a PROXY line without an end in its first {LONGEST_LINE} bytes", "2.1")
        return None
    match = _LINE.fullmatch(octets, 0, end)
    if match is None:
        raise _malformed("a malformed PROXY line", "2.1")
    if match["v6"] and not (_is_ipv6(match["v6"]) and _is_ipv6(match["w6"])):
        raise _malformed("a malformed address in the PROXY line", "2.1")
    return ProxyHeader(_text(match["v4"] or match["v6"]), end + 2)


def _is_ipv6(octets: bytes) -> bool:
    return b":" in octets and parse_address(f"[{octets.decode('ascii')}]") is not None


def _text(octets: bytes | None) -> str | None:
    """The address in canonical form; IPv4 mapped into IPv6 is IPv4."""
    return None if octets is None else str(parse_address(octets.decode("ascii")))


def _binary(octets: bytes, limit: int) -> ProxyHeader | None:
    if not (octets.startswith(_SIGNATURE) or _SIGNATURE.startswith(octets)):
        raise _malformed("no PROXY header where one is due", "2.2")
    if len(octets) < FIXED_PART:
        return None
    command, family, length = unpack_from(">BBH", octets, len(_SIGNATURE))
    if command not in (_LOCAL, _PROXY):
        raise _malformed("an unknown version or command in the PROXY header", "2.2")
    if length > limit:
        raise _malformed(f"a PROXY header that announces more than {limit} bytes", "2.2")
    size = FIXED_PART + length
    if command == _LOCAL or family == _UNSPECIFIED:
        return ProxyHeader(None, size) if len(octets) >= size else None
    if family not in _STREAMS:
        raise _malformed("an unknown family or transport in the PROXY header", "2.2")
    addresses, width = _STREAMS[family]
    if length < addresses:
        raise _malformed("a PROXY header too short for its addresses", "2.2")
    if len(octets) < size:
        return None
    scheme = _read_vectors(octets, FIXED_PART + addresses, size)
    return ProxyHeader(_packed(octets[FIXED_PART : FIXED_PART + width]), size, scheme)


def _read_vectors(octets: bytes, at: int, end: int) -> str:
    """The client's scheme, from the type-length-values (2.2); the last one must end where the header does."""
    scheme = ""
    while at < end:
        if end - at < 3:
            raise _malformed("an incomplete vector in the PROXY header", "2.2")
        kind, length = unpack_from(">BH", octets, at)
        if kind == _TLS_VECTOR and length and at + 3 < end:
            scheme = "https" if octets[at + 3] & _BY_TLS else "http"
        at += 3 + length
    if at != end:
        raise _malformed("a vector that is longer than the PROXY header", "2.2")
    return scheme


def _packed(address: bytes) -> str | None:
    """An address of 4 or 16 bytes as text; None for a UNIX socket of the balancer."""
    if len(address) == 4:
        return ".".join(map(str, address))
    return _text(address.hex(":", 2).encode()) if address else None


def _malformed(detail: str, section: str) -> WireError:
    return WireError(Fault.SYNTAX, detail, f"PROXY protocol {section}")
