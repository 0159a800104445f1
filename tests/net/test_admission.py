"""The entrance to a pool against a model: its bounds, its turns, and that nobody waits who could be in."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.relay.admission import Admission, Gate, GateLimits, Who, who

HERE, THERE = "192.0.2.1", "2001:db8::/64"
WHO = (
    *((place, key) for place in (HERE, THERE) for key in ("!room:x", f"{place} alice", f"{place} bob")),
    *((HERE, HERE), ("carol", "carol")),
)


def limits(concurrency: int, per_key: int, waiting: int, per_place: int = 999, per_line: int = 999) -> GateLimits:
    """By address nothing is bounded, if not said."""
    return GateLimits(
        concurrency=concurrency,
        per_key=per_key,
        per_place=per_place,
        waiting=waiting,
        waiting_per_place=per_line,
    )


class Request:
    """Notes that it was let in."""

    def __init__(self, who: Who) -> None:
        self.who = who
        self.place, self.key = who
        self.inside = False

    def admitted(self) -> None:
        assert not self.inside, "let in twice"
        self.inside = True


class GateModel(RuleBasedStateMachine):
    """Requests come, end, and give up, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(limits(4, 2, 6, 3, 4))
        self.inside: list[Request] = []
        self.waiting: list[Request] = []

    def _settle(self) -> None:
        came = [request for request in self.waiting if request.inside]
        for request in came:
            earlier = [other for other in self.waiting if other.who == request.who and not other.inside]
            assert all(self.waiting.index(other) > self.waiting.index(request) for other in earlier), "out of turn"
        self.waiting = [request for request in self.waiting if not request.inside]
        self.inside += came

    @rule(who=st.sampled_from(WHO))
    def enters(self, who: Who) -> None:
        request = Request(who)
        verdict = self.gate.enter(who, request)
        if verdict is Admission.ADMITTED:
            request.inside = True
            self.inside.append(request)
        elif verdict is Admission.WAITS:
            self.waiting.append(request)
        else:
            from_here = sum(each.place == request.place for each in self.waiting)
            most = self.gate.limits
            assert len(self.waiting) >= most.waiting or from_here >= most.waiting_per_place
        self._settle()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        request = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        self.gate.out(request.who)
        self._settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def gives_up(self, data: st.DataObject) -> None:
        request = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.gate.leave(request.who, request)
        self.gate.leave(request.who, request)
        self._settle()

    @rule(counts=st.tuples(*[st.integers(1, 6), st.integers(1, 4), st.integers(0, 8), *[st.integers(1, 5)] * 2]))
    def reloads(self, counts: tuple[int, int, int, int, int]) -> None:
        self.gate.use(limits(*counts))
        self._settle()

    @invariant()
    def counts_agree(self) -> None:
        gate = self.gate
        assert gate.running == len(self.inside)
        assert gate.waiting == len(self.waiting)
        assert gate.by_key == Counter(request.key for request in self.inside)
        assert gate.by_place == Counter(request.place for request in self.inside)

    @invariant()
    def nobody_waits_who_could_be_in(self) -> None:
        gate = self.gate
        if gate.running < gate.limits.concurrency:
            assert all(
                gate.by_key.get(request.key, 0) >= gate.limits.per_key
                or gate.by_place.get(request.place, 0) >= gate.limits.per_place
                for request in self.waiting
            )

    def teardown(self) -> None:
        while self.inside:
            self.gate.out(self.inside.pop().who)
            self._settle()
        assert (self.gate.running, self.gate.waiting, len(self.waiting)) == (0, 0, 0)
        gate = self.gate
        assert not any((gate.by_key, gate.by_place, gate._lines, gate._waiting_from, gate._ready, gate._stalled))
        assert not gate._turns


GateModel.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=60)
TestGate = GateModel.TestCase


def of(name: str, place: str = "") -> Who:
    """Whose a request is that claims to come from a user."""
    return who(place, "user", name)


def test_the_bounds_hold_for_newcomers() -> None:
    """At most so many are in, and so many of one key; others pass by whoever has had his part."""
    gate = Gate(limits(4, 2, 10))
    greedy = [gate.enter(of("greedy"), Request(of("greedy"))) for _ in range(5)]
    assert greedy == [Admission.ADMITTED] * 2 + [Admission.WAITS] * 3
    assert gate.enter(of("modest"), Request(of("modest"))) is Admission.ADMITTED


def test_keys_take_turns() -> None:
    """Who has sent a hundred requests gets one of two places that become free, not both."""
    gate = Gate(limits(2, 2, 1000))
    many = [Request(of("greedy")) for _ in range(100)]
    for request in many:
        gate.enter(request.who, request)
    modest = Request(of("modest"))
    assert gate.enter(modest.who, modest) is Admission.WAITS
    gate.out(of("greedy"))
    gate.out(of("greedy"))
    assert modest.inside
    assert [request for request in many if request.inside] == [many[2]]


def test_many_names_from_one_address() -> None:
    """Sixty users that one address makes up have its share together; who comes from elsewhere is let in at once."""
    gate = Gate(limits(4, 2, 1000, 3))
    forged = [Request(of(f"forged{number}", HERE)) for number in range(60)]
    verdicts = [gate.enter(request.who, request) for request in forged]
    assert verdicts == [Admission.ADMITTED] * 3 + [Admission.WAITS] * 57
    assert gate.enter(of("alice", THERE), Request(of("alice", THERE))) is Admission.ADMITTED


def test_addresses_take_turns() -> None:
    """Where all places are taken, the next one that becomes free goes to the other address, not to the other name."""
    gate = Gate(limits(2, 1, 1000, 2))
    forged = [Request(of(f"forged{number}", HERE)) for number in range(60)]
    for request in forged:
        gate.enter(request.who, request)
    alice = Request(of("alice", THERE))
    assert gate.enter(alice.who, alice) is Admission.WAITS
    gate.out(forged[0].who)
    gate.out(forged[1].who)
    assert alice.inside
    assert [request.inside for request in forged] == [False, False, True, *[False] * 57]


def test_a_name_that_is_taken_in_vain() -> None:
    """Whoever takes the name of another user has no part of what that user may have elsewhere; a room is one room."""
    gate = Gate(limits(9, 2, 10))
    for _ in range(3):
        gate.enter(of("alice", HERE), Request(of("alice", HERE)))
    assert gate.enter(of("alice", THERE), Request(of("alice", THERE))) is Admission.ADMITTED
    room = [who(place, "room", "!a:x") for place in (HERE, THERE, "192.0.2.9")]
    verdicts = [gate.enter(each, Request(each)) for each in room]
    assert verdicts == [Admission.ADMITTED, Admission.ADMITTED, Admission.WAITS]


def test_the_line_is_not_for_one_address() -> None:
    """Whoever fills the line does not keep others from waiting in it."""
    gate = Gate(limits(1, 1, 4, 1, 3))
    verdicts = [gate.enter(of(str(each), HERE), Request(of(str(each), HERE))) for each in range(5)]
    assert verdicts == [Admission.ADMITTED, *[Admission.WAITS] * 3, Admission.SHED]
    assert gate.enter(of("alice", THERE), Request(of("alice", THERE))) is Admission.WAITS


def test_whose_a_request_is() -> None:
    """Addresses that speak for many have no place, and an address is its neighbourhood."""
    assert who("", "user", "alice") == ("alice", "alice")
    assert who(HERE, "origin", "example.org") == (HERE, f"{HERE} example.org")
    assert who(THERE, "source", "2001:db8::7") == (THERE, THERE)
    assert who(THERE, "none", THERE) == (THERE, THERE)


def test_a_line_of_no_length() -> None:
    """Where nobody may wait, who cannot come in is sent away."""
    gate = Gate(limits(1, 1, 0))
    assert gate.enter(of("a"), Request(of("a"))) is Admission.ADMITTED
    assert gate.enter(of("b"), Request(of("b"))) is Admission.SHED
