"""In which order processes are restarted, what that costs, and what the commands become."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from hosts import homeserver, worker, write
from hypothesis import given
from hypothesis import strategies as st
from runners import runner

from sidecar.cli import main
from sidecar.config.argument_lists import filled
from sidecar.config.load import load_settings
from sidecar.config.schema import Rollout
from sidecar.errors import ConfigError
from sidecar.rollout.order import RestartStep, RolloutMember, Way, steps
from sidecar.routing.parts import PoolPart

NAMES = ("main", "sync1", "sync2", "typing1")
PARTS = (
    PoolPart(name="sync", pool="sync", workers=("sync1", "sync2"), fallback=(("main",),)),
    PoolPart(name="typing", pool="typing", workers=("typing1",)),
    PoolPart(name="main", pool="main", workers=("main",)),
)


def planned(names: Sequence[str], *, main_first: bool = False, away: Sequence[str] = ()) -> list[RestartStep]:
    members = [RolloutMember(name=name, is_main=name == "main", silent=name == "pusher1") for name in names]
    return steps(members, PARTS, lambda name: name not in away, lambda _: 30.0, main_first=main_first)


@given(st.permutations((*NAMES, "pusher1")), st.booleans())
def test_who_can_be_replaced_comes_first(names: list[str], main_first: bool) -> None:
    """Then who gets no requests, then writers; main is last, or first."""
    ordered = [step.name for step in planned(names, main_first=main_first)]
    syncs = [name for name in names if name.startswith("sync")]
    rest = [*syncs, "pusher1", "typing1"]
    assert ordered == (["main", *rest] if main_first else [*rest, "main"])


def test_costs() -> None:
    """Who takes the requests, and which wait for how long."""
    told = {step.name: (step.way, step.costs) for step in planned((*NAMES, "pusher1"))}
    waits = "its requests wait until it is back; those that have waited 30s get 503."
    assert told == {
        "sync1": (Way.DRAINED, ("sync: sync2 takes its requests.",)),
        "sync2": (Way.DRAINED, ("sync: sync1 takes its requests.",)),
        "pusher1": (Way.SILENT, ("The sidecar sends it no requests.",)),
        "typing1": (Way.HELD, (f"typing: {waits}",)),
        "main": (Way.HELD, (f"main: {waits}",)),
    }
    assert planned(["sync1"], away=["sync2"])[0].costs == ("sync: main takes its requests.",)
    assert planned(["sync1"], away=["sync2", "main"])[0].way is Way.HELD


@given(st.text(), st.text())
def test_a_name_stays_one_argument(name: str, file: str) -> None:
    """Whatever is in it: it is neither split nor filled again."""
    command = filled(("restart", "unit@{name}", "{file}-{name}", "{}"), {"name": name, "file": file})
    assert command == ("restart", f"unit@{name}", f"{file}-{name}", "{}")


def settings(directory: Path, rollout: str) -> Rollout:
    file = directory / "sidecar.yaml"
    file.write_text(f'workers: {{main: {{endpoint: "unix:main.sock"}}}}\nrollout: {rollout}\n')
    return load_settings(str(file)).rollout


def test_commands_as_text_and_as_list(tmp_path: Path) -> None:
    """A text is split as a shell would; a list is taken as it is."""
    assert settings(tmp_path, "{restart: \"docker restart 'synapse {name}'\"}").restart == (
        "docker",
        "restart",
        "synapse {name}",
    )
    assert settings(tmp_path, '{restart: [a, "b c", "{file}"]}').restart == ("a", "b c", "{file}")


@pytest.mark.parametrize(
    ("rollout", "told"),
    [
        ("{restart: systemctl restart synapse}", "must contain `{name}` or `{file}`"),
        ('{restart: "a \'{name}"}', "has a quote that is not closed"),
        ("{restart: []}", "names no program"),
        ('{restart: ["", "{name}"]}', "names no program"),
        ("{restart: 7}", "must be a command, as one text or as a list of texts"),
        ("{restart: [a, {b: c}]}", "must be a command, as one text or as a list of texts"),
        ('{restart: "a\\0 {name}"}', "must not contain a NUL character"),
    ],
)
def test_commands_that_cannot_be(tmp_path: Path, rollout: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        settings(tmp_path, rollout)


def test_a_homeserver_from_its_files(tmp_path: Path) -> None:
    """Workers without a listener are among all; `{file}` is the name of the worker's file; other services are not."""
    homeserver(tmp_path, "homeserver.yaml")
    worker(tmp_path, "workers/sync1.yaml")
    silent = {"worker_app": "synapse.app.generic_worker", "worker_name": "pusher;reboot"}
    write(tmp_path, "workers/pusher-file.yaml", silent)
    write(
        tmp_path,
        "sidecar.yaml",
        {
            "admin": "unix:admin.sock",
            "synapse": {"config": "homeserver.yaml", "workers": "workers", "version": "1.163.2"},
            "workers": {"bridge": {"endpoint": "unix:bridge.sock", "serves": []}},
            "pools": {"bridge": {"workers": ["bridge"]}},
            "routes": [{"path": "/bridge/**", "pool": "bridge"}],
            "rollout": {"restart": "env unit@{file} {name}", "restart_main": "env {name}"},
        },
    )

    def commands(*arguments: str) -> list[list[str]]:
        done = runner().invoke(main, ["rollout", "-c", str(tmp_path / "sidecar.yaml"), "--dry-run", *arguments])
        assert done.exit_code == 2, done.output
        assert "Nothing was done: No answer from" in done.stderr
        return [shlex.split(line)[2:] for line in done.stdout.splitlines() if line[:3].strip()]

    assert commands("--all") == [
        ["env", "unit@sync1", "sync1"],
        ["env", "unit@pusher-file", "pusher;reboot"],
        ["env", "main"],
    ]
    assert commands("bridge") == [["env", "unit@bridge", "bridge"]]
