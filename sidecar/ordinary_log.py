"""The ordinary log on standard output, written through a sink: neither a full disk nor a stopped reader is felt.

twistd writes its log to what is `sys.stdout` when logging begins, and waits until each line is taken. A pipe whose
reader has stopped, or a journal that is stuck, would then stop every request. Knows nothing of what is in a line.
"""

from __future__ import annotations

import atexit
import io
import sys

from sidecar.sink import Sink

PAUSE = 0.01
"""Seconds; somebody may be reading along."""
PATIENCE = 1.0
"""Seconds for which the end of the process waits until the last lines are taken."""


class LogStream(io.TextIOBase):
    """What stands for `sys.stdout`. Tells in a line of its own how many could not be written, as soon as it can."""

    encoding = "utf-8"

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._told = 0

    def write(self, text: str) -> int:
        sink = self.sink
        lost = sink.lost - self._told
        if lost and sink.takes_more:
            self._told += lost
            sink.write(f"[sidecar] {lost} lines of this log are lost, because nobody took them in time\n")
        sink.write(text)
        return len(text)

    def writable(self) -> bool:
        return True


def never_wait_for_standard_output() -> None:
    """Let what twistd is going to log reach standard output by a thread of its own.

    To be called before logging begins. Nothing where somebody has put another stream there already.
    """
    if sys.stdout is sys.__stdout__:
        sink = Sink(pause=PAUSE)
        sys.stdout = LogStream(sink)
        atexit.register(sink.close, PATIENCE)
