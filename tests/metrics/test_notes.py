"""What is noted is told of once, in its order, when there is enough of it, when its time has come, or when asked."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from noted import noted
from twisted.internet.task import Clock

from sidecar.records.notes import PATIENCE, TOGETHER, Notes
from sidecar.records.tally import Tallies
from sidecar.transport.deadlines import GRANULARITY, Deadlines


class Reader:
    """Stands for an access log."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, float]] = []

    def tell(self, records: list[Any], moment: float) -> None:
        assert records, "a log that is told of nothing wakes its writer for nothing"
        self.heard += [(record.request_id, moment) for record in records]


@given(st.lists(st.one_of(st.just("take"), st.floats(0.0, 1.0), st.just("look")), max_size=300))
def test_each_is_told_of_once_and_in_time(steps: list[Any]) -> None:
    """Whatever comes when: nothing waits for longer than it may, and whoever looks sees everything."""
    clock = Clock()
    deadlines = Deadlines(clock)
    reader = Reader()
    notes = Notes(clock.seconds, deadlines.set, Tallies(), reader)  # type: ignore[arg-type]
    taken: list[float] = []
    for step in steps:
        if step == "take":
            notes.take(noted(request_id=len(taken)))
            taken.append(clock.seconds())
        elif step == "look":
            tallies = notes.told()
            assert tallies is not None
            assert sum(cell.requests for cell in tallies.cells.values()) == len(taken) == len(reader.heard)
        else:
            clock.pump([GRANULARITY / 4] * int(step / (GRANULARITY / 4)))
        assert len(taken) - len(reader.heard) < TOGETHER
    clock.pump([GRANULARITY / 4] * 8)
    assert [number for number, _ in reader.heard] == list(range(len(taken)))
    for begin, (_, end) in zip(taken, reader.heard, strict=True):
        assert end - begin <= PATIENCE + 2 * GRANULARITY


def test_who_wants_them() -> None:
    """Without anybody nothing is kept; with one of the two, that one is told."""
    woken: list[float] = []

    def wake(_notes: Notes, seconds: float) -> None:
        woken.append(seconds)

    assert not Notes(float, wake).wanted
    assert Notes(float, wake, Tallies()).wanted
    reader = Reader()
    notes = Notes(lambda: 7.0, wake, log=reader)  # type: ignore[arg-type]
    assert notes.wanted
    notes.take(noted(request_id="a"))
    notes.take(noted(request_id="b"))
    assert notes.told() is None
    assert notes.told() is None
    assert reader.heard == [("a", 7.0), ("b", 7.0)]
    notes.take(noted(request_id="c"))
    assert woken == [PATIENCE, PATIENCE]
