"""The reactor of our own process: it waits on the epoll of the data path.

Elsewhere our sockets are one descriptor of the running reactor. A turn of Twisted's reactor costs as much as relaying a
small message, and so does each timer. So here it is the other way round: everything that Twisted waits for is one
descriptor of our poller. Descriptors, timers, threads and signals of Twisted work as usual. Knows no connections.
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
    """The epoll of the data path."""

    def turn(self, patience: float) -> None:
        """Wait for events for these seconds, forever if negative, and handle them."""

    def add(self, descriptor: int, polled: Any, events: int) -> None:
        """Call `polled` for these events, too."""

    def remove(self, descriptor: int) -> None:
        """Stop calling it."""


class OwnReactor(EPollReactor):
    """Twisted's reactor, which waits together with our sockets while there are any (`wait_with`)."""

    def __init__(self) -> None:
        self._sockets: Sockets | None = None
        self._mirror = epoll()
        """The epoll of what Twisted waits for; readable when there is work."""
        self._mirrored: dict[Any, tuple[int, int]] = {}
        self._due = False
        super().__init__()

    def wait_with(self, sockets: Sockets) -> bool:
        """Wait there until `leave`; False if another poller is used already."""
        if self._sockets is not None:
            return False
        self._sockets = sockets
        sockets.add(self._mirror.fileno(), self, EPOLLIN)
        return True

    def leave(self, sockets: Sockets) -> None:
        """Wait for Twisted's descriptors only."""
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
            # Until a timer is due, only our sockets are polled: a full turn costs three times as much.
            sockets.turn(patience)
            if not patience or self._due or not self.running or self._sockets is not sockets:
                break  # also the last one, if the events have ended the loop
            delay = self.timeout()
            patience = -1.0 if delay is None else delay
        if self._due:
            self._due = False
            self.doPoll(0)

    def stop(self) -> None:
        super().stop()
        self._due = True  # the end of the turn, in which Twisted begins to stop

    # Called by the poller.

    def do_read(self) -> None:
        """One of Twisted's descriptors is ready."""
        self._due = True

    do_write = do_fail = do_read

    # Descriptors of Twisted.

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
        # Epoll does not take files: Twisted reads them in every turn, with a timer.
        with suppress(PermissionError):
            if not before:
                self._mirror.register(number, events)
            elif events:
                self._mirror.modify(number, events)
            else:
                self._mirror.unregister(number)


def the_reactor() -> Any:
    """Install our reactor, unless there is one already (`twistd --reactor`)."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(OwnReactor())
    from twisted.internet import reactor

    return reactor
