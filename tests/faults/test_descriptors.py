"""Descriptors run out: who is there is served, who is not waits in the kernel's queue, and nothing is spent on it."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from processes import Running, command, connect, exchange

from .asking import AtOnce, answer_on, ask, request
from .side_by_side import CONFIGURATION, WorkerProcess

QUICK = "/_matrix/client/v3/quick"
CLIENTS = 100
LOOK = 2.0
"""Seconds of which a process that waits uses next to nothing."""
IDLE = 0.2
"""Seconds of processor time in LOOK that a busy loop would exceed many times."""


@contextmanager
def running(place: Path, worker: WorkerProcess, open_files: int | None = None) -> Iterator[Running]:
    (place / "sidecar.yaml").write_text(CONFIGURATION.format(path=worker.path))
    line = command("-c", "sidecar.yaml")
    prefix = None if open_files is None else ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *line]
    with Running([] if prefix else ["-c", "sidecar.yaml"], place, prefix) as sidecar:
        yield sidecar
        assert "Traceback" not in sidecar.said, sidecar.said


def spent(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spends_nothing(sidecar: Running) -> None:
    before = spent(sidecar.pid)
    time.sleep(LOOK)
    assert spent(sidecar.pid) - before < IDLE


def asks(client: socket.socket) -> str:
    client.sendall(request(QUICK))
    return answer_on(client).outcome


def test_more_clients_than_descriptors_allow(place: Path) -> None:
    """With 320 open files 32 clients are let in; the others wait, and are served as soon as those have left."""
    with WorkerProcess(place) as worker, running(place, worker, 320) as sidecar, ExitStack() as stack:
        address = sidecar.address()
        sidecar.says("320 open files allow 32 client connections")
        first = [stack.enter_context(connect(address)) for _ in range(CLIENTS)]
        sidecar.says("32 client connections are open; new ones wait")
        for client in first[:32]:
            assert asks(client) == "200"
        late = AtOnce(address, [request(QUICK)] * 10)
        spends_nothing(sidecar)
        assert worker.executed()[QUICK] == 32
        for client in first:
            client.close()
        assert late.outcomes() == ["200"] * 10
        assert ask(address, request(QUICK)).outcome == "200"


@pytest.mark.parametrize("kept", [0, 5])
def test_descriptors_run_out(place: Path, kept: int) -> None:
    """With `kept` descriptors left those who are there are served, one after another where there are too few."""
    with WorkerProcess(place) as worker, running(place, worker) as sidecar, ExitStack() as stack:
        address = sidecar.address()
        there = [stack.enter_context(connect(address)) for _ in range(20)]
        for client in there:
            assert exchange(client, request(QUICK)).startswith(b"HTTP/1.1 200 ")
        before = leave_descriptors(sidecar.pid, kept)
        late = AtOnce(address, [request(QUICK)] * 20)
        for client in there:
            client.sendall(request(QUICK))
        served = [answer_on(client).outcome for client in there]
        sidecar.says("the limit of open files is near")
        spends_nothing(sidecar)
        resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, before)
        outcomes = late.outcomes()
        assert served == ["200"] * len(there)
        assert outcomes == ["200"] * 20
        assert "is down" not in sidecar.said
        assert ask(address, request(QUICK)).outcome == "200"


def leave_descriptors(pid: int, count: int) -> tuple[int, int]:
    """Take away all but so many of those that a process has left; the limits before."""
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + count, before[1]))
    return before
