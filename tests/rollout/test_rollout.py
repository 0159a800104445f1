"""`matrix-sidecar rollout` with a running sidecar: nobody notices, and whatever goes wrong leaves nothing drained."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from busy import BusyClients, sync_of
from processes import Running
from runners import runner
from terminals import Terminal

from rollout.restartable import CREATION, MODULE, TYPING, Restartable, Scene
from sidecar.cli import main
from sidecar.top.operator_client import SilentSidecarError

ORDER = ["sync1", "sync2", "typing1", "main"]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as scene:
        yield scene


def mixed(number: int) -> bytes:
    return (sync_of(number), TYPING, CREATION, MODULE)[number % 4]


def test_nobody_notices(scene: Scene) -> None:
    """Syncs, a stream without a substitute, and POSTs that must not be repeated go on while all are restarted."""
    with BusyClients(12, scene.address, mixed) as clients:
        clients.more(100)
        done = scene.rollout("--all")
        clients.more(100)
    assert not clients.failures
    assert done.exit_code == 0, done.output
    assert scene.restarts == scene.drained == ORDER
    assert scene.draining() == []
    assert scene.remembered() is None
    assert done.stdout.endswith("4 restarted, one after another.\n")
    assert scene.operator.look().counters["replayed"] == 0


def test_some(scene: Scene) -> None:
    """Those that are named, each once, in the order that suits; with main first if that is wanted."""
    assert scene.rollout("typing1", "sync2", "typing1").exit_code == 0
    assert scene.restarts == ["sync2", "typing1"]
    assert scene.rollout("--main-first", "typing1", "main", "sync1").exit_code == 0
    assert scene.restarts[2:] == ["main", "sync1", "typing1"]


def test_long_polls_are_not_waited_for(scene: Scene) -> None:
    """The other worker has them at once, and answers them."""
    name, poll = scene.hold(sync_of(0))
    other = {"sync1": "sync2", "sync2": "sync1"}[name]
    done = scene.rollout(name)
    assert done.exit_code == 0, done.output
    assert scene.workers[other].asked.acquire(timeout=30)
    assert scene.release(poll).endswith(other.encode())


def test_a_dry_run_changes_nothing(scene: Scene) -> None:
    """It prints order, commands and costs."""
    done = scene.rollout("--all", "--dry-run")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line[:3].strip()]
    assert [line.split()[1] for line in lines] == ORDER
    assert all(line.endswith(f" {name}") for line, name in zip(lines, ORDER, strict=True))
    assert "typing: its requests wait until it is back; those that have waited 30s get 503." in done.stdout
    assert "sync2 takes its requests." in done.stdout
    assert scene.restarts == []
    assert not (scene.directory / "rollout.json").exists()
    assert {event.kind for event in scene.operator.look().events} == {"start"}


def test_a_command_that_fails(scene: Scene) -> None:
    """The rollout stops there, says what it left, and goes on with `--resume`."""
    scene.act = lambda name: 3 if name == "sync2" else scene.restart(name)
    done = scene.rollout("--all")
    assert done.exit_code == 1
    assert " ended with status 3." in done.stderr
    assert "asked for sync2" in done.stderr
    assert "Restarted: sync1. Not restarted: sync2, typing1, main.\nNothing is drained by this any more." in done.stderr
    assert "--main-first" in done.stderr
    assert f"Go on with: matrix-sidecar rollout -c {scene.file} --resume" in done.stderr
    assert scene.draining() == []
    scene.act = scene.restart
    before = (scene.directory / "rollout.json").read_bytes()
    dry = scene.rollout("--resume", "--dry-run")
    assert dry.exit_code == 0
    assert [line.split()[1] for line in dry.stdout.splitlines() if line[:3].strip()] == ORDER[1:]
    assert (scene.directory / "rollout.json").read_bytes() == before
    assert scene.rollout("--resume").exit_code == 0
    assert scene.restarts == ["sync1", "sync2", *ORDER[1:]]
    again = scene.rollout("--resume")
    assert (again.exit_code, again.stderr) == (2, "Nothing was done: there is no rollout that did not end.\n")


def test_a_dry_run_without_a_state_file(tmp_path: Path) -> None:
    """It creates neither the file nor its directory."""
    with Scene(tmp_path, state="state/rollout.json") as scene:
        done = scene.rollout("--resume", "--dry-run")
        assert (done.exit_code, done.stderr) == (2, "Nothing was done: there is no rollout that did not end.\n")
        assert not (tmp_path / "state").exists()


def test_a_state_file_that_cannot_be_read(tmp_path: Path) -> None:
    with Scene(tmp_path, state="control.sock/rollout.json") as scene:
        done = scene.rollout("--resume", "--dry-run")
        assert done.exit_code == 2
        assert "cannot be read: " in done.stderr
        assert "`rollout.state`" in done.stderr


def test_another_configuration(scene: Scene) -> None:
    """It has the same state file, but not the rollout that did not end."""
    scene.act = lambda _: 1
    assert scene.rollout("--all").exit_code == 1
    scene.act = scene.restart
    remembered = scene.remembered()
    assert remembered["configuration"] == str(scene.file)
    other = scene.directory / "other file.yaml"
    other.write_bytes(scene.file.read_bytes())
    for more in ((), ("--dry-run",)):
        done = runner().invoke(main, ["rollout", "-c", str(other), "--resume", *more])
        assert done.exit_code == 2
        assert done.stderr == (
            f"Nothing was done: the rollout that did not end was started with {scene.file}, not with {other}. "
            f"Go on with: matrix-sidecar rollout -c {scene.file} --resume\n"
        )
    assert scene.restarts == ["sync1"]
    assert scene.remembered() == remembered
    state = scene.directory / "rollout.json"
    state.write_text(json.dumps({**remembered, "drained": "sync1"}))
    done = runner().invoke(main, ["rollout", "-c", str(other), "sync2"])
    assert done.exit_code == 2
    assert f"was started with {scene.file} was killed and has left sync1 drained." in done.stderr
    assert scene.restarts == ["sync1"]
    # One from before the state file named its configuration.
    state.write_text(json.dumps({key: value for key, value in remembered.items() if key != "configuration"}))
    assert runner().invoke(main, ["rollout", "-c", str(other), "--resume"]).exit_code == 0
    assert scene.restarts == ["sync1", *ORDER]


def test_a_scene_that_cannot_begin(tmp_path: Path) -> None:
    """It ends its sidecar all the same."""
    scene = Scene(tmp_path)
    scene.workers["unknown"] = Restartable(tmp_path, "unknown")
    with pytest.raises(SilentSidecarError, match="unknown"):
        scene.__enter__()
    assert not scene.sidecar.runs


def test_a_rollout_goes_on_in_the_order_in_which_it_began(scene: Scene) -> None:
    """Main first, where the workers cannot start before it; with the sidecars that were named."""
    scene.act = lambda _: 1
    admin = f"unix:{scene.directory}/admin.sock"
    done = scene.rollout("--main-first", "--all", "--admin", admin)
    assert f"Go on with: matrix-sidecar rollout -c {scene.file} --admin {admin} --resume" in done.stderr
    scene.act = scene.restart
    assert scene.rollout("--resume").exit_code == 0
    assert scene.restarts == ["main", "main", *ORDER[:-1]]


def test_what_somebody_has_drained_stays_drained(scene: Scene) -> None:
    """It is restarted, and the rollout says so."""
    scene.operator.drain("sync2", drain=True)
    done = scene.rollout("sync1", "sync2")
    assert done.exit_code == 0, done.output
    assert "sync2 is drained now, and stays so after its restart." in done.stderr
    assert scene.restarts == ["sync1", "sync2"]
    assert scene.draining() == ["sync2"]
    assert scene.remembered() is None


def test_a_sidecar_that_drains_for_nobody(tmp_path: Path) -> None:
    with Scene(tmp_path, operator={"actions": "none"}) as scene:
        done = scene.rollout("--all")
        assert done.exit_code == 2
        assert "lets nobody drain (`operator.actions: none`)" in done.stderr
        assert scene.restarts == []


def test_nohup_stays(scene: Scene) -> None:
    """A terminal that is closed does not end what was started with `nohup`."""
    _, request = scene.hold(MODULE)
    with scene.started("main", by=["nohup"]) as rollout:
        while scene.draining() != ["main"]:
            pass
        rollout.signal(signal.SIGHUP)
        scene.release(request)
        assert rollout.ends() == 0
    assert scene.restarts == ["main"]


def test_a_new_rollout_after_one_that_stopped(scene: Scene) -> None:
    """It begins anew, and says that it could have gone on."""
    scene.act = lambda _: 1
    scene.rollout("--all")
    scene.act = scene.restart
    done = scene.rollout("sync1")
    assert done.exit_code == 0
    assert "An earlier rollout restarted 0 of 4 processes." in done.stderr
    assert scene.remembered() is None


def test_a_worker_that_does_not_come_back(tmp_path: Path) -> None:
    """After `rollout.health`, with what the sidecar knows of it."""
    with Scene(tmp_path, health="300ms") as scene:
        scene.act = scene.end
        done = scene.rollout("--all")
        assert done.exit_code == 1
        assert "sync1: it does not answer 0.3 s after its restart (No such file or directory)." in done.stderr
        assert scene.restarts == ["sync1"]
        assert scene.draining() == []


def test_a_command_that_restarts_nothing(tmp_path: Path) -> None:
    """A process that answers is not enough: it has to be another one."""
    with Scene(tmp_path, health="300ms") as scene:
        scene.act = lambda _: 0
        done = scene.rollout("sync1")
        assert done.exit_code == 1
        assert "sync1: the command has succeeded, but the process is the same as before" in done.stderr
        assert scene.draining() == []


def test_a_command_that_does_not_end(tmp_path: Path) -> None:
    """It is ended, and so is what it has started."""
    with Scene(tmp_path, restart=["sh", "-c", "echo $0 $$; sleep 1000; true", "{name}"], command="500ms") as scene:
        done = scene.rollout("sync1")
        assert done.exit_code == 1
        assert " did not end within 0.5 s, and was ended." in done.stderr
        said = re.search(r"^  sync1 (\d+)$", done.stderr, re.MULTILINE)
        assert said is not None
        assert not Path(f"/proc/{said[1]}").exists()
        assert scene.draining() == []


def test_no_such_program(tmp_path: Path) -> None:
    with Scene(tmp_path, restart="nowhere {name}") as scene:
        done = scene.rollout("sync1")
        assert done.exit_code == 2
        assert "there is no program nowhere, with which sync1 is restarted" in done.stderr


def test_requests_that_do_not_end(tmp_path: Path) -> None:
    """After `rollout.hold` a writer is restarted all the same; the summary counts what was running."""
    with Scene(tmp_path, hold="100ms") as scene:
        _, request = scene.hold(TYPING)
        done = scene.rollout("typing1")
        assert done.exit_code == 0, done.output
        assert "1 still ran, and was cut or sent again" in done.stdout
        assert scene.release(request).startswith(b"HTTP/1.1 200 ")


def test_nobody_listens(scene: Scene) -> None:
    """Then nothing is done."""
    scene.sidecar.signal(signal.SIGKILL)
    scene.sidecar.ends()
    for arguments in (["--all"], ["--all", "--dry-run"]):
        done = scene.rollout(*arguments)
        assert done.exit_code == 2
        assert "Nothing was done: No answer from" in done.stderr
    assert scene.restarts == []


def test_the_listener_goes_away(scene: Scene) -> None:
    """In the middle: it stops, and says that it could not end the drain."""

    def act(_: str) -> int:
        scene.sidecar.signal(signal.SIGKILL)
        scene.sidecar.ends()
        return 0

    scene.act = act
    done = scene.rollout("--all")
    assert done.exit_code == 1
    assert f"STILL DRAINED at {scene.directory}/admin.sock: sync1. No answer from" in done.stderr
    assert "Not restarted: sync1, sync2, typing1, main." in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_waits(scene: Scene, number: signal.Signals) -> None:
    """What is drained is undrained, and nothing was restarted."""
    _, request = scene.hold(MODULE)
    with scene.started("main") as rollout:
        while scene.draining() != ["main"]:
            pass
        rollout.signal(number)
        assert rollout.ends() == 130
        assert "Interrupted." in rollout.said
        assert "Nothing is drained by this any more." in rollout.said
    assert scene.restarts == scene.draining() == []
    assert scene.release(request).startswith(b"HTTP/1.1 200 ")


def test_a_signal_during_a_restart(scene: Scene) -> None:
    """The command is not ended in the middle; after it the rollout stops."""
    rollouts: list[Running] = []

    def act(name: str) -> int:
        rollouts[0].signal(signal.SIGINT)
        return scene.restart(name)

    scene.act = act
    with scene.started("--all") as rollout:
        rollouts.append(rollout)
        assert rollout.ends() == 130
    assert scene.restarts == ["sync1"]
    assert scene.draining() == []
    scene.act = scene.restart
    assert scene.rollout("--resume").exit_code == 0
    assert scene.restarts == ["sync1", *ORDER]


def test_what_a_killed_rollout_left(scene: Scene) -> None:
    """Its drain is ended by the next one, and only one runs at a time."""
    _, request = scene.hold(MODULE)
    with scene.started("main") as rollout:
        while scene.draining() != ["main"]:
            pass
        second = scene.rollout("sync1")
        assert second.exit_code == 2
        assert "another rollout is running" in second.stderr
        rollout.signal(signal.SIGKILL)
        rollout.ends()
    assert scene.draining() == ["main"]
    scene.release(request)
    done = scene.rollout("sync1")
    assert "main was still drained by a rollout that was killed; it gets requests again." in done.stdout
    assert scene.draining() == []


def test_names(scene: Scene) -> None:
    """What is wrong with them is said before anything is done."""
    for arguments, told in (
        (["sinc1"], "No worker is called 'sinc1'. Did you mean sync1?"),
        (["zzz"], "No worker is called 'zzz'. There are main, sync1, sync2, typing1."),
        ([], "Name the workers, or give --all, or --resume after a rollout that did not end."),
        (["sync1", "--all"], "Name the workers, or give --all"),
    ):
        done = scene.rollout(*arguments)
        assert done.exit_code == 2
        assert told in done.stderr
    assert scene.restarts == []


def test_a_state_file_that_cannot_be_written(tmp_path: Path) -> None:
    with Scene(tmp_path, state="control.sock/rollout.json") as scene:
        done = scene.rollout("sync1")
        assert done.exit_code == 2
        assert "cannot be written: " in done.stderr
        assert "`rollout.state`" in done.stderr
        assert scene.restarts == []


def test_two_instances(scene: Scene) -> None:
    """Both are drained, and both have to see the worker again; if one does not answer, nothing is drained."""
    other = ["-c", str(scene.file), "--admin", "unix:other.sock"]
    endpoints = [f"--admin=unix:{scene.directory}/{name}.sock" for name in ("admin", "other")]
    seen: list[str] = []

    def act(name: str) -> int:
        from sidecar.top.operator_client import OperatorClient, place

        client = OperatorClient(place(f"unix:{scene.directory}/other.sock"))
        seen.extend(each for each, worker in client.look().workers.items() if worker.state == "draining")
        return scene.restart(name)

    scene.act = act
    with Running(other, scene.directory) as second:
        second.says("listening on")
        with BusyClients(8, second.address(), mixed) as clients:
            clients.more(50)
            done = scene.rollout("--all", *endpoints)
            clients.more(50)
        assert not clients.failures
    assert done.exit_code == 0, done.output
    assert seen == scene.drained == ORDER
    done = scene.rollout("--all", *endpoints)
    assert done.exit_code == 2
    assert scene.draining() == []


def test_a_terminal(scene: Scene) -> None:
    """A bar, and a line for each that is done."""
    command = [sys.executable, "-m", "sidecar.cli", "rollout", "-c", str(scene.file), "--all"]
    with Terminal(command, TERM="xterm") as terminal:
        terminal.says(r"\[-+\] +0%.*sync1: restarting")
        terminal.says(r"sync1 +restarted in [0-9.]+ s")
        terminal.says(r"\[#+-+\] +25%")
        terminal.says("4 restarted, one after another")
        assert terminal.ends() == 0
