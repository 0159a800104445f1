"""What the signals of the operating system ask for. Knows nothing of what is done then."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning


@define(eq=False)
class Signals(Service):
    """Calls for each signal what belongs to it, in the reactor.

    Twisted's own handlers, which are replaced, end the process by the signal that asked it to stop; with these it ends
    with status 0.
    """

    reactor: Any
    actions: Mapping[signal.Signals, Callable[[], None]]
    _before: dict[signal.Signals, Any] = field(factory=dict, init=False)

    def startService(self) -> None:
        super().startService()
        # After Twisted's handlers, which are installed when the reactor starts.
        self.reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        if self.running:
            for number in self.actions:
                self._before[number] = signal.signal(number, self._received)

    def _received(self, number: int, frame: Any) -> None:
        self.reactor.callFromThread(self.actions[signal.Signals(number)])

    def stopService(self) -> None:
        super().stopService()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def stop_or_hurry(reactor: Any, hurry: Callable[[], None]) -> Callable[[], None]:
    """Stops the reactor when called first, and calls `hurry` when called again."""

    def stop() -> None:
        try:
            reactor.stop()
        except ReactorNotRunning:
            hurry()

    return stop
