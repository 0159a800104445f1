"""What the process itself uses: its processor, its memory, its descriptors. Read from `/proc/self` on Linux."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

SPAN = 10.0
"""Seconds of which the share of the processor is the mean."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@define(eq=False)
class OwnUse:
    """Is looked at every second."""

    spent: Callable[[], float] = time.process_time
    """Seconds of processor time of all threads so far."""
    _looks: deque[tuple[float, float]] = field(factory=deque, init=False)
    """When, and what was spent until then."""

    def look(self, now: float) -> None:
        """Note what was spent until this moment."""
        looks = self._looks
        looks.append((now, self.spent()))
        while looks[0][0] < now - SPAN:
            looks.popleft()

    @property
    def cpu(self) -> float | None:
        """The share of one core, 1.0 for a whole one; None where nothing is known yet."""
        if len(self._looks) < 2:
            return None
        (then, before), (now, spent) = self._looks[0], self._looks[-1]
        return round((spent - before) / (now - then), 3) if now > then else None

    def told(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "cpu": self.cpu,
            "memory": _memory(),
            "files": _open_files(),
            "files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }


def _memory() -> int | None:
    """Resident bytes (proc(5), statm)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None
