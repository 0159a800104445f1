"""Where the sidecar's time goes under small requests: the kernel's share, and the functions by py-spy's samples."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks import load, processes, programs, traffic
from benchmarks.programs import PROGRAMS, Processors, ProgramError, Proxy
from benchmarks.tables import table

_SECONDS = 8
_RATE = 250
_SHOWN = 20


def profile(connections: int) -> str:
    """Runs the sidecar alone under the closed loop, samples it, and returns the tables.

    Raises ProgramError if the sidecar does not start or py-spy is not installed.
    """
    sidecar = next(program for program in PROGRAMS if program.name == "sidecar")
    sampler = programs.find("py-spy")
    processors = Processors.divided(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, processors.rest)
    with (
        programs.directory() as place,
        programs.workers(place, processors) as worker,
        programs.proxy(sidecar, place, worker, processors) as proxy,
    ):
        split = _kernel_share(proxy, connections)
        python = _sample(sampler, proxy, connections, place / "python")
        native = _sample(sampler, proxy, connections, place / "native", "--native")
    return "\n\n".join(
        (split, _shares("functions, without what they call", own(python)), _shares("functions, with all they call",
        inclusive(python)), _shares("native functions, without what they call", own(native)))
    ) + "\n"  # fmt: skip


def own(stacks: Iterable[str]) -> Counter[str]:
    """Samples by the innermost frame, from lines `outer;…;inner COUNT`."""
    counts: Counter[str] = Counter()
    for frames, count in map(_parsed, stacks):
        counts[frames[-1]] += count
    return counts


def inclusive(stacks: Iterable[str]) -> Counter[str]:
    """Samples by every frame on the stack, each counted once per stack."""
    counts: Counter[str] = Counter()
    for frames, count in map(_parsed, stacks):
        for frame in set(frames):
            counts[frame] += count
    return counts


def _parsed(line: str) -> tuple[list[str], int]:
    stack, _, count = line.rpartition(" ")
    return stack.split(";"), int(count)


def _kernel_share(proxy: Proxy, connections: int) -> str:
    before = processes.usage(proxy.process.pid)
    count = load.closed_loop(proxy.address, traffic.small_requests(), connections, _SECONDS)
    after = processes.usage(proxy.process.pid)
    total, system = after.total - before.total, after.system - before.system
    return (
        f"{total / count * 1e6:.1f} µs per request, {system / total:.0%} of it in the kernel (not sampled meanwhile)."
    )


def _sample(sampler: str, proxy: Proxy, connections: int, output: Path, *options: str) -> list[str]:
    command = [
        sampler, "record", "--pid", str(proxy.process.pid), "--rate", str(_RATE), "--duration", str(_SECONDS),
        "--function", "--format", "raw", "--output", str(output), *options,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            load.closed_loop(proxy.address, traffic.small_requests(), connections, 1.0)
        complaint = process.stderr.read().decode() if process.stderr else ""
    if not output.exists():
        raise ProgramError(f"py-spy recorded nothing: {complaint.strip()}")
    return output.read_text().splitlines()


def _shares(title: str, counts: Counter[str]) -> str:
    total = counts.total()
    return table([[title, "share"], *([name, f"{count / total:.1%}"] for name, count in counts.most_common(_SHOWN))])
