"""`python -m benchmarks.slow_clients`: what 2,000 slow clients cost the others, through each program.

Requests come at a fixed rate, first alone, then beside a crowd that sends heads and bodies octet by octet and hardly
reads; p50 and p99 of both, and the memory that the crowd takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks import load, processes, programs, traffic
from benchmarks.crowd import raise_open_files
from benchmarks.programs import PROGRAMS, ROOT, Processors, Program, ProgramError, Workers

EACH = 667
"""Slow clients of each of three kinds."""
RATE = 500.0
CONNECTIONS = 32
SECONDS = 4.0
SETTLE = 3.0
"""For the buffers between the worker and those who hardly read to fill. Both together are less than any program waits
for a head, so that the whole crowd is there all the time."""


@frozen
class Measured:
    """Seconds, and bytes."""

    p50: float
    p99: float
    p50_beside: float
    p99_beside: float
    memory: int


def measure(program: Program, place: Path, worker: Workers, processors: Processors) -> Measured:
    """Measure one program, freshly started."""
    requests = traffic.small_requests()

    def percentiles() -> tuple[float, float]:
        cuts = statistics.quantiles(load.paced(proxy.address, requests, CONNECTIONS, RATE, SECONDS), n=100)
        return cuts[49], cuts[98]

    with programs.proxy(program, place, worker, processors) as proxy:
        load.paced(proxy.address, requests, CONNECTIONS, RATE, 1.0)
        alone = percentiles()
        before = processes.memory(proxy.process.pid)
        with crowd(proxy.address):
            time.sleep(SETTLE)
            beside = percentiles()
            memory = processes.memory(proxy.process.pid) - before
    return Measured(*alone, *beside, memory)


@contextmanager
def crowd(address: tuple[str, int]) -> Iterator[None]:
    """The crowd is connected to this address during the block."""
    command = [sys.executable, "-m", "benchmarks.crowd", address[0], str(address[1]), str(EACH)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"connected\n":
                raise ProgramError("the slow clients could not connect")
            yield
        finally:
            process.stdin.close()


def table(measured: dict[str, list[Measured]]) -> Iterator[str]:
    """Medians of the rounds, in milliseconds, and mebibytes."""
    yield "| | p50, ms | p99, ms | p50 beside the crowd | p99 beside the crowd | memory for it, MiB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, rounds in measured.items():
        p50, p99, p50_beside, p99_beside = (
            statistics.median(getattr(one, key) for one in rounds) * 1e3
            for key in ("p50", "p99", "p50_beside", "p99_beside")
        )
        memory = statistics.median(one.memory for one in rounds) / traffic.MIB
        yield f"| {name} | {p50:.2f} | {p99:.2f} | {p50_beside:.2f} | {p99_beside:.2f} | {memory:.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    processors = Processors.divided(sorted(os.sched_getaffinity(0)))
    raise_open_files(6 * EACH)
    os.sched_setaffinity(0, processors.rest)
    measured: dict[str, list[Measured]] = {}
    with ExitStack() as stack:
        place = stack.enter_context(programs.directory())
        worker = stack.enter_context(programs.workers(place, processors))
        for _ in range(options.rounds):
            for program in PROGRAMS:
                try:
                    one = measure(program, place, worker, processors)
                except (ProgramError, load.LoadError) as error:
                    print(f"{program.name}: {error}", file=sys.stderr)
                else:
                    measured.setdefault(program.name, []).append(one)
    print(*table(measured), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
