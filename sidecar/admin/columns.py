"""The columns of the table of workers, the same on the status page and in `matrix-sidecar top`. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from sidecar.admin.snapshot import Snapshot, WorkerFacts

_GRAVITY = {"down": 0, "stuck": 1, "draining": 2, "slow start": 3}


@frozen
class SortColumn:
    """One column: its title, what it is sorted by (most first), and what it means."""

    title: str
    key: Callable[[WorkerFacts], Any]
    meaning: str


COLUMNS = {
    "state": SortColumn("State", lambda worker: -gravity(worker), "Those that are not up first"),
    "flight": SortColumn("In flight", lambda worker: worker.leased, "Requests that it has now"),
    "waiting": SortColumn("Queue", lambda worker: worker.waiting, "Requests that wait for it now"),
    "rate": SortColumn(
        "Rate", lambda worker: worker.recent.requests_per_second or 0, "Answers a second, of the last ten"
    ),
    "p50": SortColumn("p50", lambda worker: worker.recent.p50 or 0, "Half of its answers began within this time"),
    "p99": SortColumn("p99", lambda worker: worker.recent.p99 or 0, "99 of 100 answers began within this time"),
    "slowest": SortColumn("Slowest", lambda worker: worker.recent.slowest or 0, "The longest of these times"),
    "errors": SortColumn("Errors", lambda worker: worker.recent.errors, "Answers 5xx in the last minute"),
    "changed": SortColumn("Since", lambda worker: -(worker.changed or 0), "How long it has been so, the newest first"),
}


def ordered(facts: Snapshot, order: str) -> list[WorkerFacts]:
    """The workers by a column, as far as that decides."""
    column = COLUMNS.get(order)
    found = list(facts.workers.values())
    return found if column is None else sorted(found, key=column.key, reverse=True)


def state_word(worker: WorkerFacts) -> str:
    """The state in one or two words."""
    return "slow start" if worker.state == "up" and worker.slow_start else worker.state


def gravity(worker: WorkerFacts) -> int:
    """The less, the worse its state."""
    return _GRAVITY.get(state_word(worker), 4)
