"""Reloads under clients on kept connections: of ours nobody notices any."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .asking import Persistent
from .side_by_side import ALL, SIDECAR, WorkerProcess, in_front, summary

RELOADS = 10
CLIENTS = 20
SIGNALS = {SIDECAR: signal.SIGHUP, "nginx": signal.SIGHUP, "haproxy": signal.SIGUSR2}


@pytest.mark.parametrize("name", ALL)
def test_reloads_of_the_same_file(name: str, place: Path, reached: Callable[..., None]) -> None:
    """20 busy clients that never retry lose no request in 10 reloads."""
    with WorkerProcess(place, backlog=1024) as worker, in_front(name, place, worker.path) as front:
        with Persistent(CLIENTS, front.address) as clients:
            clients.more(500)
            for number in range(1, RELOADS + 1):
                os.kill(front.pid, SIGNALS[name])
                if front.sidecar is not None:
                    front.sidecar.says(rf"(?s)(reloaded: nothing is different.*){{{number}}}")
                clients.more(500)
        lost = f"{len(clients.failures)} of {clients.requests} requests lost"
        reached(f"{RELOADS} reloads under {CLIENTS} busy clients", name, f"{lost} {summary(clients.failures)}".strip())
        assert clients.requests > RELOADS * 500
        if name == SIDECAR:
            assert not clients.failures
