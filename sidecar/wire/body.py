"""Where a chunked body ends (RFC 9112 7.1).

Passes the body on unchanged, except for what no reader needs and some misread: chunk extensions, leading zeros of a
size, and trailer fields that could be taken for framing or routing. Knows no heads and no time.
"""

from __future__ import annotations

from sidecar.errors import Fault, WireError
from sidecar.wire.fields import field_name
from sidecar.wire.grammar import CHUNK_LINE, CHUNK_LINE_PREFIX

# RFC 9110 6.5.1: fields that a trailer must not carry, because a recipient that merges it would act on them.
_NOT_IN_TRAILER = frozenset(
    {
        *(b"authorization", b"connection", b"content-encoding", b"content-length", b"content-range", b"content-type"),
        *(b"cookie", b"expect", b"host", b"keep-alive", b"max-forwards", b"proxy-authorization", b"proxy-connection"),
        *(b"set-cookie", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-forwarded-for"),
        *(b"x-forwarded-proto", b"x-request-id", b"cache-control", b"range"),
    }
)

_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)


class ChunkedDelimiter:
    """Reads chunks until the last one and its trailer section.

    `feed` returns what goes on, in canonical framing, as early as possible: data as they come, a chunk-size line when
    it is complete, the last chunk only together with the whole trailer section. With `decoded`, only the data go on,
    for a client of HTTP/1.0. After `done`, `rest` holds the bytes after the body.
    """

    __slots__ = (
        *("_decoded", "_extensions_left", "_left", "_line_limit", "_pending", "_state", "_trailer", "_trailer_left"),
        *("content", "rest"),
    )

    def __init__(self, *, line_limit: int, extensions_limit: int, trailer_limit: int, decoded: bool = False) -> None:
        self._state = _SIZE
        self._pending = b""
        self._left = 0
        self._line_limit = line_limit
        self._extensions_left = extensions_limit
        self._trailer_left = trailer_limit
        self._trailer: list[bytes] = []
        self._decoded = decoded
        self.content = 0
        """Bytes of content announced so far."""
        self.rest = b""

    @property
    def done(self) -> bool:
        return self._state == _DONE

    @property
    def trailer(self) -> bytes:
        """The lines of the trailer section that go on, each with its CRLF."""
        return b"".join(self._trailer)

    def feed(self, data: bytes) -> bytes:
        """What goes on of `data`; raises WireError at the first byte that is no chunked body."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        out: list[bytes] = []
        position = 0
        kept_from = 0  # what is between here and `position` goes on unchanged
        end = len(data)
        while position < end:
            if self._state == _DATA:
                taken = min(self._left, end - position)
                position += taken
                self._left -= taken
                if self._left == 0:
                    self._state = _DATA_END
                continue
            line_end = data.find(b"\r\n", position)
            if line_end < 0 or (self._state == _DATA_END and line_end > position):
                self._check_incomplete_line(data[position:])
                self._pending = data[position:]
                break
            instead = self._take_line(data[position:line_end])
            if instead is not None:
                out += (data[kept_from:position], instead)
                kept_from = line_end + 2
            position = line_end + 2
            if self._state == _DONE:
                self.rest = data[position:]
                return b"".join(out)
        if kept_from == 0 and position == end:
            return data
        out.append(data[kept_from:position])
        return b"".join(out)

    def _take_line(self, line: bytes) -> bytes | None:
        """Take one line without its CRLF; return what goes on instead of it, None for the line itself."""
        if self._state == _SIZE:
            return self._chunk_line(line)
        if self._state == _DATA_END:
            self._state = _SIZE
            return b"" if self._decoded else None
        if line:
            self._trailer_line(line)
            return b""
        self._state = _DONE
        return b"" if self._decoded else b"0\r\n%b\r\n" % b"".join(self._trailer)

    def _chunk_line(self, line: bytes) -> bytes | None:
        match = CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > self._line_limit:
            raise WireError(Fault.FRAMING, "a malformed chunk-size line", "RFC 9112 7.1")
        digits, extensions = match.groups()
        size = int(digits, 16)
        if extensions:
            self._extensions_left -= len(extensions)
            if self._extensions_left < 0:
                raise WireError(Fault.FRAMING, "too many chunk extensions", "RFC 9112 7.1.1")
        if size == 0:
            # The last chunk goes on together with the trailer section.
            self._state = _TRAILER
            return b""
        self.content += size
        self._left = size
        self._state = _DATA
        if self._decoded:
            return b""
        return None if len(line) == len(digits) else b"%b\r\n" % digits

    def _trailer_line(self, line: bytes) -> None:
        self._trailer_left -= len(line) + 2
        if self._trailer_left < 0:
            raise WireError(Fault.HEAD_TOO_LARGE, "a trailer section beyond its limit", "RFC 9112 7.1.2")
        if field_name(line) not in _NOT_IN_TRAILER:
            self._trailer.append(line + b"\r\n")

    def _check_incomplete_line(self, line: bytes) -> None:
        """Refuse an incomplete line as soon as it cannot become a valid one."""
        if self._state == _DATA_END:
            if line != b"\r":
                raise WireError(Fault.FRAMING, "chunk data without CRLF behind them", "RFC 9112 7.1")
            return
        length = len(line) - line.endswith(b"\r")
        if self._state == _SIZE:
            if CHUNK_LINE_PREFIX.fullmatch(line) is None or length > self._line_limit:
                raise WireError(Fault.FRAMING, "a malformed chunk-size line", "RFC 9112 7.1")
        elif b"\n" in line or b"\r" in line[:-1]:
            raise WireError(Fault.SYNTAX, "a bare CR or LF in the trailer section", "RFC 9112 2.2")
        elif length and length + 2 > self._trailer_left:
            raise WireError(Fault.HEAD_TOO_LARGE, "a trailer section beyond its limit", "RFC 9112 7.1.2")
