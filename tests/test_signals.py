"""Signals in this process: what they call, and that they are given back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning

from sidecar.app.signals import Signals, stop_or_hurry


class Turning:
    """A reactor that turns at once, and can be stopped once."""

    def __init__(self, *, running: bool = True) -> None:
        self.running = running
        self.waiting: list[Callable[[], Any]] = []

    def callWhenRunning(self, action: Callable[[], Any]) -> None:
        if self.running:
            action()
        else:
            self.waiting.append(action)

    def callFromThread(self, action: Callable[[], Any]) -> None:
        action()

    def stop(self) -> None:
        if not self.running:
            raise ReactorNotRunning
        self.running = False


def test_a_signal_calls_what_belongs_to_it() -> None:
    """Each signal has its action, and afterwards the handler that it had before."""
    told: list[str] = []
    before = signal.getsignal(signal.SIGUSR1)
    signals = Signals(
        Turning(), {signal.SIGUSR1: lambda: told.append("one"), signal.SIGUSR2: lambda: told.append("two")}
    )
    signals.startService()
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert told == ["two", "one"]
    signals.stopService()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_stopped_before_the_reactor_turns() -> None:
    """What never ran takes no signal."""
    before = signal.getsignal(signal.SIGUSR1)
    reactor = Turning(running=False)
    signals = Signals(reactor, {signal.SIGUSR1: lambda: None})
    signals.startService()
    signals.stopService()
    for action in reactor.waiting:
        action()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_stopping_twice() -> None:
    """The first call stops the reactor, every other hurries."""
    told: list[str] = []
    stop = stop_or_hurry(Turning(), lambda: told.append("hurry"))
    stop()
    assert not told
    stop()
    stop()
    assert told == ["hurry", "hurry"]
