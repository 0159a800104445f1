"""Heads: start-line and field section of one message, parsed strictly and kept as received.

Decides persistence (RFC 9112 9.3), upgrade and expectation. Makes the head for the next hop by cutting whole lines.
Does not know where the bytes came from, nor where they go.

A client sends the same fields with each request, and a worker with all responses of one second. So a field section is
checked once and remembered, and only the start-line is left for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from sidecar.errors import Fault, WireError
from sidecar.wire.framing import (
    CHUNKED,
    HOP_BY_HOP,
    NOT_PASSED_ON,
    RESPONSE_SPECIAL,
    TUNNEL,
    UNTIL_CLOSE,
    RequestFields,
    ResponseFields,
)
from sidecar.wire.grammar import ABSOLUTE_FORM, OTHER_VERSION, REQUEST_LINE, STATUS_LINE, TARGET_OCTETS

_NOT_SERVED = frozenset({b"CONNECT", b"TRACE"})
_USUAL = frozenset({b"GET", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH"})

# How many field sections are remembered of each kind, and how long one may be: at most 5 MiB each, commonly 1 MiB.
MOST_SECTIONS = 1024
LONGEST_SECTION = 2048


_NOTHING = (0, UNTIL_CLOSE)
_CLOSE = b"Connection: close\r\n"

_Judged = TypeVar("_Judged")


class OctetMemory(Generic[_Judged]):
    """Checked sections by their bytes: between half of MOST_SECTIONS and all of them.

    When the younger half is full, the older one is dropped, so that frequent sections stay.
    """

    __slots__ = ("_judge", "_older", "recent")

    def __init__(self, judge: Callable[[bytes], _Judged]) -> None:
        self._judge: Callable[[bytes], _Judged] = judge
        self.recent: dict[bytes, _Judged] = {}
        self._older: dict[bytes, _Judged] = {}

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)

    def clear(self) -> None:
        """Forget everything."""
        self.recent, self._older = {}, {}

    def find(self, raw: bytes) -> _Judged:
        """The section of `raw`, remembered or checked now; raises WireError."""
        judged = self._older.get(raw) or self._judge(raw)
        if len(raw) <= LONGEST_SECTION:
            if len(self.recent) >= MOST_SECTIONS // 2:
                self._older = self.recent
                self.recent = {}
            self.recent[raw] = judged
        return judged


_requests: OctetMemory[RequestFields] = OctetMemory(RequestFields)
_responses: OctetMemory[ResponseFields] = OctetMemory(ResponseFields)


class RequestHead:
    """A request-line and its fields (RFC 9112 3).

    `target` is the request-target as received; `origin` is what goes on: the same bytes, or for absolute-form the
    part after the authority. `length` is the framing, `upgrade` what can be offered to a worker.
    """

    __slots__ = ("_line", "fields", "http11", "length", "method", "origin", "persistent", "target", "upgrade")

    def __init__(self, raw: bytes, most_fields: int = 200, most_options: int = 32) -> None:
        """`raw` is the head with its empty line; raises WireError."""
        end = raw.find(b"\r")
        line = raw[:end]
        section = raw[end:]
        words = line.split(b" ")
        if (
            len(words) == 3
            and words[2] == b"HTTP/1.1"
            and words[0] in _USUAL
            and words[1][:1] == b"/"
            and not words[1].translate(None, TARGET_OCTETS)
        ):
            # The common case of `REQUEST_LINE`, at half the cost.
            method, target, _ = words
            usual = http11 = True
        else:
            match = REQUEST_LINE.fullmatch(line)
            if match is None:
                raise malformed_request_line(line)
            method, target, minor = match.groups()
            usual, http11 = False, minor == b"1"
        fields = _requests.recent.get(section) or _requests.find(section)
        if fields.count > most_fields:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_fields} field lines", "RFC 6585 5")
        if len(fields.options) > most_options:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_options} connection options", "RFC 6585 5")
        self.fields = fields
        self.method = method
        self.target = self.origin = target
        self._line = line
        self.http11 = self.persistent = http11
        self.length = fields.length
        self.upgrade: bytes | None = None
        if not usual and target[0] != 0x2F:
            self._check_target()
        if not (fields.plain and http11):
            self._judge_together()
        if not usual and method in _NOT_SERVED:
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
        """Set what depends on the version and the fields."""
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

    def passed_on(self, forwarded: bytes, cut: Iterable[bytes] = ()) -> bytes:
        """The head for the next hop: the same lines without hop-by-hop ones, then `forwarded` (whole lines, CRLF).

        `cut` names more fields, in lower case, whose lines do not go on.
        """
        fields = self.fields
        if self.upgrade is not None:
            extra = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade
            return self._line + fields.edited(NOT_PASSED_ON, extra + forwarded, cut)
        if not self.http11:
            # RFC 9110 10.1.1: an expectation is ignored in HTTP/1.0.
            return self._line + fields.edited(NOT_PASSED_ON | {b"expect"}, forwarded, cut)
        if cut:
            return self._line + fields.edited(NOT_PASSED_ON, forwarded, cut)
        return self._line + fields.passed_on(forwarded)


class ResponseHead:
    """A status-line and its fields (RFC 9112 4).

    `length` is the framing for a response to `method` (RFC 9112 6.3); `persistent` tells whether the connection
    may carry another request after it; `misframed` that it announces content which its status does not allow.
    """

    __slots__ = ("_line", "fields", "http11", "length", "misframed", "persistent", "status", "unchanged")

    def __init__(self, raw: bytes, method: bytes, most_fields: int = 200, most_options: int = 32) -> None:
        end = raw.find(b"\r\n")
        match = STATUS_LINE.fullmatch(raw, 0, end)
        if match is None:
            raise WireError(Fault.SYNTAX, "a malformed status-line", "RFC 9112 4")
        section = raw[end:]
        fields = _responses.recent.get(section) or _responses.find(section)
        if fields.count > most_fields:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_fields} field lines", "RFC 6585 5")
        if len(fields.options) > most_options:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_options} connection options", "RFC 6585 5")
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
        # `Content-Length: 0` in a 204, as Synapse sends it, announces nothing, so it can be cut.
        announced = fields.length != UNTIL_CLOSE if status < 200 else status == 204 and fields.length not in _NOTHING
        self.misframed = announced
        self.unchanged = http11 and not announced and fields.passed_on() is fields.raw
        """It goes on unchanged to a client whose connection stays open."""
        options = fields.options
        if length == UNTIL_CLOSE or announced:
            self.persistent = False
        elif options:
            self.persistent = b"close" not in options and (http11 or b"keep-alive" in options)
        else:
            self.persistent = http11

    @property
    def interim(self) -> bool:
        """A 1xx other than 101, after which another response follows (RFC 9110 15.2)."""
        return self.status < 200 and self.status != 101

    def passed_on(self, *, close: bool, decoded: bool, cut: Iterable[bytes] = (), extra: bytes = b"") -> bytes:
        """The head for the client: the same lines without hop-by-hop ones.

        `close`: the connection ends after this response. `decoded`: the content goes on without its chunks, to a
        client of HTTP/1.0, delimited by the close. `cut` names more fields, in lower case, whose lines do not go on;
        `extra` are lines that come to them.
        """
        if self.misframed:
            return self._line + self.fields.unframed(_CLOSE if close else b"")
        if not (close or cut or extra):
            return self._line + self.fields.passed_on()
        dropped = HOP_BY_HOP | {b"transfer-encoding"} if decoded else HOP_BY_HOP
        return self._line + self.fields.edited(dropped, extra + _CLOSE if close else extra, cut)

    def coded(self, cut: Iterable[bytes], extra: bytes, *, close: bool) -> bytes:
        """The head for a client that gets the content in another coding and in chunks; the rest as in `passed_on`."""
        return self._line + self.fields.recoded(cut, extra + _CLOSE if close else extra)

    def relayed(self, whole: bytes) -> bytes:
        """The response for a client whose connection stays open, as `passed_on`; `whole` is all of it as it came."""
        return self.passed_on(close=False, decoded=False) + whole[len(whole) - self.length :]

    def switched(self, upgrade: bytes) -> bytes:
        """The 101 for the client whose offer was `upgrade`; raises WireError if it does not match (RFC 9110 7.8)."""
        fields = self.fields
        chosen = fields.tokens(b"upgrade")
        offered = {offer.strip() for offer in upgrade.lower().split(b",")}
        if not chosen or not offered.issuperset(chosen) or b"upgrade" not in fields.options:
            raise WireError(Fault.SYNTAX, "a 101 that does not match the Upgrade of the request", "RFC 9110 7.8")
        # No framing fields either: they would end the tunnel for the client (RFC 9110 8.6).
        cut = {*RESPONSE_SPECIAL, *fields.options} - {b"upgrade"}
        return self._line + b"%bConnection: Upgrade\r\n\r\n" % fields.without(cut)


def _answer_to_get(raw: bytes) -> ResponseHead:
    return ResponseHead(raw, b"GET")


answers: OctetMemory[ResponseHead] = OctetMemory(_answer_to_get)
"""The head of an answer, except to HEAD. Remembered, because many answers of one second are equal; nobody changes
one."""


def malformed_request_line(line: bytes) -> WireError:
    """Why `line` is no request-line that we serve."""
    if OTHER_VERSION.fullmatch(line) is not None:
        return WireError(Fault.VERSION, "a version other than HTTP/1.1 and HTTP/1.0", "RFC 9112 2.3")
    return WireError(Fault.SYNTAX, "a malformed request-line", "RFC 9112 3")
