"""The sidecar's metrics in the registry of the program around it, asked for in its reactor's thread and in others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from net.turns import reactor, spin
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from twisted.internet.defer import Deferred

from sidecar.app.reload import Reload
from sidecar.app.service import SidecarService
from sidecar.app.work import work_of
from sidecar.guest.shared_metrics import SharedMetrics
from sidecar.loading.deployment import read_deployment
from sidecar.metrics.status import View

READY = b"matrix_sidecar_ready 1.0"


class Surroundings:
    """A program with a registry of its own, and a sidecar in it that listens to nobody."""

    def __init__(self, directory: Path) -> None:
        path = directory / "sidecar.yaml"
        path.write_text('synapse: {version: "1.163.2"}\nworkers: {main: {endpoint: "unix:main.sock"}}\n')
        self.registry = CollectorRegistry(auto_describe=True)
        deployment = read_deployment(str(path))
        self.sidecar = SidecarService(work_of(deployment), reactor, measured=True)
        self.reload = Reload(self.sidecar, deployment, lambda **_: deployment, reactor)

    def metrics(self, where: Any = reactor, patience: float = 5.0) -> SharedMetrics:
        return SharedMetrics(where, self.reload.look, self.registry, patience)

    def told(self) -> bytes:
        return generate_latest(self.registry)


async def elsewhere(work: Callable[[], bytes]) -> bytes:
    """What `work` returns in another thread."""
    done: Deferred[bytes] = Deferred()
    threading.Thread(target=lambda: reactor.callFromThread(done.callback, work())).start()
    return await done


def surrounded(directory: Path, play: Callable[[Surroundings], Any]) -> None:
    async def scenario() -> None:
        around = Surroundings(directory)
        try:
            await play(around)
        finally:
            await around.sidecar.stopService()

    spin(scenario())


def test_from_its_start_to_its_stop(tmp_path: Path) -> None:
    """They are beside those of the program, and gone with the sidecar."""

    async def play(around: Surroundings) -> None:
        Gauge("theirs", "Of the program.", registry=around.registry)
        metrics = around.metrics()
        metrics.startService()
        told = around.told()
        assert READY in told
        assert b"\ntheirs 0.0\n" in told
        metrics.stopService()
        assert READY not in around.told()

    surrounded(tmp_path, play)


def test_asked_in_another_thread(tmp_path: Path) -> None:
    """Everything is looked at in the reactor's thread, to which what is measured belongs."""
    looked: list[int] = []

    async def play(around: Surroundings) -> None:
        look = around.reload.look

        def noted() -> View:
            looked.append(threading.get_ident())
            return look()

        metrics = SharedMetrics(reactor, noted, around.registry)
        metrics.startService()
        told = await elsewhere(around.told)
        assert READY in told
        metrics.stopService()

    surrounded(tmp_path, play)
    assert set(looked) == {threading.get_ident()}


class Standstill:
    """A reactor that comes to nothing."""

    def callFromThread(self, action: Callable[[], None]) -> None:
        """Not now."""


def test_a_reactor_that_stands_still(tmp_path: Path) -> None:
    """Whoever asks is not kept: the program's own metrics are told, and ours are missed."""

    async def play(around: Surroundings) -> None:
        Gauge("theirs", "Of the program.", registry=around.registry)
        metrics = around.metrics(Standstill(), patience=0.01)
        metrics.startService()
        told = await elsewhere(around.told)
        assert b"\ntheirs 0.0\n" in told
        assert READY not in told
        metrics.stopService()

    surrounded(tmp_path, play)


def test_names_that_are_taken(tmp_path: Path) -> None:
    """A second sidecar in one program says that it is not told, and runs all the same."""

    async def play(around: Surroundings) -> None:
        first, second = around.metrics(), around.metrics()
        first.startService()
        second.startService()
        second.stopService()
        assert around.told().count(READY) == 1
        first.stopService()

    surrounded(tmp_path, play)
