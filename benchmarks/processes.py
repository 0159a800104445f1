"""What the kernel knows about a program: processor time and memory of a process with all its children (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


@frozen
class Usage:
    """Processor time in seconds: `total`, to the nanosecond where the kernel counts so, and its `system` share."""

    total: float
    system: float


def tree(pid: int) -> list[int]:
    """This process and all that descend from it."""
    children = [
        int(child)
        for task in (_PROC / str(pid) / "task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(descendant for child in children for descendant in tree(child))]


def usage(pid: int) -> Usage:
    """User and system time of the tree below `pid`, of threads that live. Children that have ended are not in it."""
    pids = tree(pid)
    user, system = (sum(column) for column in zip(*(_ticks(each) for each in pids), strict=True))
    try:
        return Usage(sum(_nanoseconds(each) for each in pids) / 1e9, system / _TICK)
    except OSError:  # a kernel without CONFIG_SCHED_INFO: clock ticks must do
        return Usage((user + system) / _TICK, system / _TICK)


def memory(pid: int) -> int:
    """Bytes of memory of the tree below `pid`; a page that several processes share counts once (PSS)."""
    return sum(_proportional_set_size(each) for each in tree(pid))


def _nanoseconds(pid: int) -> int:
    tasks = (_PROC / str(pid) / "task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def _ticks(pid: int) -> tuple[int, int]:
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def _proportional_set_size(pid: int) -> int:
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup has no line Pss")
