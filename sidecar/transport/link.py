"""The two sides of a connection: the link, which moves bytes, and its handler, which knows what they mean.

Their interfaces only; the links themselves are in `transport` and `twisted_link`.
"""

from __future__ import annotations

from typing import Protocol

UnderWay = tuple[int, int]
"""Bytes that wait for the kernel, and bytes in the kernel that the other end has not acknowledged.

As long as nothing is added, it only shrinks.
"""
NOTHING: UnderWay = (0, 0)


class Handler(Protocol):
    """What a link calls."""

    def connected(self, link: Link) -> None:
        """This is the link."""

    def received(self, octets: bytes) -> None:
        """The other end has sent these bytes."""

    def half_closed(self) -> None:
        """The other end sends no more; called only if a link can be half closed, else `lost` is."""

    def writing_ended(self) -> None:
        """All was sent before `end_writing`, and our direction is closed."""

    def shaken(self) -> None:
        """The TLS handshake is complete; called only with TLS."""

    def lost(self, *, clean: bool) -> None:
        """The link has ended, cleanly or not."""

    def filled(self) -> None:
        """The other end reads too slowly; sending more is still possible."""

    def drained(self) -> None:
        """The kernel has taken all that waited."""


class Link(Protocol):
    """What a handler can ask of its link."""

    open: bool
    """Neither lost nor aborted."""
    peer: str
    """The address of the other end; empty where it has none."""
    was_reset: bool
    """It ended by a reset: the other end had not read everything."""
    paused: bool
    """Reading is paused."""

    @property
    def secure(self) -> bool:
        """There is TLS on it."""

    def send(self, octets: bytes) -> bool:
        """Send `octets`, at once if possible, else when the kernel takes them.

        False only if the link is broken and nothing was taken. Reading goes on, because an answer may be waiting.
        """

    def pause(self) -> None:
        """Pause reading."""

    def resume(self) -> None:
        """Resume reading."""

    def end_writing(self) -> None:
        """Send what waits, then close our direction."""

    def close(self) -> None:
        """Send what waits, then close."""

    def abort(self) -> None:
        """Reset, at once."""

    def quiet(self) -> None:
        """Stop calling `filled` and `drained`."""

    def abandon_writes(self) -> None:
        """Discard what waits to be sent, and keep reading."""

    def idle(self) -> bool:
        """It is open and has nothing to read, not even the end; otherwise an idle connection cannot be used."""

    @property
    def unsent(self) -> int:
        """How many bytes wait for the kernel."""

    @property
    def under_way(self) -> UnderWay:
        """What the other end has not taken yet; the kernel is asked only when nothing waits for it."""
