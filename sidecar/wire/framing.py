"""Checked field sections: how they frame a message, and what of them goes on to the next hop.

Decides framing (RFC 9112 6) and cuts hop-by-hop lines (RFC 9110 7.6.1). Knows no start-lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sidecar.errors import Fault, WireError
from sidecar.wire.fields import FieldSection
from sidecar.wire.grammar import CONTENT_LENGTH, HOST, TOKENS

# Framing of a body (RFC 9112 6.3): a length in bytes, or one of these.
CHUNKED = -1
UNTIL_CLOSE = -2
TUNNEL = -3

# RFC 9110 7.6.1, and fields of old clients and proxies with the same meaning.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"})
# Cut, so that the next hop sees only our own, and does not take a client for a proxy.
NOT_PASSED_ON = HOP_BY_HOP | {b"proxy-authorization", b"x-forwarded-for", b"x-forwarded-proto"}

# A client must not remove these with Connection, because the next hop relies on them.
_NOT_HOP_BY_HOP = frozenset(
    {
        *(b"authorization", b"content-length", b"content-type", b"content-encoding", b"cookie", b"date", b"expect"),
        *(b"host", b"origin", b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id"),
    }
)

# Sets of hop-by-hop names: a handful, shared by all sections.
_sets: dict[frozenset[bytes], frozenset[bytes]] = {}


def _shared(names: frozenset[bytes]) -> frozenset[bytes]:
    """One object for equal sets, to save memory."""
    return _sets.setdefault(names, names)


REQUEST_ID = b"x-request-id"
"""The usual field for a request id; looked for in every request."""

TRACEPARENT = b"traceparent"
"""The trace of a request (W3C Trace Context 3.2); passed on unchanged, and logged."""

# Sections without these need no further check.
_REQUEST_SPECIAL = NOT_PASSED_ON | {b"content-length", b"transfer-encoding", b"expect", REQUEST_ID, TRACEPARENT}
RESPONSE_SPECIAL = HOP_BY_HOP | {b"content-length", b"transfer-encoding"}


_KEPT_ALIVE = {b"keep-alive"}
_CHAINS = re.compile(rb"\r\nx-forwarded-for:([^\r]*)")
_SCHEMES = re.compile(rb"\r\nx-forwarded-proto:([^\r]*)")


class RequestFields(FieldSection):
    """The checked fields of a request. `length` is the framing that they state."""

    __slots__ = (
        *("_authorization", "_forwarded", "_passed", "_sought", "claims", "expectation", "host", "length", "options"),
        *("plain", "special"),
    )

    def __init__(self, raw: bytes) -> None:
        lowered, names = self._read(raw)
        self.special = _shared(_REQUEST_SPECIAL.intersection(names))
        self.host = _the_host(lowered.count(b"\r\nhost:"), self._value(lowered, b"host"))
        self.length = self._length()
        self.options: Sequence[bytes] = self._connection_options() if b"connection" in self.special else ()
        self.expectation: Sequence[bytes] = self.tokens(b"expect") if b"expect" in self.special else ()
        self.plain = self.host is not None and not self.expectation and set(self.options) <= _KEPT_ALIVE
        """They change nothing in how an HTTP/1.1 request is handled: no close, no upgrade, no expectation."""
        self._forwarded: bytes | None = None
        self._passed = b""
        self._sought: tuple[bytes, list[bytes]] | None = None
        self._authorization = self._value(lowered, b"authorization")
        self.claims: tuple[bytes, bytes] | None = None
        """The X-Forwarded-For and X-Forwarded-Proto values, each joined; None: neither field is there."""
        if b"x-forwarded-for" in self.special or b"x-forwarded-proto" in self.special:
            # Case does not matter in either. No loop over the lines: their number is checked later.
            self.claims = b",".join(_CHAINS.findall(lowered)), b",".join(_SCHEMES.findall(lowered))

    def get(self, name: bytes) -> bytes | None:
        """As in every section, but Authorization is looked up once and remembered."""
        return self._authorization if name == b"authorization" else super().get(name)

    def _length(self) -> int:
        """The framing of a request (RFC 9112 6.3). Without framing fields there is no body."""
        if b"transfer-encoding" in self.special:
            _check_transfer_coding(self)
            return CHUNKED
        return _content_length(self) if b"content-length" in self.special else 0

    def _connection_options(self) -> list[bytes]:
        options = self.tokens(b"connection")
        if not _NOT_HOP_BY_HOP.isdisjoint(options):
            raise WireError(Fault.SYNTAX, "Connection names an end-to-end field", "RFC 9110 7.6.1")
        if TOKENS.fullmatch(b",".join(options)) is None:
            raise WireError(Fault.SYNTAX, "a connection option that is no token", "RFC 9110 7.6.1")
        return options

    def offered_protocols(self) -> bytes | None:
        """The value of Upgrade if it can be offered to a worker: one line, without HTTP/2."""
        if b"upgrade" not in self.options or b"http2-settings" in self.special:
            return None
        offers = self.get_all(b"upgrade")
        if len(offers) != 1 or not offers[0] or b"h2c" in offers[0].lower():
            return None
        return offers[0]

    def passed_on(self, forwarded: bytes) -> bytes:
        """What follows the request-line for the next hop, in an HTTP/1.1 request without Upgrade."""
        if self._forwarded != forwarded:
            self._passed = self.edited(NOT_PASSED_ON, forwarded)
            self._forwarded = forwarded
        return self._passed

    def values_of(self, name: bytes) -> list[bytes]:
        """As `get_all`, for one name that every request needs; the last result is remembered."""
        sought = self._sought
        if sought is None or sought[0] != name:
            self._sought = sought = (name, self.get_all(name))
        return sought[1]

    def edited(self, dropped: frozenset[bytes], extra: bytes, more: Iterable[bytes] = ()) -> bytes:
        """The section without the lines of this hop, those `dropped`, then `extra` (whole lines with CRLF).

        `dropped` are names that `special` has, `more` any others in lower case.
        """
        special = self.special
        cut = {*(special & dropped), *self.options, *more}
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
    """The checked fields of a response. `length` is the framing that they state, UNTIL_CLOSE without any."""

    __slots__ = ("_passed", "length", "options", "special")

    def __init__(self, raw: bytes) -> None:
        _, names = self._read(raw)
        self.special = special = _shared(RESPONSE_SPECIAL.intersection(names))
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
        """What follows the status-line for a client whose connection stays open."""
        if self._passed is None:
            self._passed = self.edited(HOP_BY_HOP, b"")
        return self._passed

    def unframed(self, extra: bytes) -> bytes:
        """The section for an answer without content, without fields that announce content, then `extra`.

        RFC 9112 6.1 and RFC 9110 8.6 forbid these fields in 1xx and 204; a client that reads them waits for content.
        """
        return b"%b%b\r\n" % (self.without({*self.special, *self.options}), extra)

    def recoded(self, dropped: Iterable[bytes], extra: bytes) -> bytes:
        """The section for the same content in another coding and in chunks: without `dropped`, then `extra`."""
        cut = {*self.special, *self.options, *dropped}
        return b"%b%bTransfer-Encoding: chunked\r\n\r\n" % (self.without(cut), extra)

    def edited(self, dropped: frozenset[bytes], extra: bytes, more: Iterable[bytes] = ()) -> bytes:
        """The section without `dropped` and what Connection names, in canonical framing, then `extra` (whole lines).

        `dropped` are names that `special` has, `more` any others in lower case.
        """
        special = self.special
        # What Connection names is hop-by-hop, except what frames the message.
        cut = {*(special & dropped), *self.options, *more} - {b"content-length"}
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


def _the_host(lines: int, host: bytes | None) -> bytes | None:
    """The value of the one line of Host (RFC 9112 3.2)."""
    if lines > 1:
        raise WireError(Fault.SYNTAX, "more than one Host", "RFC 9112 3.2")
    if host is not None and HOST.fullmatch(host) is None:
        raise WireError(Fault.SYNTAX, "an invalid Host", "RFC 9112 3.2")
    return host


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
