"""Rise and fall, beside what the words mean: so many in a row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.balancing.ladder import Ladder

STEPS = st.integers(1, 5)


@given(STEPS, STEPS, st.lists(st.booleans(), min_size=1, max_size=40))
def test_so_many_in_a_row(rise: int, fall: int, checks: list[bool]) -> None:
    """The first check decides; then the last `rise` that passed make it up, the last `fall` that failed down."""
    ladder = Ladder(rise, fall)
    up, run = checks[0], 0
    for number, passed in enumerate(checks):
        ladder = ladder.passed() if passed else ladder.failed()
        if number:
            run = run + 1 if passed is not up else 0
            if run >= (rise if passed else fall):
                up, run = passed, 0
        assert ladder.up is up
        assert ladder.settled is not bool(run)


@given(STEPS, STEPS, STEPS, STEPS, st.lists(st.booleans(), min_size=1))
def test_other_numbers_change_nothing_at_once(
    rise: int, fall: int, other_rise: int, other_fall: int, checks: list[bool]
) -> None:
    """A reload in between: up stays up, and as certain as it can be."""
    ladder = Ladder(rise, fall)
    for passed in checks:
        ladder = ladder.passed() if passed else ladder.failed()
    changed = ladder.with_steps(other_rise, other_fall)
    assert changed.up is ladder.up
    if (rise, fall) != (other_rise, other_fall):
        assert changed.settled
    else:
        assert changed == ladder
