"""Who gets a new connection: by rules that hold for any servers, and turn by turn."""

from __future__ import annotations

from collections import Counter

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sidecar.balancing.next_server import BalanceWay, Candidate, choose

WAYS: st.SearchStrategy[BalanceWay] = st.sampled_from(["least_connections", "first"])
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from("abcdef"),
        connections=st.integers(0, 6),
        weight=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        most=st.none() | st.integers(0, 6),
        turn=st.integers(0, 100),
    ),
    unique_by=lambda each: each.name,
)
AVOIDED = st.frozensets(st.sampled_from("abcdef"))


def may(candidate: Candidate) -> bool:
    return candidate.weight > 0 and (candidate.most is None or candidate.connections < candidate.most)


@given(CANDIDATES, WAYS, AVOIDED)
def test_nobody_is_chosen_who_may_not_be(candidates: list[Candidate], way: BalanceWay, avoided: frozenset[str]) -> None:
    """Neither a full server nor one without weight; and somebody, if anybody may be."""
    name = choose(candidates, way, avoided)
    assert (name is None) == (not any(map(may, candidates)))
    assert name is None or may(next(each for each in candidates if each.name == name))


@given(CANDIDATES, WAYS, AVOIDED)
def test_who_is_avoided_is_the_last(candidates: list[Candidate], way: BalanceWay, avoided: frozenset[str]) -> None:
    """A server that has just failed is chosen only where no other may be."""
    name = choose(candidates, way, avoided)
    if name in avoided:
        assert not any(may(each) for each in candidates if each.name not in avoided)


@given(CANDIDATES)
def test_first_is_the_first(candidates: list[Candidate]) -> None:
    assert choose(candidates, "first") == next((each.name for each in candidates if may(each)), None)


@given(CANDIDATES)
def test_nobody_has_fewer_for_its_weight(candidates: list[Candidate]) -> None:
    """An idle server before a busy one; of busy ones the one that would have the fewest with one more."""
    name = choose(candidates, "least_connections")
    free = [each for each in candidates if may(each)]
    chosen = next((each for each in free if each.name == name), None)
    for other in free:
        assert chosen is not None
        if chosen.connections:
            assert other.connections
            assert (chosen.connections + 1) / chosen.weight <= (other.connections + 1) / other.weight


def filled(servers: dict[str, Candidate], count: int) -> list[str]:
    """Who gets these connections, none of which ends."""
    order = []
    for turn in range(1, count + 1):
        name = choose(list(servers.values()), "least_connections")
        assert name is not None
        servers[name] = evolve(servers[name], connections=servers[name].connections + 1, turn=turn)
        order.append(name)
    return order


def test_equals_take_turns() -> None:
    assert filled({name: Candidate(name=name) for name in "abc"}, 7) == ["a", "b", "c", "a", "b", "c", "a"]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=1), st.integers(1, 60))
def test_shares_follow_weights(weights: dict[str, int], count: int) -> None:
    """No server is more than one connection away from its share."""
    order = filled({name: Candidate(name=name, weight=weight) for name, weight in weights.items()}, count)
    found = Counter(order)
    total = sum(weights.values())
    for name, weight in weights.items():
        assert abs(found[name] - count * weight / total) <= len(weights)
