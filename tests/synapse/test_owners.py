"""Whose an opaque token is: learnt, believed for a time, forgotten within bounds."""

from __future__ import annotations

import gc
import tracemalloc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.synapse.owners import DOUBLINGS, LONGEST_USER, TokenOwners

KEY = b"k" * 32
TOKENS = st.integers(0, 7).map(lambda number: b"mat_%d" % number)
USERS = st.sampled_from(["alice", "bob", "carol"])
SECONDS = st.sampled_from([0.0, 1.0, 9.0, 10.0, 50.0, 100.0, 300.0])


def owners(limit: int = 5, key: bytes = KEY) -> TokenOwners:
    return TokenOwners(key=key, limit=limit, lifetime=100.0, stale=300.0, refused=10.0)


def test_a_user_is_known_until_due_and_believed_until_the_end() -> None:
    """Fresh, then stale while it is asked for again, then forgotten."""
    known = owners()
    mark = known.mark(b"mat_1")
    assert known.look(mark, 0.0) == (None, True)
    known.learn(mark, "alice", 0.0)
    assert known.look(mark, 99.0) == ("alice", False)
    assert known.look(mark, 100.0) == ("alice", True)
    assert known.look(mark, 399.0) == ("alice", True)
    assert known.look(mark, 400.0) == (None, True)
    assert len(known) == 0


def test_the_real_end_of_a_token_counts_where_it_is_known() -> None:
    """It is not believed for longer, and not asked for before."""
    known = owners()
    mark = known.mark(b"mat_1")
    known.learn(mark, "alice", 0.0, left=1000.0)
    assert known.look(mark, 999.0) == ("alice", False)
    known.learn(mark, "alice", 999.0)
    assert known.look(mark, 1000.0) == (None, True)


def test_a_refusal_holds_for_longer_each_time() -> None:
    """Ten seconds, twenty, forty, and not for ever; a user ends the row."""
    known = owners()
    mark = known.mark(b"nobody's")
    now, waits = 0.0, []
    for _ in range(DOUBLINGS + 3):
        known.refuse(mark, now)
        wait = next(seconds for seconds in range(1, 10_000) if known.look(mark, now + seconds)[1])
        waits.append(wait)
        now += wait
    assert waits == [10, 20, 40, 80, 160, 320, 320, 320]
    known.learn(mark, "alice", now)
    known.refuse(mark, now)
    assert known.look(mark, now + 9.0) == (None, False)
    assert known.look(mark, now + 10.0) == (None, True)


def test_without_an_answer_what_was_known_still_holds() -> None:
    """To its end, and with a pause before the next question."""
    known = owners()
    mark, other = known.mark(b"mat_1"), known.mark(b"mat_2")
    known.learn(mark, "alice", 0.0)
    known.put_off(mark, 150.0)
    assert known.look(mark, 159.0) == ("alice", False)
    assert known.look(mark, 160.0) == ("alice", True)
    assert known.look(mark, 400.0) == (None, True)
    known.put_off(other, 0.0)
    assert known.look(other, 9.0) == (None, False)


def test_what_is_no_localpart_is_not_learnt() -> None:
    """Neither an empty one nor one that Matrix does not allow."""
    known = owners()
    for user in ("", "x" * (LONGEST_USER + 1)):
        known.learn(known.mark(b"mat_1"), user, 0.0)
    assert len(known) == 0


def test_marks_tell_nothing_and_differ_between_processes() -> None:
    """Nothing of the token is kept, and a mark of one process means nothing to another."""
    token = b"mat_abcdefghijklmnopqrstuvwxyz1234_0AbCdE"
    known, elsewhere = owners(), owners(key=b"another key")
    known.learn(known.mark(token), "alice", 0.0)
    held = repr(known) + repr(list(known._facts)) + repr(known._facts)
    assert not any(token[start : start + 6].decode() in held for start in range(len(token) - 5))
    assert KEY.decode() not in repr(known)
    assert known.mark(token) != elsewhere.mark(token)
    assert known.mark(token) == owners().mark(token)


def test_fewer_are_held_after_a_reload() -> None:
    """Those that were used last stay."""
    known = owners()
    marks = [known.mark(b"%d" % number) for number in range(5)]
    for mark in marks:
        known.learn(mark, "alice", 0.0)
    known.look(marks[0], 1.0)
    known.use(limit=2, lifetime=100.0, stale=300.0, refused=10.0)
    assert [known.look(mark, 1.0)[0] for mark in marks] == ["alice", None, None, None, "alice"]
    known.forget()
    assert len(known) == 0


BYTES = 500
"""Most bytes that one remembered token takes, as docs/configuration.md says of `tokens.remembered`."""


def test_a_hundred_thousand_tokens_stay_inside_the_bound() -> None:
    """Bytes for each remembered token are as documented, and more tokens than the limit take no more."""
    gc.collect()
    tracemalloc.start()
    try:
        known = owners(limit=100_000)
        for number in range(100_000):
            _learn_one(known, number)
        full = tracemalloc.get_traced_memory()[0]
        for number in range(100_000, 200_000):
            _learn_one(known, number)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(known) == 100_000
    print(f"{full / 100_000:.0f} and {after / 100_000:.0f} bytes for each of 100000 tokens")
    assert full <= 100_000 * BYTES
    assert after <= 100_000 * BYTES
    # Not so generous that the test could not fail.
    assert full >= 100_000 * BYTES * 0.5


def _learn_one(known: TokenOwners, number: int) -> None:
    known.learn(known.mark(b"mat_%030d_abcdef" % number), f"{number:064d}", float(number))


class Remembered(RuleBasedStateMachine):
    """Against a list of facts in the order of their use."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.real = owners(self.LIMIT)
        self.model: dict[bytes, tuple[str | None, float, float, int]] = {}
        """By token: user, due, end, refusals."""

    def keep(self, token: bytes, fact: tuple[str | None, float, float, int]) -> None:
        self.model.pop(token, None)
        self.model[token] = fact
        while len(self.model) > self.LIMIT:
            del self.model[next(iter(self.model))]

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(token=TOKENS)
    def look(self, token: bytes) -> None:
        fact = self.model.get(token)
        expected: tuple[str | None, bool] = (None, True)
        if fact is not None and fact[0] is not None and self.now >= fact[2]:
            del self.model[token]
        elif fact is not None:
            self.keep(token, fact)
            expected = (fact[0], self.now >= fact[1])
        assert self.real.look(self.real.mark(token), self.now) == expected

    @rule(token=TOKENS, user=USERS, left=st.none() | SECONDS)
    def learn(self, token: bytes, user: str, left: float | None) -> None:
        self.real.learn(self.real.mark(token), user, self.now, left)
        fact = self.model.get(token)
        if left is not None:
            self.keep(token, (user, self.now + left, self.now + left, 0))
        elif fact is None or fact[0] != user or self.now >= fact[1]:
            self.keep(token, (user, self.now + 100.0, self.now + 400.0, 0))

    @rule(token=TOKENS)
    def refuse(self, token: bytes) -> None:
        self.real.refuse(self.real.mark(token), self.now)
        self._refused(token)

    def _refused(self, token: bytes) -> None:
        fact = self.model.get(token)
        times = 0 if fact is None or fact[0] is not None else fact[3]
        self.keep(token, (None, self.now + 10.0 * 2 ** min(times, DOUBLINGS), 0.0, times + 1))

    @rule(token=TOKENS)
    def put_off(self, token: bytes) -> None:
        self.real.put_off(self.real.mark(token), self.now)
        fact = self.model.get(token)
        if fact is None or fact[0] is None:
            self._refused(token)
        else:
            self.keep(token, (fact[0], self.now + 10.0, fact[2], 0))

    @invariant()
    def as_many_as_expected(self) -> None:
        assert len(self.real) == len(self.model) <= self.LIMIT


TestRemembered = Remembered.TestCase
TestRemembered.settings = settings(max_examples=100, stateful_step_count=40)
