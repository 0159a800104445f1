"""Turns a request of HTTP/2 into a head of HTTP/1.1, which is all that the rest of the program knows (RFC 9113 8).

Checks only what a head of HTTP/1.1 cannot show any more, such as line breaks in a value or pseudo-header fields. The
reader of heads checks everything else, as in any head. Knows no streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from sidecar.errors import Fault, WireError
from sidecar.wire.grammar import TARGET_OCTETS

FieldList = Iterable[tuple[bytes, bytes]]
"""Names and values in their order, as HPACK gives them."""

# RFC 9113 8.2.1: a token in lower case.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
# RFC 9113 8.2.1: no NUL, CR or LF, no blank at either end; RFC 9110 5.5: no other control byte.
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")

_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
# RFC 9113 8.2.2.
_CONNECTION_SPECIFIC = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


@frozen(slots=True)
class TranslatedRequest:
    """A head of HTTP/1.1, and how its body has to be framed."""

    raw: bytes
    method: bytes
    chunked: bool
    """The body goes on in chunks, because its length is unknown."""


def request_head(fields: FieldList, *, ended: bool) -> TranslatedRequest:
    """One canonical head for the fields of a request; `ended`: it has no body.

    Raises WireError for a malformed request (RFC 9113 8.1.1).
    """
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    hosts: list[bytes] = []
    length: bytes | None = None
    for name, value in fields:
        if _VALUE.fullmatch(value) is None:
            raise _malformed("a field value with a control character, or a space at its end", "RFC 9113 8.2.1")
        if name[:1] == b":":
            _take_pseudo(pseudo, name, value, late=bool(lines or cookies or hosts))
            continue
        _check_field(name, value)
        if name == b"cookie":
            # RFC 9113 8.2.3: parts of one field, which has to be joined outside of HTTP/2.
            cookies.append(value)
        elif name == b"host":
            hosts.append(value)
        elif name != b"te":
            if name == b"content-length":
                length = value
            lines.append(b"%b: %b\r\n" % (name, value))
    if cookies:
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))
    if ended and length is not None and length.strip(b"0"):
        raise WireError(Fault.FRAMING, "a Content-Length without the content", "RFC 9113 8.1.1")
    chunked = not ended and length is None
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    method, target = _request_line(pseudo)
    host = _host(pseudo.get(b":authority"), hosts)
    raw = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, b"".join(lines))
    return TranslatedRequest(raw, method, chunked)


def trailer_lines(fields: FieldList) -> bytes:
    """The trailer fields of a request as lines of HTTP/1.1. Raises WireError if they are malformed."""
    lines = []
    for name, value in fields:
        if _VALUE.fullmatch(value) is None:
            raise _malformed("a trailer with a control character, or a space at its end", "RFC 9113 8.2.1")
        _check_field(name, value)
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def _malformed(what: str, rule: str) -> WireError:
    return WireError(Fault.SYNTAX, what, rule)


def _take_pseudo(pseudo: dict[bytes, bytes], name: bytes, value: bytes, *, late: bool) -> None:
    """Pseudo-header fields: known ones, once each, before all others (RFC 9113 8.3)."""
    if name not in _PSEUDO:
        raise _malformed("a pseudo-header field that no request has", "RFC 9113 8.3")
    if late or name in pseudo:
        raise _malformed("a pseudo-header field twice, or behind others", "RFC 9113 8.3")
    pseudo[name] = value


def _check_field(name: bytes, value: bytes) -> None:
    if _NAME.fullmatch(name) is None:
        raise _malformed("a field name that is no token in lower case", "RFC 9113 8.2.1")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        raise _malformed("a field that concerns a connection of HTTP/1.1", "RFC 9113 8.2.2")


def _request_line(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Method and request-target, unchanged."""
    method = pseudo.get(b":method", b"")
    if _METHOD.fullmatch(method) is None:
        raise _malformed("a missing or malformed :method", "RFC 9113 8.3.1")
    if method == b"CONNECT":
        raise WireError(Fault.METHOD, "CONNECT and TRACE are not served", "RFC 9110 9.3.6, 9.3.8")
    if pseudo.get(b":scheme", b"").lower() not in (b"http", b"https"):
        raise _malformed("a missing :scheme, or one that is not served", "RFC 9113 8.3.1")
    target = pseudo.get(b":path", b"")
    if target.translate(None, TARGET_OCTETS):
        raise _malformed("a byte in :path that no request-target has", "RFC 9113 8.3.1")
    if target[:1] != b"/" and not (target == b"*" and method == b"OPTIONS"):
        raise _malformed("a :path that does not begin with a slash", "RFC 9113 8.3.1")
    return method, target


def _host(authority: bytes | None, hosts: list[bytes]) -> bytes:
    """The value of :authority and Host, which must not differ (RFC 9113 8.3.1)."""
    if len(hosts) > 1:
        raise _malformed("more than one Host", "RFC 9112 3.2")
    host = authority if authority is not None else hosts[0] if hosts else b""
    if not host:
        raise _malformed("neither :authority nor Host", "RFC 9113 8.3.1")
    if hosts and hosts[0].lower() != host.lower():
        raise _malformed("Host differs from :authority", "RFC 9113 8.3.1")
    return host
