"""The reactor of a process of our own: it waits where the sockets of the data path are.

Elsewhere our sockets are one descriptor to the reactor that runs. A turn of Twisted's reactor costs as much as the
relaying of a small message, and so does each timer with which one would wait beside it. So here it is the other way
round: all that Twisted waits for is one descriptor to our poller. What Twisted does with its descriptors, timers,
threads and signals stays its own. Knows no connections.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT, epoll
from typing import Any, Protocol

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.internet.main import installReactor


class Sockets(Protocol):
    """Where the sockets of the data path are waited for."""

    def turn(self, patience: float) -> None:
        """Wait so many seconds for events, without end where negative, and tell of them."""

    def add(self, descriptor: int, polled: Any, events: int) -> None:
        """Tell `polled` of these events, too."""

    def remove(self, descriptor: int) -> None:
        """Tell it nothing more."""


class OwnReactor(EPollReactor):
    """Twisted's reactor, which waits with our sockets as long as there are some (`wait_with`)."""

    def __init__(self) -> None:
        self._sockets: Sockets | None = None
        self._mirror = epoll()
        """Knows what Twisted waits for, and so says when it has something to do."""
        self._mirrored: dict[Any, tuple[int, int]] = {}
        self._due = False
        super().__init__()

    def wait_with(self, sockets: Sockets) -> bool:
        """Wait there from now on, until `leave`; False where others are there already."""
        if self._sockets is not None:
            return False
        self._sockets = sockets
        sockets.add(self._mirror.fileno(), self, EPOLLIN)
        return True

    def leave(self, sockets: Sockets) -> None:
        """Wait for nothing but Twisted's descriptors again."""
        if self._sockets is sockets:
            sockets.remove(self._mirror.fileno())
            self._sockets = None

    def doIteration(self, delay: float | None) -> None:
        sockets = self._sockets
        if sockets is None:
            self.doPoll(delay)
            return
        patience = -1.0 if delay is None else delay
        while True:
            # As long as no timer is due, only our sockets are looked at: a turn of all costs three times as much.
            sockets.turn(patience)
            if not patience or self._due or not self.running or self._sockets is not sockets:
                break  # the last one also where what happened has ended them
            delay = self.timeout()
            patience = -1.0 if delay is None else delay
        if self._due:
            self._due = False
            self.doPoll(0)

    def stop(self) -> None:
        super().stop()
        self._due = True  # the end of a turn, in which Twisted begins to stop

    # The poller tells.

    def do_read(self) -> None:
        """One of Twisted's descriptors has something."""
        self._due = True

    do_write = do_fail = do_read

    # What Twisted waits for.

    def addReader(self, reader: IReadDescriptor) -> None:
        super().addReader(reader)
        self._mirror_it(reader, EPOLLIN, wanted=True)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        super().addWriter(writer)
        self._mirror_it(writer, EPOLLOUT, wanted=True)

    def removeReader(self, reader: IReadDescriptor) -> None:
        super().removeReader(reader)
        self._mirror_it(reader, EPOLLIN, wanted=False)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        super().removeWriter(writer)
        self._mirror_it(writer, EPOLLOUT, wanted=False)

    def _mirror_it(self, descriptor: Any, event: int, *, wanted: bool) -> None:
        number, before = self._mirrored.get(descriptor, (descriptor.fileno(), 0))
        events = before | event if wanted else before & ~event
        if events == before:
            return
        if events:
            self._mirrored[descriptor] = number, events
        else:
            del self._mirrored[descriptor]
        # Files are no descriptors for epoll: Twisted reads them with every turn, by a timer.
        with suppress(PermissionError):
            if not before:
                self._mirror.register(number, events)
            elif events:
                self._mirror.modify(number, events)
            else:
                self._mirror.unregister(number)


def the_reactor() -> Any:
    """The reactor of the process: ours, unless it has one already (`twistd --reactor`)."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(OwnReactor())
    from twisted.internet import reactor

    return reactor
