"""Weighted rendezvous hashing, pinned and proved."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.routing.hashing import bounded, least_busy, ranked, rotations, score

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
WEIGHTS = st.dictionaries(NAMES, st.floats(0.1, 10), min_size=1, max_size=8)
KEYS = st.text(max_size=40)

GOLDEN = [
    ("alice", ("sync2", "sync3", "sync1")),
    ("!x:y", ("sync1", "sync2", "sync3")),
    ("#Räume:example.org", ("sync1", "sync3", "sync2")),
    ("", ("sync2", "sync1", "sync3")),
]


@pytest.mark.parametrize(("key", "order"), GOLDEN)
def test_the_order_for_a_key_never_changes(key: str, order: tuple[str, ...]) -> None:
    """A release that orders these otherwise would move users between workers everywhere."""
    assert ranked({"sync1": 1.0, "sync2": 1.0, "sync3": 2.5}, key) == order


def test_a_score_is_what_the_module_says() -> None:
    """The documented formula, worked out by hand for BLAKE2b-64 of `sync1`, a zero octet, `alice`."""
    assert score("sync1", 1.0, "alice") == 0.039369195025220356
    assert score("sync1", 2.0, "alice") == 0.039369195025220356 / 2


@given(WEIGHTS, KEYS, st.randoms())
def test_candidates_are_a_permutation_that_the_order_of_workers_does_not_change(
    weights: dict[str, float], key: str, dice: random.Random
) -> None:
    """Every worker is a candidate once, whatever order the configuration has."""
    names = list(weights)
    dice.shuffle(names)
    order = ranked({name: weights[name] for name in names}, key)
    assert sorted(order) == sorted(weights)
    assert order == ranked(weights, key)


@given(WEIGHTS, KEYS)
def test_removing_a_worker_moves_only_its_keys(weights: dict[str, float], key: str) -> None:
    """The others keep their order among themselves."""
    order = ranked(weights, key)
    for gone in weights:
        left = {name: weight for name, weight in weights.items() if name != gone}
        assert ranked(left, key) == tuple(name for name in order if name != gone)


@given(WEIGHTS, NAMES, KEYS)
def test_adding_a_worker_moves_keys_only_to_it(weights: dict[str, float], new: str, key: str) -> None:
    """A key stays where it was or goes to the new worker."""
    assume(new not in weights)
    assert ranked({**weights, new: 1.0}, key)[0] in (new, ranked(weights, key)[0])


@given(WEIGHTS, KEYS, st.data())
def test_changing_a_weight_moves_keys_only_to_or_from_that_worker(
    weights: dict[str, float], key: str, data: st.DataObject
) -> None:
    """More weight only draws keys, less weight only gives them away; the others keep their order."""
    changed = data.draw(st.sampled_from(sorted(weights)))
    factor = data.draw(st.floats(1, 10))
    before, after = ranked(weights, key), ranked({**weights, changed: weights[changed] * factor}, key)
    assert after[0] in (before[0], changed)
    assert [name for name in before if name != changed] == [name for name in after if name != changed]
    assert after.index(changed) <= before.index(changed)


@given(WEIGHTS, KEYS, st.data())
def test_a_worker_of_weight_zero_gets_nothing(weights: dict[str, float], key: str, data: st.DataObject) -> None:
    """Weight 0 takes a worker out as if it were not there."""
    out = data.draw(st.sampled_from(sorted(weights)))
    left = {name: weight for name, weight in weights.items() if name != out}
    assert ranked({**weights, out: 0.0}, key) == ranked(left, key)
    assert ranked({out: 0.0}, key) == ()


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, {"a": 1.0, "b": 2.0, "c": 0.5}])
def test_every_worker_gets_its_share_of_keys(weights: dict[str, float]) -> None:
    """Of 20,000 keys each worker is first for its share by weight, within 5 per cent of that share."""
    keys = 20_000
    firsts = [ranked(weights, f"user{number}")[0] for number in range(keys)]
    for name, weight in weights.items():
        fair = keys * weight / sum(weights.values())
        assert abs(firsts.count(name) - fair) < 0.05 * fair


def test_a_new_worker_takes_its_fair_share_of_keys() -> None:
    """A fifth worker beside four takes a fifth of 20,000 keys within 5 per cent, evenly from all."""
    old = dict.fromkeys(("w1", "w2", "w3", "w4"), 1.0)
    taken = [
        ranked(old, f"user{number}")[0]
        for number in range(20_000)
        if ranked({**old, "w5": 1.0}, f"user{number}")[0] == "w5"
    ]
    assert abs(len(taken) - 4_000) < 200
    for name in old:
        assert abs(taken.count(name) - 1_000) < 150


@given(st.sets(NAMES, max_size=6))
def test_rotations_begin_once_with_each_name(names: set[str]) -> None:
    """Keyless requests have each worker in front in one order out of all."""
    orders = rotations(names)
    assert sorted(order[0] for order in orders) == sorted(names)
    assert all(sorted(order) == sorted(names) for order in orders)


def test_the_least_busy_candidate_is_the_one_with_the_fewest_requests_for_its_weight() -> None:
    """Twice the weight bears twice the requests; among equals the order of candidates decides."""
    assert least_busy(("a", "b", "c"), {"a": 2, "b": 1, "c": 1}, {}) == "b"
    assert least_busy(("a", "b"), {"a": 3, "b": 2}, {"a": 2.0, "b": 1.0}) == "a"
    assert least_busy(("b", "a"), {}, {}) == "b"


@given(WEIGHTS, KEYS, st.data(), st.floats(1.0, 4.0))
def test_bounded_load_only_moves_busy_workers_back(
    weights: dict[str, float], key: str, data: st.DataObject, factor: float
) -> None:
    """All stay candidates, some worker is below the bound, and those below keep their order in front."""
    order = ranked(weights, key)
    loads = {name: data.draw(st.integers(0, 50)) for name in weights}
    bounded_order = bounded(order, loads, weights, factor)
    total = 1 + sum(loads.values())
    fair = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    assert sorted(bounded_order) == sorted(order)
    assert loads[bounded_order[0]] <= factor * fair[bounded_order[0]]
    below = [name for name in order if loads[name] + 1 <= factor * fair[name]]
    assert [name for name in bounded_order if name in below] == below
    if loads[order[0]] + 1 <= factor * fair[order[0]]:
        assert bounded_order[0] == order[0]


def test_an_idle_worker_is_never_too_busy() -> None:
    """One request is no load to flee from, however small the fair part is."""
    assert bounded(("a", "b"), {"a": 0, "b": 0}, {}, 1.25) == ("a", "b")
    assert bounded(("a", "b"), {"a": 2, "b": 0}, {}, 1.25) == ("b", "a")
