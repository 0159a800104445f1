"""The name by which one request can be followed: taken from a peer that may speak for others, or made.

Handed to Synapse under the field that its listeners name as `request_id_header` (synapse/http/site.py, which writes it
into every line of its log about the request). Who is not trusted cannot choose it: a line of that name is cut. Reads no
random source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import define

from sidecar.wire.framing import REQUEST_ID
from sidecar.wire.head import RequestHead

_ACCEPTED = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What is taken from a trusted peer. Nothing that could end a quoted text or a word in a log."""


_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context 3.2.2: a version that may be, a trace and a span that are not zero, and flags."""


def trace_of(values: Sequence[bytes]) -> str:
    """The trace that these lines of `traceparent` name; empty where there is not one valid value. None is ever made."""
    return values[0].decode("ascii") if len(values) == 1 and _TRACE.fullmatch(values[0]) else ""


@define(eq=False)
class NewIds:
    """Makes ids that nobody else gives to a request: a word that tells this process from others, and a number."""

    prefix: str
    count: int = 0
    """How many were made; whoever makes many at once counts by himself."""

    def use_up(self, count: int) -> None:
        """Whoever made many at once has come to this number."""
        self.count = count

    def make(self) -> str:
        """The next one."""
        self.count += 1
        return f"{self.prefix}-{self.count}"


class RequestIds:
    """Settles the id of one request after the other."""

    __slots__ = ("_names", "_read", "_sent", "make", "quiet")

    def __init__(self, names: Iterable[str], new: NewIds) -> None:
        """`names`: the fields that Synapse's listeners read, none if it reads none."""
        self.make = new.make
        # More than one name is odd, but each process of Synapse may have its own.
        self._sent = tuple(name.encode("ascii") for name in dict.fromkeys(names))
        self._names = tuple(name.lower() for name in self._sent)
        self._read = self._names[0] if self._names else REQUEST_ID
        self.quiet = not self._names
        """Nobody is sent an id, so that a request is of interest only if it has one in the usual field."""

    def told(self, head: RequestHead) -> str | None:
        """The id that a trusted peer has given to a request; None if it gave none, or one that is not accepted."""
        values = head.fields.values_of(self._read)
        if len(values) == 1 and _ACCEPTED.fullmatch(values[0]):
            return values[0].decode("ascii")
        return None

    def settle(self, head: RequestHead, forwarded: bytes, *, trusted: bool) -> tuple[str, bytes]:
        """The id, and the head for the next hop, which holds it where Synapse wants it.

        `trusted`: the peer may speak for others. `forwarded` as in `RequestHead.passed_on`. The id is empty where no
        process is sent one and none was told: whoever tells it first makes it then, which costs most requests less.
        """
        told = self.told(head) if trusted else None
        names = self._names
        if not names or (told is not None and len(names) == 1):
            return told or "", head.passed_on(forwarded)
        request_id = told or self.make()
        fields = head.fields
        present = bool(fields.values_of(names[0])) or any(fields.get(name) is not None for name in names[1:])
        raw = head.passed_on(forwarded, names if present else ())
        octets = request_id.encode("ascii")
        return request_id, raw[:-2] + b"".join([b"%b: %b\r\n" % (name, octets) for name in self._sent]) + b"\r\n"
