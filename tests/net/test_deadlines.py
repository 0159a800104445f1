"""The wheel of deadlines against a model that keeps one time for each owner."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock

from sidecar.transport.deadlines import GRANULARITY, NEVER, Deadlines

from .turns import logged_failures

SLACK = 1e-6


class Owner:
    """Something with a deadline, which notes when it passed."""

    def __init__(self, clock: Clock) -> None:
        self.expires = NEVER
        self.slot = float("inf")
        self.passed: list[float] = []
        self._clock = clock

    def deadline_passed(self) -> None:
        self.passed.append(self._clock.seconds())


class DeadlinesModel(RuleBasedStateMachine):
    """Deadlines pass once, never early, at most one granularity late, however often they are moved."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(12345.678)
        self.deadlines = Deadlines(self.clock)
        self.owners = [Owner(self.clock) for _ in range(4)]
        self.due: dict[Owner, float] = {}

    @rule(which=st.integers(0, 3), seconds=st.floats(0, 3))
    def put(self, which: int, seconds: float) -> None:
        owner = self.owners[which]
        self.deadlines.set(owner, seconds)
        self.due[owner] = self.clock.seconds() + seconds

    @rule(which=st.integers(0, 3))
    def clear(self, which: int) -> None:
        self.deadlines.clear(self.owners[which])
        self.due.pop(self.owners[which], None)

    @rule(seconds=st.floats(0.001, 0.6), steps=st.integers(1, 8))
    def time_passes(self, seconds: float, steps: int) -> None:
        for _ in range(steps):
            self._advance(seconds / steps)

    def _advance(self, seconds: float) -> None:
        before = {owner: len(owner.passed) for owner in self.owners}
        self.clock.advance(seconds)
        now = self.clock.seconds()
        for owner in self.owners:
            for when in owner.passed[before[owner] :]:
                due = self.due.pop(owner)
                assert when >= due - SLACK, "early"
        for owner, due in self.due.items():
            assert due + GRANULARITY + SLACK >= now, (owner, "late")

    @precondition(lambda self: not self.due)
    @rule()
    def nothing_left(self) -> None:
        """With nobody to look at, the clock is left alone after a last look."""
        self.clock.advance(4.0)
        assert not self.clock.getDelayedCalls()

    @invariant()
    def told_what_is_due(self) -> None:
        for owner in self.owners:
            assert (owner.expires != NEVER) == (owner in self.due)


DeadlinesModel.TestCase.settings = settings(deadline=None, max_examples=50)
TestDeadlines = DeadlinesModel.TestCase


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 90), min_size=1, max_size=50), st.floats(100, 10_000))
def test_after_a_stall(seconds: list[float], stall: float) -> None:
    """A reactor that was held up tells every owner whose time has come, once, at its first look."""
    clock = Clock()
    deadlines = Deadlines(clock)
    owners = [Owner(clock) for _ in seconds]
    for owner, until in zip(owners, seconds, strict=True):
        deadlines.set(owner, until)
    clock.advance(stall)
    assert all(owner.passed == [stall] for owner in owners)
    assert not clock.getDelayedCalls()


def test_thousands_of_owners_that_move_on() -> None:
    """Ten thousand owners that put their deadline off again and again cost one timer."""
    clock = Clock()
    deadlines = Deadlines(clock)
    owners = [Owner(clock) for _ in range(10_000)]
    for _ in range(20):
        for owner in owners:
            deadlines.set(owner, 1.0)
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(0.3)
    assert not any(owner.passed for owner in owners)
    clock.advance(0.71 + GRANULARITY)
    assert all(len(owner.passed) == 1 for owner in owners)


class Clearing(Owner):
    """Clears another owner, sets a third and itself, when its deadline passes."""

    def __init__(self, clock: Clock, deadlines: Deadlines) -> None:
        super().__init__(clock)
        self.deadlines = deadlines
        self.others: list[Owner] = []

    def deadline_passed(self) -> None:
        super().deadline_passed()
        for other in self.others:
            self.deadlines.clear(other)
        self.deadlines.set(self, 1.0)


def test_owners_that_clear_each_other() -> None:
    """Of owners that are due together and clear each other, one is told; it can set its deadline anew meanwhile."""
    clock = Clock()
    deadlines = Deadlines(clock)
    owners = [Clearing(clock, deadlines) for _ in range(5)]
    for owner in owners:
        owner.others = [other for other in owners if other is not owner]
        deadlines.set(owner, 0.1)
    clock.advance(0.3)
    assert sum(len(owner.passed) for owner in owners) == 1
    clock.advance(1.3)
    assert sum(len(owner.passed) for owner in owners) == 2


class Failing(Owner):
    def deadline_passed(self) -> None:
        raise RuntimeError("a fault of ours")


def test_an_owner_that_fails() -> None:
    """An owner that raises does not take the deadlines of others with it, and is reported."""
    clock = Clock()
    deadlines = Deadlines(clock)
    owners = [Owner(clock), Failing(clock), Owner(clock)]
    with logged_failures() as failures:
        for owner in owners:
            deadlines.set(owner, 1.0)
        clock.advance(2.0)
    assert [len(owner.passed) for owner in owners] == [1, 0, 1]
    assert [str(failure.value) for failure in failures] == ["a fault of ours"]
    deadlines.set(owners[0], 1.0)
    clock.advance(2.0)
    assert len(owners[0].passed) == 2
