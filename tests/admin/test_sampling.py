"""The totals are looked at every second: at once where there are few of them, in steps where there are many."""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import define, field
from noted import noted
from twisted.internet.task import Clock

from sidecar.admin.own import OwnUse
from sidecar.admin.recent import Recent
from sidecar.admin.sampling import AT_ONCE, Sampling
from sidecar.history.events import Events
from sidecar.observe.telemetry import Counters
from sidecar.records.notes import Notes
from sidecar.records.tally import Tallies
from sidecar.relay.admission import Gate
from sidecar.upstream.pool import WorkerPool


@define
class Queue:
    """A worker for which nobody waits."""

    waiting: int = 0


@define
class Gateway:
    """What is looked at."""

    notes: Notes
    counters: Counters = field(factory=Counters)
    pools: dict[str, WorkerPool] = field(factory=lambda: {"a": cast(WorkerPool, Queue())})
    gates: dict[str, Gate] = field(factory=dict)


def sampling(endpoints: int) -> tuple[Clock, Sampling, Gateway]:
    clock = Clock()
    gateway = Gateway(Notes(clock.seconds, lambda _notes, _seconds: None, Tallies()))
    for number in range(endpoints):
        record = noted(endpoint=f"e{number}", pool="pool", worker="a", status=200, first_byte=0.1, began=0.0, ended=0.1)
        gateway.notes.take(record)
    events = Events(clock.seconds)
    return clock, Sampling(clock, lambda: cast(Any, gateway), Recent(set()), events, OwnUse()), gateway


@pytest.mark.parametrize(("endpoints", "steps"), [(3, 1), (AT_ONCE - 1, 1), (AT_ONCE, 2), (5 * AT_ONCE, 6)])
def test_steps_are_as_many_as_totals_want(endpoints: int, steps: int) -> None:
    """A second has one step for few totals; and all are noted at the end of the second, whoever asks."""
    clock, sampled, _ = sampling(endpoints)
    sampled.startService()
    waits = []
    while clock.seconds() < 2 - 1e-6:
        (call,) = clock.getDelayedCalls()
        waits.append(call.getTime() - clock.seconds())
        clock.advance(waits[-1])
    assert len(waits) == 2 * steps
    assert sampled.recent.worker("a")["requests_per_second"] == 0, "there are two looks with nothing between them"
    sampled.stopService()
    assert not clock.getDelayedCalls()
