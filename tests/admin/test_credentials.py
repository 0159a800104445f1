"""The operator's password: right, wrong, too often wrong, and never worked out in the reactor."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sidecar.admin.credentials import Doorkeeper, parse_basic
from sidecar.config.passwords import PasswordHash, PlainPassword, Secret, hashed

PLAIN = PlainPassword(b"s\xc3\xa9same:open")


class Threads(Clock):
    """A reactor whose threads run when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Callable[[], None]] = []

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], work: Callable[..., Any], *given: Any
    ) -> None:
        def run() -> None:
            results: list[Any] = []
            thread = threading.Thread(target=lambda: results.append(work(*given)))
            thread.start()
            thread.join()
            done(True, results[0])

        self.jobs.append(run)

    def callFromThread(self, work: Callable[..., None], *given: Any) -> None:
        work(*given)


class Door:
    """A doorkeeper whose answers are gathered."""

    def __init__(self, secret: Secret | None, attempts: int = 3) -> None:
        self.reactor = Threads()
        self.keeper = Doorkeeper(self.reactor)
        self.secret, self.attempts = secret, attempts
        self.statuses: list[int] = []
        self.fields: dict[str, str] = {}

    def knock(self, password: bytes | None, user: bytes = b"operator", scheme: str = "Basic") -> int | None:
        """The status so far; 0 is let in, None: not yet known."""
        told = "" if password is None else f"{scheme} {b64encode(user + b':' + password).decode()}"
        asked = Deferred.fromCoroutine(self.keeper.refusal(told, "::1", "operator", self.secret, self.attempts))
        results: list[Any] = []
        asked.addCallback(results.append)
        asked.addCallback(lambda _: self._note(results[0]))
        return self.statuses[-1] if results else None

    def _note(self, answer: Any) -> None:
        self.statuses.append(0 if answer is None else answer.status)
        self.fields = {} if answer is None else dict(answer.fields)


def test_without_a_password_everybody_may() -> None:
    """Where none is configured none is asked for."""
    assert Door(None).knock(None) == 0


def test_the_right_one_and_others() -> None:
    """Colons and UTF-8 are part of a password; a name is as wrong as a password is."""
    door = Door(PLAIN, attempts=100)
    assert door.knock(None) == 401
    assert door.fields["WWW-Authenticate"].startswith("Basic realm=")
    assert door.knock(PLAIN.octets) == 0
    assert door.knock(PLAIN.octets, scheme="bASIC") == 0
    assert door.knock(PLAIN.octets, user=b"root") == 401
    for wrong in (b"", b"s\xc3\xa9same", PLAIN.octets + b" ", b"\xff"):
        assert door.knock(wrong) == 401
    assert door.knock(PLAIN.octets, scheme="Bearer") == 401


def test_wrong_ones_are_counted() -> None:
    """After so many in a minute none is looked at, but for who was let in before; a minute later all are."""
    door = Door(PLAIN)
    assert door.knock(PLAIN.octets) == 0
    assert [door.knock(b"wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert door.fields == {"Retry-After": "61"}
    assert door.knock(PLAIN.octets) == 0
    door.secret = PlainPassword(b"new")
    assert door.knock(b"new") == 429
    assert door.knock(None) == 401
    door.reactor.advance(60)
    assert door.knock(b"new") == 0
    assert door.knock(PLAIN.octets) == 401


def test_a_hash_is_worked_out_in_a_thread_and_once() -> None:
    """One at a time, and not again for who was right: a page with five parts costs one."""
    door = Door(hashed(b"open"))
    assert [door.knock(b"open") for _ in range(5)] == [None] * 5
    assert len(door.reactor.jobs) == 1
    door.reactor.jobs.pop()()
    assert door.statuses == [0] * 5
    assert door.knock(b"open") == 0
    assert not door.reactor.jobs


def test_guesses_at_a_hash_wait_for_each_other() -> None:
    """Many at once do not make many threads, and beyond the limit they cost nothing."""
    door = Door(hashed(b"open"), attempts=2)
    for guess in (b"a", b"b", b"c", b"d"):
        door.knock(guess)
    for _ in range(2):
        assert len(door.reactor.jobs) == 1
        door.reactor.jobs.pop()()
    assert not door.reactor.jobs
    assert sorted(door.statuses) == [401, 401, 429, 429]


def test_after_a_failure_in_the_thread_the_next_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a hash cannot be worked out (no memory), who waits behind does not wait for ever."""
    door = Door(PLAIN)

    def fail(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(PlainPassword, "matches", fail)
    failed = Deferred.fromCoroutine(door.keeper.refusal("Basic YTpi", "", "a", PLAIN, 3))
    failed.addErrback(lambda failure: failure.trap(MemoryError))
    monkeypatch.undo()
    assert door.knock(PLAIN.octets) == 0


@pytest.mark.parametrize("text", ["", "Basic", "Basic !", "Basic YQ==", "Basic \xff", "Digest YTpi"])
def test_what_is_no_basic_authorization(text: str) -> None:
    """No name, no colon, no base64, another scheme."""
    assert parse_basic(text) is None


def test_nothing_secret_is_shown() -> None:
    """Not in the repr of anything that a traceback or a log could show."""
    door = Door(PLAIN)
    door.knock(PLAIN.octets)
    shown = repr((PLAIN, hashed(b"open"), door.keeper))
    assert "same" not in shown
    assert isinstance(hashed(b"open"), PasswordHash)
