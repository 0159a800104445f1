"""Field sections as they stand on the wire: raw lines in order, with an index of lower-cased names.

Finds, counts and cuts field lines; never rewrites one. Does not know which fields matter to framing or routing.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.errors import Fault, WireError
from sidecar.wire.grammar import FIELD_LINE, FIELD_NAME_AT_LINE_START, LIST_ELEMENT, NOT_CONTROL

OWS = b" \t"


class FieldSection:
    """The field lines of a head, checked.

    `raw` begins with the CRLF that ends the start-line, and ends with the empty line; `count` is the number of lines
    between. Values are read on demand and not kept, because most are only passed on. Immutable, so that equal sections
    can share one object.
    """

    __slots__ = ("count", "raw")

    def __init__(self, raw: bytes) -> None:
        """Check the syntax of every line; raises WireError."""
        self._read(raw)

    def _read(self, raw: bytes) -> tuple[bytes, list[bytes]]:
        """Check `raw`; return it in lower case, and its names, for further checks.

        Raises WireError (RFC 9112 2.2, 5; RFC 9110 5.5) for bare CR or LF, control bytes, folded lines, blanks
        before a colon, and missing colons.
        """
        lines = raw.count(b"\r\n")
        if raw.count(b"\n") != lines or raw.count(b"\r") != lines:
            raise WireError(Fault.SYNTAX, "a bare CR or LF in the head", "RFC 9112 2.2")
        if raw.translate(None, NOT_CONTROL):
            raise WireError(Fault.SYNTAX, "a control character in the head", "RFC 9110 5.5")
        self.raw = raw
        self.count = lines - 2
        lowered = raw.lower()
        names: list[bytes] = FIELD_NAME_AT_LINE_START.findall(lowered)
        if len(names) != self.count:
            raise WireError(Fault.SYNTAX, "a malformed field line", "RFC 9112 5")
        return lowered, names

    @property
    def names(self) -> list[bytes]:
        """The field names in lower case, in their order."""
        names: list[bytes] = FIELD_NAME_AT_LINE_START.findall(self.raw.lower())
        return names

    def get(self, name: bytes) -> bytes | None:
        """The first value of `name` (given in lower case) without surrounding blanks, or None."""
        return self._value(self.raw.lower(), name)

    def _value(self, lowered: bytes, name: bytes) -> bytes | None:
        """The same, given the section in lower case."""
        start = lowered.find(b"\r\n" + name + b":")
        if start < 0:
            return None
        start += len(name) + 3
        return self.raw[start : self.raw.find(b"\r\n", start)].strip(OWS)

    def get_all(self, name: bytes) -> list[bytes]:
        """All values of `name` (given in lower case), in their order."""
        return self._values(self.raw.lower(), name)

    def _values(self, lowered: bytes, name: bytes) -> list[bytes]:
        """The same, given the section in lower case."""
        values = []
        mark = b"\r\n" + name + b":"
        start = lowered.find(mark)
        while start >= 0:
            start += len(mark)
            end = lowered.find(b"\r\n", start)
            values.append(self.raw[start:end].strip(OWS))
            start = lowered.find(mark, end)
        return values

    def tokens(self, name: bytes) -> list[bytes]:
        """The elements of the comma-separated list in all lines of `name`, lower-cased, empty ones left out."""
        return LIST_ELEMENT.findall(b",".join(self.get_all(name)).lower())

    def without(self, names: Iterable[bytes]) -> bytes:
        """`raw` without the lines of `names` (lower case), and without the CRLF of the empty line."""
        cuts = []
        lowered = self.raw.lower()
        for name in names:
            mark = b"\r\n" + name + b":"
            start = lowered.find(mark)
            while start >= 0:
                end = lowered.find(b"\r\n", start + len(mark))
                cuts.append((start, end))
                start = lowered.find(mark, end)
        kept = []
        position = 0
        for start, end in sorted(cuts):
            kept.append(self.raw[position:start])
            position = end
        kept.append(self.raw[position:-2])
        return b"".join(kept)


def field_name(line: bytes) -> bytes:
    """The name, in lower case, of one line without CRLF; raises WireError (RFC 9112 5)."""
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise WireError(Fault.SYNTAX, "a malformed field line", "RFC 9112 5")
    return match[1].lower()


def check_partial_lines(buffer: bytes, since: int) -> None:
    """Refuse a bare CR or LF in the part of an incomplete head after offset `since`.

    Raises WireError (RFC 9112 2.2) at once, because a head with them may never end for us.
    """
    start = max(0, since - 1)
    lines = buffer.count(b"\r\n", start)
    carriage_returns = buffer.count(b"\r", start) - buffer.endswith(b"\r")
    if buffer.count(b"\n", start) - buffer.startswith(b"\n", start) * (start > 0) != lines or carriage_returns != lines:
        raise WireError(Fault.SYNTAX, "a bare CR or LF in the head", "RFC 9112 2.2")
