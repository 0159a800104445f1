"""The steps of a plan: what they work out once is what they would work out for each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from sidecar.routing.hashing import ranked
from sidecar.routing.plan import Step

NAMES = st.sampled_from(["main", "sync1", "sync2", "client1"])
GROUPS = st.dictionaries(NAMES, st.sampled_from([0.0, 0.5, 1.0]), max_size=3)


@given(members=GROUPS, groups=st.lists(GROUPS, max_size=3), key=st.text(max_size=5))
def test_the_fallback_of_a_key(members: Mapping[str, float], groups: Sequence[Mapping[str, float]], key: str) -> None:
    """Group by group, in each the order of the key, nobody twice, and no candidate."""
    step = Step("e", "p", "user", None, members, tuple(groups), main_knows=False)
    decision = step.settle(("user", key))
    wanted: list[str] = []
    for group in groups:
        wanted += [name for name in ranked(group, key) if name not in (*wanted, *decision.candidates)]
    assert decision.fallback == tuple(wanted)
    assert decision.candidates == ranked(members, key)
