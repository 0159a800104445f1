"""The access log of the process: made from the settings, altered with them, and ended with the process.

Owns where it is written to. Knows nothing of exchanges.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Any

from attrs import define, evolve, field

from sidecar.config.log import Log
from sidecar.observe.sink import Sink
from sidecar.observe.telemetry import logger
from sidecar.records.access_log import AccessLog
from sidecar.records.choice import LogChoice
from sidecar.records.lines import Hasher, Lines
from sidecar.records.request_id import NewIds

_log = logger("sidecar.access")

LAST_LINES = 1.0
"""Seconds that a process which ends gives to lines that wait to be written."""


@define
class Written:
    """Lines of the access log since the start."""

    written: int = 0
    dropped: int = 0
    """For want of room: the reader has stopped, or is too slow."""
    failed: int = 0
    """Could not be written."""

    def add(self, sink: Sink) -> None:
        """Take in what a sink has counted."""
        self.written += sink.written
        self.dropped += sink.dropped
        self.failed += sink.failed


@define(eq=False)
class Logbook:
    """Keeps one access log while settings come and go."""

    reactor: Any
    ids: NewIds = field(factory=lambda: NewIds(secrets.token_hex(6)))
    """For requests that have no id yet when their line is written."""
    _sink: Sink | None = field(default=None, init=False)
    _closed: Written = field(factory=Written, init=False)
    hasher: Hasher = field(init=False, repr=False)
    """Of the keys that are told of: by the secret of `secret_file`, or one that only this process knows."""
    _own: Hasher = field(factory=lambda: Hasher(secrets.token_bytes(32)), init=False, repr=False)
    _secret: bytes | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.hasher = self._own

    def use(self, settings: Log, secret: bytes | None) -> AccessLog | None:
        """The access log by these settings; None where there is none. `secret` is that of `secret_file`."""
        if secret != self._secret:
            self._secret, self.hasher = secret, self._own if secret is None else Hasher(secret)
        sink = self._sink
        if not settings.access:
            self.close(0.0)
            return None
        if sink is None or sink.path != settings.file:
            self.close(0.0)
            self._sink = sink = Sink(settings.file, settings.waiting, self._trouble)
        else:
            sink.allow(settings.waiting)
            sink.reopen()
        lines = Lines(
            self.hasher,
            self.ids,
            LogChoice(settings.sample, settings.endpoints),
            json=settings.format == "json",
            levels=settings.file is None and is_journal(),
        )
        return AccessLog(lines, sink.write, time.time)

    def close(self, patience: float = LAST_LINES) -> None:
        """Write what waits. Without patience that goes on behind the back of the reactor."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close(patience)
            self._closed.add(sink)

    def written(self) -> Written:
        """What has become of the lines so far."""
        counted = evolve(self._closed)
        if self._sink is not None:
            counted.add(self._sink)
        return counted

    def _trouble(self, why: str) -> None:
        """In the thread of the sink."""
        self.reactor.callFromThread(_log.error, "the access log cannot be written: {why}", why=why)


def is_journal(descriptor: int = 1) -> bool:
    """Whether systemd's journal reads this descriptor (systemd.exec(5), `JOURNAL_STREAM`)."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
