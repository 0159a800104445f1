"""The state file of a rollout: what a reader finds, whenever the writer was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.rollout.progress_file import ProgressFile, StateFileError, Unfinished, read_unfinished

NAMES = ("sync1", "sync2", "main")


def progress(path: Path) -> ProgressFile:
    return ProgressFile(str(path), "/etc/sidecar.yaml")


def test_a_reader_finds_what_was_written_last(tmp_path: Path) -> None:
    """Each step, and nothing once the rollout has ended."""
    path = tmp_path / "deep" / "rollout.json"
    with progress(path) as file:
        assert file.unfinished() is None
        file.begin(NAMES)
        file.drained("sync1")
        assert file.unfinished() == Unfinished(names=NAMES, done=(), drained="sync1", configuration="/etc/sidecar.yaml")
        file.finished("sync1")
        file.drained("")
        found = file.unfinished()
        assert found is not None
        assert (found.left, found.drained) == (("sync2", "main"), "")
    assert read_unfinished(str(path)) == found
    assert path.stat().st_mode & 0o777 == 0o600
    with progress(path) as file:
        assert file.unfinished() == found
        file.end()
    assert read_unfinished(str(path)) is None


def test_a_writer_that_is_killed_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    """The new one is written over the old one; the rest of a longer one is not part of it."""
    path = tmp_path / "rollout.json"
    with progress(path) as file:
        file.begin((*NAMES, "a-worker-with-a-long-name"))
    old = path.read_bytes()
    with progress(path) as file:
        file.begin(NAMES)
        new = path.read_bytes()
        assert len(new) < len(old)
        path.write_bytes(new + old[len(new) :])  # as between writing and cutting
        found = file.unfinished()
    assert found is not None
    assert found.names == NAMES


def test_only_one_rollout_at_a_time(tmp_path: Path) -> None:
    """The second is refused, and its state is not touched."""
    path = tmp_path / "rollout.json"
    with progress(path) as file, pytest.raises(StateFileError, match="another rollout is running"), progress(path):
        file.begin(NAMES)
