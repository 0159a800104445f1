"""A reactor within the reactor: all events of a turn are taken in one go.

Twisted sets up a logging context for each event that it hands to a descriptor, which costs more than the relaying of
a small message. The descriptors of the data path are therefore kept in an epoll set of their own, and that set is one
descriptor to the reactor that runs: one context for each turn. Everything that concerns time, threads and the life of
the process is left to the reactor that runs, whichever it is. Knows no protocols.
"""

from __future__ import annotations

from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger(namespace="sidecar")

MOST_EVENTS = 512
"""Events taken in one turn; timers and other descriptors of the process get their turn after them."""


class BatchingReactor(EPollReactor):
    """Listens and connects as any reactor of Twisted does; to be given to endpoints. `close` ends it."""

    def __init__(self, outer: Any) -> None:
        self._outer = outer
        super().__init__()
        outer.addReader(self)

    def close(self) -> None:
        """Leave the reactor that runs; descriptors that are left are told that their connection is lost."""
        self._outer.removeReader(self)
        self.connectionLost(Failure(CONNECTION_LOST))

    # To the reactor that runs we are one descriptor.

    def fileno(self) -> int:
        return self._poller.fileno()

    def logPrefix(self) -> str:
        return "sidecar"

    def doRead(self) -> None:
        selectables = self._selectables
        for descriptor, event in self._poller.poll(0, MOST_EVENTS):
            selectable = selectables.get(descriptor)
            if selectable is None:
                continue  # one that was handled before has closed it
            if event != EPOLLIN:
                self._doReadOrWrite(selectable, descriptor, event)
                continue
            try:
                why = selectable.doRead()
            except Exception as error:
                # What Twisted does with it: the connection ends, the others go on, and a test fails.
                _log.failure("reading from a connection failed")
                why = error
            if why is not None:
                self._disconnectSelectable(selectable, why, True)

    def connectionLost(self, reason: Failure) -> None:
        for selectable in self.removeAll():
            selectable.connectionLost(reason)

    # What concerns the process.

    def installWaker(self) -> None:
        """There is nobody to wake: the reactor that runs polls us."""

    def seconds(self) -> float:
        return float(self._outer.seconds())

    def callLater(self, delay: float, function: Any, *args: object, **kw: object) -> Any:
        return self._outer.callLater(delay, function, *args, **kw)

    def callFromThread(self, function: Any, *args: object, **kw: object) -> None:
        self._outer.callFromThread(function, *args, **kw)

    def callWhenRunning(self, function: Any, *args: object, **kw: object) -> Any:
        return self._outer.callWhenRunning(function, *args, **kw)

    def addSystemEventTrigger(self, phase: str, event: str, function: Any, *args: object, **kw: object) -> Any:
        return self._outer.addSystemEventTrigger(phase, event, function, *args, **kw)

    def getThreadPool(self) -> Any:
        return self._outer.getThreadPool()
