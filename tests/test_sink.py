"""The sink of a log, on real files, pipes and devices: what it writes, what it drops, and that it never waits."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sidecar.observe import sink as module
from sidecar.observe.sink import Sink

PATIENCE = 30.0
LINE = "a line that is told\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are gathered for no time."""
    monkeypatch.setattr(module, "PAUSE", 0.0)


@contextmanager
def standard_output(descriptor: int) -> Iterator[None]:
    """Let this be what the process was given as its standard output."""
    before = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def written(sink: Sink, lines: int) -> None:
    """Write so many lines, and end."""
    for _ in range(lines):
        sink.write(LINE)
    sink.close(PATIENCE)
    assert not sink.waiting


def test_a_file(tmp_path: Path) -> None:
    """Lines arrive whole and in order, behind what is there; nobody but owner and group may read them."""
    path = tmp_path / "access.log"
    path.write_text("before\n")
    sink = Sink(str(path))
    for number in range(5000):
        sink.write(f"line {number}\n")
    sink.close(PATIENCE)
    assert path.read_text().splitlines() == ["before", *(f"line {number}" for number in range(5000))]
    assert (sink.written, sink.dropped, sink.failed) == (5000, 0, 0)
    fresh = Sink(str(tmp_path / "fresh.log"))
    written(fresh, 1)
    assert os.stat(tmp_path / "fresh.log").st_mode & 0o137 == 0


def test_nothing_to_write(tmp_path: Path) -> None:
    """Without a line there is no thread and no file."""
    sink = Sink(str(tmp_path / "access.log"))
    threads = threading.active_count()
    sink.close(PATIENCE)
    assert threading.active_count() == threads
    assert not (tmp_path / "access.log").exists()


def test_standard_output() -> None:
    """Without a path it is what the process was given, whatever stands for it in Python."""
    reader, writer = os.pipe()
    with standard_output(writer), os.fdopen(reader, "rb") as output:
        sink = Sink()
        sink.write("first\n")
        assert output.readline() == b"first\n"
        sink.write("sécond\n")
        assert output.readline() == "sécond\n".encode()
        sink.close(PATIENCE)
    os.close(writer)


def test_a_reader_that_has_stopped() -> None:
    """Who writes is not held up; what does not fit is counted, and what was taken arrives when the reader goes on."""
    reader, writer = os.pipe()
    with standard_output(writer):
        sink = Sink(room=100_000)
        for _ in range(20_000):
            sink.write(LINE)
        assert sink.dropped
        assert sink.waiting <= sink.room
        accepted = 20_000 - sink.dropped
        got = b""
        with os.fdopen(reader, "rb", buffering=0) as output:
            while len(got) < accepted * len(LINE):
                got += output.read(65536)
            sink.close(PATIENCE)
    os.close(writer)
    assert got == LINE.encode() * accepted
    assert (sink.written, sink.failed, sink.waiting) == (accepted, 0, 0)


def test_an_end_does_not_wait_for_ever() -> None:
    """A process that stops is not held up by a reader that has stopped."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, b"\n" * 4096):
            pass
    os.set_blocking(writer, True)
    with standard_output(writer):
        sink = Sink()
        sink.write(LINE)
        sink.close(0.01)
        assert sink.waiting
        os.close(reader)
    os.close(writer)
    # The reader is gone: the thread is told so, and ends.
    sink.close(PATIENCE)
    assert (sink.waiting, sink.failed) == (0, 1)


def test_lines_stay_whole_among_others() -> None:
    """Two that write to one pipe at once do not divide each other's lines."""
    reader, writer = os.pipe()
    with standard_output(writer):
        sink = Sink(room=10**9)
        long = "x" * 300 + "\n"
        for _ in range(3000):
            sink.write(long)
        others = threading.Thread(target=lambda: [os.write(writer, b"other\n") for _ in range(3000)])
        others.start()
        with os.fdopen(reader, "rb") as output:
            lines = [output.readline() for _ in range(6000)]
        others.join()
        sink.close(PATIENCE)
    os.close(writer)
    assert set(lines) == {long.encode(), b"other\n"}


def test_a_line_longer_than_a_pipe_keeps_whole() -> None:
    """It is written all the same."""
    reader, writer = os.pipe()
    with standard_output(writer):
        sink = Sink()
        long = "x" * (2 * select.PIPE_BUF) + "\n"
        sink.write(long + LINE)
        with os.fdopen(reader, "rb") as output:
            assert [output.readline(), output.readline()] == [long.encode(), LINE.encode()]
        sink.close(PATIENCE)
    os.close(writer)


def test_a_pipe_that_somebody_made_non_blocking() -> None:
    """A terminal is shared with a shell, and a pipe with whoever else has it: they can do that."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with standard_output(ours.fileno()):
            sink = Sink(room=10**9)
            for _ in range(50_000):
                sink.write(LINE)
            got = b""
            while len(got) < 50_000 * len(LINE):
                got += theirs.recv(65536)
            sink.close(PATIENCE)
    assert got == LINE.encode() * 50_000


def test_a_rotation(tmp_path: Path) -> None:
    """A file that was moved away is written to until it is opened anew."""
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    sink = Sink(str(path))
    sink.write("first\n")
    while not sink.written:
        pass
    path.rename(moved)
    sink.write("second\n")
    while sink.written < 2:
        pass
    sink.reopen()
    sink.write("third\n")
    sink.close(PATIENCE)
    assert (moved.read_text(), path.read_text()) == ("first\nsecond\n", "third\n")


def test_a_full_disk() -> None:
    """Lines that cannot be written are counted, and it is told once why."""
    told: list[str] = []
    sink = Sink("/dev/full", on_trouble=told.append)
    for count in (1, 2):
        sink.write(LINE)
        while sink.failed < count:
            pass
    sink.close(PATIENCE)
    assert told == ["No space left on device"]
    assert (sink.written, sink.failed, sink.waiting) == (0, 2, 0)


def test_after_trouble(tmp_path: Path) -> None:
    """When it is over lines are written again, the next trouble is told again, and no line continues a torn one."""
    told: list[str] = []
    place = tmp_path / "logs"
    sink = Sink(str(place / "access.log"), on_trouble=told.append)
    sink.write(LINE)
    while not sink.failed:
        pass
    place.mkdir()
    sink.write(LINE)
    while not sink.written:
        pass
    assert told == ["No such file or directory"]
    assert (place / "access.log").read_text() == LINE
    (place / "access.log").unlink()
    place.rmdir()
    sink.reopen()
    sink.write(LINE)
    sink.close(PATIENCE)
    assert told == ["No such file or directory"] * 2
    assert (sink.written, sink.failed) == (1, 2)


LIMITED = """
import resource, signal, sys
from sidecar.observe.sink import Sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
sink = Sink(path)
for _ in range(3):
    sink.write("a line that is told\\n")
while not sink.failed:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write("another line\\n")
sink.close(30)
print(sink.written, sink.failed)
"""


def test_a_torn_line(tmp_path: Path) -> None:
    """A disk that becomes full in the middle of a line leaves its beginning there; the next line does not go on."""
    path = tmp_path / "access.log"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parent.parent)},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == b""
    assert done.stdout.split() == [b"2", b"2"]
    assert path.read_text() == f"{LINE}a lin\nanother line\n"


def test_no_standard_output() -> None:
    """A process may be started without one; that is trouble like any other."""
    told: list[str] = []
    before = os.dup(1)
    os.close(1)
    try:
        sink = Sink(on_trouble=told.append)
        written(sink, 1)
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert told == ["Bad file descriptor"]
    assert sink.failed == 1
