"""Where lines of a log go: written by a thread of its own, so that a reader that has stopped holds up nobody else.

Bounded: what does not fit is dropped and counted. Knows neither what is in a line nor the reactor.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable

from attrs import define, field

PAUSE = 0.1
"""Seconds for which lines are gathered before they are written together, unless told otherwise."""
ROOM = 4 * 1024 * 1024
"""Bytes that may wait to be written unless told otherwise."""
_MODE = 0o640


@define(eq=False)
class Sink:
    """Lines on their way to a file, or to what the process was given as its standard output.

    `write` belongs to one thread, the reactor's; the counters can be read by any.
    """

    path: str | None = None
    """A file to append to; None: standard output, past whatever stands for it in Python."""
    room: int = ROOM
    """Bytes that may wait; lines beyond are dropped."""
    on_trouble: Callable[[str], None] = field(default=lambda _why: None)
    """Called in the writing thread when writing begins to fail, with the reason."""
    pause: float | None = None
    """Instead of PAUSE."""
    written: int = field(default=0, init=False)
    """Lines."""
    dropped: int = field(default=0, init=False)
    """Lines for which there was no room, because the reader has stopped or is too slow."""
    failed: int = field(default=0, init=False)
    """Lines that could not be written."""
    _waiting: list[tuple[bytes, int]] = field(factory=list, init=False)
    """Octets, and how many lines they are."""
    _given: int = field(default=0, init=False)
    _taken: int = field(default=0, init=False)
    _wake: threading.Event = field(factory=threading.Event, init=False)
    _closing: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _descriptor: int = field(default=-1, init=False)
    _reopen: bool = field(default=False, init=False)
    _shared: bool = field(default=False, init=False)
    _failing: bool = field(default=False, init=False)
    _torn: bool = field(default=False, init=False)

    def write(self, *lines: str) -> None:
        """Take lines, each of which ends with a line feed; never blocks."""
        # Made one at once: thousands of strings that wait are thousands of places in memory.
        octets = "".join(lines).encode("utf-8", "replace")
        given = self._given + len(octets)
        if given - self._taken <= self.room:
            self._given = given
            waiting = self._waiting
            waiting.append((octets, len(lines)))
            if len(waiting) == 1:
                # The first after a pause. While the thread takes lines away it looks for more by itself.
                self._begin()
        elif len(lines) > 1:
            for line in lines:
                self.write(line)
        else:
            self.dropped += 1

    def _begin(self) -> None:
        if self._thread is None:
            # Not before: twistd forks after everything was made.
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        self._wake.set()

    def allow(self, room: int) -> None:
        """Let this many bytes wait."""
        self.room = room

    def reopen(self) -> None:
        """Open the file anew before the next line: a rotation has moved the old one away."""
        self._reopen = True

    def close(self, patience: float) -> None:
        """Write what waits, for at most `patience` seconds."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(patience)

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._given - self._taken

    @property
    def lost(self) -> int:
        """Lines that nobody will ever read."""
        return self.dropped + self.failed

    @property
    def takes_more(self) -> bool:
        """What has been in the way is not any more: writing succeeds, and most of what waited is written."""
        return not self._failing and 2 * self.waiting < self.room

    # What follows runs in the writing thread.

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._closing.wait(PAUSE if self.pause is None else self.pause)
                self._write_all()
            if self._closing.is_set():
                self._leave()
                return

    def _write_all(self) -> None:
        """Write, or give up, all lines of this moment."""
        # Two steps, each of which is one to the interpreter: what `write` appends in between stays.
        taken = self._waiting[:]
        del self._waiting[: len(taken)]
        octets = b"".join([octets for octets, _ in taken])
        count = sum(count for _, count in taken)
        done = 0
        try:
            self._open()
            if self._torn:
                os.write(self._descriptor, b"\n")
                self._torn = False
            while done < len(octets):
                done += self._put(octets, done)
            self._failing = False
        except OSError as error:
            lost = octets.count(b"\n", done)
            self.failed += lost
            count -= lost
            if done:
                self._torn = octets[done - 1 : done] != b"\n"
            self._complain(error)
        self.written += count
        self._taken += len(octets)

    def _put(self, octets: bytes, start: int) -> int:
        """Write some of `octets` from `start` on; how many."""
        end = len(octets)
        if self._shared and end - start > select.PIPE_BUF:
            # More than this at once, and what others write to the same pipe could come between.
            end = octets.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or start + select.PIPE_BUF
        try:
            return os.write(self._descriptor, octets[start:end])
        except BlockingIOError:
            # Somebody has made the pipe that we share with them non-blocking.
            select.select([], [self._descriptor], [])
            return 0

    def _open(self) -> None:
        if self._reopen:
            self._reopen = False
            self._leave()
        if self._descriptor < 0:
            if self.path is None:
                self._descriptor = os.dup(1)
            else:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            self._shared = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def _leave(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _complain(self, error: OSError) -> None:
        """Once for each time of trouble; afterwards begin anew, because the file may be another one then."""
        if self.path is not None:
            self._leave()
        if not self._failing:
            self._failing = True
            self.on_trouble(error.strerror or str(error))
