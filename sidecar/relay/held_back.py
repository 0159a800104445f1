"""Long polls that wait for a moment, so that what happens meanwhile comes in one answer instead of several.

A client syncs again as soon as it has an answer, and the next event answers it again. Typing, a message and its
receipts are four answers for everybody in the room. So a client whose syncs follow each other quickly waits a little
before its next one is sent. The first of a burst does not wait, and neither does a client without events. Knows no
workers, and nothing of the requests that it holds.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from sidecar.observe.telemetry import logger
from sidecar.records.histogram import Histogram
from sidecar.transport.deadlines import Deadlines
from sidecar.wire.head import RequestHead

_log = logger("sidecar.relay")

BURST = 2.5
"""A long poll belongs to a burst if it comes within this many hold times after the client's last one."""
CROWD = 16
"""Clients of late for each worker: with twice as many, polls are held twice as long, and so on. One event in a large
room has a worker answer a hundred polls, which takes longer than the pause between two events."""
LONGEST = 3
"""Times the configured time: no poll is held for longer, however large the crowd is."""
TOGETHER = 0.002
"""Seconds by which a long poll may go earlier, together with those before it, to save timers."""


class LongPoll(Protocol):
    """A request that can be held back."""

    def held_long_enough(self, head: RequestHead) -> None:
        """Go on, unless the request has ended meanwhile."""


class Bursts:
    """Which clients came of late, and for how many seconds the next poll of each is held: some times `seconds`.

    Remembers no more than came in the last two windows. A window is as long as the longest burst.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._window = LONGEST * BURST * seconds
        self._began = 0.0
        self._now: dict[int, float] = {}
        self._before: dict[int, float] = {}

    def note(self, client: int, workers: int, now: float) -> float:
        """Note a request of this client, to a pool of so many workers; for how many seconds it is held, 0 outside a
        burst."""
        window, age = self._window, now - self._began
        if age >= window:
            self._before = self._now if age < 2 * window else {}
            self._now = {}
            self._began = now
        last = self._now.get(client)
        if last is None:
            last = self._before.get(client)
        crowd = max(len(self._now), len(self._before)) // (CROWD * workers)
        seconds = self._seconds * min(LONGEST, max(1, crowd))
        self._now[client] = now
        return seconds if last is not None and now - last < BURST * seconds else 0.0

    def __len__(self) -> int:
        return len(self._now) + len(self._before)


class HeldBack:
    """The waiting long polls, by how long they are held; those of one line go on in the order in which they came."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._lines: dict[float, deque[tuple[float, LongPoll, RequestHead]]] = {}
        self._bursts: dict[float, Bursts] = {}
        """By hold time; as many as the configurations of this process have named."""
        self.waits = Histogram()
        """How long they were held."""
        self.waiting_octets = 0

    def weigh(self, octets: int) -> None:
        """Count bytes of waiting bodies; a negative number takes them off."""
        self.waiting_octets += octets

    def wanted(self, client: int, seconds: float, workers: int) -> float:
        """Note a long poll of a client, who is known by a number; for how many seconds it is held, 0 outside a burst.

        `seconds` is what the pool says (`pools.NAME.coalesce`), and `workers` how many share its keys.
        """
        bursts = self._bursts.get(seconds)
        if bursts is None:
            bursts = self._bursts[seconds] = Bursts(seconds)
        return bursts.note(client, workers, self._deadlines.now())

    def hold(self, poll: LongPoll, head: RequestHead, seconds: float) -> None:
        """Let `poll` go on in `seconds`, or up to `TOGETHER` earlier."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = deque()
            self._deadlines.soon(seconds, lambda: self._release(seconds))
        line.append((self._deadlines.now() + seconds, poll, head))

    def _release(self, seconds: float) -> None:
        line, now = self._lines[seconds], self._deadlines.now
        while line and line[0][0] <= now() + TOGETHER:
            _, poll, head = line.popleft()
            _tell(poll, head)
        if line:
            self._deadlines.soon(line[0][0] - now(), lambda: self._release(seconds))
        else:
            del self._lines[seconds]


def _tell(poll: LongPoll, head: RequestHead) -> None:
    """One that fails must not stop those behind it."""
    try:
        poll.held_long_enough(head)
    except Exception:
        _log.failure("a long poll could not go on")
