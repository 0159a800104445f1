"""What a request needs of the connection on which it came, and the reasons not to read from that for a while."""

from __future__ import annotations

from typing import Protocol

from sidecar.relay.awaited import Awaited
from sidecar.transport.link import Link
from sidecar.wire.reader import RequestReader

# As bits, because several can hold at once.
WORKER_CLOGGED = 1
PIPELINED = 2
WAITING = 4
ANSWERED = 8


class Client(Protocol):
    """What a passage needs of the connection on which its request came."""

    peer: str
    scheme: str
    reader: RequestReader
    link: Link
    clogged: bool
    """The client takes less than it is sent."""

    def expect(self, awaited: Awaited, seconds: float) -> None:
        """Let `overdue` be called unless something else is expected before."""

    def hold(self, reason: int) -> None:
        """Do not read for this reason."""

    def unhold(self, reason: int) -> None:
        """The reason is gone."""

    def passage_ended(self) -> None:
        """It is over, whatever comes of the connection."""

    def go_on(self) -> None:
        """The next request may come."""

    def close_after(self, octets: bytes) -> None:
        """Send these and close."""

    def abort(self) -> None:
        """Reset."""

    def vanish(self) -> None:
        """Reset, and be gone at once: it takes nothing any more."""
