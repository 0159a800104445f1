"""Heads: start-line and field section of one message, parsed strictly and kept as received.

Decides framing (RFC 9112 6), persistence (9.3), upgrade and expectation, and makes the head that goes on to the
next hop by cutting whole lines. Does not know where the octets came from, nor where they go.
"""

from __future__ import annotations

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

# Requests with none of these need no closer look.
_REQUEST_SPECIAL = NOT_PASSED_ON | {b"content-length", b"transfer-encoding", b"expect"}
_RESPONSE_SPECIAL = HOP_BY_HOP | {b"content-length", b"transfer-encoding"}

_MOST_KNOWN_HOSTS = 1024
_known_hosts: set[bytes] = set()


class RequestHead(FieldSection):
    """A request-line and its fields (RFC 9112 3).

    `target` is the request-target as received; `origin` is what goes on: the same octets, or for absolute-form
    the part after the authority. `length` is the framing. `special` are the names present that concern this hop.
    """

    __slots__ = ("http11", "length", "method", "origin", "persistent", "special", "target", "upgrade")

    def __init__(self, raw: bytes, most_fields: int = 200) -> None:
        end = raw.find(b"\r\n")
        match = REQUEST_LINE.fullmatch(raw, 0, end)
        if match is None:
            raise malformed_request_line(raw[:end])
        super().__init__(raw, end, most_fields)
        self.method, self.target, minor = match.groups()
        self.origin = self.target
        self.http11 = minor == b"1"
        self.special = special = _REQUEST_SPECIAL.intersection(self.names)
        self.length = 0
        self.persistent = self.http11
        self.upgrade: bytes | None = None
        self._check_host()
        if self.target[0] != 0x2F:
            self._check_target()
        if self.method in (b"CONNECT", b"TRACE"):
            raise WireError(Fault.METHOD, "CONNECT and TRACE are not served", "RFC 9110 9.3.6, 9.3.8")
        if special:
            self._read_special()

    def _check_host(self) -> None:
        hosts = self.names.count(b"host")
        if hosts != 1 and (hosts or self.http11):
            raise WireError(Fault.SYNTAX, "Host must be there exactly once", "RFC 9112 3.2")
        host = self.get(b"host") if hosts else b""
        if host not in _known_hosts:
            assert host is not None
            if HOST.fullmatch(host) is None:
                raise WireError(Fault.SYNTAX, "an invalid Host", "RFC 9112 3.2")
            if len(_known_hosts) >= _MOST_KNOWN_HOSTS:
                _known_hosts.clear()
            _known_hosts.add(host)

    def _check_target(self) -> None:
        """Forms other than origin-form (RFC 9112 3.2)."""
        if self.target == b"*" and self.method == b"OPTIONS":
            return
        match = ABSOLUTE_FORM.fullmatch(self.target)
        if match is None:
            raise WireError(Fault.SYNTAX, "a request-target in a form that is not served", "RFC 9112 3.2")
        if match[1].lower() != (self.get(b"host") or b"").lower():
            raise WireError(Fault.SYNTAX, "Host differs from the authority of the request-target", "RFC 9112 3.2.2")
        rest = match[2] or b""
        if rest[:1] != b"/":
            # RFC 9112 3.2.1: an empty path is sent as "/", or "*" for OPTIONS, which no worker understands.
            rest = b"/" + rest
        self.origin = rest

    def _read_special(self) -> None:
        self.length = request_length(self)
        if b"connection" in self.special:
            options = self.tokens(b"connection")
            self._check_connection_options(options)
            self.persistent = self.http11 and b"close" not in options
            if b"upgrade" in options and self.http11:
                self.upgrade = self._offered_protocols()
        if b"expect" in self.special and self.http11 and self.tokens(b"expect") != [b"100-continue"]:
            raise WireError(Fault.EXPECTATION, "an expectation other than 100-continue", "RFC 9110 10.1.1")

    def _check_connection_options(self, options: list[bytes]) -> None:
        for option in options:
            if option in _NOT_HOP_BY_HOP:
                raise WireError(Fault.SYNTAX, "Connection names an end-to-end field", "RFC 9110 7.6.1")
            if TOKEN.fullmatch(option) is None:
                raise WireError(Fault.SYNTAX, "a connection option that is no token", "RFC 9110 7.6.1")

    def _offered_protocols(self) -> bytes | None:
        """The value of Upgrade where it can be offered to a worker: one line, and HTTP/2 is not among it."""
        offers = self.get_all(b"upgrade")
        if len(offers) != 1 or not offers[0] or b"h2c" in offers[0].lower() or b"http2-settings" in self.special:
            return None
        return offers[0]

    @property
    def expects_continue(self) -> bool:
        return b"expect" in self.special and self.http11

    def passed_on(self, forwarded: bytes) -> bytes:
        """The head for the next hop: the same lines but those of this hop, then `forwarded` (whole lines, CRLF)."""
        if not self.special and self.origin is self.target:
            return b"%b%b\r\n" % (self.raw[:-2], forwarded)
        dropped: set[bytes] = set(NOT_PASSED_ON)
        extra = forwarded
        if b"connection" in self.special:
            dropped.update(self.tokens(b"connection"))
        if not self.http11:
            dropped.add(b"expect")  # RFC 9110 10.1.1: ignored in HTTP/1.0
        if self.length == CHUNKED:
            if self.get(b"transfer-encoding") != b"chunked":
                dropped.add(b"transfer-encoding")
                extra = b"Transfer-Encoding: chunked\r\n" + extra
        elif b"content-length" in self.special and self.get(b"content-length") != b"%d" % self.length:
            dropped.add(b"content-length")
            extra = b"Content-Length: %d\r\n" % self.length + extra
        if self.upgrade is not None:
            extra = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade + extra
        line = b"%b %b HTTP/1.%d" % (self.method, self.origin, self.http11)
        return b"\r\n".join([line, *self.lines_without(dropped), extra + b"\r\n"])


class ResponseHead(FieldSection):
    """A status-line and its fields (RFC 9112 4).

    `length` is the framing for a response to `method` (RFC 9112 6.3); `persistent` tells whether the connection
    may carry another request after it.
    """

    __slots__ = ("http11", "length", "persistent", "special", "status")

    def __init__(self, raw: bytes, method: bytes, most_fields: int = 200) -> None:
        end = raw.find(b"\r\n")
        match = STATUS_LINE.fullmatch(raw, 0, end)
        if match is None:
            raise WireError(Fault.SYNTAX, "a malformed status-line", "RFC 9112 4")
        super().__init__(raw, end, most_fields)
        self.http11 = match[1] == b"1"
        self.status = int(match[2])
        self.special = special = _RESPONSE_SPECIAL.intersection(self.names)
        self.persistent = self.http11
        if b"connection" in special:
            options = self.tokens(b"connection")
            self.persistent = b"close" not in options and (self.http11 or b"keep-alive" in options)
        self.length = response_length(self, method)
        if self.length == UNTIL_CLOSE:
            self.persistent = False

    @property
    def interim(self) -> bool:
        """A 1xx other than 101, after which another response follows (RFC 9110 15.2)."""
        return self.status < 200 and self.status != 101

    def passed_on(self, *, close: bool, decoded: bool) -> bytes:
        """The head for the client: the same lines but those of this hop.

        `close`: the connection ends after this response. `decoded`: the content goes on without its chunks, to a
        client of HTTP/1.0, delimited by the close.
        """
        special = self.special
        if not close and self.http11 and (not special or (len(special) == 1 and b"content-length" in special)):
            return self.raw
        dropped: set[bytes] = set(HOP_BY_HOP)
        extra = b""
        if b"connection" in special:
            # What Connection names is of this hop, except what frames the message.
            dropped.update(self.tokens(b"connection"))
            dropped -= {b"content-length", b"transfer-encoding"}
        if b"transfer-encoding" in special:
            if decoded or self.length != CHUNKED or self.get(b"transfer-encoding") != b"chunked":
                dropped.add(b"transfer-encoding")
                if self.length == CHUNKED and not decoded:
                    extra = b"Transfer-Encoding: chunked\r\n"
        elif self.length > 0 and self.get(b"content-length") != b"%d" % self.length:
            dropped.add(b"content-length")
            extra = b"Content-Length: %d\r\n" % self.length
        if close and not self.interim:
            extra += b"Connection: close\r\n"
        line = self.raw[: self.raw.find(b"\r\n")]
        # RFC 9112 2.3: a gateway sends its own version.
        return b"\r\n".join([b"HTTP/1.1" + line[8:], *self.lines_without(dropped), extra + b"\r\n"])

    def switched(self, upgrade: bytes) -> bytes:
        """The 101 for the client, whose offer was `upgrade`; raises WireError where it does not match (RFC 9110 7.8)."""
        chosen = self.tokens(b"upgrade")
        offered = {offer.strip() for offer in upgrade.lower().split(b",")}
        if not chosen or not offered.issuperset(chosen) or b"upgrade" not in self.tokens(b"connection"):
            raise WireError(Fault.SYNTAX, "a 101 that does not match the Upgrade of the request", "RFC 9110 7.8")
        line = self.raw[: self.raw.find(b"\r\n")]
        extra = b"Connection: Upgrade\r\n\r\n"
        return b"\r\n".join([line, *self.lines_without(HOP_BY_HOP - {b"upgrade"}), extra])


def request_length(head: RequestHead) -> int:
    """The framing of a request (RFC 9112 6.3): bytes, or CHUNKED. Without framing fields there is no body."""
    if b"transfer-encoding" in head.special:
        _check_transfer_coding(head, http11=head.http11)
        return CHUNKED
    if b"content-length" in head.special:
        return _content_length(head)
    return 0


def response_length(head: ResponseHead, method: bytes) -> int:
    """The framing of a response to `method` (RFC 9112 6.3): bytes, CHUNKED, UNTIL_CLOSE or TUNNEL."""
    status = head.status
    coded = b"transfer-encoding" in head.special
    if coded:
        _check_transfer_coding(head, http11=head.http11)
    length = _content_length(head) if b"content-length" in head.special else UNTIL_CLOSE
    if status == 101:
        return TUNNEL
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return 0
    return CHUNKED if coded else length


def _check_transfer_coding(head: RequestHead | ResponseHead, *, http11: bool) -> None:
    """Exactly one Transfer-Encoding, chunked, in HTTP/1.1, and no Content-Length beside it (RFC 9112 6.1, 6.3)."""
    if b"content-length" in head.special:
        raise WireError(Fault.FRAMING, "both Transfer-Encoding and Content-Length", "RFC 9112 6.3")
    if not http11:
        raise WireError(Fault.FRAMING, "Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1")
    values = head.get_all(b"transfer-encoding")
    if len(values) != 1:
        raise WireError(Fault.FRAMING, "more than one Transfer-Encoding", "RFC 9112 6.1")
    if values[0].lower() != b"chunked":
        raise WireError(Fault.CODING, "a transfer coding other than chunked", "RFC 9112 6.1")


def _content_length(head: RequestHead | ResponseHead) -> int:
    """Content-Length in bytes: one line, digits only (RFC 9112 6.3)."""
    if head.names.count(b"content-length") != 1:
        raise WireError(Fault.FRAMING, "more than one Content-Length", "RFC 9112 6.3")
    value = head.get(b"content-length")
    assert value is not None
    if CONTENT_LENGTH.fullmatch(value) is None:
        raise WireError(Fault.FRAMING, "a Content-Length that is not 1 to 18 digits", "RFC 9110 8.6")
    return int(value)


def malformed_request_line(line: bytes) -> WireError:
    """Why `line` is no request-line that we serve."""
    if OTHER_VERSION.fullmatch(line) is not None:
        return WireError(Fault.VERSION, "a version other than HTTP/1.1 and HTTP/1.0", "RFC 9112 2.3")
    return WireError(Fault.SYNTAX, "a malformed request-line", "RFC 9112 3")
