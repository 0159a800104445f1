"""`top` of several instances: one screen for all, drains on all or on one, and one that is killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from family import Family
from hypothesis import given
from hypothesis import strategies as st
from pictures import told as tell
from processes import ROOT, environment

from sidecar.admin.together import snapshot_of
from sidecar.top.screen import screen
from sidecar.top.state import Action, Maintaining, Setting, TopState, press, told
from top.test_terminal import Tmux, waits_for


def state_of(second: dict[str, Any] | None, why: str = "") -> TopState:
    rows = [("one", tell(), ""), ("two", second, why)]
    listed = [{"name": name, "own": name == "one", "status": status, "why": reason} for name, status, reason in rows]
    return told(TopState(), snapshot_of({"instances": listed}))


def shown(of: TopState, width: int = 80, height: int = 40) -> list[str]:
    return ["".join(piece.text for piece in line).rstrip() for line in screen(of, width, height)]


def test_both_are_above_everything() -> None:
    """Who is how, sums, and a mark at a worker that is not the same on both."""
    second = tell()
    second["workers"]["sync1"]["state"] = "draining"
    lines = shown(state_of(second), 120)
    assert lines[1] == "one ready  two ready"
    assert lines[2].startswith("req 31/s  in flight 432")
    row = next(line for line in lines if line.startswith("sync1"))
    assert row.split()[:3] == ["sync1", "draining*", "420"]
    assert row.endswith("up on one; draining on two")
    assert not any("*" in line for line in shown(state_of(tell())))


def test_the_silent_one_is_said() -> None:
    """On every view, with its reason; its row has no numbers."""
    state = state_of(None, "Connection refused")
    assert "two does not answer: Connection refused." in shown(state)
    listed = press(state, "shift tab")[0]
    lines = shown(listed)
    assert any(line.startswith("INSTANCE") for line in lines)
    assert any(line.startswith("two") and "no answer" in line for line in lines)
    assert "  Connection refused" in lines


def test_a_drain_goes_to_all() -> None:
    """With `y`; with `o` to the one that was asked only; a single instance knows no `o`."""
    state = press(press(state_of(tell()), "down")[0], "d")[0]
    assert shown(state)[-1] == "Drain sync1 on all 2 instances? y: yes, o: only on one, any other key: no"
    assert press(state, "y")[1] == Action("sync1", True, True)
    assert press(state, "o")[1] == Action("sync1", True, False)
    assert press(state, "n")[1] is None
    alone = press(told(TopState(), snapshot_of(tell())), "d")[0]
    assert press(alone, "o")[1] is None


def test_a_weight_goes_to_all() -> None:
    """With Enter; with `o` to the one that was asked only; a single instance knows no `o`."""
    state = state_of(tell())
    for key in ("down", "w", "2"):
        state = press(state, key)[0]
    assert shown(state, 120)[-1].startswith("weight of sync1 (now 1): 2_  Enter all 2 instances, o: only one, empty: ")
    assert press(state, "enter")[1] == Setting("sync1", "weight", "2", True)
    assert press(state, "o")[1] == Setting("sync1", "weight", "2", False)
    alone = press(told(TopState(), snapshot_of(tell())), "w")[0]
    assert press(alone, "o") == (alone, None)


def test_maintenance_mode_goes_to_all() -> None:
    """It ends on all as well, where only another instance is in it."""
    state = press(state_of(tell()), "M")[0]
    assert shown(state)[-1] == "Start maintenance on all 2 instances? y: yes, o: only on one, any other key: no"
    assert press(state, "y")[1] == Maintaining(True, True)
    assert press(state, "o")[1] == Maintaining(True, False)
    other = state_of(tell() | {"maintenance": {"text": "Back soon."}})
    assert press(press(other, "M")[0], "y")[1] == Maintaining(False, True)


def test_one_that_is_drained_on_one_can_be_both() -> None:
    """Drained on the others as well, or resumed where it is."""
    second = tell()
    second["workers"]["sync1"]["state"] = "draining"
    state = press(state_of(second), "down")[0]
    assert press(state, "d")[0].asked == Action("sync1", True, True)
    assert press(state, "u")[0].asked == Action("sync1", False, True)


@given(st.integers(1, 200), st.integers(1, 60))
def test_nothing_is_longer_than_the_screen(width: int, height: int) -> None:
    """Whatever its size."""
    for state in (state_of(tell()), press(state_of(None, "x" * 300), "shift tab")[0]):
        lines = shown(state, width, height)
        assert len(lines) == height
        assert all(len(line) <= width for line in lines)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_at_a_terminal(tmp_path: Path) -> None:
    """Real instances: drained on both, resumed on one, one killed, and the sentence that it did not take part."""
    with Family(tmp_path) as family:
        top = f"{sys.executable} -m sidecar.cli top --admin unix:{family.socket('m-1')}"
        once = subprocess.run([*top.split(), "--once"], cwd=ROOT, env=environment(), capture_output=True, text=True)
        assert "m-1 ready  m-2 ready" in once.stdout.splitlines()
        with Tmux(tmp_path, f"cd {ROOT} && {top} --interval 0.2") as tmux:
            tmux.shows("m-1 ready  m-2 ready")
            tmux.keys("Down", "d")
            tmux.shows("Drain sync1 on all 2 instances?")
            tmux.keys("y")
            tmux.shows("Done on 2 instances.")
            assert [family.state(name, "sync1") for name in family.names] == ["draining", "draining"]
            tmux.shows("sync1      draining")
            tmux.keys("u", "o")
            tmux.shows("The worker sync1 gets new requests.")
            assert [family.state(name, "sync1") for name in family.names] == ["up", "draining"]
            tmux.shows("draining*")
            tmux.keys("w", "2", "Enter")
            tmux.shows("Done on 2 instances.")
            assert [family.weight(name, "sync1") for name in family.names] == [2, 2]
            family.running["m-2"].signal(signal.SIGKILL)
            family.running["m-2"].ends()
            tmux.shows("m-2 does not answer: Connection refused.")
            tmux.keys("d", "y")
            waits_for(lambda: family.state("m-1", "sync1") == "draining", lambda: "\n".join(tmux.screen()))
            tmux.shows("Done on 1 of 2 instances. Not done on m-2: Connection refused.")
            tmux.keys("q")
            tmux.shows("ended with 0")
