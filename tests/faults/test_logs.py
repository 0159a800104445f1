"""A log that cannot be written: its disk is full, its reader has stopped or has gone. Requests must not notice."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import define
from processes import TWISTD, Running

from .asking import ask, request
from .liars import Liar, says
from .side_by_side import CONFIGURATION

LINES = 300
"""More than the smallest pipe holds; each is written for one answer that is none."""
BAD = "/_matrix/client/v3/bad"
GOOD = "/_matrix/client/v3/good"


@define
class Scene:
    """A place with a worker whose answers to BAD put a line into the log, and a socket for the sidecar to listen on."""

    place: Path
    listener: socket.socket

    @property
    def arguments(self) -> list[str]:
        return ["-c", str(self.place / "sidecar.yaml"), "--listen", "systemd:domain=INET:name=http"]

    def outcomes(self, target: str, count: int) -> set[str]:
        return {ask(self.listener.getsockname(), request(target)).outcome for _ in range(count)}

    def is_served(self) -> None:
        """Requests whose answers are logged, and others, are answered as always."""
        assert self.outcomes(BAD, LINES) == {"502"}
        assert self.outcomes(GOOD, 50) == {"200"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    worker = Liar({BAD: says(b"nonsense\r\n\r\n", close=False)}).at(tmp_path / "main.sock")
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION.format(path="main.sock"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield Scene(tmp_path, listener)
    worker.close()
    assert worker.failure is None


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """As small a pipe as there is."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def ends_well(sidecar: Running) -> None:
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends() == 0


@pytest.mark.parametrize("where", ["standard output", "a file"])
def test_the_disk_is_full(scene: Scene, where: str) -> None:
    """Lines for which there is no room on the disk are lost, and nothing else is."""
    prefix = None
    if where == "a file":
        prefix = [str(TWISTD), "-n", "--pidfile=", "--logfile=/dev/full", "matrix-sidecar"]
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with Running(scene.arguments, scene.place, prefix, listener=scene.listener, output=full) as sidecar:
            scene.is_served()
            ends_well(sidecar)
    finally:
        os.close(full)


def test_the_reader_has_stopped(scene: Scene) -> None:
    """While nobody reads requests go on; who reads again gets all lines that fitted into the memory, and whole ones."""
    copy = scene.place / "copy"
    with pipe() as (read_end, write_end), copy.open("wb") as written, ExitStack() as stack:
        reader = stack.enter_context(subprocess.Popen(["cat"], stdin=read_end, stdout=written))
        stack.callback(reader.kill)
        with Running(scene.arguments, scene.place, listener=scene.listener, output=write_end) as sidecar:
            assert scene.outcomes(GOOD, 1) == {"200"}
            reader.send_signal(signal.SIGSTOP)
            scene.is_served()
            reader.send_signal(signal.SIGCONT)
            scene.is_served()
            ends_well(sidecar)
        os.dup2(read_end, write_end)
        assert reader.wait(30) == 0
    lines = copy.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in lines)
    assert sum("sent an invalid answer" in line for line in lines) == 2 * LINES


def test_the_reader_has_gone(scene: Scene) -> None:
    """A log that nobody will ever read ends nothing."""
    with (
        pipe() as (read_end, write_end),
        Running(scene.arguments, scene.place, listener=scene.listener, output=write_end) as sidecar,
    ):
        assert scene.outcomes(GOOD, 1) == {"200"}
        os.dup2(write_end, read_end)
        scene.is_served()
        ends_well(sidecar)


def test_the_reader_has_stopped_for_good(scene: Scene) -> None:
    """A stop does not wait for a reader that never comes back."""
    with (
        pipe() as (_, write_end),
        Running(scene.arguments, scene.place, listener=scene.listener, output=write_end) as sidecar,
    ):
        scene.is_served()
        ends_well(sidecar)
