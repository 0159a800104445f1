"""The two sides of a connection: the link, which moves octets, and its handler, which knows what they mean.

Only what each may ask of the other; the links themselves are in `transport` and `twisted_link`.
"""

from __future__ import annotations

from typing import Protocol

UnderWay = tuple[int, int]
"""Octets that wait for the kernel to take them, and octets in the kernel that the other end has not acknowledged.

Of two the greater is the earlier, as long as nothing is added.
"""
NOTHING: UnderWay = (0, 0)


class Handler(Protocol):
    """What a link tells of itself."""

    def connected(self, link: Link) -> None:
        """This is the link."""

    def received(self, octets: bytes) -> None:
        """The other end has sent these."""

    def half_closed(self) -> None:
        """The other end will send no more; told only where a link can be half closed, else it is `lost`."""

    def writing_ended(self) -> None:
        """All was sent before `end_writing`, and our direction is closed."""

    def shaken(self) -> None:
        """TLS is ready; told only where there is TLS."""

    def lost(self, *, clean: bool) -> None:
        """The link has ended, in good order or not."""

    def filled(self) -> None:
        """The other end takes less than it is sent; more may be sent all the same."""

    def drained(self) -> None:
        """The kernel has taken all that waited."""


class Link(Protocol):
    """What a handler can ask of its link."""

    open: bool
    """Neither lost nor aborted."""
    peer: str
    """The address of the other end; empty where it has none."""
    was_reset: bool
    """It ended by a reset: the other end had not read all that it was sent."""
    paused: bool
    """Nothing is read at this moment because somebody said so."""

    @property
    def secure(self) -> bool:
        """There is TLS on it."""

    def send(self, octets: bytes) -> bool:
        """Send `octets`, at once where it can be, else when the kernel takes them.

        False only if the link is broken and not one octet was taken. Reading goes on all the same, because an answer
        may be waiting there.
        """

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read again."""

    def end_writing(self) -> None:
        """Send what waits, then close our direction."""

    def close(self) -> None:
        """Send what waits, then close."""

    def abort(self) -> None:
        """Reset, at once."""

    def quiet(self) -> None:
        """Tell the handler no more of `filled` and `drained`."""

    def abandon_writes(self) -> None:
        """Forget what waits to be sent, and keep reading."""

    def idle(self) -> bool:
        """It is open and nothing can be read, be it the end of file: else one that should be idle cannot be used."""

    @property
    def unsent(self) -> int:
        """How many octets wait for the kernel to take them."""

    @property
    def under_way(self) -> UnderWay:
        """What the other end has not taken yet. The kernel is of interest when nothing waits for it any more."""
