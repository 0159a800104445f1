"""Whether one worker takes requests, and since when: from its connections, and from health checks.

A worker that cannot be reached is *down*, and checked until it answers. One that takes connections but answers nothing
is *stuck*. A slow answer makes it neither; several failed checks in a row do, if no other answer of it is seen. Knows
no requests and no clients; the function that checks is given to it.
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

# A worker that is down is checked again after these seconds: at first, and at most. With jitter, so that instances that
# share a worker do not check it at the same moment.
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

    An `interval` of 0 means that only a worker that is down is checked.
    """

    interval: float = 10.0
    patience: float = 5.0
    failures: int = 3
    slow_start: float = 10.0


class NoAnswerError(Exception):
    """The worker took the check and did not answer, or answered that it cannot serve."""


Question = Callable[[], "Deferred[bool]"]
"""Asks the worker whether it serves; the result is whether it says that it is Synapse.

Fails with NoAnswerError, or with why it could not be reached."""


@define(eq=False)
class Health:
    """The health of one worker.

    `changed` is called after each change of `up`, and after each check of a worker that stays down, because requests
    that wait for it may have another worker by then.
    """

    name: str
    ask: Question
    clock: IReactorTime
    limits: HealthLimits
    changed: Callable[[], None] = lambda: None
    describe: Callable[[BaseException | None], str] = str
    """A failure in words for people."""
    look: Callable[[], BaseException | None] = lambda: None
    """Why it must be down, if that shows without a connection; None: it may be up."""
    watch: Callable[[bool], None] = lambda _wanted: None
    """Called with whether to watch for the worker's socket; then `appeared` is called when it is there."""
    told: Callable[[WorkerState, str], None] = lambda _state, _reason: None
    """Called after each change of `state`, with the reason."""
    state: WorkerState = WorkerState.UP
    doubted: bool = False
    """A connection ended without an answer; it gets no requests until it has answered a check."""
    up: bool = True
    """It may be given requests."""
    synapse: bool = False
    """It has said that it is Synapse."""
    reason: str = ""
    """Why it is, or was last, not up."""
    since: float = field(init=False)
    """When `state` changed last; seconds of the clock."""
    heard: float = field(init=False)
    """When it last answered anything."""
    transitions: int = 0
    warming: bool = False
    """It has just come back, and gets only a part of its requests (`share`)."""
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
        """The part of its requests that a worker should get now, from 0 to 1: less than 1 only after it has come
        back."""
        if not self.warming:
            return 1.0
        return min(1.0, (self.clock.seconds() - self.since) / self.limits.slow_start)

    # What happens.

    def start(self) -> None:
        """Check the worker when it has not answered anything for `interval`; at once, and until it answers, if it is
        down."""
        self._stopped = False
        missing = self.look()
        if missing is not None:
            self.unreachable(missing)
        else:
            self._ask_later()

    def stop(self) -> None:
        """Stop checking."""
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
        """Take over the settings of `other`."""
        self.limits, self.ask = other.limits, other.ask

    def hear(self, now: float) -> None:
        """It has answered something."""
        self.heard = now

    def unreachable(self, error: BaseException | None) -> None:
        """A connection to it could not be made, although it is not busy."""
        self._to(WorkerState.DOWN, self.describe(error))
        self._ask_soon()

    def doubt(self) -> None:
        """A connection ended without an answer: it may be stopping. Check it before it gets more requests."""
        if self.state is WorkerState.UP and not (self.doubted or self._stopped):
            self.doubted = True
            self.up = False
            self.changed()
            if self._asking is None:
                self._ask_now()

    def check(self) -> None:
        """Check it now."""
        if self._asking is None and not self._stopped:
            self._ask_now()

    def appeared(self) -> None:
        """Its socket has appeared: it is up, or will be in a moment."""
        if not self.up:
            self._retry_after = _FIRST_RETRY
            if self._asking is None:
                self._ask_now()

    # Questions.

    def _ask_soon(self) -> None:
        """Check a worker that is down again, with growing pauses."""
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
        """Skip the check if the worker has just answered a request."""
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
        # It answered a request in the meantime; that outweighs the failed check.
        self._missed = 0 if self.heard > self._asked else self._missed + 1
        if not self.up or self._missed >= self.limits.failures:
            self._to(WorkerState.DOWN if self.state is WorkerState.DOWN else WorkerState.STUCK, str(error))
            self._ask_soon()
        else:
            # It is busy and refuses at once; do not check again immediately.
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
