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
from twisted.python.failure import Failure

from sidecar.telemetry import logger

_log = logger("sidecar")

MOST_EVENTS = 512
"""Events taken in one turn; timers and other descriptors of the process get their turn after them."""

# What concerns time, threads and the life of the process is asked of the reactor that runs.
_OF_THE_PROCESS = (
    *("addSystemEventTrigger", "callFromThread", "callLater", "callWhenRunning", "getDelayedCalls", "getThreadPool"),
    *("removeSystemEventTrigger", "seconds"),
)


class BatchingReactor(EPollReactor):
    """Listens and connects as any reactor of Twisted does; to be given to endpoints. `close` ends it."""

    def __init__(self, outer: Any) -> None:
        self._outer = outer
        super().__init__()
        for name in _OF_THE_PROCESS:
            setattr(self, name, getattr(outer, name))
        outer.addReader(self)

    def close(self) -> None:
        """Leave the reactor that runs; descriptors that are left are told that their connection is lost."""
        self._outer.removeReader(self)
        self.connectionLost(Failure(CONNECTION_LOST))
        self._poller.close()

    # To the reactor that runs we are one descriptor.

    def fileno(self) -> int:
        descriptor: int = self._poller.fileno()
        return descriptor

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

    def installWaker(self) -> None:
        """There is nobody to wake: the reactor that runs polls us."""
