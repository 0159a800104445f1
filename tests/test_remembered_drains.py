"""Drains that survive a restart: real processes that are killed and started again, with files as disks leave them."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from family import Family
from hypothesis import given
from hypothesis import strategies as st
from net.turns import staged
from test_reload import Reloadable, Threads
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sidecar.app.drain_file import MOST, Drained, read_drains, state_path, write_drains
from sidecar.app.remembering import PATIENCE, RememberedDrains

REMEMBER = "  remember_drains: drains.json\n"
BALANCER = """\
balancers:
  db:
    listen: "tcp:0:interface=127.0.0.1"
    servers: {one: {endpoint: "unix:main.sock"}, two: {endpoint: "unix:sync1.sock"}}
"""


def restarted(family: Family, how: signal.Signals = signal.SIGKILL, state: str = "") -> None:
    """The only one, once more."""
    family.running["m-1"].signal(how)
    family.running["m-1"].ends()
    running = family.begin("m-1", state=state)
    running.says("operator is listened to on")
    running.address()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_drain_survives_a_restart(tmp_path: Path, how: signal.Signals) -> None:
    """Of workers and of servers, however the process ended; what was resumed before is not drained again."""
    with Family(tmp_path, 1, REMEMBER + BALANCER) as family:
        for path in ("workers/sync1/drain", "workers/sync2/drain", "workers/sync2/undrain", "balancers/db/two/drain"):
            assert family.ask("POST", f"/api/{path}")[0] == 200
        restarted(family, how)
        family.running["m-1"].says("sync1 is drained, as it was before the restart")
        told = family.ask("GET", "/api/status")[1]
        states = {name: worker["state"] for name, worker in told["workers"].items()}
        assert states == {"main": "up", "sync1": "draining", "sync2": "up"}
        servers = told["balancers"]["db"]["servers"]
        assert (servers["one"]["state"], servers["two"]["state"]) == ("up", "draining")
        drains = {event["about"]: event["text"] for event in told["events"] if event["kind"] == "drain"}
        assert drains["sync1"] == "gets no new requests, as before the restart"
        assert set(drains) == {"sync1", "db/two"}
        family.ask("POST", "/api/workers/sync1/undrain")
        restarted(family, how)
        assert family.state("m-1", "sync1") == "up"


def test_without_the_setting_nothing_is_kept(tmp_path: Path) -> None:
    """A restart ends all drains, and no file is written."""
    with Family(tmp_path, 1) as family:
        before = set(os.listdir(tmp_path))
        family.ask("POST", "/api/workers/sync1/drain")
        restarted(family)
        assert family.state("m-1", "sync1") == "up"
        assert set(os.listdir(tmp_path)) == before


def test_in_the_state_directory_of_the_unit(tmp_path: Path) -> None:
    """Where systemd says, and for nobody else to read."""
    state = tmp_path / "state"
    state.mkdir()
    with Family(tmp_path, 1, REMEMBER) as family:
        restarted(family, state=str(state))
        family.ask("POST", "/api/workers/sync1/drain")
        assert json.loads((state / "drains.json").read_text()) == {"workers": ["sync1"], "servers": []}
        assert (state / "drains.json").stat().st_mode & 0o777 == 0o600
        assert os.listdir(state) == ["drains.json"]
        restarted(family, state=str(state))
        assert family.state("m-1", "sync1") == "draining"


def test_a_reload_begins_it_and_keeps_it(tmp_path: Path) -> None:
    """The setting takes effect with a reload, for what is drained already too; a worker that goes is forgotten."""
    with Family(tmp_path, 1) as family:
        family.ask("POST", "/api/workers/sync1/drain")
        configuration, running = tmp_path / "sidecar.yaml", family.running["m-1"]
        configuration.write_text(configuration.read_text() + REMEMBER)
        running.signal(signal.SIGHUP)
        running.says("reloaded")
        while not (tmp_path / "drains.json").exists():
            assert running.runs
        restarted(family)
        assert family.state("m-1", "sync1") == "draining"
        configuration.write_text(re.sub(r"  sync1: .*\n", "", configuration.read_text()))
        running = family.running["m-1"]
        running.signal(signal.SIGHUP)
        running.says("sync1 was drained, but is not in the configuration any more: that is forgotten")
        assert json.loads((tmp_path / "drains.json").read_text())["workers"] == []


def test_a_worker_that_is_gone_at_the_start(tmp_path: Path) -> None:
    """It is dropped with a sentence, and the file says so."""
    (tmp_path / "drains.json").write_text('{"workers": ["sync1", "old7"], "servers": []}')
    with Family(tmp_path, 1, REMEMBER) as family:
        family.running["m-1"].says("old7 was drained, but is not in the configuration any more: that is forgotten")
        assert family.state("m-1", "sync1") == "draining"
        assert json.loads((tmp_path / "drains.json").read_text())["workers"] == ["sync1"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"workers": [7], "servers": []}', "x" * (MOST + 1), None])
def test_a_broken_file_is_reported(tmp_path: Path, content: str | None) -> None:
    """The sidecar starts; log and events say what is wrong; the next drain writes a good file."""
    path = tmp_path / "drains.json"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with Family(tmp_path, 1, REMEMBER) as family:
        family.running["m-1"].says(r"nothing is drained from before: \S+/drains\.json cannot be used, ")
        (event,) = (each for each in family.ask("GET", "/api/status")[1]["events"] if each["kind"] == "remember")
        assert "cannot be used" in event["text"]
        told = family.ask("POST", "/api/workers/sync1/drain")[1]["told"]
        if content is None:
            assert "Drains will not survive a restart" in told
            assert family.state("m-1", "sync1") == "draining"
        else:
            assert told == "The worker sync1 gets no new requests."
            assert read_drains(str(path)) == Drained(frozenset(("sync1",)))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """The drain holds, and its answer says that it will not survive."""
    with Family(tmp_path, 1, "  remember_drains: nowhere/drains.json\n") as family:
        status, told = family.ask("POST", "/api/workers/sync1/drain")
        assert (status, family.state("m-1", "sync1")) == (200, "draining")
        assert told["told"].endswith("nowhere/drains.json cannot be written, No such file or directory.")


NAMES = st.text(min_size=1, max_size=20)


@given(st.frozensets(NAMES), st.frozensets(st.tuples(NAMES, NAMES)))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, workers: frozenset[str], servers: frozenset[tuple[str, str]]
) -> None:
    """Whatever the names; and nothing is left beside the file."""
    path = tmp_path_factory.mktemp("drains") / "drains.json"
    write_drains(str(path), Drained(workers, servers))
    assert read_drains(str(path)) == Drained(workers, servers)
    assert os.listdir(path.parent) == ["drains.json"]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(("workers", "servers", "balancer", "x")), inner),
)


@given(JSON)
def test_whatever_stands_in_the_file(tmp_path_factory: pytest.TempPathFactory, told: Any) -> None:
    """It is what was drained, or a ValueError."""
    path = tmp_path_factory.mktemp("drains") / "drains.json"
    path.write_text(json.dumps(told))
    try:
        found = read_drains(str(path))
    except ValueError:
        return
    assert all(isinstance(name, str) for name in found.names)


def test_where_the_file_is() -> None:
    """In the first directory of the unit, else beside the configuration; an absolute path is what it is."""
    environment = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}
    assert state_path("d.json", "/etc/m/sidecar.yaml", environment) == "/var/lib/a/d.json"
    assert state_path("d.json", "/etc/m/sidecar.yaml", {}) == "/etc/m/d.json"
    assert state_path("/srv/d.json", "/etc/m/sidecar.yaml", environment) == "/srv/d.json"


class Disk:
    """A reactor with a disk that answers when the test says so. A stand-in: no real disk stalls on request."""

    def __init__(self, scene: Reloadable) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.callLater = self.clock.callLater
        self.callFromThread = self.threads.callFromThread
        reload = scene.reload
        operator = evolve(reload.deployment.settings.operator, remember_drains="drains.json")
        reload.deployment = evolve(reload.deployment, settings=evolve(reload.deployment.settings, operator=operator))
        self.file = scene.path.parent / "drains.json"
        self.drains = RememberedDrains(reload, self, environment={})

    def getThreadPool(self) -> Threads:
        return self.threads

    def keep(self) -> list[str]:
        """What it says, as soon as it says something."""
        said: list[str] = []
        Deferred.fromCoroutine(self.drains.keep()).addCallback(said.append)
        return said


@staged(Reloadable)
async def test_a_disk_that_stalls(scene: Reloadable) -> None:
    """Who waits is told so in time; there is one write at a time, and the last one has what is drained then."""
    disk, pools = Disk(scene), scene.sidecar.gateway.pools
    said = []
    for name in ("sync2", "sync3"):
        pools[name].drain()
        said.append(disk.keep())
    disk.clock.advance(PATIENCE)
    assert all("the disk has not answered for 2 s" in each for (each,) in said)
    pools["sync2"].undrain()
    late = disk.keep()
    disk.threads.work()
    assert late == []
    assert read_drains(str(disk.file)).workers == {"sync2"}
    disk.threads.work()
    assert late == [""]
    assert read_drains(str(disk.file)).workers == {"sync3"}
    assert disk.threads.idle
    assert disk.keep() == [""]
    pools["sync3"].undrain()
    disk.keep()
    disk.threads.work()
    assert read_drains(str(disk.file)).workers == set()


@staged(Reloadable)
async def test_a_write_that_fails_is_tried_again(scene: Reloadable) -> None:
    disk, pools = Disk(scene), scene.sidecar.gateway.pools
    disk.file.mkdir()
    pools["sync2"].drain()
    said = disk.keep()
    disk.threads.work()
    assert "cannot be written" in said[0]
    disk.file.rmdir()
    again = disk.keep()
    disk.threads.work()
    assert again == [""]
    assert read_drains(str(disk.file)).workers == {"sync2"}
