"""A request, or an answer, that comes all at once goes a shorter way, and nobody can tell the difference."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import asdict
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.records.notes import Notes
from sidecar.transport.deadlines import Deadlines
from sidecar.wire.reader import RequestReader, ResponseReader

from .test_identity import Content, Story, World, sizes, steps

EMPTY = st.just(Content(0, "length"))
LENGTH = st.builds(Content, sizes, st.just("length"))
ANY = st.builds(Content, sizes, st.sampled_from(["length", "chunks"]))
UNTIL_CLOSE = st.builds(Content, sizes, st.just("close"))
FAULTS = st.sampled_from(["", "", "", "drop", "cut", "excess", "closing"])
METHODS = st.sampled_from([b"GET", b"PUT", b"POST"])
STORIES = st.builds(Story, METHODS, EMPTY | EMPTY | ANY, LENGTH | ANY | UNTIL_CLOSE, FAULTS)
PLAIN = st.builds(Story, METHODS, EMPTY, LENGTH, st.just(""))


class Everything:
    """An access log that leaves nothing out."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def tell(self, records: list[Any], moment: float) -> None:
        self.records += records


def seen(told: list[Story], acts: list[tuple[str, int]]) -> dict[str, Any]:
    """Everything that anybody can see of a world, after its story has been played."""
    random.seed(0)
    world = World(told)
    gateway = world.listener.gateway
    log = Everything()
    deadlines: Deadlines = gateway.deadlines
    gateway.notes = Notes(deadlines.now, deadlines.set, log=log)  # type: ignore[arg-type]
    gateway.observed = True
    for what, amount in acts:
        world.step(what, amount)
    world.finish()
    gateway.notes.tell()
    return {
        "client": bytes(world.client.taken),
        "client's connection": (world.client.connected, world.client.write_closed, world.client.aborting),
        "workers": [(bytes(one.transport.taken), one.transport.connected) for one in world.workers],
        "counters": asdict(gateway.counters),
        "records": [asdict(record) for record in log.records],
        "pool": (world.pool.leased, world.pool.idle, world.pool.waiting, world.pool.cuts),
        "time": world.clock.seconds(),
    }


def both_ways(told: list[Story], acts: list[tuple[str, int]]) -> None:
    short = seen(told, acts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RequestReader, "whole", lambda _self, _octets: None)
        patched.setattr(ResponseReader, "whole", lambda _self, _octets: None)
        long = seen(told, acts)
    assert short == long


@settings(deadline=None)
@given(st.lists(STORIES, min_size=1, max_size=4), steps)
def test_whatever_goes_wrong(told: list[Story], acts: list[tuple[str, int]]) -> None:
    """Faults of clients and workers, splits and pauses: the same octets, records, counters and connections."""
    both_ways(told, acts)


@settings(deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_whatever_comes_all_at_once(told: list[Story]) -> None:
    """The case for which the short way is there."""
    whole = [(what, 1 << 20) for what in ("client sends", "client end turns", "accept", "worker turns", "worker sends")]
    both_ways(told, whole * 4)


def test_it_is_taken() -> None:
    """A test of two ways is worth nothing if there is only one."""
    taken: list[str] = []

    def noting(reader: Any, name: str) -> Any:
        whole = reader.whole

        def noted(self: Any, octets: bytes) -> Any:
            found = whole(self, octets)
            if found is not None:
                taken.append(name)
            return found

        return noted

    story = Story(b"GET", Content(0, "length"), Content(20, "length"), "")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RequestReader, "whole", noting(RequestReader, "request"))
        patched.setattr(ResponseReader, "whole", noting(ResponseReader, "answer"))
        seen([story], [])
    assert taken == ["request", "answer"]
