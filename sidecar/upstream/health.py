"""Whether one worker takes requests: what connections tell of it, what it says when it is asked, and since when.

A worker that cannot be reached is *down*, and asked until it answers; one that takes connections but answers nothing
is *stuck*. A slow answer makes it neither: only questions that it leaves unanswered several times in a row, while no
answer of it is seen otherwise, do. Knows no requests and no clients; who asks is given to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sidecar.observe.telemetry import logger
from sidecar.upstream.connecting import is_shortage

# A worker that is down is asked again after these seconds: first, and at most. Jittered, so that instances that share
# a worker do not ask in step.
_FIRST_RETRY = 0.02
_LAST_RETRY = 0.5


class WorkerState(Enum):
    """What is known of a worker."""

    UP = "up"
    DOWN = "down"
    STUCK = "stuck"


@frozen(slots=True, kw_only=True)
class HealthLimits:
    """Seconds, and a count for `failures`; the keys of `timeouts` and `limits` say more.

    An `interval` of 0 means that only a worker that is down is asked.
    """

    interval: float = 10.0
    patience: float = 5.0
    failures: int = 3
    slow_start: float = 10.0


class NoAnswerError(Exception):
    """The worker took the question and did not answer it, or answered that it cannot serve."""


Question = Callable[[], "Deferred[bool]"]
"""Asks the worker whether it serves; the result is whether it says that it is Synapse.

Fails with NoAnswerError, or with why it could not be reached."""


@define(eq=False)
class Health:
    """The health of one worker.

    `changed` is called after every change of `up`, and after every question that did not change it while the worker is
    down: whoever waits for it may have found somewhere else to go.
    """

    name: str
    ask: Question
    clock: IReactorTime
    limits: HealthLimits
    changed: Callable[[], None] = lambda: None
    describe: Callable[[BaseException | None], str] = str
    """A failure in words for people."""
    look: Callable[[], BaseException | None] = lambda: None
    """Why it cannot be there, as far as can be seen without a connection; None: it can."""
    watch: Callable[[bool], None] = lambda _wanted: None
    """Told whether the appearance of the worker's socket is of interest now; `appeared` is called on it."""
    told: Callable[[WorkerState, str], None] = lambda _state, _reason: None
    """Told of every change of `state`, and why."""
    state: WorkerState = WorkerState.UP
    doubted: bool = False
    """It is up as far as is known, but has just broken off without an answer: it gets nothing until it has answered."""
    up: bool = True
    """It may be given requests."""
    synapse: bool = False
    """It has said that it is Synapse."""
    reason: str = ""
    """Why it is, or was last, not up."""
    since: float = field(init=False)
    """When `state` changed last; seconds of the clock."""
    heard: float = field(init=False)
    """When it answered anything last."""
    transitions: int = 0
    warming: bool = False
    """It has just come back, and takes only a part of what it could have (`share`)."""
    _missed: int = 0
    _asked: float = 0.0
    _asking: Deferred[bool] | None = None
    _next: IDelayedCall | None = None
    _warm: IDelayedCall | None = None
    _retry_after: float = _FIRST_RETRY
    _stopped: bool = True
    _log: Logger = field(factory=lambda: logger("sidecar.health"))

    def __attrs_post_init__(self) -> None:
        self.since = self.heard = self.clock.seconds()

    @property
    def share(self) -> float:
        """The part of its requests that a worker should get at this moment, from 0 to 1: all but after a return."""
        if not self.warming:
            return 1.0
        return min(1.0, (self.clock.seconds() - self.since) / self.limits.slow_start)

    # What happens.

    def start(self) -> None:
        """Ask whenever the worker has not been heard for `interval`; at once, and until it answers, if it is down."""
        self._stopped = False
        missing = self.look()
        if missing is not None:
            self.unreachable(missing)
        else:
            self._ask_later()

    def stop(self) -> None:
        """Ask nothing any more."""
        self._stopped = True
        self.watch(False)
        for call in (self._next, self._warm):
            if call is not None and call.active():
                call.cancel()
        self._next = self._warm = None
        if self._asking is not None:
            asking, self._asking = self._asking, None
            asking.cancel()

    def tell(self, changed: Callable[[], None]) -> None:
        """Let `changed` be called, as above."""
        self.changed = changed

    def use(self, other: Health) -> None:
        """Ask as `other` would."""
        self.limits, self.ask = other.limits, other.ask

    def hear(self, now: float) -> None:
        """It has answered something."""
        self.heard = now

    def unreachable(self, error: BaseException | None) -> None:
        """A connection to it could not be made, and not because it is busy."""
        self._to(WorkerState.DOWN, self.describe(error))
        self._ask_soon()

    def doubt(self) -> None:
        """It has broken off a connection without an answer: it may be about to end. Ask it before it gets more."""
        if self.state is WorkerState.UP and not (self.doubted or self._stopped):
            self.doubted = True
            self.up = False
            self.changed()
            if self._asking is None:
                self._ask_now()

    def check(self) -> None:
        """Ask it now, because somebody wants to know."""
        if self._asking is None and not self._stopped:
            self._ask_now()

    def appeared(self) -> None:
        """Its socket has appeared: it may be there, or will be in a moment."""
        if not self.up:
            self._retry_after = _FIRST_RETRY
            if self._asking is None:
                self._ask_now()

    # Questions.

    def _ask_soon(self) -> None:
        """Ask a worker that is down again, ever more rarely."""
        if self._stopped or self._asking is not None:
            return
        delay = self._retry_after * random.uniform(0.5, 1.0)  # noqa: S311
        self._retry_after = min(self._retry_after * 2, _LAST_RETRY)
        self._ask_in(delay)

    def _ask_later(self) -> None:
        if self.limits.interval:
            self._ask_in(self.limits.interval * random.uniform(0.8, 1.0))  # noqa: S311

    def _ask_in(self, seconds: float) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None if self._stopped else self.clock.callLater(seconds, self._ask_if_needed)

    def _ask_if_needed(self) -> None:
        """Nobody is asked who has just answered a request."""
        self._next = None
        quiet = self.clock.seconds() - self.heard
        if self.up and not self._missed and quiet < self.limits.interval * 0.8:
            self._ask_in(self.limits.interval - quiet)
        else:
            self._ask_now()

    def _ask_now(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if self.state is not WorkerState.UP:
            self.watch(True)
        self._asked = self.clock.seconds()
        self._asking = asking = self.ask()
        asking.addCallbacks(self._answered, self._failed)

    def _answered(self, synapse: bool) -> None:
        self._asking = None
        if self._stopped:
            return
        self.synapse = synapse
        self.heard = self.clock.seconds()
        self._missed = 0
        self._retry_after = _FIRST_RETRY
        self._to(WorkerState.UP, self.reason)
        self._ask_later()

    def _failed(self, failure: Failure) -> None:
        self._asking = None
        if self._stopped:
            return
        error = failure.value
        if is_shortage(error):
            self._ask_soon()
            return
        if not isinstance(error, NoAnswerError):
            self.unreachable(error)
            return
        # A request that was answered in the meantime says more than a question that was not.
        self._missed = 0 if self.heard > self._asked else self._missed + 1
        if not self.up or self._missed >= self.limits.failures:
            self._to(WorkerState.DOWN if self.state is WorkerState.DOWN else WorkerState.STUCK, str(error))
            self._ask_soon()
        else:
            # A refusal for want of room comes at once, and so would the next one.
            self._ask_in(max(0.0, self._asked + self.limits.patience - self.clock.seconds()))

    def _to(self, state: WorkerState, reason: str) -> None:
        before, self.state, self.reason = self.state, state, reason
        was_up, self.doubted, self.up = self.up, False, state is WorkerState.UP
        if before is state:
            if not (was_up and self.up):
                self.changed()
            return
        self.since = self.clock.seconds()
        self.transitions += 1
        if state is WorkerState.UP:
            self.watch(False)
            self._begin_warm()
            self._log.info("worker {name} answers again", name=self.name)
        else:
            self._end_warm()
            self._log.warn("worker {name} is {state}: {reason}", name=self.name, state=state.value, reason=reason)
        self.told(state, reason)
        self.changed()

    # Slow start.

    def _begin_warm(self) -> None:
        if self.limits.slow_start:
            self.warming = True
            self._warm = self.clock.callLater(self.limits.slow_start, self._is_warm)

    def _end_warm(self) -> None:
        self.warming = False
        if self._warm is not None and self._warm.active():
            self._warm.cancel()
        self._warm = None

    def _is_warm(self) -> None:
        self._warm = None
        self.warming = False
        self.changed()
