"""What people are told of how pools were formed, and what names propose."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from sidecar.config.schema import Pool
from sidecar.routing.forming import COST, meant_for, sentences

from .plans import MAIN, client, plan_of


@pytest.mark.parametrize(
    ("names", "globs"),
    [
        (("sync1", "sync2", "client1"), ("sync*",)),
        (("synchrotron1", "generic-sync-2", "other"), ("synchrotron*", "generic-sync*")),
        (("Sync", "client_1"), ("Sync*",)),
        (("sync1", "s", "1sync", "sync_2"), ("sync*", "1sync*")),
        (("sync1", "sync2"), ()),
        (("worker1", "worker2"), ()),
        ((), ()),
    ],
)
def test_names_that_tell_what_somebody_meant(names: tuple[str, ...], globs: tuple[str, ...]) -> None:
    """Globs that hit all workers with the word in their names, and no others."""
    assert meant_for("sync", names) == globs
    hit = {name for name in names for glob in globs if fnmatchcase(name, glob)}
    assert hit == ({name for name in names if "sync" in name.lower()} if globs else set())


NAMES = ("sync1", "sync2", "client1", "client2")


def told(*names: str, **pools: Pool) -> str:
    return "\n".join(sentences(plan_of({"main": MAIN, **{name: client() for name in names}}, pools=pools)))


def test_where_one_process_has_all_syncs_there_is_nothing_to_say() -> None:
    """Main alone, one worker, or one that is named."""
    assert told() == told("sync1") == told(*NAMES, sync=Pool(workers=("sync1",))) == ""


def test_what_is_said_without_a_word_in_the_file() -> None:
    """From what, how many, what it costs, and what else could be written."""
    text = told(*NAMES)
    assert text.startswith("sync, initial_sync, sliding_sync: 2 of 4 workers serve the syncs (")
    assert "Without `pools.sync`, half of the workers that serve clients do.\n" in text
    assert COST in text
    assert '`pools: {sync: {spread: N}}` for another number, or `pools: {sync: {workers: ["sync*"]}}`' in text
    assert "1 of 2 workers serves the syncs (" in told("a", "b")


def test_what_is_said_of_what_the_file_says() -> None:
    """Who or how many; a pool that differs from the others has a line of its own."""
    text = told(*NAMES, sync=Pool(workers=("sync*",)), initial_sync=Pool(spread=3))
    assert "sync, sliding_sync: sync1, sync2 serve the syncs. `pools.sync.workers` names them" in text
    assert "initial_sync: sync1, sync2 serve the syncs. `pools.initial_sync.spread` says so." in text
    assert "those of that name" not in text
