"""Two thousand slow clients: the others are served, and the memory stays bounded."""

from __future__ import annotations

from pathlib import Path

from busy import BusyClients

from benchmarks.crowd import Crowd, Slow

from .asking import ask, request
from .side_by_side import SIDECAR, WorkerProcess, in_front

EACH = 667
"""Of three kinds."""
SETTINGS = "timeouts: {head: 5s, body: 5s, stall: 60s}\nlimits: {request_body: 100M}\n"
QUICK = "/_matrix/client/v3/quick"
EACH_HOLDS = 128 * 1024
"""Bytes of memory that a slow reader may cost at most: `limits.pipelined`, one read, and what two connections are."""


def test_two_thousand_slow_clients(place: Path) -> None:
    """Slow heads and bodies end with 408, slow readers cost no more than their bound, quick clients are served."""
    with (
        WorkerProcess(place, backlog=1024) as worker,
        in_front(SIDECAR, place, worker.path, SETTINGS) as front,
    ):
        assert front.sidecar is not None
        quick = BusyClients(10, front.address, lambda number: request(f"{QUICK}/{number}"))
        assert all(ask(front.address, request(QUICK)).outcome == "200" for _ in range(200))
        before = front.sidecar.memory()
        with Crowd(front.address, EACH) as crowd, quick as clients:
            clients.more(1000)
            assert crowd.answered(Slow.HEAD) == {b"HTTP/1.1 408 Request Timeout"}
            assert crowd.answered(Slow.BODY) == {b"HTTP/1.1 408 Request Timeout"}
            clients.more(1000)
            held = front.sidecar.memory() - before
        assert not clients.failures
        print(f"{3 * EACH} slow clients: {held / 1024 / 1024:.0f} MiB more, {held / EACH / 1024:.0f} KiB a slow reader")
        assert held < EACH * EACH_HOLDS
        assert ask(front.address, request(QUICK)).outcome == "200"
