"""HTTP/1.1 as its strictest readers take it, written to be obviously right: one line after another, no expressions.

The rules are those of llhttp without leniencies and of RFC 9112 where it leaves a choice. Shares nothing with the
code that it judges.
"""

from __future__ import annotations

from attrs import frozen

DIGITS = b"0123456789"
HEX = DIGITS + b"abcdefABCDEF"
TCHARS = b"!#$%&'*+-.^_`|~" + DIGITS + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class NotStrictError(Exception):
    """The octets are no message that a strict reader takes."""


@frozen
class Strict:
    """One message: its start-line, its fields in order, its content, and where it ends."""

    start: list[bytes]
    fields: list[tuple[bytes, bytes]]
    content: bytes
    end: int

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.fields if other.lower() == name]


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise NotStrictError(what)


def _all_in(octets: bytes, allowed: bytes) -> bool:
    return bool(octets) and all(octet in allowed for octet in octets)


def _line(stream: bytes, at: int) -> tuple[bytes, int]:
    end = stream.find(b"\r\n", at)
    _require(end >= 0, "no end of line")
    line = stream[at:end]
    _require(b"\r" not in line and b"\n" not in line, "a bare CR or LF")
    return line, end + 2


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    _require(bool(colon) and _all_in(name, TCHARS), "no field line")
    _require(all(octet == 9 or (octet >= 32 and octet != 127) for octet in value), "a control octet")
    return name, value.strip(b" \t")


def _fields(stream: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, at = _line(stream, at)
        if not line:
            return fields, at
        fields.append(_field(line))


def _extensions(octets: bytes) -> None:
    at = 0
    while at < len(octets):
        _require(octets[at] == 0x3B, "no semicolon before an extension")
        at += 1
        start = at
        while at < len(octets) and octets[at] in TCHARS:
            at += 1
        _require(at > start, "an extension without a name")
        if at < len(octets) and octets[at] == 0x3D:
            at = _extension_value(octets, at + 1)


def _extension_value(octets: bytes, at: int) -> int:
    if octets[at : at + 1] != b'"':
        start = at
        while at < len(octets) and octets[at] in TCHARS:
            at += 1
        _require(at > start, "an extension without a value")
        return at
    at += 1
    while octets[at : at + 1] != b'"':
        at += 2 if octets[at : at + 1] == b"\\" else 1
        _require(at < len(octets), "a quote without end")
    return at + 1


def dechunk(stream: bytes, at: int = 0) -> tuple[bytes, list[tuple[bytes, bytes]], int]:
    """The content of a chunked body, its trailer fields, and where it ends."""
    content = b""
    while True:
        line, at = _line(stream, at)
        size_octets, semicolon, extensions = line.partition(b";")
        _require(_all_in(size_octets, HEX), "no chunk-size")
        _extensions(semicolon + extensions)
        size = int(size_octets, 16)
        _require(size < 2**60, "a chunk-size that overflows")
        if size == 0:
            trailers, at = _fields(stream, at)
            return content, trailers, at
        _require(stream[at + size : at + size + 2] == b"\r\n", "no CRLF behind chunk data")
        content += stream[at : at + size]
        at += size + 2


def strict_request(stream: bytes) -> Strict:
    """The first message of `stream`; raises NotStrictError."""
    line, at = _line(stream, 0)
    if not line:
        line, at = _line(stream, at)
    start = line.split(b" ")
    _require(len(start) == 3, "no request-line")
    _require(_all_in(start[0], TCHARS), "no method")
    _require(bool(start[1]) and all(0x20 < octet < 0x7F and octet != 0x23 for octet in start[1]), "no target")
    _require(start[2] in (b"HTTP/1.1", b"HTTP/1.0"), "no version of ours")
    fields, at = _fields(stream, at)
    hosts = [value for name, value in fields if name.lower() == b"host"]
    _require(len(hosts) == 1 or (not hosts and start[2] == b"HTTP/1.0"), "not one Host")
    return _framed(stream, start, fields, at, without_framing=b"")


def strict_response(stream: bytes) -> Strict:
    """The first message of `stream`, an answer to GET; raises NotStrictError."""
    line, at = _line(stream, 0)
    start = line.split(b" ", 2)
    _require(len(start) == 3 and start[0] in (b"HTTP/1.1", b"HTTP/1.0"), "no status-line")
    _require(len(start[1]) == 3 and _all_in(start[1], DIGITS) and start[1][:1] != b"0", "no status")
    _require(all(octet == 9 or (octet >= 32 and octet != 127) for octet in start[2]), "a control octet")
    fields, at = _fields(stream, at)
    if start[1] in (b"204", b"304") or start[1][:1] == b"1":
        return Strict(start, fields, b"", at)
    return _framed(stream, start, fields, at, without_framing=stream[at:])


def _framed(
    stream: bytes, start: list[bytes], fields: list[tuple[bytes, bytes]], at: int, *, without_framing: bytes
) -> Strict:
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    _require(len(codings) + len(lengths) < 2, "framing told twice")
    if codings:
        _require(codings[0].lower() == b"chunked", "a coding other than chunked")
        _require(b"HTTP/1.0" not in start, "chunks in HTTP/1.0")
        content, _, end = dechunk(stream, at)
        return Strict(start, fields, content, end)
    if lengths:
        _require(_all_in(lengths[0], DIGITS) and len(lengths[0]) < 19, "no length")
        end = at + int(lengths[0])
        _require(end <= len(stream), "a body that is cut")
        return Strict(start, fields, stream[at:end], end)
    return Strict(start, fields, without_framing, at + len(without_framing))
