"""Answers in gzip (RFC 9110 8.4.1.3): which clients take it, and the stage that content passes.

A stage holds nothing back: what it is given comes out of it in the same step, compressed, as chunks. Knows no heads,
no connection and no configuration.
"""

from __future__ import annotations

import re
import zlib

from sidecar.wire.body import ChunkedDelimiter

MEMORY = 268 * 1024
"""Bytes that one stage takes: the window of 32 KiB and what else deflate keeps (zlib.h, deflateInit2)."""

_GZIP = 16 + zlib.MAX_WBITS
_UNBOUNDED = 1 << 62
_ELEMENT = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
"""A coding with its weight (RFC 9110 12.5.3, 12.4.2)."""
_MOST_CODINGS = 32
"""More in one request than any client has, and few enough to look at each."""


def accepts_gzip(values: list[bytes]) -> bool:
    """Whether the values of Accept-Encoding ask for gzip: above 0, and not below what is not coded at all.

    Elements that are malformed count as absent, and so does a list that is too long. Nothing is coded for a client that
    says nothing (RFC 9110 12.5.3 would allow it, but who says nothing rarely can undo it).
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

    `take` is given the octets of the body as a reader tells them, `give` returns what goes to the client for them.
    """

    __slots__ = ("_deflate", "_delimiter", "_waiting", "given", "taken")

    def __init__(self, level: int, *, chunked: bool) -> None:
        """`chunked`: what it is given is in chunks, with the framing that goes on."""
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        # The reader has held it against its bounds.
        bounds = {"line_limit": _UNBOUNDED, "extensions_limit": _UNBOUNDED, "trailer_limit": _UNBOUNDED}
        self._delimiter = ChunkedDelimiter(**bounds, decoded=True) if chunked else None
        self._waiting: list[bytes] = []
        self.taken = 0
        """Bytes of content that came."""
        self.given = 0
        """Bytes of content that went, without those of chunks."""

    def take(self, octets: bytes) -> None:
        """A part of the body."""
        content = octets if self._delimiter is None else self._delimiter.feed(octets)
        self.taken += len(content)
        self._waiting.append(self._deflate.compress(content))

    def give(self, *, ended: bool) -> bytes:
        """All that has been taken, as chunks; with the last one if it has `ended`."""
        if not (self._waiting or ended):
            return b""
        self._waiting.append(self._deflate.flush(zlib.Z_FINISH if ended else zlib.Z_SYNC_FLUSH))
        octets = b"".join(self._waiting)
        self._waiting.clear()
        self.given += len(octets)
        return b"%x\r\n%b\r\n%b" % (len(octets), octets, b"0\r\n\r\n" if ended else b"")
