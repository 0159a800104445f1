"""One epoll for all sockets of the data path, beside any reactor.

Twisted sets up a logging context for each event of a descriptor, which costs more than relaying a small message. So all
our sockets are one descriptor of the reactor; in our own process not even that, because the reactor waits here
(`sidecar.transport.own_reactor`). Timers, threads and the life of the process stay with the reactor. Knows no
protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT, epoll
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sidecar.observe.telemetry import logger
from sidecar.transport.own_reactor import OwnReactor

_log = logger("sidecar")

READ, WRITE = EPOLLIN, EPOLLOUT

MOST_EVENTS = 512
"""Events taken at a time."""


class Polled(Protocol):
    """What an event goes to. An error of the socket counts as both kinds of event."""

    def do_read(self) -> None:
        """There is something to read, or the other end is gone."""

    def do_write(self) -> None:
        """The kernel takes bytes again."""

    def do_fail(self) -> None:
        """One of these raised an exception."""


@implementer(IReadDescriptor)
class Poller:
    """Hands events to sockets; `close` ends it."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = epoll()
        self._polled: dict[int, Polled] = {}
        self._removed: set[int] = set()
        """Descriptors that were removed in this turn. Pending events for them belong to a socket that is gone, even if
        a new one has the same number; that one gets its events in the next turn."""
        self._due: list[Callable[[], None]] = []
        self._turning = False
        self._called = False
        self._at_home = isinstance(reactor, OwnReactor) and reactor.wait_with(self)
        if not self._at_home:
            reactor.addReader(self)

    # Called by sockets.

    def add(self, descriptor: int, polled: Polled, events: int) -> None:
        """Call `polled` for these events."""
        self._polled[descriptor] = polled
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        """Call it for these events instead."""
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Tell it nothing more."""
        if self._polled.pop(descriptor, None) is not None:
            self._removed.add(descriptor)
            self._epoll.unregister(descriptor)

    def soon(self, call: Callable[[], None]) -> None:
        """Call it after the code that runs now."""
        self._due.append(call)
        if not (self._turning or self._called):
            self._called = True
            self._reactor.callLater(0, self._call_due)

    def close(self) -> None:
        """Leave the running reactor, and end all connections."""
        if self._at_home:
            self._reactor.leave(self)
        else:
            self._reactor.removeReader(self)
        for polled in tuple(self._polled.values()):
            polled.do_fail()
        self._polled.clear()
        self._epoll.close()
        self._call_due()

    def turn(self, patience: float) -> None:
        """Wait for events for these seconds, forever if negative, and handle all that have happened."""
        events = self._epoll.poll(patience, MOST_EVENTS)
        polled, removed = self._polled, self._removed
        removed.clear()
        self._turning = True
        try:
            for descriptor, event in events:
                if removed and descriptor in removed:
                    continue  # an earlier one has closed it
                each = polled[descriptor]
                try:
                    if event == READ:
                        each.do_read()
                    elif event & WRITE:
                        each.do_write()
                        if event != WRITE and descriptor not in removed:
                            each.do_read()
                    else:
                        each.do_read()
                except Exception:
                    # Only its own connection ends.
                    _log.failure("handling a connection failed")
                    each.do_fail()
            if self._due:
                self._call_due()
        finally:
            self._turning = False

    # Called by a reactor that is not ours.

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "sidecar"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""

    def doRead(self) -> None:
        self.turn(0)

    def _call_due(self) -> None:
        self._called = False
        while self._due:
            due, self._due = self._due, []
            for call in due:
                try:
                    call()
                except Exception:
                    _log.failure("ending a connection failed")
