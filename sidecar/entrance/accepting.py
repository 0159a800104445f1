"""When clients are accepted: up to the limit of connections, and while there are enough descriptors.

Other clients wait in the kernel's queue until there is room. Knows no protocols.
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
"""Seconds after which descriptors are checked again after a shortage."""
MOST_AT_ONCE = 64
"""Clients that one port accepts in one turn."""

# Reasons to accept nobody, as bits.
_FULL = 1
_SHORT = 2

_log = logger("sidecar")

Take = Callable[[socket.socket, str], None]
"""Serves an accepted socket; the address is that of the other end, empty for a UNIX peer."""


class Acceptor(Protocol):
    """Accepts clients on one port."""

    def fileno(self) -> int:
        """An open descriptor."""

    def pause(self) -> None:
        """Stop accepting."""

    def resume(self) -> None:
        """Accept again."""

    def close(self) -> None:
        """Stop for good."""


@define(eq=False)
class Accepting:
    """Accepts clients on several ports, with one limit for all."""

    clock: IReactorTime
    open_now: Callable[[], int]
    """How many client connections there are."""
    ceiling: int = 1
    """How many there may be."""
    _acceptors: list[Acceptor] = field(factory=list)
    _held: int = 0
    _look: IDelayedCall | None = None

    def open(self, port: IListeningPort, poller: Poller, take: Take) -> None:
        """Accept clients on `port` in place of Twisted; if that is no plain socket, Twisted goes on."""
        if isinstance(port, Port):
            self.guard(SocketAcceptor(port, poller, self.room, take))

    def guard(self, acceptor: Acceptor) -> None:
        """Control `acceptor`: stop and resume it."""
        self._acceptors.append(acceptor)

    def use(self, ceiling: int) -> None:
        """Set the limit of client connections."""
        self.ceiling = ceiling

    def changed(self) -> None:
        """Connections or the limit have changed."""
        limit = self.ceiling
        full = self.open_now() >= limit
        if full and not self._held & _FULL:
            _log.warn("{limit} client connections are open; new ones wait until some close", limit=limit)
            self._hold(_FULL)
        elif not full and self._held & _FULL:
            self._unhold(_FULL)

    def stop(self) -> None:
        """Stop accepting for good."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        if self._look is not None and self._look.active():
            self._look.cancel()

    def room(self, any_open: int) -> int:
        """How many clients can be accepted now; `any_open` is an open descriptor."""
        if self._held:
            return 0
        left = descriptors_left(any_open)
        if left <= 0:
            self.short()
            return 0
        return max(1, min(left, self.ceiling - self.open_now()))

    def short(self) -> None:
        """Descriptors have run out."""
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
    """Accepts on the socket of a port of Twisted, which only keeps it open."""

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
        # As many as the last check allows.
        for _ in range(min(MOST_AT_ONCE, self._room(self._socket.fileno()))):
            try:
                accepted, address = self._socket.accept()
            except OSError:
                # No client waits any more, or it has gone; or descriptors have run out, which `room` detects.
                return
            peer = address[0] if isinstance(address, tuple) else ""
            try:
                self._take(accepted, peer)
            except OSError:
                # The client is gone already.
                accepted.close()

    def do_write(self) -> None:
        """Never called."""

    def do_fail(self) -> None:
        """One client that fails must not stop the others."""
