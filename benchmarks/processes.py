"""What the kernel knows about a program: processor time and memory of a process with all its children (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


@frozen
class Usage:
    """Seconds on a processor, those of them in the kernel, and those spent ready but waiting for a processor."""

    total: float
    system: float
    waited: float

    def since(self, before: Usage) -> Usage:
        """What was added after `before`."""
        return Usage(self.total - before.total, self.system - before.system, self.waited - before.waited)


def tree(pid: int) -> list[int]:
    """This process and all that descend from it."""
    children = [
        int(child)
        for task in (_PROC / str(pid) / "task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(descendant for child in children for descendant in tree(child))]


def usage(pid: int) -> Usage:
    """The tree below `pid`: what its living threads have used, to the nanosecond, the kernel's share in clock ticks."""
    pids = tree(pid)
    total, waited = (sum(column) / 1e9 for column in zip(*map(_nanoseconds, pids), strict=True))
    return Usage(total, sum(map(_system_ticks, pids)) / _TICK, waited)


def memory(pid: int) -> int:
    """Bytes of memory of the tree below `pid`; a page that several processes share counts once (PSS)."""
    return sum(_proportional_set_size(each) for each in tree(pid))


def _nanoseconds(pid: int) -> tuple[int, int]:
    tasks = [(task / "schedstat").read_text().split() for task in (_PROC / str(pid) / "task").iterdir()]
    return sum(int(task[0]) for task in tasks), sum(int(task[1]) for task in tasks)


def _system_ticks(pid: int) -> int:
    return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[12])


def _proportional_set_size(pid: int) -> int:
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup has no line Pss")
