"""The id of a request: taken from a trusted peer, or made.

Sent to Synapse in the field that its listeners name as `request_id_header` (synapse/http/site.py writes it into every
log line of the request). Other clients cannot choose it: their line of that name is cut. Reads no random source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import define

from sidecar.wire.framing import REQUEST_ID
from sidecar.wire.head import RequestHead

_ACCEPTED = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What is accepted from a trusted peer: nothing that could end a word or a quoted text in a log."""


_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context 3.2.2: an allowed version, a trace and a span that are not zero, and flags."""


def trace_of(values: Sequence[bytes]) -> str:
    """The trace that these lines of `traceparent` name; empty unless there is one valid value."""
    return values[0].decode("ascii") if len(values) == 1 and _TRACE.fullmatch(values[0]) else ""


@define(eq=False)
class NewIds:
    """Makes unique ids: a prefix of this process, and a number."""

    prefix: str
    count: int = 0
    """How many were made. Code that makes many at once counts for itself, and then calls `use_up`."""

    def use_up(self, count: int) -> None:
        """The number that was reached by code that made many at once."""
        self.count = count

    def make(self) -> str:
        """The next one."""
        self.count += 1
        return f"{self.prefix}-{self.count}"


class RequestIds:
    """Decides the id of each request."""

    __slots__ = ("_names", "_read", "_sent", "make", "quiet")

    def __init__(self, names: Iterable[str], new: NewIds) -> None:
        """`names`: the fields that Synapse's listeners read; none if they read none."""
        self.make = new.make
        # Each process of Synapse may have its own name.
        self._sent = tuple(name.encode("ascii") for name in dict.fromkeys(names))
        self._names = tuple(name.lower() for name in self._sent)
        self._read = self._names[0] if self._names else REQUEST_ID
        self.quiet = not self._names
        """No process is sent an id, so only requests that bring one in the usual field need work."""

    def told(self, head: RequestHead) -> str | None:
        """The id from a trusted peer; None if there is none, or one that is not accepted."""
        values = head.fields.values_of(self._read)
        if len(values) == 1 and _ACCEPTED.fullmatch(values[0]):
            return values[0].decode("ascii")
        return None

    def settle(self, head: RequestHead, forwarded: bytes, *, trusted: bool) -> tuple[str, bytes]:
        """The id, and the head for the next hop, which has it in the fields that Synapse reads.

        `trusted`: the peer may set ids. `forwarded` as in `RequestHead.passed_on`. The id is empty if no process is
        sent one and the request has none; it is made later, when it is first needed, which most requests never do.
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
