"""A connection to a worker: who has leased it, and whether it can be used again.

Reports to whoever holds its lease, or to its pool while it is idle. Knows no routes and no clients.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.transport.link import Link
from sidecar.wire.reader import ResponseReader


class LeaseHolder(Protocol):
    """What a connection needs of whoever holds its lease."""

    def upstream_data(self, octets: bytes) -> None: ...

    def upstream_lost(self, *, clean: bool) -> None: ...

    def upstream_clogged(self) -> None: ...

    def upstream_flowing(self) -> None: ...


class Home(Protocol):
    """What a connection needs of the pool that it belongs to."""

    name: str

    @property
    def reset_means_unread(self) -> bool:
        """After a reset, the request was not acted on."""

    def note_cut(self) -> None:
        """A request ended without an answer because its connection did."""

    def connected(self, upstream: Upstream) -> None:
        """It has been made."""

    def release(self, upstream: Upstream) -> None:
        """The lease has ended and the connection can be used again."""

    def discard(self, upstream: Upstream) -> None:
        """It cannot be used again."""

    def forget(self, upstream: Upstream) -> None:
        """It is gone."""


class Upstream:
    """One connection to one worker."""

    __slots__ = ("generation", "holder", "idle_since", "link", "made", "pool", "reader", "took")

    link: Link

    def __init__(self, pool: Home, reader: ResponseReader, generation: int, began: float, made: float) -> None:
        """`began`, `made`: when it was begun to be made, and when it was there, in seconds of the clock of `pool`."""
        self.pool = pool
        self.reader = reader
        self.generation = generation
        """Which socket of the worker this is a connection to; it changes when the worker starts anew."""
        self.made = made
        self.took = made - began
        self.holder: LeaseHolder | None = None
        self.idle_since = 0
        """How often its pool had checked for old connections when its last lease ended."""

    def lend(self, holder: LeaseHolder, method: bytes, *, decoded: bool) -> None:
        """Expect the answer to a request with `method` for `holder`; `decoded` as in `ResponseReader`."""
        self.holder = holder
        self.reader.next_message(method, decoded=decoded)

    def rest(self, looks: int) -> None:
        """Its lease has ended; the holder may have paused it."""
        self.holder = None
        self.idle_since = looks
        if self.link.paused:
            self.link.resume()

    def give_up(self) -> bool:
        """End the lease; whether there was one."""
        held = self.holder is not None
        self.holder = None
        return held

    def abort(self) -> None:
        """Reset, so that the worker stops. Not a half-close, which Synapse does not take for the end."""
        self.holder = None
        self.link.abort()

    # Called by the link.

    def connected(self, link: Link) -> None:
        self.link = link
        self.pool.connected(self)

    def received(self, octets: bytes) -> None:
        holder = self.holder
        if holder is None:
            # Bytes without a request: they must not become the answer to the next one.
            self.pool.discard(self)
        else:
            holder.upstream_data(octets)

    def lost(self, *, clean: bool) -> None:
        holder = self.holder
        self.pool.forget(self)
        if holder is not None:
            self.holder = None
            holder.upstream_lost(clean=clean)

    def filled(self) -> None:
        if self.holder is not None:
            self.holder.upstream_clogged()

    def drained(self) -> None:
        if self.holder is not None:
            self.holder.upstream_flowing()

    def half_closed(self) -> None:
        """Never called: when a worker stops sending, its connection ends."""

    def writing_ended(self) -> None:
        """Never called: only a client's connection is half closed."""

    def shaken(self) -> None:
        """Ignored: the pool is notified when the connection is made."""
