"""Heads: start-line and field section of one message, parsed strictly and kept as received.

Decides framing (RFC 9112 6), persistence (9.3), upgrade and expectation, and makes the head that goes on to the
next hop by cutting whole lines. Does not know where the octets came from, nor where they go.

A client sends the same fields with each of its requests, and a worker with all responses of one second. So a field
section is judged once and remembered; what is left for each message is its start-line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sidecar.errors import Fault, WireError
from sidecar.wire.fields import FieldSection
from sidecar.wire.grammar import (
    ABSOLUTE_FORM,
    CONTENT_LENGTH,
    HOST,
    OTHER_VERSION,
    REQUEST_LINE,
    STATUS_LINE,
    TOKEN,
)

# Framing of a body (RFC 9112 6.3): a length in bytes, or one of these.
CHUNKED = -1
UNTIL_CLOSE = -2
TUNNEL = -3

# RFC 9110 7.6.1 and what clients and proxies of old send with the same meaning.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"})
# The next hop must not be able to tell our word from a client's, nor take a client for another proxy.
NOT_PASSED_ON = HOP_BY_HOP | {b"proxy-authorization", b"x-forwarded-for", b"x-forwarded-proto"}

# A client that names one of these in Connection wants a field to vanish on which the next hop relies.
_NOT_HOP_BY_HOP = frozenset(
    {
        *(b"authorization", b"content-length", b"content-type", b"content-encoding", b"cookie", b"date", b"expect"),
        *(b"host", b"origin", b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id"),
    }
)

_NONE: frozenset[bytes] = frozenset()
_NOT_SERVED = frozenset({b"CONNECT", b"TRACE"})

# Sections with none of these need no closer look.
_REQUEST_SPECIAL = NOT_PASSED_ON | {b"content-length", b"transfer-encoding", b"expect"}
_RESPONSE_SPECIAL = HOP_BY_HOP | {b"content-length", b"transfer-encoding"}

# How many field sections are remembered of each kind, and how long one may be: at most 2 MiB each, commonly a tenth.
MOST_SECTIONS = 512
LONGEST_SECTION = 2048


class RequestFields(FieldSection):
    """The fields of a request, judged. `length` is the framing that they ask for."""

    __slots__ = ("_forwarded", "_passed", "expectation", "host", "length", "options", "special")

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.special = _REQUEST_SPECIAL.intersection(self.names) or _NONE
        self.host = self._the_host()
        self.length = self._length()
        self.options: Sequence[bytes] = self._connection_options() if b"connection" in self.special else ()
        self.expectation: Sequence[bytes] = self.tokens(b"expect") if b"expect" in self.special else ()
        self._forwarded: bytes | None = None
        self._passed = b""

    def _the_host(self) -> bytes | None:
        hosts = self.get_all(b"host")
        if not hosts:
            return None
        if len(hosts) > 1:
            raise WireError(Fault.SYNTAX, "more than one Host", "RFC 9112 3.2")
        if HOST.fullmatch(hosts[0]) is None:
            raise WireError(Fault.SYNTAX, "an invalid Host", "RFC 9112 3.2")
        return hosts[0]

    def _length(self) -> int:
        """The framing of a request (RFC 9112 6.3). Without framing fields there is no body."""
        if b"transfer-encoding" in self.special:
            _check_transfer_coding(self)
            return CHUNKED
        return _content_length(self) if b"content-length" in self.special else 0

    def _connection_options(self) -> list[bytes]:
        options = self.tokens(b"connection")
        for option in options:
            if option in _NOT_HOP_BY_HOP:
                raise WireError(Fault.SYNTAX, "Connection names an end-to-end field", "RFC 9110 7.6.1")
            if TOKEN.fullmatch(option) is None:
                raise WireError(Fault.SYNTAX, "a connection option that is no token", "RFC 9110 7.6.1")
        return options

    def offered_protocols(self) -> bytes | None:
        """The value of Upgrade where it can be offered to a worker: one line, and HTTP/2 is not among it."""
        if b"upgrade" not in self.options or b"http2-settings" in self.special:
            return None
        offers = self.get_all(b"upgrade")
        if len(offers) != 1 or not offers[0] or b"h2c" in offers[0].lower():
            return None
        return offers[0]

    def passed_on(self, forwarded: bytes) -> bytes:
        """What stands behind the request-line for the next hop, of a request of HTTP/1.1 without Upgrade."""
        if self._forwarded != forwarded:
            self._passed = self.edited(NOT_PASSED_ON, forwarded)
            self._forwarded = forwarded
        return self._passed

    def edited(self, dropped: frozenset[bytes], extra: bytes) -> bytes:
        """The section without the lines of this hop and those `dropped`, then `extra` (whole lines with CRLF)."""
        special = self.special
        cut = {*(special & dropped), *self.options}
        if self.length == CHUNKED:
            if self.get(b"transfer-encoding") != b"chunked":
                cut.add(b"transfer-encoding")
                extra = b"Transfer-Encoding: chunked\r\n" + extra
        elif b"content-length" in special and self.get(b"content-length") != b"%d" % self.length:
            cut.add(b"content-length")
            extra = b"Content-Length: %d\r\n" % self.length + extra
        kept = self.without(cut) if cut else self.raw[:-2]
        return b"%b%b\r\n" % (kept, extra)


class ResponseFields(FieldSection):
    """The fields of a response, judged. `length` is the framing that they ask for, UNTIL_CLOSE without any."""

    __slots__ = ("_passed", "length", "options", "special")

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.special = special = _RESPONSE_SPECIAL.intersection(self.names) or _NONE
        if b"transfer-encoding" in special:
            _check_transfer_coding(self)
            self.length = CHUNKED
        elif b"content-length" in special:
            self.length = _content_length(self)
        else:
            self.length = UNTIL_CLOSE
        self.options: Sequence[bytes] = self.tokens(b"connection") if b"connection" in special else ()
        self._passed: bytes | None = None

    def passed_on(self) -> bytes:
        """What stands behind the status-line for a client whose connection goes on."""
        if self._passed is None:
            self._passed = self.edited(b"", HOP_BY_HOP)
        return self._passed

    def edited(self, extra: bytes, dropped: frozenset[bytes]) -> bytes:
        """The section without `dropped` and what Connection names, framed canonically, then `extra` (whole lines)."""
        special = self.special
        # What Connection names is of this hop, except what frames the message.
        cut = {*(special & dropped), *self.options} - {b"content-length"}
        if b"transfer-encoding" not in dropped:
            cut.discard(b"transfer-encoding")
        if b"transfer-encoding" in special and b"transfer-encoding" not in cut:
            if self.get(b"transfer-encoding") != b"chunked":
                cut.add(b"transfer-encoding")
                extra = b"Transfer-Encoding: chunked\r\n" + extra
        elif self.length >= 0 and self.get(b"content-length") != b"%d" % self.length:
            cut.add(b"content-length")
            extra = b"Content-Length: %d\r\n" % self.length + extra
        if not cut and not extra:
            return self.raw
        return b"%b%b\r\n" % (self.without(cut) if cut else self.raw[:-2], extra)


_Fields = TypeVar("_Fields", RequestFields, ResponseFields)

_request_sections: dict[bytes, RequestFields] = {}
_response_sections: dict[bytes, ResponseFields] = {}


def _judge(raw: bytes, remembered: dict[bytes, _Fields], kind: type[_Fields]) -> _Fields:
    """The section `raw`, judged anew, and remembered for its equals; raises WireError."""
    fields = kind(raw)
    if len(raw) <= LONGEST_SECTION:
        if len(remembered) >= MOST_SECTIONS:
            remembered.clear()
        remembered[raw] = fields
    return fields


class RequestHead:
    """A request-line and its fields (RFC 9112 3).

    `target` is the request-target as received; `origin` is what goes on: the same octets, or for absolute-form the
    part after the authority. `length` is the framing, `upgrade` what can be offered to a worker.
    """

    __slots__ = ("_line", "fields", "http11", "length", "method", "origin", "persistent", "target", "upgrade")

    def __init__(self, raw: bytes, most_fields: int = 200) -> None:
        """`raw` is the head with its empty line; raises WireError."""
        end = raw.find(b"\r\n")
        match = REQUEST_LINE.fullmatch(raw, 0, end)
        if match is None:
            raise malformed_request_line(raw[:end])
        section = raw[end:]
        fields = _request_sections.get(section)
        if fields is None:
            fields = _judge(section, _request_sections, RequestFields)
        if fields.count > most_fields:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_fields} field lines", "RFC 6585 5")
        self.fields = fields
        method, target, minor = match.groups()
        self.method = method
        self.target = self.origin = target
        self._line = raw[:end]
        self.http11 = self.persistent = http11 = minor == b"1"
        self.length = fields.length
        self.upgrade: bytes | None = None
        if target[0] != 0x2F:
            self._check_target()
        if fields.special or not http11 or fields.host is None:
            self._judge_together()
        if method in _NOT_SERVED:
            raise WireError(Fault.METHOD, "CONNECT and TRACE are not served", "RFC 9110 9.3.6, 9.3.8")

    def _check_target(self) -> None:
        """Forms other than origin-form (RFC 9112 3.2)."""
        if self.target == b"*" and self.method == b"OPTIONS":
            return
        match = ABSOLUTE_FORM.fullmatch(self.target)
        if match is None:
            if self.method == b"CONNECT":
                return
            raise WireError(Fault.SYNTAX, "a request-target in a form that is not served", "RFC 9112 3.2")
        if match[1].lower() != (self.fields.host or b"").lower():
            raise WireError(Fault.SYNTAX, "Host differs from the authority of the request-target", "RFC 9112 3.2.2")
        rest: bytes = match[2] or b""
        # RFC 9112 3.2.1, 3.2.4: an empty path is sent as "/", but OPTIONS of the server as a whole as "*".
        if rest[:1] != b"/":
            rest = b"/" + rest if rest or self.method != b"OPTIONS" else b"*"
        self.origin = rest
        self._line = b"%b %b HTTP/1.%d" % (self.method, self.origin, self.http11)

    def _judge_together(self) -> None:
        """What depends on the version and the fields."""
        fields = self.fields
        if not self.http11:
            if self.length == CHUNKED:
                raise WireError(Fault.FRAMING, "Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1")
            return
        if fields.host is None:
            raise WireError(Fault.SYNTAX, "Host is missing", "RFC 9112 3.2")
        if b"close" in fields.options:
            self.persistent = False
        if b"upgrade" in fields.options:
            self.upgrade = fields.offered_protocols()
        if fields.expectation and fields.expectation != [b"100-continue"]:
            raise WireError(Fault.EXPECTATION, "an expectation other than 100-continue", "RFC 9110 10.1.1")

    def passed_on(self, forwarded: bytes) -> bytes:
        """The head for the next hop: the same lines but those of this hop, then `forwarded` (whole lines, CRLF)."""
        fields = self.fields
        if self.upgrade is not None:
            extra = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade
            return self._line + fields.edited(NOT_PASSED_ON, extra + forwarded)
        if not self.http11:
            # RFC 9110 10.1.1: an expectation is ignored in HTTP/1.0.
            return self._line + fields.edited(NOT_PASSED_ON | {b"expect"}, forwarded)
        return self._line + fields.passed_on(forwarded)


class ResponseHead:
    """A status-line and its fields (RFC 9112 4).

    `length` is the framing for a response to `method` (RFC 9112 6.3); `persistent` tells whether the connection
    may carry another request after it.
    """

    __slots__ = ("_line", "fields", "http11", "length", "persistent", "status")

    def __init__(self, raw: bytes, method: bytes, most_fields: int = 200) -> None:
        end = raw.find(b"\r\n")
        match = STATUS_LINE.fullmatch(raw, 0, end)
        if match is None:
            raise WireError(Fault.SYNTAX, "a malformed status-line", "RFC 9112 4")
        section = raw[end:]
        fields = _response_sections.get(section)
        if fields is None:
            fields = _judge(section, _response_sections, ResponseFields)
        if fields.count > most_fields:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_fields} field lines", "RFC 6585 5")
        self.fields = fields
        self._line = raw[:end]
        minor, code = match.groups()
        self.status = status = int(code)
        self.http11 = http11 = minor == b"1"
        length = fields.length
        if not http11:
            # RFC 9112 2.3: a gateway sends its own version.
            self._line = b"HTTP/1.1" + self._line[8:]
            if length == CHUNKED:
                raise WireError(Fault.FRAMING, "Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1")
        if status == 101:
            length = TUNNEL
        elif status < 200 or status == 204 or status == 304 or method == b"HEAD":
            length = 0
        self.length = length
        options = fields.options
        if length == UNTIL_CLOSE:
            self.persistent = False
        elif options:
            self.persistent = b"close" not in options and (http11 or b"keep-alive" in options)
        else:
            self.persistent = http11

    @property
    def interim(self) -> bool:
        """A 1xx other than 101, after which another response follows (RFC 9110 15.2)."""
        return self.status < 200 and self.status != 101

    def passed_on(self, *, close: bool, decoded: bool) -> bytes:
        """The head for the client: the same lines but those of this hop.

        `close`: the connection ends after this response. `decoded`: the content goes on without its chunks, to a
        client of HTTP/1.0, delimited by the close.
        """
        if not close:
            return self._line + self.fields.passed_on()
        dropped = HOP_BY_HOP | {b"transfer-encoding"} if decoded else HOP_BY_HOP
        return self._line + self.fields.edited(b"Connection: close\r\n", dropped)

    def switched(self, upgrade: bytes) -> bytes:
        """The 101 for the client whose offer was `upgrade`; raises WireError if it does not match (RFC 9110 7.8)."""
        fields = self.fields
        chosen = fields.tokens(b"upgrade")
        offered = {offer.strip() for offer in upgrade.lower().split(b",")}
        if not chosen or not offered.issuperset(chosen) or b"upgrade" not in fields.options:
            raise WireError(Fault.SYNTAX, "a 101 that does not match the Upgrade of the request", "RFC 9110 7.8")
        # Nor may framing fields be there, which would tell the client where a tunnel ends (RFC 9110 8.6).
        cut = {*_RESPONSE_SPECIAL, *fields.options} - {b"upgrade"}
        return self._line + b"%bConnection: Upgrade\r\n\r\n" % fields.without(cut)


def _check_transfer_coding(fields: RequestFields | ResponseFields) -> None:
    """Exactly one Transfer-Encoding, chunked, and no Content-Length beside it (RFC 9112 6.1, 6.3)."""
    if b"content-length" in fields.special:
        raise WireError(Fault.FRAMING, "both Transfer-Encoding and Content-Length", "RFC 9112 6.3")
    values = fields.get_all(b"transfer-encoding")
    if len(values) != 1:
        raise WireError(Fault.FRAMING, "more than one Transfer-Encoding", "RFC 9112 6.1")
    if values[0].lower() != b"chunked":
        raise WireError(Fault.CODING, "a transfer coding other than chunked", "RFC 9112 6.1")


def _content_length(fields: RequestFields | ResponseFields) -> int:
    """Content-Length in bytes: one line, digits only (RFC 9112 6.3)."""
    values = fields.get_all(b"content-length")
    if len(values) != 1:
        raise WireError(Fault.FRAMING, "more than one Content-Length", "RFC 9112 6.3")
    if CONTENT_LENGTH.fullmatch(values[0]) is None:
        raise WireError(Fault.FRAMING, "a Content-Length that is not 1 to 18 digits", "RFC 9110 8.6")
    return int(values[0])


def malformed_request_line(line: bytes) -> WireError:
    """Why `line` is no request-line that we serve."""
    if OTHER_VERSION.fullmatch(line) is not None:
        return WireError(Fault.VERSION, "a version other than HTTP/1.1 and HTTP/1.0", "RFC 9112 2.3")
    return WireError(Fault.SYNTAX, "a malformed request-line", "RFC 9112 3")
