"""Tells systemd how the process is: sd_notify(3), without a library. Nothing where systemd does not listen."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

from sidecar.observe.telemetry import logger

_log = logger("sidecar")


def tell(state: str) -> None:
    """Send assignments such as `READY=1`, one to a line."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        to_systemd.settimeout(1.0)
        try:
            to_systemd.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            _log.warn("cannot notify systemd of {state}: {error}", state=state, error=str(error))


def reloading() -> str:
    """The state in which the configuration is read again; `READY=1` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what systemd waits for; None if it expects none."""
    expected = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if expected and microseconds.isdigit() and int(microseconds) else None


@define(eq=False)
class SystemdNotice(Service):
    """Says READY when the reactor turns, STOPPING when it is to end, and in between and to the end that it is alive."""

    reactor: Any
    summary: Callable[[], str]
    """What runs, in one line."""
    _next: IDelayedCall | None = field(default=None, init=False)

    def startService(self) -> None:
        super().startService()
        self.reactor.callWhenRunning(self._ready)

    def _ready(self) -> None:
        if self.running:
            tell(f"READY=1\nSTATUS={self.summary()}")
            self._alive(watchdog_interval())

    def _alive(self, interval: float | None) -> None:
        # Not ended by a stop, which may take longer than systemd waits for a sign.
        if interval is not None:
            tell("WATCHDOG=1")
            self._next = self.reactor.callLater(interval, self._alive, interval)

    def stopService(self) -> None:
        super().stopService()
        tell("STOPPING=1\nSTATUS=stopping, running requests end")
