"""When clients are let in: up to the limit of connections, and while there are descriptors for them and their workers.

Who is not let in waits in the kernel's queue, and is served as soon as there is room. Knows no protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.internet.tcp import Port

from sidecar.net.descriptors import descriptors_left
from sidecar.telemetry import logger

PAUSE = 0.5
"""Seconds after which a shortage of descriptors is looked at again."""

# Why nobody is let in, as bits.
_FULL = 1
_SHORT = 2

_log = logger("sidecar")


@define(eq=False)
class Accepting:
    """Lets clients in through some ports, which all count together."""

    clock: IReactorTime
    open_now: Callable[[], int]
    """How many client connections there are."""
    ceiling: int = 1
    """How many there may be."""
    _ports: list[Port] = field(factory=list)
    _held: int = 0
    _look: IDelayedCall | None = None

    def guard(self, port: IListeningPort) -> None:
        """Let clients in through this port when there is room, and no more at once than there is room for."""
        if isinstance(port, Port):
            self._ports.append(port)
            port.doRead = partial(self._accept, port, port.doRead)  # type: ignore[method-assign]

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
        self._ports.clear()
        if self._look is not None and self._look.active():
            self._look.cancel()

    def _accept(self, port: Any, accept: Callable[[], None]) -> None:
        """What the reactor calls when somebody knocks."""
        if self._held:
            return
        room = descriptors_left(port.fileno())
        if room <= 0:
            _log.warn("the limit of open files is near; new client connections wait until some are closed")
            self._hold(_SHORT)
            self._look = self.clock.callLater(PAUSE, self._look_again)
            return
        # Twisted accepts as many as it did the last time, and does not look up in between.
        port.numberAccepts = max(1, min(port.numberAccepts, room, self.ceiling - self.open_now()))
        accept()

    def _look_again(self) -> None:
        port = self._ports[0]
        if descriptors_left(port.fileno()) <= 0:
            self._look = self.clock.callLater(PAUSE, self._look_again)
        else:
            self._unhold(_SHORT)

    def _hold(self, why: int) -> None:
        if not self._held:
            for port in self._ports:
                port.stopReading()
        self._held |= why

    def _unhold(self, why: int) -> None:
        self._held &= ~why
        if not self._held:
            for port in self._ports:
                port.startReading()
