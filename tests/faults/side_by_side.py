"""The sidecar, nginx and HAProxy in front of the same worker, so that each fault is felt by all three.

The configurations of the others are those of the benchmarks, in which they stand as they would in front of Synapse.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pytest
from attrs import evolve, frozen
from processes import PATIENCE, Running

from benchmarks.programs import PROGRAMS, Processors, Program, Workers, proxy

SIDECAR = "sidecar"
OTHERS = ("nginx", "haproxy")
ALL = (SIDECAR, *(pytest.param(name, marks=pytest.mark.needs(name)) for name in OTHERS))
"""For `parametrize`: a test runs once for each."""

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
synapse: {{version: "1.163.2"}}
workers:
  main: {{endpoint: "unix:{path}"}}
"""


# HAProxy reloads only with a master process.
COMMANDS = {"haproxy": ("haproxy", "-W", "-db", "-f", "@CONFIG@")}


@frozen
class Front:
    """A program that runs in front of a worker. `sidecar` is there only where it is ours."""

    name: str
    address: tuple[str, int]
    pid: int
    sidecar: Running | None = None


@contextmanager
def in_front(name: str, place: Path, worker: Path, more: str = "") -> Iterator[Front]:
    """Run the program of this name in front of a worker; `more` goes into the sidecar's file."""
    if name == SIDECAR:
        file = place / "sidecar.yaml"
        file.write_text(CONFIGURATION.format(path=worker) + more)
        with Running(["-c", str(file)], place) as sidecar:
            yield Front(name, sidecar.address(), sidecar.pid, sidecar)
            assert "Traceback" not in sidecar.said, sidecar.said
    else:
        processors = frozenset(os.sched_getaffinity(0))
        program = evolve(program_named(name), command=COMMANDS.get(name, program_named(name).command))
        with proxy(program, place, Workers(str(worker)), Processors(processors, processors)) as other:
            yield Front(name, other.address, other.process.pid)


def program_named(name: str) -> Program:
    return next(program for program in PROGRAMS if program.name == name)


class WorkerProcess:
    """The stand-in worker, with signals. Its backlog is Synapse's, unless something else is to be seen."""

    def __init__(self, place: Path, name: str = "worker", backlog: int = 50) -> None:
        self.path = place / f"{name}.sock"
        self._backlog = str(backlog)
        self._executed = place / f"{name}.executed"
        self.start()

    def start(self) -> None:
        """Start, or start again, and wait until it listens."""
        script = Path(__file__).parent / "stand_in.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(self.path), str(self._executed), self._backlog], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def executed(self) -> Counter[str]:
        """How often each target was executed, whoever was told; with a `+`, how often its head has come."""
        return Counter(self._executed.read_text().split())

    def wait_for(self, target: str, times: int) -> None:
        """Wait until this target has been executed, or with a `+` has begun to come, so often."""
        deadline = time.monotonic() + PATIENCE
        while self.executed()[target] < times:
            assert time.monotonic() < deadline, self.executed()
            time.sleep(0.01)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def summary(outcomes: Sequence[str]) -> str:
    """How often each, the most frequent first."""
    return ", ".join(f"{count} {outcome}" for outcome, count in Counter(outcomes).most_common())
