"""Where the sidecar's time goes under small requests: by library where `perf` is installed, and by Python function."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from attrs import evolve

from benchmarks import load, processes, programs, traffic
from benchmarks.programs import PROGRAMS, Processors, ProgramError, Proxy
from benchmarks.tables import table

_SECONDS = 8.0
_SHOWN = 25


def profile(connections: int) -> str:
    """Runs the sidecar alone under the closed loop, samples it, and returns the tables.

    Raises ProgramError if the sidecar does not start.
    """
    sidecar = next(program for program in PROGRAMS if program.name == "sidecar")
    processors = Processors.divided(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, processors.rest)
    with programs.directory() as place, programs.workers(place, processors) as worker:
        output = place / "stacks"
        sampled = (sys.executable, "-m", "benchmarks.sampler", str(output), *sidecar.command[1:])
        with programs.proxy(evolve(sidecar, command=sampled), place, worker, processors) as proxy:
            parts = [_kernel_share(proxy, connections), _libraries(proxy, connections, place / "perf.data")]
            stacks = _stacks(proxy, connections, output)
    samples = own(stacks).total()
    below = Counter({name: count for name, count in inclusive(stacks).items() if count < samples})
    parts.append(_shares("functions, without the Python that they call", own(stacks), samples))
    parts.append(_shares("functions, with all that they call", below, samples))
    return "\n\n".join(parts) + "\n"


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


def by_kind(lines: Iterable[str]) -> Counter[str]:
    """Hundredths of percent of what perf saw, from its lines `PERCENT%;LIBRARY;SYMBOL`, by kind of work."""
    counts: Counter[str] = Counter()
    for line in lines:
        percent, _, place = line.strip().partition("%")
        _, library, symbol = (part.strip() for part in place.split(";"))
        counts[_kind(library, symbol)] += round(float(percent) * 100)
    return counts


def _kind(library: str, symbol: str) -> str:
    if library.startswith("[kernel"):
        return "kernel"
    if "sre_" in symbol.lower():
        return "regular expressions"
    return "interpreter" if "python" in library else library


def _parsed(line: str) -> tuple[list[str], int]:
    stack, _, count = line.rpartition(" ")
    return stack.split(";"), int(count)


def _kernel_share(proxy: Proxy, connections: int) -> str:
    before = processes.usage(proxy.process.pid)
    count = load.closed_loop(proxy.address, traffic.small_requests(), connections, _SECONDS)
    spent = processes.usage(proxy.process.pid).since(before)
    return (
        f"{spent.total / count * 1e6:.1f} µs per request, {spent.system / spent.total:.0%} of it in the kernel "
        "(not sampled meanwhile)."
    )


def _libraries(proxy: Proxy, connections: int, output: Path) -> str:
    try:
        perf = programs.find("perf")
    except ProgramError as error:
        return f"Shares by library: {error}."
    record = [perf, "record", "-q", "-e", "cpu-clock", "-F", "999", "-p", str(proxy.process.pid), "-o", str(output)]
    with subprocess.Popen(record, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        load.closed_loop(proxy.address, traffic.small_requests(), connections, _SECONDS)
        process.send_signal(signal.SIGINT)
        complaint = process.stderr.read().decode() if process.stderr else ""
    report = [perf, "report", "-i", str(output), "--stdio", "-t", ";", "-F", "overhead,dso,symbol"]
    text = subprocess.run(report, capture_output=True, check=False).stdout.decode(errors="replace")
    counts = by_kind(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if not counts:
        return f"Shares by library: perf recorded nothing: {complaint.strip()}"
    return _shares("kind of work (perf)", counts, counts.total())


def _stacks(proxy: Proxy, connections: int, output: Path) -> list[str]:
    proxy.process.send_signal(signal.SIGUSR2)
    load.closed_loop(proxy.address, traffic.small_requests(), connections, _SECONDS)
    proxy.process.send_signal(signal.SIGUSR2)
    end = time.monotonic() + load.PATIENCE
    while not output.exists():
        if time.monotonic() > end:
            raise ProgramError("the sidecar wrote no samples")
        time.sleep(0.05)
    return output.read_text().splitlines()


def _shares(title: str, counts: Counter[str], total: int) -> str:
    return table([[title, "share"], *([name, f"{count / total:.1%}"] for name, count in counts.most_common(_SHOWN))])
