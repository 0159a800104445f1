"""Field sections as they stand on the wire: raw lines in order, with an index of lower-cased names.

Finds, counts and cuts field lines; never rewrites one. Does not know which fields matter to framing or routing.
"""

from __future__ import annotations

from collections.abc import Container

from sidecar.errors import Fault, WireError
from sidecar.wire.grammar import FIELD_LINE, FIELD_NAME_AT_LINE_START, LIST_SEPARATOR, NOT_CONTROL

OWS = b" \t"


class FieldSection:
    """The field lines of a head.

    `raw` is the whole head with its last CRLF CRLF, `names` the field names in lower case in their order.
    Reading a value costs only when asked, because most heads are passed on without anybody looking inside.
    """

    __slots__ = ("lowered", "names", "raw")

    def __init__(self, raw: bytes, first_line_end: int, most_fields: int) -> None:
        """Check the syntax of every line after `first_line_end`, the offset of the first CRLF.

        Raises WireError (RFC 9112 2.2, 5; RFC 9110 5.5) for bare CR or LF, control octets, folded lines, blanks
        before a colon, missing colons, and for more than `most_fields` lines.
        """
        lines = raw.count(b"\r\n")
        if raw.count(b"\n") != lines or raw.count(b"\r") != lines:
            raise WireError(Fault.SYNTAX, "a bare CR or LF in the head", "RFC 9112 2.2")
        if raw.translate(None, NOT_CONTROL):
            raise WireError(Fault.SYNTAX, "a control octet in the head", "RFC 9110 5.5")
        self.raw = raw
        self.lowered = lowered = raw.lower()
        self.names: list[bytes] = FIELD_NAME_AT_LINE_START.findall(lowered, first_line_end)
        if len(self.names) != lines - 2:
            raise WireError(Fault.SYNTAX, "a malformed field line", "RFC 9112 5")
        if lines - 2 > most_fields:
            raise WireError(Fault.HEAD_TOO_LARGE, f"more than {most_fields} field lines", "RFC 6585 5")

    def get(self, name: bytes) -> bytes | None:
        """The first value of `name` (given in lower case) without surrounding blanks, or None."""
        start = self.lowered.find(b"\r\n" + name + b":")
        if start < 0:
            return None
        start += len(name) + 3
        return self.raw[start : self.raw.find(b"\r\n", start)].strip(OWS)

    def get_all(self, name: bytes) -> list[bytes]:
        """All values of `name` (given in lower case), in their order."""
        if name not in self.names:
            return []
        lines = self.raw.split(b"\r\n")
        return [
            lines[index].partition(b":")[2].strip(OWS)
            for index, present in enumerate(self.names, start=1)
            if present == name
        ]

    def tokens(self, name: bytes) -> list[bytes]:
        """The elements of the comma-separated list in all lines of `name`, lower-cased, empty ones left out."""
        values = b",".join(self.get_all(name)).lower()
        return [element for element in LIST_SEPARATOR.split(values.strip(OWS)) if element]

    def lines_without(self, names: Container[bytes]) -> list[bytes]:
        """The field lines as received, without CRLF, except those with one of `names` (lower case)."""
        lines = self.raw.split(b"\r\n")
        return [lines[index] for index, present in enumerate(self.names, start=1) if present not in names]


def parse_field_line(line: bytes) -> tuple[bytes, bytes]:
    """Name in lower case and value of one line without CRLF; raises WireError (RFC 9112 5)."""
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise WireError(Fault.SYNTAX, "a malformed field line", "RFC 9112 5")
    return match[1].lower(), match[2].strip(OWS)
