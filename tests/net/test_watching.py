"""The directories of sockets, watched by the real kernel."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from sidecar.app.watching import SocketWatch

from .turns import observed, reactor, staged, turns


class Scene:
    """A watch, and what it has seen."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "run" / "w.sock"
        self.path.parent.mkdir()
        self.watch = SocketWatch(reactor)
        self.seen = 0

    def appeared(self) -> None:
        self.seen += 1

    def begin(self) -> None:
        self.watch.watch(str(self.path), self.appeared)

    def bind(self, path: Path | None = None) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path or self.path))

    async def until(self, count: int) -> None:
        while self.seen < count:
            await turns(1)

    async def strike(self) -> None:
        self.watch.close()
        await turns()


@staged(Scene)
async def test_a_socket_that_appears(scene: Scene) -> None:
    """Made, or moved to its place; others in the directory are nobody's business; asked twice, it is told once."""
    scene.begin()
    scene.begin()
    scene.bind(scene.path.with_name("other.sock"))
    await turns(20)
    assert scene.seen == 0
    scene.bind()
    await scene.until(1)
    scene.path.with_name("other.sock").rename(scene.path)
    await scene.until(2)


@staged(Scene)
async def test_no_more_interest(scene: Scene) -> None:
    """When nobody waits in a directory it is not watched; a second one who waits there still is told."""
    others: list[None] = []
    scene.begin()
    scene.watch.watch(str(scene.path), lambda: others.append(None))
    scene.watch.ignore(str(scene.path), scene.appeared)
    scene.bind()
    while not others:
        await turns(1)
    assert scene.seen == 0
    scene.watch.ignore(str(scene.path), scene.appeared)
    scene.watch.ignore("/nowhere/w.sock", scene.appeared)


@staged(Scene)
async def test_a_directory_that_goes_and_comes(scene: Scene) -> None:
    """As /run/synapse does when Synapse stops: whoever still waits asks again, and is told again."""
    scene.begin()
    scene.path.parent.rmdir()
    while scene.watch._directories:
        await turns(1)
    scene.begin()
    assert not scene.watch._directories
    scene.path.parent.mkdir()
    scene.begin()
    scene.bind()
    await scene.until(1)
    scene.watch.ignore(str(scene.path), scene.appeared)
    assert not scene.watch._directories


@staged(Scene)
async def test_watching_is_not_possible(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and whoever waits looks for itself."""
    said: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "sidecar.watching":
            said.append(str(event["log_format"]).format(**event))

    def fail(_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("twisted.internet.inotify.INotify", fail)
    with observed(note):
        scene.begin()
        scene.begin()
    assert len(said) == 1
    assert "Too many open files" in said[0]


def test_no_library_to_watch_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the C library is not found everything else goes on."""

    def fail(_: str) -> None:
        raise ImportError("Can't find C library.")

    monkeypatch.setattr("sidecar.app.watching.import_module", fail)
    watch = SocketWatch(reactor)
    watch.watch(str(tmp_path / "w.sock"), lambda: None)
    assert not watch._directories
    watch.close()
