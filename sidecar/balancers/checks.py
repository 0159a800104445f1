"""One check of one server, on a connection of its own: whether it takes one, what it answers, what its agent says.

Every question ends with an answer, be it that there was none. Knows no balancer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from sidecar.balancing.agent import MOST_OCTETS, AgentAnswer, read_agent
from sidecar.errors import WireError
from sidecar.transport.link import Link
from sidecar.upstream.connecting import WorkerEndpoint, describe
from sidecar.wire.head import ResponseHead
from sidecar.wire.reader import ReaderLimits, ResponseReader

_PASSING = range(200, 400)
"""Statuses that pass where none are named, as with HAProxy's `option httpchk`."""


@frozen
class CheckResult:
    """How one check ended."""

    passed: bool
    reason: str = ""
    """Why it did not pass."""


class ServerQuestion:
    """What is sent, and what the answer means. `heard` returns None until enough has come."""

    sent: bytes = b""

    def connected(self) -> Any:
        """What a connection alone says."""

    def heard(self, octets: bytes) -> Any:
        """What came means."""

    def ended(self) -> Any:
        """What it means that nothing more comes."""
        return CheckResult(False, "it closes the connection without an answer")

    def failed(self, reason: str) -> Any:
        """What it means that there is no connection, or no answer in time."""
        return CheckResult(False, reason)


class TakesConnections(ServerQuestion):
    """Whether there is anybody."""

    def connected(self) -> CheckResult:
        return CheckResult(True)


class AnswersOverHttp(ServerQuestion):
    """Whether a request is answered with one of some statuses."""

    def __init__(self, request: str, host: str, expected: tuple[int, ...]) -> None:
        """`request`: method and target, such as `OPTIONS /master`."""
        method = request.partition(" ")[0]
        self.sent = (
            f"{request} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: matrix-sidecar\r\nConnection: close\r\n\r\n".encode()
        )
        self._expected = expected or _PASSING
        self._reader = ResponseReader(ReaderLimits())
        self._reader.next_message(method.encode(), decoded=False)

    def heard(self, octets: bytes) -> CheckResult | None:
        try:
            events = self._reader.feed(octets)
        except WireError:
            return CheckResult(False, "its answer is no HTTP")
        head = next((event for event in events if isinstance(event, ResponseHead)), None)
        if head is None:
            return None
        return CheckResult(True) if head.status in self._expected else CheckResult(False, f"it answers {head.status}")


class AgentSpeaks(ServerQuestion):
    """What the agent beside a server says; one that is not there says nothing."""

    def __init__(self) -> None:
        self._said = b""

    def heard(self, octets: bytes) -> AgentAnswer | None:
        self._said += octets
        return read_agent(self._said) if b"\n" in self._said or len(self._said) > MOST_OCTETS else None

    def ended(self) -> AgentAnswer:
        return read_agent(self._said)

    def failed(self, reason: str) -> AgentAnswer:
        return AgentAnswer()


@define(eq=False)
class Asking:
    """A question that is being asked. Its Deferred is never failed, but for `CancelledError`."""

    question: ServerQuestion
    answer: Deferred[Any] = field(init=False)
    _limit: IDelayedCall = field(init=False)
    _link: Link | None = field(default=None, init=False)

    def begin(self, endpoint: WorkerEndpoint, clock: Any, seconds: float) -> Deferred[Any]:
        """Ask at `endpoint`; the answer comes within `seconds`."""
        self.answer = Deferred(lambda _cancelled: self._end())
        self._limit = clock.callLater(seconds, self._tell, self.question.failed(f"no answer for {seconds:g} s"))
        endpoint.connect(lambda: self, lambda error: self._tell(self.question.failed(describe(error))))
        return self.answer

    def _tell(self, result: Any) -> None:
        """It is over with the first result that there is."""
        if result is not None and not self.answer.called:
            self._end()
            self.answer.callback(result)

    def _end(self) -> None:
        if self._limit.active():
            self._limit.cancel()
        if self._link is not None:
            self._link.abort()

    # The link tells.

    def connected(self, link: Link) -> None:
        self._link = link
        if self.answer.called:
            link.abort()
            return
        self._tell(self.question.connected())
        if self.question.sent and link.open:
            link.send(self.question.sent)

    def received(self, octets: bytes) -> None:
        self._tell(self.question.heard(octets))

    def lost(self, *, clean: bool) -> None:
        self._tell(self.question.ended())

    def half_closed(self) -> None:
        self._tell(self.question.ended())

    def writing_ended(self) -> None:
        """Never told: nothing is ended."""

    def shaken(self) -> None:
        """Never told: there is no TLS."""

    def filled(self) -> None:
        """A question is small."""

    def drained(self) -> None:
        """A question is small."""


Ask = Callable[[], "Deferred[Any]"]


def asker(make: Callable[[], ServerQuestion], endpoint: WorkerEndpoint, clock: Any, seconds: float) -> Ask:
    """What asks a new question at `endpoint` each time."""
    return lambda: Asking(make()).begin(endpoint, clock, seconds)
