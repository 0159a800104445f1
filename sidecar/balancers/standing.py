"""Whether one server of a balancer is up: asks it again and again, and counts what it says.

`sidecar.upstream.health` is about workers, which say more by answering requests than by checks: it has no rise and
fall. Here connections say nothing, and checks everything. Knows no clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from sidecar.balancers.checks import Ask, CheckResult
from sidecar.balancing.agent import AgentAnswer
from sidecar.balancing.ladder import Ladder
from sidecar.config.balancers import ServerCheck
from sidecar.observe.telemetry import logger

Note = Callable[[Literal["up", "down"], str, str], None]
"""Told which server went up or down, and why."""

_log = logger("sidecar.balancers")


@define(eq=False)
class Repeated:
    """One question, asked again `pause()` seconds after each answer, until `stop`."""

    ask: Ask
    clock: IReactorTime
    pause: Callable[[], float]
    told: Callable[[Any], None]
    _asking: Deferred[Any] | None = None
    _next: IDelayedCall | None = None

    def start(self) -> None:
        """Ask now."""
        self._next = None
        self._asking = asking = self.ask()
        asking.addCallbacks(self._answered, self._failed)

    def _answered(self, answer: Any) -> None:
        self._asking = None
        self.told(answer)
        if self._next is None:
            self._next = self.clock.callLater(self.pause(), self.start)

    def _failed(self, failure: Failure) -> None:
        failure.trap(CancelledError)

    def stop(self) -> None:
        """Ask no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None


@define(eq=False)
class ServerHealth:
    """The health of one server. `changed` is called after every change of what it may be given."""

    name: str
    """For the log: balancer and server."""
    clock: IReactorTime
    check: ServerCheck
    changed: Callable[[], None]
    note: Note = lambda _kind, _name, _reason: None
    known: bool = False
    """It has been asked once. Before that, nobody is sent there."""
    reason: str = ""
    """Why it is, or was last, not up."""
    since: float = field(init=False)
    """When it went up or down last; seconds of the clock."""
    transitions: int = 0
    checks: int = 0
    failures: int = 0
    """Checks that did not pass."""
    agent: AgentAnswer = field(factory=AgentAnswer)
    ladder: Ladder = field(init=False)
    _up: bool = False
    _asked: tuple[Repeated, ...] = ()

    def __attrs_post_init__(self) -> None:
        self.since = self.clock.seconds()
        self.ladder = Ladder(self.check.rise, self.check.fall)
        self.known = self._up = self.check.off

    @property
    def up(self) -> bool:
        """It counts as up: its checks say so, and its agent does not deny it."""
        return self.known and self.ladder.up and self.agent.up is not False and self.agent.standing != "maint"

    @property
    def takes(self) -> bool:
        """It may be given new connections."""
        return self.up and self.agent.standing != "drain"

    def start(self, ask: Ask, ask_agent: Ask | None) -> None:
        """Ask from now on, and in no other way."""
        self.stop()
        if self.check.off:
            return
        own = Repeated(ask, self.clock, self._pause, self._checked)
        beside = () if ask_agent is None else (Repeated(ask_agent, self.clock, self._usual, self._heard),)
        self._asked = (own, *beside)
        for each in self._asked:
            each.start()

    def stop(self) -> None:
        """Ask no more."""
        asked, self._asked = self._asked, ()
        for each in asked:
            each.stop()

    def use(self, check: ServerCheck) -> None:
        """Count as `check` says; what is known stays."""
        self.check = check
        self.ladder = self.ladder.with_steps(check.rise, check.fall)
        if check.agent is None:
            self.agent = AgentAnswer()
        if check.off:
            self.known, self.ladder = True, Ladder(check.rise, check.fall)
        self._judge()

    def _usual(self) -> float:
        return self.check.interval

    def _pause(self) -> float:
        check = self.check
        if not self.ladder.settled:
            return check.fast_interval or check.interval
        return check.interval if self.ladder.up else check.down_interval or check.interval

    def _checked(self, result: CheckResult) -> None:
        self.checks += 1
        self.known = True
        if result.passed:
            self.ladder = self.ladder.passed()
        else:
            self.failures += 1
            self.ladder, self.reason = self.ladder.failed(), result.reason
        self._judge()

    def _heard(self, answer: AgentAnswer) -> None:
        before, self.agent = self.agent, answer.over(self.agent)
        if self.agent.reason and self.agent.up is False:
            self.reason = self.agent.reason
        elif self.agent.standing == "maint" and before.standing != "maint":
            self.reason = "its agent says maint"
        self._judge(heard=before != self.agent)

    def _judge(self, *, heard: bool = False) -> None:
        was, self._up = self._up, self.up
        first = self.checks == 1
        if was is not self._up:
            self.since = self.clock.seconds()
            self.transitions += not first
        if was is not self._up or first:
            if self._up:
                _log.info("server {name} is up", name=self.name)
                self.note("up", self.name, "")
            else:
                _log.warn("server {name} is down: {reason}", name=self.name, reason=self.reason)
                self.note("down", self.name, self.reason)
        if was is not self._up or first or heard:
            self.changed()
