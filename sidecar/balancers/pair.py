"""One client connection and the one to its server, between which bytes pass as they are, each direction by itself.

Small pieces are sent on as they come. Where there is much, the kernel moves it (transport/splicing) until no more is
there. Knows nothing of what is spoken, and of servers only that there is one.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Protocol

from sidecar.transport.deadlines import NEVER, Deadlines
from sidecar.transport.link import Link
from sidecar.transport.splicing import Splice, begin_splice
from sidecar.transport.transport import READ_SIZE, SocketLink

_ENDLESS = 1 << 62
_ASKS = 3
"""How often the kernel asks a silent end before it gives the connection up."""


class Bookkeeping(Protocol):
    """What a pair tells of itself."""

    def moved(self, pair: Pair, *, up: int = 0, down: int = 0) -> None:
        """So many bytes went on, to the server or to the client."""

    def ended(self, pair: Pair) -> None:
        """The client is gone."""

    def overdue(self, pair: Pair) -> None:
        """What was awaited did not happen in time."""


class Side:
    """One of the two connections, as its link sees it: what comes here goes out on the other."""

    __slots__ = ("_splice", "ended", "link", "other", "pair", "up")

    link: Link
    other: Side

    def __init__(self, pair: Pair, *, up: bool) -> None:
        """`up`: what comes here goes to the server."""
        self.pair = pair
        self.up = up
        self.ended = False
        """Nothing more will come from here."""
        self._splice: Splice | None = None

    # The link tells.

    def connected(self, link: Link) -> None:
        self.link = link

    def received(self, octets: bytes) -> None:
        if self.pair.waiting:
            self.pair.came_early(octets)
            return
        other = self.other.link
        other.send(octets)
        self._note(len(octets))
        if len(octets) == READ_SIZE and not other.unsent:
            self._splice = begin_splice(self.link, other, _ENDLESS, self._note, self.pair.abort, self._unsplice)

    def half_closed(self) -> None:
        """No more comes from here, and the other end is told so; when neither has more, both are closed."""
        self._unsplice()
        self.ended = True
        if self.pair.waiting:
            return
        if self.other.ended:
            self.pair.close()
        else:
            self.other.link.end_writing()

    def lost(self, *, clean: bool) -> None:
        self._unsplice()
        self.pair.lost(self)

    def filled(self) -> None:
        if not (self.pair.waiting or self.other.ended):
            self.other.link.pause()

    def drained(self) -> None:
        if not (self.pair.waiting or self.other.ended):
            self.other.link.resume()

    def writing_ended(self) -> None:
        """The other direction goes on."""

    def shaken(self) -> None:
        """Never told: there is no TLS of ours."""

    # Within.

    def _note(self, octets: int) -> None:
        self.pair.note(octets, up=self.up)

    def _unsplice(self) -> None:
        if self._splice is not None:
            splice, self._splice = self._splice, None
            splice.end()


class Pair:
    """A client's connection, from when it is accepted."""

    __slots__ = (
        *("_books", "_deadlines", "_early", "_idle", "_most_early", "_gone", "address", "attempts", "client"),
        *("expires", "server", "slot", "tried", "waiting"),
    )

    def __init__(self, books: Bookkeeping, deadlines: Deadlines, address: str, most_early: int, idle: float) -> None:
        """`most_early`: bytes that are read before there is a server; `idle`: seconds in which a byte has to move."""
        self._books = books
        self._deadlines = deadlines
        self._most_early = most_early
        self._idle = idle
        self._early = b""
        self._gone = False
        self.address = address
        self.client = Side(self, up=True)
        self.server = Side(self, up=False)
        self.client.other, self.server.other = self.server, self.client
        self.waiting = True
        """It has no server yet."""
        self.tried: set[str] = set()
        """Servers that could not be connected to."""
        self.attempts = 0
        self.expires = NEVER
        self.slot = NEVER

    @property
    def here(self) -> bool:
        """The client has not gone."""
        return self.client.link.open

    def begin(self, link: SocketLink, keepalive: float) -> None:
        """Serve the client on `link`."""
        keep_alive(link, keepalive)
        link.begin(self.client)

    def stand_in_line(self, seconds: float) -> None:
        """There is no server for so long at most."""
        self._deadlines.set(self, seconds)

    def attempt(self) -> None:
        """A server is being connected to, which has a limit of its own."""
        self._deadlines.clear(self)
        self.attempts += 1

    def came_early(self, octets: bytes) -> None:
        """The client speaks first, as most do."""
        self._early += octets
        if len(self._early) >= self._most_early:
            self.client.link.pause()

    def join(self, link: Link, keepalive: float) -> None:
        """`link` leads to a server: from now on everything passes."""
        keep_alive(link, keepalive)
        self.waiting = False
        self._deadlines.set(self, self._idle)
        early, self._early = self._early, b""
        if early:
            link.send(early)
            self.note(len(early), up=True)
        if self.client.ended:
            link.end_writing()
        else:
            self.client.link.resume()

    def note(self, octets: int, *, up: bool) -> None:
        """So many bytes have moved."""
        self._deadlines.set(self, self._idle)
        if up:
            self._books.moved(self, up=octets)
        else:
            self._books.moved(self, down=octets)

    def deadline_passed(self) -> None:
        """It waits, or nothing has moved, for too long."""
        self._books.overdue(self)

    def lost(self, side: Side) -> None:
        """One connection is gone: what it has sent still goes to the other, which then ends as well."""
        other = side.other
        if self.waiting:
            self._over()
        elif other.link.open:
            other.link.close()
        else:
            self._over()

    def close(self) -> None:
        """Both directions have ended: each end gets what is still to be sent."""
        self.client.link.close()
        self.server.link.close()

    def abort(self) -> None:
        """Cut both."""
        self.client.link.abort()
        if not self.waiting:
            self.server.link.abort()

    def _over(self) -> None:
        if not self._gone:
            self._gone = True
            self._deadlines.clear(self)
            self._books.ended(self)


def keep_alive(link: Link, seconds: float) -> None:
    """Let the kernel ask after `seconds` of silence whether the other end is there; 0: never (tcp(7))."""
    if not seconds or not isinstance(link, SocketLink) or link.socket.family == socket.AF_UNIX:
        return
    with suppress(OSError):  # it has ended already, which will be told
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds)))
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(seconds / _ASKS)))
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ASKS)
