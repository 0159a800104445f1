"""The access log of the process as settings come and go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from net.turns import observed
from noted import noted
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from sidecar.config.log import Log
from sidecar.observe import sink
from sidecar.observe.logbook import Logbook, Written, is_journal
from sidecar.records.access_log import AccessLog

PATIENCE = 30.0


class Threads(Clock):
    """A clock whose calls from threads are made when the test asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, ...]] = []

    def callFromThread(self, *call: Any, **more: Any) -> None:
        self.asked.append((*call, more))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "PAUSE", 0.0)


def tell(log: AccessLog | None, **other: Any) -> None:
    assert log is not None
    log.tell([noted(**other)], 0.0)


def test_settings_come_and_go(tmp_path: Path) -> None:
    """Each reload opens the file anew, another file is another sink, and the counts go on."""
    book = Logbook(Threads())
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    settings = Log(access=True, file=str(first))
    assert book.use(Log(), None) is None
    assert book.written() == Written()
    tell(book.use(settings, None))
    while not book.written().written:
        pass
    first.rename(tmp_path / "first.log.1")
    tell(book.use(evolve(settings, format="json"), None))
    while book.written().written < 2:
        pass
    assert first.read_text().startswith("{")
    tell(book.use(evolve(settings, file=str(second)), None))
    book.close(PATIENCE)
    assert second.read_text().count("\n") == 1
    assert book.written() == Written(written=3)
    book.close()
    assert book.written() == Written(written=3)


def test_room_and_choice(tmp_path: Path) -> None:
    """The settings that only choose or bound."""
    book = Logbook(Threads())
    settings = Log(access=True, file=str(tmp_path / "a.log"), endpoints={"sync": "faults"}, waiting=10)
    log = book.use(settings, None)
    tell(log)
    tell(log, status=502)
    assert book.written() == Written(dropped=1)
    log = book.use(evolve(settings, waiting=1000), None)
    tell(log, status=502)
    book.close(PATIENCE)
    assert book.written() == Written(written=1, dropped=1)


def test_secrets(tmp_path: Path) -> None:
    """With a secret keys are hashed alike in all processes, without one only within the process."""

    def keys(book: Logbook, name: str, secret: bytes | None) -> str:
        path = tmp_path / name
        tell(book.use(Log(access=True, file=str(path)), secret))
        tell(book.use(Log(access=True, file=str(path), format="text"), secret))
        book.close(PATIENCE)
        keys = {word for word in path.read_text().split() if word.startswith("key=")}
        assert len(keys) == 1
        return keys.pop()

    one, other = Logbook(Threads()), Logbook(Threads())
    assert keys(one, "a", b"secret") == keys(other, "b", b"secret")
    assert keys(one, "c", None) != keys(other, "d", None)


def test_trouble() -> None:
    """It is told in the ordinary log, from the thread of the reactor."""
    reactor = Threads()
    book = Logbook(reactor)
    tell(book.use(Log(access=True, file="/dev/full"), None))
    book.close(PATIENCE)
    assert book.written() == Written(failed=1)
    events: list[Any] = []
    with observed(events.append):
        for call, *arguments, more in reactor.asked:
            call(*arguments, **more)
    (event,) = events
    assert event["log_level"] is LogLevel.error
    assert event["log_format"].format(**event) == "the access log cannot be written: No space left on device"


def test_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what systemd says to be its journal gets priorities before its lines."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with tempfile.TemporaryFile() as file:
        descriptor = file.fileno()
        assert not is_journal(descriptor)
        status = os.fstat(descriptor)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(descriptor)
        with tempfile.TemporaryFile() as other:
            assert not is_journal(other.fileno())
    assert not is_journal(descriptor)


def test_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has none, even where standard output is the journal."""
    monkeypatch.setattr("sidecar.observe.logbook.is_journal", lambda: True)
    book = Logbook(Threads())
    for settings, levels in ((Log(access=True), True), (Log(access=True, file="/dev/null"), False)):
        log = book.use(settings, None)
        assert log is not None
        assert log.lines.levels is levels
    book.close()
