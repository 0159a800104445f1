"""Checks the frames of a client before `h2` gets them: their length, and how many useless ones come.

`h2` reads a whole frame before it finds it too long, and counts few useless ones. After a client's GOAWAY it would not
send the remaining answers (RFC 9113 6.8), so such a frame is noted here and not passed on.
"""

from __future__ import annotations

from struct import pack

from sidecar.http2.faults import ConversationError, ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of a client (RFC 9113 3.4)."""
LARGEST_FRAME = 16384
"""Largest frame of content, both ways: what everybody has to accept (RFC 9113 4.2)."""

_HEAD = 9
_DATA, _HEADERS, _GOAWAY, _CONTINUATION = 0x0, 0x1, 0x7, 0x9
_END_STREAM, _END_HEADERS, _PADDED = 0x1, 0x4, 0x8


class FrameWatch:
    """Reads frame heads, and passes on what `h2` should see."""

    __slots__ = ("_block", "_most_block", "_partial", "_seen", "_to_come", "farewell", "idle", "in_block")

    def __init__(self, most_block: int) -> None:
        """`most_block`: bytes of one compressed list of fields."""
        self._most_block = most_block
        self._partial = b""
        self._to_come = len(PREFACE)
        self._seen = True
        self._block = 0
        self.in_block = False
        """A list of fields has begun and not ended (CONTINUATION)."""
        self.idle = 0
        """Useless frames: no request, no content, not the end of either."""
        self.farewell = False
        """The client makes no more requests: it has sent GOAWAY."""

    def take_idle(self) -> int:
        """How many useless frames came since the last call."""
        idle, self.idle = self.idle, 0
        return idle

    def feed(self, octets: bytes) -> bytes:
        """The part of `octets` that goes on to `h2`. Raises ConversationError."""
        if self._partial:
            octets = self._partial + octets
            self._partial = b""
        end = len(octets)
        position = min(self._to_come, end)
        self._to_come -= position
        out: list[bytes] = []
        kept_from = 0 if self._seen else position
        while end - position >= _HEAD:
            length = int.from_bytes(octets[position : position + 3], "big")
            self._judge(octets[position + 3], octets[position + 4], length)
            following = position + _HEAD + length
            if not self._seen:
                out.append(octets[kept_from:position])
                kept_from = min(following, end)
            position = min(following, end)
            self._to_come = following - position
        if position == end and not kept_from:
            return octets
        self._partial = octets[position:]
        out.append(octets[kept_from:position])
        return b"".join(out)

    def _judge(self, kind: int, flags: int, length: int) -> None:
        """Take the head of a frame."""
        if length > LARGEST_FRAME:
            raise ConversationError(ErrorCode.FRAME_SIZE_ERROR, "a frame longer than SETTINGS_MAX_FRAME_SIZE")
        self._seen = kind != _GOAWAY or self.in_block
        if kind in (_HEADERS, _CONTINUATION):
            self._block = length + (self._block if kind == _CONTINUATION else 0)
            if self._block > self._most_block:
                raise ConversationError(ErrorCode.ENHANCE_YOUR_CALM, "a list of fields beyond its limit")
            self.in_block = not flags & _END_HEADERS
            self.idle += kind == _CONTINUATION
        elif kind == _DATA:
            # A padded frame may be only padding, and no Matrix client pads.
            self.idle += bool(flags & _PADDED) or not (length or flags & _END_STREAM)
        else:
            self.idle += 1
            self.farewell |= not self._seen


class Allowance:
    """A token bucket: a number of events in a minute, and more for useful work."""

    __slots__ = ("_at", "_left", "_most")

    def __init__(self, most: int, now: float) -> None:
        self._most = most
        self._left = float(most)
        self._at = now

    def earn(self, many: float) -> None:
        """Allow that many more."""
        self._left = min(self._most, self._left + many)

    def spend(self, many: int, now: float) -> bool:
        """Count that many; False if it is too many."""
        self.earn((now - self._at) * self._most / 60)
        self._at = now
        self._left -= many
        return self._left >= 0


def goaway(last_stream: int, code: int) -> bytes:
    """A GOAWAY frame. That of `h2` ends a connection on which streams may still run."""
    return pack(">HBBBLLL", 0, 8, _GOAWAY, 0, 0, last_stream, code)
