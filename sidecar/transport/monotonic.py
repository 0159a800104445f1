"""Monotonic time for deadlines in a process whose reactor is somebody else's, and so follows the wall clock.

In a process of its own the sidecar puts the reactor's clock right (`sidecar.app.service.use_monotonic_clock`). Inside
Synapse the reactor's clock is Synapse's, which compares it with the time of day. So our timers are our own here, and
the kernel's timer (timerfd_create(2)), which no step of the clock moves, wakes the reactor for them. Knows nothing of
what is timed.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from sidecar.observe.telemetry import logger

_log = logger("sidecar")

_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_EARLIEST = 1e-9
"""Seconds; a timer that is set to zero is switched off."""


class _Span(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (("interval", _Span), ("value", _Span))


class KernelTimer:
    """One timer of the kernel, which makes a descriptor readable. Python has it from 3.13 on only."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._checked(self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS))

    def set(self, seconds: float) -> None:
        """Be readable `seconds` from now, and not before."""
        whole, part = divmod(max(seconds, _EARLIEST), 1.0)
        setting = _Setting(value=_Span(int(whole), max(1, min(999_999_999, int(part * 1e9)))))
        self._checked(self._libc.timerfd_settime(self.descriptor, 0, ctypes.byref(setting), None))

    def clear(self) -> None:
        """Be readable no more until the time comes again."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)

    def close(self) -> None:
        os.close(self.descriptor)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


@implementer(IReadDescriptor)
class MonotonicClock:
    """Timers in `reactor` that follow the monotonic clock. There are few of them: `Deadlines` needs only one."""

    def __init__(self, reactor: Any) -> None:
        self.seconds = time.monotonic
        self._reactor = reactor
        self._calls: dict[DelayedCall, None] = {}
        self._timer = KernelTimer()
        self._set_for = float("inf")
        reactor.addReader(self)

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any, **kw: Any) -> DelayedCall:
        """As `IReactorTime.callLater`."""
        at = self.seconds() + delay
        call = DelayedCall(at, function, args, kw, self._forget, self._moved, self.seconds)
        self._calls[call] = None
        self._wake_at(at)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        """What is still to be called."""
        return list(self._calls)

    def close(self) -> None:
        """Leave the reactor. What is due is called now, such as the end of connections, and nothing else any more."""
        self._call_due()
        self._calls.clear()
        self._set_for = float("-inf")
        self._reactor.removeReader(self)
        self._timer.close()

    def _forget(self, call: DelayedCall) -> None:
        self._calls.pop(call, None)

    def _moved(self, call: DelayedCall) -> None:
        self._wake_at(call.getTime())

    def _wake_at(self, at: float) -> None:
        if at < self._set_for:
            self._set_for = at
            self._timer.set(at - self.seconds())

    # The reactor calls.

    def fileno(self) -> int:
        return self._timer.descriptor

    def doRead(self) -> None:
        """The earliest time has come."""
        self._timer.clear()
        self._set_for = float("inf")
        self._call_due()
        if self._calls:
            self._wake_at(min(map(DelayedCall.getTime, self._calls)))

    def _call_due(self) -> None:
        now = self.seconds()
        for call in sorted((call for call in self._calls if call.getTime() <= now), key=DelayedCall.getTime):
            if call.active():  # one before may have cancelled it
                del self._calls[call]
                call.called = 1
                _make(call)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended; nobody calls us any more."""

    def logPrefix(self) -> str:
        return "sidecar"


def _make(call: DelayedCall) -> None:
    """One call that fails does not take the others with it, as in any reactor."""
    try:
        call.func(*call.args, **call.kw)
    except Exception:
        _log.failure("a timed call failed")


class MonotonicReactor:
    """The reactor that runs, with the time of a clock of our own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._clock = clock = MonotonicClock(reactor)
        self.seconds, self.callLater, self.getDelayedCalls = clock.seconds, clock.callLater, clock.getDelayedCalls
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def close(self) -> None:
        """Leave the reactor that runs; nothing that was still to be called will be."""
        self._clock.close()
