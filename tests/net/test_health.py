"""What makes a worker down, stuck or up; when it is asked, and how it comes back. On a clock that the test moves."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeQuestions
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.web.client import ResponseFailed

from sidecar.upstream.asking import TooLongError, ask, serves
from sidecar.upstream.connecting import describe, missing
from sidecar.upstream.health import Health, HealthLimits, NoAnswerError, WorkerState

from .peers import Worker
from .turns import observe, reactor, spin, turns

AWAY = Refused(errno.ECONNREFUSED, "refused")
SLOW = NoAnswerError("it is slow")
LIMITS = HealthLimits(interval=10.0, patience=5.0, failures=3, slow_start=8.0)


class Scene:
    """A worker's health, and what was heard of it."""

    def __init__(self, limits: HealthLimits = LIMITS, **others: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.questions = FakeQuestions()
        self.changes: list[bool] = []
        self.watched: list[bool] = []
        self.said: list[str] = []
        self.health = Health(
            name="w",
            ask=self.questions,
            clock=self.clock,
            limits=limits,
            changed=lambda: self.changes.append(self.health.up),
            watch=self.watched.append,
            describe=describe,
            **others,
        )

    def __enter__(self) -> Scene:
        self._unobserve = observe(self._note)
        self.health.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._unobserve()
        self.health.stop()
        assert not self.clock.getDelayedCalls()

    def _note(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "sidecar.health":
            self.said.append(str(event["log_format"]).format(**event))

    def until_asked(self, most: float = 20.0) -> float:
        """Let time pass until the worker is asked; how much that was."""
        begin = self.clock.seconds()
        while not self.questions.open:
            self.clock.advance(0.01)
            assert self.clock.seconds() - begin <= most
        return self.clock.seconds() - begin


def test_a_quiet_worker_is_asked_now_and_then() -> None:
    """Once in an interval, a little earlier by chance, and never twice at once."""
    with Scene() as scene:
        for _ in range(5):
            assert 7.9 <= scene.until_asked() <= 10.1
            scene.clock.advance(30)
            assert len(scene.questions.open) == 1
            scene.questions.answer()
        assert (scene.changes, scene.said) == ([], [])
        assert scene.health.synapse


def test_a_worker_that_answers_requests_is_not_asked() -> None:
    """What a request hears is as good as an answer."""
    with Scene() as scene:
        for _ in range(200):
            scene.clock.advance(1)
            scene.health.heard = scene.clock.seconds()
        assert not scene.questions.asked
        assert scene.until_asked() > 7.9


def test_one_slow_answer_is_no_outage() -> None:
    """Only the third question in a row that is left unanswered makes a worker stuck."""
    with Scene() as scene:
        for _ in range(2):
            scene.until_asked()
            scene.clock.advance(5)
            scene.questions.fail(SLOW)
            assert scene.health.up
        assert scene.until_asked() < 0.1
        scene.questions.answer()
        for _ in range(3):
            assert scene.health.up
            scene.until_asked()
            scene.clock.advance(5)
            scene.questions.fail(SLOW)
        assert (scene.health.state, scene.health.reason) == (WorkerState.STUCK, "it is slow")
        assert scene.said == ["worker w is stuck: it is slow"]
        scene.until_asked()
        scene.questions.answer()
        assert scene.health.up
        assert scene.said[1:] == ["worker w answers again"]


def test_a_slow_question_beside_answered_requests() -> None:
    """A worker that answers others is not stuck, however often it leaves us waiting."""
    with Scene() as scene:
        for _ in range(10):
            scene.until_asked()
            scene.clock.advance(4)
            scene.health.heard = scene.clock.seconds()
            scene.clock.advance(1)
            scene.questions.fail(SLOW)
        assert scene.health.up


def test_questions_that_fail_at_once_are_spaced() -> None:
    """A full backlog says no at once; three such answers within a moment mean nothing."""
    with Scene() as scene:
        scene.until_asked()
        scene.questions.fail(SLOW)
        assert scene.until_asked() >= 4.9
        scene.questions.fail(SLOW)
        assert scene.health.up


def test_away_until_it_answers() -> None:
    """A refused connection makes a worker down at once; it is told once, with the reason, and so is its return."""
    with Scene() as scene:
        scene.health.unreachable(AWAY)
        assert (scene.health.state, scene.health.reason) == (WorkerState.DOWN, os.strerror(errno.ECONNREFUSED))
        for _ in range(20):
            assert scene.until_asked() <= 0.51
            scene.questions.fail(AWAY)
        scene.until_asked()
        scene.questions.fail(SLOW)
        assert scene.health.state is WorkerState.DOWN
        scene.until_asked()
        scene.questions.answer()
        assert scene.health.up
        assert len(scene.said) == 2
        assert scene.health.transitions == 2
        assert scene.changes == [False] * 22 + [True]
        assert scene.watched[-1] is False


def test_the_appearance_of_its_socket_is_not_waited_out() -> None:
    """Who watches the directory saves the time until the next question."""
    with Scene() as scene:
        scene.health.appeared()
        assert not scene.questions.asked
        scene.health.unreachable(AWAY)
        for _ in range(20):
            scene.until_asked()
            scene.questions.fail(AWAY)
        assert scene.watched[-1] is True
        scene.health.appeared()
        assert scene.questions.open
        scene.health.appeared()
        assert len(scene.questions.open) == 1
        scene.questions.fail(AWAY)
        assert scene.until_asked() <= 0.03


def test_missing_from_the_start() -> None:
    """What can be seen without a connection is seen at the start."""
    with Scene(look=lambda: ConnectError(errno.ENOENT, "no such file")) as scene:
        assert scene.health.state is WorkerState.DOWN


def test_doubt() -> None:
    """A worker that has broken off without an answer gets nothing until it has answered; then it is as before."""
    with Scene() as scene:
        scene.health.doubt()
        assert not scene.health.up
        assert scene.health.state is WorkerState.UP
        scene.health.doubt()
        assert len(scene.questions.open) == 1
        scene.questions.answer()
        assert scene.health.up
        assert not scene.health.warming
        assert scene.changes == [False, True]
        scene.health.doubt()
        scene.questions.fail(AWAY)
        assert scene.health.state is WorkerState.DOWN
        scene.health.doubt()
        assert scene.health.state is WorkerState.DOWN


def test_doubt_that_is_not_dispelled() -> None:
    """Who breaks off and then does not answer is stuck, without two more questions."""
    with Scene() as scene:
        scene.health.doubt()
        scene.questions.fail(SLOW)
        assert scene.health.state is WorkerState.STUCK


def test_slow_start() -> None:
    """After its return a worker gets a growing part of what is its own, and all of it in the end."""
    with Scene() as scene:
        assert scene.health.share == 1.0
        scene.health.unreachable(AWAY)
        scene.until_asked()
        scene.questions.answer()
        assert scene.health.warming
        assert scene.health.share == 0.0
        scene.clock.advance(2)
        assert scene.health.share == pytest.approx(0.25)
        before = len(scene.changes)
        scene.clock.advance(6.1)
        assert not scene.health.warming
        assert scene.health.share == 1.0
        assert len(scene.changes) == before + 1


def test_away_again_while_it_warms() -> None:
    """A slow start that is interrupted begins anew."""
    with Scene() as scene:
        for _ in range(2):
            scene.health.unreachable(AWAY)
            assert not scene.health.warming
            scene.until_asked()
            scene.questions.answer()
            scene.clock.advance(1)
        assert scene.health.share == pytest.approx(1 / 8)


def test_only_who_is_away_is_asked() -> None:
    """Where the interval is 0 a worker that is up is left alone."""
    with Scene(HealthLimits(interval=0, slow_start=0)) as scene:
        scene.clock.advance(1000)
        assert scene.questions.asked == 0
        scene.health.unreachable(AWAY)
        scene.until_asked()
        scene.questions.answer()
        assert scene.health.up
        assert not scene.health.warming
        scene.clock.advance(1000)
        assert scene.questions.asked == 1


def test_a_stop_in_the_middle_of_a_question() -> None:
    """Nothing that comes after it counts."""
    with Scene() as scene:
        scene.until_asked()
        question = scene.questions.open.pop()
        scene.health.stop()
        assert question.called
        scene.health.doubt()
        scene.health.unreachable(AWAY)
        assert not scene.clock.getDelayedCalls()


class HealthModel(RuleBasedStateMachine):
    """Whatever happens in whatever order: a worker that is not up is asked, or will be within half a second."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.scene.health.start()

    @rule(seconds=st.sampled_from([0.01, 0.3, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.scene.clock.advance(seconds)

    @precondition(lambda self: self.scene.questions.open)
    @rule()
    def answers(self) -> None:
        self.scene.questions.answer()
        assert self.scene.health.up

    @precondition(lambda self: self.scene.questions.open)
    @rule(error=st.sampled_from([AWAY, SLOW]))
    def fails(self, error: Exception) -> None:
        self.scene.questions.fail(error)

    @rule()
    def cannot_be_reached(self) -> None:
        self.scene.health.unreachable(AWAY)
        assert self.scene.health.state is WorkerState.DOWN

    @rule()
    def breaks_off(self) -> None:
        self.scene.health.doubt()
        assert not self.scene.health.up

    @rule()
    def appears(self) -> None:
        self.scene.health.appeared()

    @rule()
    def is_heard(self) -> None:
        self.scene.health.heard = self.scene.clock.seconds()

    @invariant()
    def it_is_found_out(self) -> None:
        health, questions = self.scene.health, self.scene.questions
        assert len(questions.open) <= 1
        assert health.up == (health.state is WorkerState.UP and not health.doubted)
        due = health._next.getTime() - self.scene.clock.seconds() if health._next is not None else None
        if health.up:
            assert questions.open or (due is not None and due <= LIMITS.interval)
        else:
            assert questions.open or (due is not None and due <= 0.5)
        assert len(self.scene.clock.getDelayedCalls()) <= 2

    def teardown(self) -> None:
        self.scene.health.stop()
        assert not self.scene.clock.getDelayedCalls()


HealthModel.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=50)
TestHealth = HealthModel.TestCase


# Questions on real sockets.


def question(path: Path, seconds: float = 30.0, target: str = "/health") -> Any:
    return serves(reactor, clientFromString(reactor, f"unix:{path}"), target, seconds)


def test_questions_to_a_real_socket(tmp_path: Path) -> None:
    """What a worker may answer, and what that means."""

    async def scenario() -> None:
        worker = Worker(tmp_path / "w.sock").start()

        async def asked(answer: bytes, *, close: bool = False) -> Any:
            from twisted.internet.defer import Deferred

            result = Deferred.fromCoroutine(question(worker.path))
            peer = await worker.connection()
            head = await peer.head()
            assert head.startswith(b"GET /health HTTP/1.1\r\n")
            assert b"X-Forwarded-For: 127.0.0.1\r\n" in head
            peer.send(answer)
            if close:
                peer.close()
            try:
                return await result
            except Exception as error:
                return error

        ok = b"HTTP/1.1 %d X\r\n%bContent-Length: 2\r\n\r\nOK"
        assert await asked(ok % (200, b"Server: Synapse/1.163.2\r\n")) is True
        assert await asked(ok % (200, b"")) is False
        assert await asked(ok % (404, b"Server: nginx\r\n")) is False
        assert str(await asked(ok % (503, b""))) == "it answers 503 when it is asked for its health"
        assert str(await asked(b"", close=True)) == "it closes connections without an answer"
        await worker.stop()
        await turns()

    spin(scenario())


@pytest.mark.parametrize(("sent", "said"), [(4, ResponseFailed), (5, TooLongError)])
def test_an_answer_that_breaks_off_is_none(tmp_path: Path, sent: int, said: type[Exception]) -> None:
    """Even where it has as many bytes as are kept; with one more it is too long."""

    async def scenario() -> None:
        from twisted.internet.defer import Deferred

        worker = Worker(tmp_path / "w.sock").start()
        endpoint = clientFromString(reactor, f"unix:{worker.path}")
        result = Deferred.fromCoroutine(ask(reactor, endpoint, "/x", {}, 30, most=4))
        peer = await worker.connection()
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + b"x" * sent)
        peer.close()
        with pytest.raises(said):
            await result
        await worker.stop()
        await turns()

    spin(scenario())


def test_an_answer_that_stalls_keeps_no_connection(tmp_path: Path) -> None:
    """Its time is over, and the worker sees the end."""

    async def scenario() -> None:
        from twisted.internet.defer import Deferred

        worker = Worker(tmp_path / "w.sock").start()
        endpoint = clientFromString(reactor, f"unix:{worker.path}")
        result = Deferred.fromCoroutine(ask(reactor, endpoint, "/x", {}, 0.2))
        peer = await worker.connection()
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        with pytest.raises(DeferredTimeoutError):
            await result
        await peer.vanishes()
        await worker.stop()

    spin(scenario())


def test_a_worker_that_does_not_answer(tmp_path: Path) -> None:
    """Its connection is ended, and the reason says for how long it was waited for."""

    async def scenario() -> None:
        worker = Worker(tmp_path / "w.sock").start()
        with pytest.raises(NoAnswerError, match=r"it takes connections, but has not answered for 0.05 s"):
            await question(worker.path, 0.05)
        await (await worker.connection()).vanishes()
        await worker.stop()

    spin(scenario())


def test_a_worker_that_is_not_there(tmp_path: Path) -> None:
    """Then it is the connection that fails, and says why."""

    async def scenario() -> None:
        with pytest.raises(ConnectError, match="No such file"):
            await question(tmp_path / "w.sock")
        found = missing(str(tmp_path / "w.sock"))
        assert found is not None
        assert describe(found) == "No such file or directory"
        assert missing(str(tmp_path)) is None

    spin(scenario())


def test_a_full_backlog_is_no_answer(tmp_path: Path) -> None:
    """It is there, and busy."""
    import socket

    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
            listener.bind(str(tmp_path / "w.sock"))
            listener.listen(0)
            filler.connect(str(tmp_path / "w.sock"))
            with pytest.raises(NoAnswerError, match="its backlog is full"):
                await question(tmp_path / "w.sock", target="")

    spin(scenario())


def test_without_a_path(tmp_path: Path) -> None:
    """What is no Synapse is only connected to."""

    async def scenario() -> None:
        worker = Worker(tmp_path / "w.sock").start()
        assert await question(worker.path, target="") is False
        assert await (await worker.connection()).end() == b""
        await worker.stop()

    spin(scenario())


def test_answers_are_whole(tmp_path: Path) -> None:
    """Status, Server and content come as they were sent; redirects are not followed."""

    async def scenario() -> None:
        from twisted.internet.defer import Deferred

        worker = Worker(tmp_path / "w.sock").start()
        endpoint = clientFromString(reactor, f"unix:{worker.path}")
        result = Deferred.fromCoroutine(ask(reactor, endpoint, "/x?y", {"Host": "h"}, 30))
        peer = await worker.connection()
        assert (await peer.head()).startswith(b"GET /x?y HTTP/1.1\r\n")
        peer.send(b"HTTP/1.1 302 Found\r\nLocation: /z\r\nServer: s\r\nContent-Length: 3\r\n\r\nabc")
        answer = await result
        assert (answer.status, answer.server, answer.content) == (302, "s", b"abc")
        await peer.vanishes()
        await worker.stop()

    spin(scenario())
