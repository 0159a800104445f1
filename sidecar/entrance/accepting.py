"""When clients are let in: up to the limit of connections, and while there are descriptors for them and their workers.

Who is not let in waits in the kernel's queue, and is served as soon as there is room. Knows no protocols.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.internet.tcp import Port

from sidecar.entrance.descriptors import descriptors_left
from sidecar.observe.telemetry import logger
from sidecar.transport.poller import READ, Poller

PAUSE = 0.5
"""Seconds after which a shortage of descriptors is looked at again."""
MOST_AT_ONCE = 64
"""Clients that are let in through one port in one turn."""

# Why nobody is let in, as bits.
_FULL = 1
_SHORT = 2

_log = logger("sidecar")

Take = Callable[[socket.socket, str], None]
"""Serves an accepted socket, whose other end is at this address; empty for a UNIX peer."""


class Acceptor(Protocol):
    """Lets clients in through one port."""

    def fileno(self) -> int:
        """An open descriptor."""

    def pause(self) -> None:
        """Let nobody in."""

    def resume(self) -> None:
        """Go on."""

    def close(self) -> None:
        """It is over."""


@define(eq=False)
class Accepting:
    """Lets clients in through some ports, which all count together."""

    clock: IReactorTime
    open_now: Callable[[], int]
    """How many client connections there are."""
    ceiling: int = 1
    """How many there may be."""
    _acceptors: list[Acceptor] = field(factory=list)
    _held: int = 0
    _look: IDelayedCall | None = None

    def open(self, port: IListeningPort, poller: Poller, take: Take) -> None:
        """Let clients in through `port` instead of Twisted, which goes on where that is no plain socket."""
        if isinstance(port, Port):
            self.guard(SocketAcceptor(port, poller, self.room, take))

    def guard(self, acceptor: Acceptor) -> None:
        """Let `acceptor` know when there is room."""
        self._acceptors.append(acceptor)

    def use(self, ceiling: int) -> None:
        """So many client connections there may be from now on."""
        self.ceiling = ceiling

    def changed(self) -> None:
        """A connection was opened or closed, or the ceiling is another one."""
        limit = self.ceiling
        full = self.open_now() >= limit
        if full and not self._held & _FULL:
            _log.warn("{limit} client connections are open; new ones wait until some close", limit=limit)
            self._hold(_FULL)
        elif not full and self._held & _FULL:
            self._unhold(_FULL)

    def stop(self) -> None:
        """Nobody is let in any more."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        if self._look is not None and self._look.active():
            self._look.cancel()

    def room(self, any_open: int) -> int:
        """How many clients can be let in now; `any_open` is an open descriptor."""
        if self._held:
            return 0
        left = descriptors_left(any_open)
        if left <= 0:
            self.short()
            return 0
        return max(1, min(left, self.ceiling - self.open_now()))

    def short(self) -> None:
        """There are no descriptors for more clients."""
        _log.warn("the limit of open files is near; new client connections wait until some are closed")
        self._hold(_SHORT)
        self._look = self.clock.callLater(PAUSE, self._look_again)

    def _look_again(self) -> None:
        if descriptors_left(self._acceptors[0].fileno()) <= 0:
            self._look = self.clock.callLater(PAUSE, self._look_again)
        else:
            self._unhold(_SHORT)

    def _hold(self, why: int) -> None:
        if not self._held:
            for acceptor in self._acceptors:
                acceptor.pause()
        self._held |= why

    def _unhold(self, why: int) -> None:
        self._held &= ~why
        if not self._held:
            for acceptor in self._acceptors:
                acceptor.resume()


class SocketAcceptor:
    """Accepts on the socket of a port of Twisted's, which only keeps it open."""

    def __init__(self, port: Port, poller: Poller, room: Callable[[int], int], take: Take) -> None:
        port.stopReading()
        self._socket = socket.socket(fileno=os.dup(port.fileno()))
        self._socket.setblocking(False)
        self._poller = poller
        self._room = room
        self._take = take
        self._reading = False
        self.resume()

    def fileno(self) -> int:
        return self._socket.fileno()

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._poller.remove(self._socket.fileno())

    def resume(self) -> None:
        if not self._reading and self._socket.fileno() >= 0:
            self._reading = True
            self._poller.add(self._socket.fileno(), self, READ)

    def close(self) -> None:
        self.pause()
        self._socket.close()

    def do_read(self) -> None:
        # As many as the last look allows, without another one in between.
        for _ in range(min(MOST_AT_ONCE, self._room(self._socket.fileno()))):
            try:
                accepted, address = self._socket.accept()
            except OSError:
                # There are none left, or the one that knocked has gone; where descriptors have run out, `room` says so.
                return
            peer = address[0] if isinstance(address, tuple) else ""
            try:
                self._take(accepted, peer)
            except OSError:
                # It is gone already.
                accepted.close()

    def do_write(self) -> None:
        """Never told."""

    def do_fail(self) -> None:
        """One client that could not be served says nothing of the others."""
