"""`top` at a terminal: in this process at a pseudo-terminal, and as a command in tmux, which draws what it sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from busy import AnsweringWorker
from pictures import told
from processes import PATIENCE, ROOT, Running, environment

from sidecar.admin.snapshot import snapshot
from sidecar.top import terminal
from sidecar.top.operator_client import OperatorClient, SilentSidecarError, place
from sidecar.top.state import TopState
from top.operated import StandIn, listening


def waits_for(condition: Callable[[], Any], what: Callable[[], str]) -> None:
    """Until it holds; a terminal tells nobody when it has drawn."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


# In this process.


@define
class Person:
    """Sits at the other end: reads everything, and presses keys when something has been read."""

    fd: int
    script: list[tuple[bytes, bytes]]
    said: bytes = b""
    late: list[bytes] = field(factory=list)
    """What was waited for in vain."""

    def play(self) -> None:
        for awaited, keys in self.script:
            while awaited not in self.said:
                if not select.select([self.fd], [], [], PATIENCE)[0]:
                    self.late.append(awaited)
                    os.write(self.fd, b"nq")
                    return
                self.said += os.read(self.fd, 65536)
            self.said = self.said.split(awaited, 1)[1]
            os.write(self.fd, keys)
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            return


@contextmanager
def at_a_terminal(monkeypatch: pytest.MonkeyPatch, *script: tuple[bytes, bytes]) -> Iterator[Person]:
    """Standard input and output are a terminal of 80 by 24 at which a person plays a script."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    kept = [os.dup(fd) for fd in (0, 1)]
    for fd in (0, 1):
        os.dup2(inner, fd)
    os.close(inner)
    person = Person(outer, list(script))
    thread = threading.Thread(target=person.play)
    thread.start()
    try:
        with open(1, "w", closefd=False) as out, open(0, closefd=False) as into:
            monkeypatch.setattr(sys, "__stdout__", out)
            monkeypatch.setattr(sys, "__stdin__", into)
            yield person
    finally:
        for fd, before in enumerate(kept):
            os.dup2(before, fd)
            os.close(before)
        thread.join(PATIENCE)
        os.close(outer)
    assert person.late == [], person.said


# The only one in this process, because curses keeps its first terminal for good.
def test_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows, asks before it drains, says why that is refused, drains, sets a weight, helps, and ends."""
    stand_in = StandIn(told(), refusals=1)
    script = (
        (b"sync1", b"j"),
        (b"sync1", b"d"),
        (b"Drain sync1?", b"n"),
        (b"Nothing", b"d"),
        (b"any other", b"y"),
        (b"No way", b"d"),
        (b"any other", b"y"),
        (b"/api/workers/sync1/drain is done.", b"w"),
        (b"weight of sync1 (now 1): _", b"0.5\n"),
        (b"/api/workers/sync1/weight?value=0.5 is done.", b"?"),
        (b"this help", b"x"),
        (b"WORKER", b"\t"),
        (b"POOL", b"q"),
    )
    with listening(stand_in) as endpoint, at_a_terminal(monkeypatch, *script):
        terminal.show(OperatorClient(place(endpoint)), 0.05, colours=True)
    assert stand_in.asked.count("POST /api/workers/sync1/drain") == 2
    assert stand_in.asked.count("POST /api/workers/sync1/weight?value=0.5") == 1


def test_the_newest() -> None:
    """What the thread learnt is shown; when it learns nothing, since when."""
    asker = terminal.Refresher(OperatorClient(place("tcp:1")), 1.0)
    assert asker.newest(TopState()) == TopState()
    asker.facts = snapshot(told())
    shown = asker.newest(TopState())
    assert shown.facts is asker.facts
    asker.trouble, asker.answered = "gone", time.monotonic() - 5
    lost = asker.newest(shown)
    assert lost.trouble == "gone"
    assert lost.age >= 5
    asker.trouble = ""
    assert asker.newest(lost).trouble == ""


def test_once() -> None:
    """One screen as plain text."""
    lines: list[str] = []
    with listening(StandIn(told())) as endpoint:
        terminal.plain(OperatorClient(place(endpoint)), 80, 24, lines.append)
    assert lines[0].startswith("matrix-sidecar  gate1  ready without sync2")
    assert len(lines) == 23
    with pytest.raises(SilentSidecarError):
        terminal.plain(OperatorClient(place("tcp:1")), 80, 24, lines.append)


# In tmux.

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
admin: "unix:admin.sock:mode=660"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
pools: {sync: {workers: "sync*"}, client: {workers: main}, rooms: {workers: main}}
"""


class Tmux:
    """A terminal of its own server, with a command in it."""

    _number = count()
    """A server that has been told to end may still listen for a moment."""

    def __init__(self, directory: Path, command: str) -> None:
        self._server = ["tmux", "-f", "/dev/null", "-S", str(directory / f"tmux{next(self._number)}")]
        more = environment(LC_ALL="C.UTF-8", HOME=str(directory))
        shell = f"{command}; echo ended with $?; exec cat"
        self._run("new-session", "-d", "-x", "80", "-y", "24", shell, env=more)

    def _run(self, *arguments: str, **more: Any) -> str:
        done = subprocess.run([*self._server, *arguments], capture_output=True, text=True, timeout=PATIENCE, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> list[str]:
        return self._run("capture-pane", "-p").splitlines()

    def shows(self, text: str) -> list[str]:
        """Wait until this stands somewhere; the whole screen."""
        waits_for(lambda: text in "\n".join(self.screen()), lambda: f"{text} is not in\n" + "\n".join(self.screen()))
        return self.screen()

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *_: object) -> None:
        self._run("kill-server")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_a_real_terminal(tmp_path: Path) -> None:
    """80 by 24, keys, a drain that is confirmed, other sizes, a sidecar that goes, and a clean end."""
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION)
    workers = [AnsweringWorker(tmp_path, name) for name in ("main", "sync1", "sync2")]
    command = f"cd {ROOT} && {sys.executable} -m sidecar.cli top -c {tmp_path}/sidecar.yaml --interval 0.2"
    with Running(["-c", str(tmp_path / "sidecar.yaml")], tmp_path) as sidecar:
        sidecar.address()
        with Tmux(tmp_path, command) as tmux:
            tmux.shows("sync2")
            screen = tmux.shows("q quit")
            assert screen[0].startswith("matrix-sidecar")
            assert "ready" in screen[0]
            assert screen[3].split() == ["WORKER", "STATE", "RUNS", "WAIT", "RATE", "P50", "P99", "5xx", "SINCE"]
            assert screen[23].startswith("q quit")
            tmux.keys("Down", "d")
            tmux.shows("Drain sync1?")
            tmux.shows("sso: sync2 takes its")
            tmux.keys("n")
            tmux.shows("Nothing was done.")
            tmux.keys("d", "y")
            tmux.shows("The worker sync1 gets no new requests.")
            waits_for(
                lambda: any(line.startswith("sync1") and "draining" in line for line in tmux.screen()),
                lambda: "\n".join(tmux.screen()),
            )
            tmux.keys("s")
            assert tmux.shows("STATEv")[4].startswith("sync1")
            tmux.keys("?")
            tmux.shows("this help")
            tmux.keys("?", "Tab")
            assert any(line.startswith("user_directory") for line in tmux.shows("POOL"))
            tmux.keys("BTab")
            tmux.resize(120, 40)
            waits_for(lambda: tmux.screen()[39].startswith("q quit"), lambda: "\n".join(tmux.screen()))
            tmux.resize(40, 10)
            assert "P50" not in "\n".join(tmux.shows("STATEv"))
            waits_for(lambda: tmux.screen()[9].startswith("q quit"), lambda: "\n".join(tmux.screen()))
            tmux.keys("u", "y")
            tmux.shows("The worker sync1 gets new requests.")
            with Tmux(tmp_path, command) as other:
                other.shows("sync2")
                other.keys("C-c")
                other.shows("ended with 0")
            sidecar.__exit__(None, None, None)
            tmux.shows("no answer for")
            tmux.keys("q")
            tmux.shows("ended with 0")
        with Tmux(tmp_path, command) as tmux:
            tmux.shows("No answer from")
            tmux.shows("ended with 2")
    for worker in workers:
        worker.close()
