"""Pools whose keys few of their workers share: who they are, who replaces whom, and what moves."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.routing.hashing import bounded
from sidecar.routing.seats import Seats, holders_of, reweighted, seat_of, seats_of

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
WEIGHTS = st.dictionaries(NAMES, st.floats(0.1, 10), min_size=2, max_size=8)
KEYS = st.text(max_size=40)
Spread = tuple[dict[str, float], int]

EQUAL = dict.fromkeys(("sync1", "sync2", "client1", "client2"), 1.0)
GOLDEN: Seats = (("client1", "sync1", "sync2", "client2"), ("client2", "sync2", "sync1", "client1"))


def seated(seats: Seats, weights: Mapping[str, float], key: str) -> tuple[str, ...]:
    """The order for a key, by the weights by which the seats were given."""
    return seat_of(seats, tuple(weights[order[0]] for order in seats), key)


@st.composite
def spread(draw: st.DrawFn) -> Spread:
    """Workers, and a number of seats."""
    weights = draw(WEIGHTS)
    return weights, draw(st.integers(1, len(weights)))


def test_the_seats_of_a_pool_never_change() -> None:
    """A release that gave them to others would move users everywhere."""
    assert seats_of(EQUAL, 2, "sync") == GOLDEN
    assert [seated(GOLDEN, EQUAL, key)[0] for key in ("alice", "bob", "carol", "dave")] == [
        "client2",
        "client2",
        "client1",
        "client2",
    ]


@given(spread(), KEYS, st.randoms())
def test_each_seat_has_all_workers_whatever_their_order(case: Spread, key: str, dice: Random) -> None:
    """The holders are different; then come those who hold none; the order of the configuration does not matter."""
    weights, count = case
    seats = seats_of(weights, count, "sync")
    holders = holders_of(seats)
    assert len(set(holders)) == count
    for order in seats:
        assert sorted(order) == sorted(weights)
        assert set(order[1 : 1 + len(weights) - count]).isdisjoint(holders)
    names = list(weights)
    dice.shuffle(names)
    assert seats_of({name: weights[name] for name in names}, count, "sync") == seats
    assert seated(seats, weights, key) in seats


@given(WEIGHTS, st.integers(0, 4))
def test_there_are_no_more_seats_than_workers(weights: dict[str, float], more: int) -> None:
    """Then every worker holds one; one that has weight 0 is not there, and a worker alone needs none."""
    seats = seats_of({**weights, "\0": 0.0}, len(weights) + more, "sync")
    assert sorted(holders_of(seats)) == sorted(weights)
    assert seats_of({"alone": 1.0, "out": 0.0}, 1, "sync") == () == holders_of(())


@given(spread(), KEYS, st.data())
def test_without_a_worker_that_holds_no_seat_nothing_moves(case: Spread, key: str, data: st.DataObject) -> None:
    """It goes from the configuration, or is added to it, and every key keeps its worker."""
    weights, count = case
    seats = seats_of(weights, count, "sync")
    gone = data.draw(st.sampled_from(sorted(weights)))
    assume(gone not in holders_of(seats) and len(weights) > 2)
    left = {name: weight for name, weight in weights.items() if name != gone}
    after = seats_of(left, count, "sync")
    assert after == tuple(tuple(name for name in order if name != gone) for order in seats)
    assert seated(after, left, key) == tuple(name for name in seated(seats, weights, key) if name != gone)


@given(spread(), st.data())
def test_a_holder_that_goes_leaves_the_seats_before_its_own(case: Spread, data: st.DataObject) -> None:
    """Its own gets a worker that had none, or the holder of a later one, which is then replaced in the same way."""
    weights, count = case
    assume(len(weights) > count)
    seats = seats_of(weights, count, "sync")
    assume(len(weights) > 2)
    own = data.draw(st.integers(0, count - 1))
    gone = seats[own][0]
    after = holders_of(seats_of({name: each for name, each in weights.items() if name != gone}, count, "sync"))
    assert after[:own] == holders_of(seats)[:own]
    assert after[own] not in holders_of(seats)[:own]
    new = set(after) - set(holders_of(seats))
    assert len(new) == 1
    if after[own] in new:
        assert after == (*after[:own], *new, *holders_of(seats)[own + 1 :])


@given(st.sets(NAMES, min_size=3, max_size=8), st.integers(1, 2), st.data())
def test_one_of_two_holders_that_goes_moves_nothing_but_its_share(
    names: set[str], count: int, data: st.DataObject
) -> None:
    """Of workers with equal weights, whichever of them goes: the next in rank has its keys, and all else stays."""
    weights = dict.fromkeys(names, 1.0)
    seats = seats_of(weights, count, "sync")
    gone = data.draw(st.sampled_from(sorted(names)))
    after = seats_of(dict.fromkeys(names - {gone}, 1.0), count, "sync")
    for before, now in zip(seats, after, strict=True):
        assert now[0] == (before[0] if before[0] != gone else before[1])


@given(spread(), KEYS)
def test_one_more_seat_moves_keys_only_to_its_holder(case: Spread, key: str) -> None:
    """The others keep theirs, and who is taken in had none."""
    weights, count = case
    assume(count < len(weights))
    before, after = (seats_of(weights, each, "sync") for each in (count, count + 1))
    assert holders_of(after)[:count] == holders_of(before)
    assert seated(after, weights, key)[0] in (
        seated(before, weights, key)[0],
        after[count][0],
    )


@given(spread(), KEYS, st.data())
def test_a_weight_that_changes_no_seat_moves_keys_only_to_or_from_its_worker(
    case: Spread, key: str, data: st.DataObject
) -> None:
    """As without seats."""
    weights, count = case
    changed = data.draw(st.sampled_from(sorted(weights)))
    other = {**weights, changed: weights[changed] * data.draw(st.floats(1, 10))}
    before, after = (seats_of(each, count, "sync") for each in (weights, other))
    assume(holders_of(before) == holders_of(after))
    assert seated(after, other, key)[0] in (
        seated(before, weights, key)[0],
        changed,
    )


@given(spread(), KEYS, st.data())
def test_a_weight_at_run_time_moves_no_keys_but_those_of_its_seat(case: Spread, key: str, data: st.DataObject) -> None:
    """Whoever holds a seat keeps it, whatever its weight; at 0 another one takes the whole seat."""
    standing, count = case
    assume(len(standing) > 2)
    changed = data.draw(st.sampled_from(sorted(standing)))
    seats = seats_of(standing, count, "sync")
    factors = data.draw(st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 10.0])] * 2))
    before, after = (
        seat_of(*reweighted(seats, standing, {**standing, changed: standing[changed] * factor}), key)[0]
        for factor in factors
    )
    # At 0 it is replaced by whoever is next in the order of its seat.
    own = {changed, *(order[1] for order in seats if order[0] == changed)}
    assert before == after or not own.isdisjoint((before, after))
    if changed not in holders_of(seats):
        assert before == after


@pytest.mark.parametrize("weights", [EQUAL, {**EQUAL, "sync1": 2.0, "client2": 3.0}])
def test_every_holder_gets_its_share_of_keys(weights: dict[str, float]) -> None:
    """Of 20,000 keys, by weight, within 5 per cent of that share; nobody else gets any."""
    keys = 20_000
    seats = seats_of(weights, 3, "sync")
    firsts = [seated(seats, weights, f"user{number}")[0] for number in range(keys)]
    whole = sum(weights[name] for name in holders_of(seats))
    assert set(firsts) == set(holders_of(seats))
    for name in holders_of(seats):
        fair = keys * weights[name] / whole
        assert abs(firsts.count(name) - fair) < 0.05 * fair


def test_every_worker_is_as_likely_to_share() -> None:
    """Of 2,000 pools of four workers, each worker shares the keys of half, and of more with more weight."""
    pools = [seats_of(EQUAL, 2, f"pool{number}") for number in range(2_000)]
    for name in EQUAL:
        assert abs(sum(name in holders_of(seats) for seats in pools) - 1_000) < 100
    heavy = [seats_of({**EQUAL, "sync1": 4.0}, 2, f"pool{number}") for number in range(2_000)]
    assert sum("sync1" in holders_of(seats) for seats in heavy) > 1_500


@pytest.mark.parametrize(("workers", "count", "most"), [(4, 2, 0.5), (6, 3, 0.4), (8, 4, 0.3), (12, 6, 0.22)])
def test_a_holder_that_goes_for_good_moves_little_more_than_its_share(workers: int, count: int, most: float) -> None:
    """The least that there could be is one part in `count`."""
    moves = []
    for number in range(200):
        weights = {f"worker{number}.{each}": 1.0 for each in range(workers)}
        holders = holders_of(seats_of(weights, count, "sync"))
        for gone in holders:
            left = {name: weight for name, weight in weights.items() if name != gone}
            after = holders_of(seats_of(left, count, "sync"))
            moves.append(sum(one != other for one, other in zip(holders, after, strict=True)) / count)
    assert 1 / count <= sum(moves) / len(moves) <= most


@given(spread(), KEYS, st.data(), st.floats(1.0, 4.0))
def test_bounded_load_passes_on_what_is_too_much_for_one_that_shares(
    case: Spread, key: str, data: st.DataObject, factor: float
) -> None:
    """One of those that share is below the bound always; whoever is in front is."""
    weights, count = case
    seats = seats_of(weights, count, "sync")
    order, sharing = seated(seats, weights, key), holders_of(seats)
    loads = {name: data.draw(st.integers(0, 50)) for name in weights}
    total, whole = 1 + sum(loads.values()), sum(weights[name] for name in sharing)
    fair = {name: total * weights[name] / whole for name in weights}
    found = bounded(order, loads, weights, factor, sharing)
    assert sorted(found) == sorted(order)
    assert loads[found[0]] <= factor * fair[found[0]]
    if loads[order[0]] + 1 <= factor * fair[order[0]]:
        assert found[0] == order[0]


def test_a_pool_widens_when_one_has_too_much() -> None:
    """Even shares stay where they are; a hot one goes on to a worker that had none."""
    seats = seats_of(EQUAL, 2, "sync")
    (first, *others), (second, *_) = seats
    even = dict.fromkeys(EQUAL, 0) | {first: 10, second: 10}
    assert bounded(seats[0], even, EQUAL, 1.25, holders_of(seats))[0] == first
    assert bounded(seats[0], even | {first: 30}, EQUAL, 1.25, holders_of(seats))[0] == others[0] != second
