"""The entrance to a pool against a model: its bounds, its turns, and that nobody waits who could be in."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.net.admission import Gate, GateLimits, Verdict

KEYS = ("alice", "bob", "!room:x", "192.0.2.1")


class Request:
    """Notes that it was let in."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.inside = False

    def admitted(self) -> None:
        assert not self.inside, "let in twice"
        self.inside = True


class GateModel(RuleBasedStateMachine):
    """Requests come, end, and give up, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(GateLimits(concurrency=4, per_key=2, waiting=6))
        self.inside: list[Request] = []
        self.waiting: list[Request] = []

    def _settle(self) -> None:
        came = [request for request in self.waiting if request.inside]
        for request in came:
            earlier = [other for other in self.waiting if other.key == request.key and not other.inside]
            assert all(self.waiting.index(other) > self.waiting.index(request) for other in earlier), "out of turn"
        self.waiting = [request for request in self.waiting if not request.inside]
        self.inside += came

    @rule(key=st.sampled_from(KEYS))
    def enters(self, key: str) -> None:
        request = Request(key)
        verdict = self.gate.enter(key, request)
        if verdict is Verdict.ADMITTED:
            request.inside = True
            self.inside.append(request)
        elif verdict is Verdict.WAITS:
            self.waiting.append(request)
        else:
            assert len(self.waiting) >= self.gate.limits.waiting
        self._settle()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        request = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        self.gate.out(request.key)
        self._settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def gives_up(self, data: st.DataObject) -> None:
        request = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.gate.leave(request.key, request)
        self.gate.leave(request.key, request)
        self._settle()

    @rule(concurrency=st.integers(1, 6), per_key=st.integers(1, 4), waiting=st.integers(0, 8))
    def reloads(self, concurrency: int, per_key: int, waiting: int) -> None:
        self.gate.use(GateLimits(concurrency=concurrency, per_key=per_key, waiting=waiting))
        self._settle()

    @invariant()
    def counts_agree(self) -> None:
        gate = self.gate
        assert gate.running == len(self.inside)
        assert gate.waiting == len(self.waiting)
        assert gate.by_key == {key: n for key in KEYS if (n := sum(r.key == key for r in self.inside))}

    @invariant()
    def nobody_waits_who_could_be_in(self) -> None:
        gate = self.gate
        if gate.running < gate.limits.concurrency:
            assert all(gate.by_key.get(request.key, 0) >= gate.limits.per_key for request in self.waiting)

    def teardown(self) -> None:
        while self.inside:
            self.gate.out(self.inside.pop().key)
            self._settle()
        assert (self.gate.running, self.gate.waiting, len(self.waiting)) == (0, 0, 0)
        assert (self.gate.by_key, self.gate._lines, len(self.gate._turns)) == ({}, {}, 0)


GateModel.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=60)
TestGate = GateModel.TestCase


def test_the_bounds_hold_for_newcomers() -> None:
    """At most so many are in, and so many of one key; others pass by whoever has had his part."""
    gate = Gate(GateLimits(concurrency=4, per_key=2, waiting=10))
    assert [gate.enter("greedy", Request("greedy")) for _ in range(5)] == [Verdict.ADMITTED] * 2 + [Verdict.WAITS] * 3
    assert gate.enter("modest", Request("modest")) is Verdict.ADMITTED


def test_keys_take_turns() -> None:
    """Who has sent a hundred requests gets one of two places that become free, not both."""
    gate = Gate(GateLimits(concurrency=2, per_key=2, waiting=1000))
    many = [Request("greedy") for _ in range(100)]
    for request in many:
        gate.enter("greedy", request)
    modest = Request("modest")
    assert gate.enter("modest", modest) is Verdict.WAITS
    gate.out("greedy")
    gate.out("greedy")
    assert modest.inside
    assert [request for request in many if request.inside] == [many[2]]


def test_a_line_of_no_length() -> None:
    """Where nobody may wait, who cannot come in is sent away."""
    gate = Gate(GateLimits(concurrency=1, per_key=1, waiting=0))
    assert gate.enter("a", Request("a")) is Verdict.ADMITTED
    assert gate.enter("b", Request("b")) is Verdict.SHED
