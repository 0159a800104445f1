"""Answers in gzip (RFC 9110 8.4.1.3): which clients accept it, and the coder of the content.

A coder holds nothing back: what goes in comes out in the same step, compressed, as chunks. Knows no heads, no
connection and no configuration.
"""

from __future__ import annotations

import re
import zlib

from sidecar.wire.body import ChunkedDelimiter

MEMORY = 268 * 1024
"""Memory of one coder in bytes: the window of 32 KiB and what else deflate keeps (zlib.h, deflateInit2)."""

_GZIP = 16 + zlib.MAX_WBITS
_UNBOUNDED = 1 << 62
_ELEMENT = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
"""A coding with its weight (RFC 9110 12.5.3, 12.4.2)."""
_MOST_CODINGS = 32
"""More elements than any client sends, and few enough to look at each."""


def accepts_gzip(values: list[bytes]) -> bool:
    """Whether the values of Accept-Encoding ask for gzip: with a weight above 0, and not below that of `identity`.

    Malformed elements count as absent, and so does a list that is too long. Nothing is compressed for a client that
    does not send the field (RFC 9110 12.5.3 would allow it, but such a client rarely can decompress).
    """
    weights: dict[bytes, float] = {}
    elements = b",".join(values).split(b",", _MOST_CODINGS)
    for element in elements if len(elements) <= _MOST_CODINGS else ():
        match = _ELEMENT.fullmatch(element.strip(b" \t"))
        if match is not None:
            coding, weight = match.groups()
            weights[coding.lower().removeprefix(b"x-")] = 1.0 if weight is None else float(weight)
    gzip = weights.get(b"gzip", weights.get(b"*", 0.0))
    return gzip > 0 and gzip >= weights.get(b"identity", 0.0)


class Coder:
    """Compresses the content of one answer.

    `take` gets the bytes of the body as a reader gives them, `give` returns what goes to the client.
    """

    __slots__ = ("_deflate", "_delimiter", "_waiting", "given", "taken")

    def __init__(self, level: int, *, chunked: bool) -> None:
        """`chunked`: `take` gets the body with its chunk framing."""
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        # No limits: the reader has checked them.
        bounds = {"line_limit": _UNBOUNDED, "extensions_limit": _UNBOUNDED, "trailer_limit": _UNBOUNDED}
        self._delimiter = ChunkedDelimiter(**bounds, decoded=True) if chunked else None
        self._waiting: list[bytes] = []
        self.taken = 0
        """Bytes of content before compression."""
        self.given = 0
        """Bytes of content after compression, without chunk framing."""

    def take(self, octets: bytes) -> None:
        """A part of the body."""
        content = octets if self._delimiter is None else self._delimiter.feed(octets)
        self.taken += len(content)
        self._waiting.append(self._deflate.compress(content))

    def give(self, *, ended: bool) -> bytes:
        """All that was taken, compressed, as chunks; with the last chunk if the body has `ended`."""
        if not (self._waiting or ended):
            return b""
        self._waiting.append(self._deflate.flush(zlib.Z_FINISH if ended else zlib.Z_SYNC_FLUSH))
        octets = b"".join(self._waiting)
        self._waiting.clear()
        self.given += len(octets)
        return b"%x\r\n%b\r\n%b" % (len(octets), octets, b"0\r\n\r\n" if ended else b"")
