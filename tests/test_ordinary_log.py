"""What stands for standard output: that it never waits, and says what was lost."""

from __future__ import annotations

import atexit
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher, textFileLogObserver

from sidecar.observe.ordinary_log import LogStream, never_wait_for_standard_output, readable
from sidecar.observe.sink import Sink

PATIENCE = 30.0


@contextmanager
def full_pipe() -> Iterator[int]:
    """The process has a full pipe for its standard output; the end at which it can be read.

    Not a fixture: between those and their tests pytest changes the standard output itself.
    """
    before = os.dup(1)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    while True:
        try:
            os.write(write_end, b"." * 65536)
        except BlockingIOError:
            break
    os.set_blocking(write_end, True)
    os.dup2(write_end, 1)
    os.close(write_end)
    try:
        yield read_end
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(read_end)


def read(descriptor: int, until: str) -> str:
    """What can be read, up to something that matches."""
    got = ""
    while not re.search(until, got):
        got += os.read(descriptor, 65536).decode()
    return got.lstrip(".")


def test_what_is_lost_is_told() -> None:
    """Beyond the room lines are dropped; as soon as there is room again a line says how many."""
    with full_pipe() as pipe:
        sink = Sink(pause=0.0, room=1000)
        stream: Any = LogStream(sink)
        for number in range(100):
            assert stream.write(f"line {number:>4}\n") == 10
        assert sink.dropped == 0
        stream.write("one too many\n")
        stream.write("and another\n")
        assert sink.lost == 2
        assert read(pipe, r"line +99\n").endswith("line   99\n")
        while not sink.takes_more:
            os.sched_yield()
        stream.write("again\n")
        told = "[sidecar] 2 lines of this log are lost, because nobody took them in time\n"
        assert read(pipe, r"again\n") == f"{told}again\n"
        stream.write("and once more\n")
        assert read(pipe, "more\n") == "and once more\n"
        sink.close(PATIENCE)


def test_nothing_is_told_while_writing_fails(tmp_path: Path) -> None:
    """A full disk is not written to once more for each line that is lost."""
    sink = Sink("/dev/full", pause=0.0)
    stream: Any = LogStream(sink)
    for count in (1, 2, 3):
        stream.write("line\n")
        while sink.failed < count:
            os.sched_yield()
    assert sink.lost == 3
    sink.path = str(tmp_path / "a disk with room")
    stream.write("first\n")
    while not sink.takes_more:
        os.sched_yield()
    stream.write("second\n")
    sink.close(PATIENCE)
    assert Path(sink.path).read_text().startswith("first\n[sidecar] 3 lines")


def test_twisted_writes_to_it(tmp_path: Path) -> None:
    """An observer as twistd makes it for a stream takes this for one of text."""
    sink = Sink(str(tmp_path / "log"), pause=0.0)
    stream: Any = LogStream(sink)
    assert stream.writable()
    Logger(observer=LogPublisher(textFileLogObserver(stream))).info("Grüße")
    sink.close(PATIENCE)
    assert (tmp_path / "log").read_text().endswith("Grüße\n")


def test_only_in_place_of_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for the standard output of the process, and for nothing that somebody else has put there."""
    registered: list[object] = []
    monkeypatch.setattr(atexit, "register", lambda *arguments: registered.append(arguments))
    monkeypatch.setattr(sys, "stdout", somebody := sys.stderr)
    never_wait_for_standard_output()
    assert sys.stdout is somebody
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    never_wait_for_standard_output()
    assert isinstance(sys.stdout, LogStream)
    assert len(registered) == 1


@pytest.mark.parametrize(
    ("event", "elsewhere", "in_a_journal"),
    [
        ("2026-01-01T00:00:00+0000 [sidecar#warn] no: good\n", ..., "<4>no: good\n"),
        ("2026-01-01T00:00:00+0000 [sidecar.admin#info] listening\n", ..., "<6>[sidecar.admin] listening\n"),
        ("2026-01-01T00:00:00+0000 [sidecar#error] one\n\ttwo\n", ..., "<3>one\n<3>\ttwo\n"),
        ("2026-01-01T00:00:00+0000 [-] Unhandled Error\n\tTraceback\n", ..., "<3>Unhandled Error\n<3>\tTraceback\n"),
        ("2026-01-01T00:00:00+0000 [-] said\n", ..., "<6>said\n"),
        ("2026-01-01T00:00:00+0000 [-] Proxied starting on 8008\n", "", ""),
        ("2026-01-01T00:00:00+0000 [-] (TCP Port 8008 Closed)\n", "", ""),
        ("2026-01-01T00:00:00+0000 [twisted.internet.base#info] Main loop terminated.\n", "", ""),
        ("2026-01-01T00:00:00+0000 [twisted.plugin#critical] no cache\n", ..., "<2>[twisted.plugin] no cache\n"),
        ("what somebody has printed\n", ..., ...),
    ],
)
def test_what_an_administrator_reads(event: str, elsewhere: object, in_a_journal: object) -> None:
    """Twisted's lines about itself are left out; a journal gets priorities, and knows the time by itself."""
    assert readable(event, journal=False) == (event if elsewhere is ... else elsewhere)
    assert readable(event, journal=True) == (event if in_a_journal is ... else in_a_journal)


def test_twisted_writes_what_is_taken_apart(tmp_path: Path) -> None:
    """Its own observer, with a level and without one."""
    sink = Sink(str(tmp_path / "log"), pause=0.0)
    stream: Any = LogStream(sink, journal=True)
    publisher = LogPublisher(textFileLogObserver(stream))
    Logger("sidecar", observer=publisher).warn("careful")
    Logger("twisted.internet.base", observer=publisher).info("Main loop terminated.")
    Logger("sidecar", observer=publisher).info("fine")
    sink.close(PATIENCE)
    assert (tmp_path / "log").read_text() == "<4>careful\n<6>fine\n"
