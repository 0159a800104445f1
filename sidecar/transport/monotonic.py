"""Monotonic time for deadlines on a reactor that is not ours, and follows the wall clock.

In its own process, the sidecar replaces the reactor's clock (`sidecar.app.service.use_monotonic_clock`). Inside Synapse
the reactor's clock belongs to Synapse, which compares it with the time of day. There our timers are our own, and a
timer of the kernel (timerfd_create(2)) wakes the reactor for them; a change of the clock does not move it.
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
        """Become readable in `seconds`."""
        whole, part = divmod(max(seconds, _EARLIEST), 1.0)
        setting = _Setting(value=_Span(int(whole), max(1, min(999_999_999, int(part * 1e9)))))
        self._checked(self._libc.timerfd_settime(self.descriptor, 0, ctypes.byref(setting), None))

    def clear(self) -> None:
        """Stop being readable until the next time."""
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
        """The calls that are pending."""
        return list(self._calls)

    def close(self) -> None:
        """Leave the reactor. Calls that are due happen now, such as ends of connections; no others do."""
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

    # Called by the reactor.

    def fileno(self) -> int:
        return self._timer.descriptor

    def doRead(self) -> None:
        """The first call is due."""
        self._timer.clear()
        self._set_for = float("inf")
        self._call_due()
        if self._calls:
            self._wake_at(min(map(DelayedCall.getTime, self._calls)))

    def _call_due(self) -> None:
        now = self.seconds()
        for call in sorted((call for call in self._calls if call.getTime() <= now), key=DelayedCall.getTime):
            if call.active():  # an earlier one may have cancelled it
                del self._calls[call]
                call.called = 1
                _make(call)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        return "sidecar"


def _make(call: DelayedCall) -> None:
    """One call that fails must not stop the others."""
    try:
        call.func(*call.args, **call.kw)
    except Exception:
        _log.failure("a timed call failed")


class MonotonicReactor:
    """The running reactor with our own clock."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._clock = clock = MonotonicClock(reactor)
        self.seconds, self.callLater, self.getDelayedCalls = clock.seconds, clock.callLater, clock.getDelayedCalls
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def close(self) -> None:
        """Leave the running reactor; pending calls do not happen."""
        self._clock.close()
