"""A worker that stalls: more clients come than its backlog of 50 holds."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .asking import AtOnce, request
from .side_by_side import ALL, SIDECAR, WorkerProcess, in_front, summary

REQUESTS = 120
STALL = 2.0


@pytest.mark.parametrize("name", ALL)
def test_more_requests_than_the_backlog_holds(name: str, place: Path, reached: Callable[..., None]) -> None:
    """120 requests at once, GETs and POSTs, to a worker that takes none for two seconds: all are answered, once."""
    with WorkerProcess(place) as worker, in_front(name, place, worker.path) as front:
        worker.signal(signal.SIGSTOP)
        targets = [f"/_matrix/client/v3/number/{number}" for number in range(REQUESTS)]
        asked = [
            request(target) if number % 2 else request(target, "POST", b"{}") for number, target in enumerate(targets)
        ]
        clients = AtOnce(front.address, asked)
        time.sleep(STALL)
        worker.signal(signal.SIGCONT)
        outcomes = clients.outcomes()
        executed = worker.executed()
        reached(f"{REQUESTS} requests to a worker that stalls {STALL:.0f} s", name, summary(outcomes))
        assert len(outcomes) == REQUESTS
        assert all(executed[target] for target, outcome in zip(targets, outcomes, strict=True) if outcome == "200")
        if name == SIDECAR:
            assert outcomes == ["200"] * REQUESTS
            assert all(executed[target] == 1 for target in targets)
