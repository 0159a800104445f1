"""The sketch of the hottest keys: never too low, bounded, and without a name in it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noted import noted

from sidecar.history.hottest import LOOKED_AT, SPAN, Hottest, Sketch, kind_of
from sidecar.records.lines import Hasher
from sidecar.records.record import Record

HASHER = Hasher(b"secret of a test")


def of_user(name: str | None, ended: float = 1.0, client: str = "10.0.0.1", kind: str = "user") -> Record:
    return noted(kind=kind, key=name, client=client, began=0.0, ended=ended)


@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 9)), max_size=200), st.integers(1, 8))
def test_a_count_is_never_too_low_nor_is_the_certain_part_too_high(added: list[tuple[str, int]], room: int) -> None:
    """Space-Saving: most >= true >= least, and whoever has more than one in `room` is in it."""
    sketch, true = Sketch(room), Counter[str]()
    for word, weight in added:
        sketch.add(word, weight)
        true[word] += weight
    assert len(list(sketch)) <= room
    assert sketch.total == true.total()
    for word in "abcdefghijk":
        known = sketch.of(word)
        assert known.least <= true[word] <= known.most
        if true[word] * room > true.total():
            assert word in list(sketch)


def test_the_hottest_of_many() -> None:
    """One user in ten requests, among thousands; by name, by hash, and nowhere a name."""
    hottest, dice = Hottest(HASHER), random.Random(1)
    for _ in range(600):
        names = ["alice" if dice.random() < 0.1 else f"u{dice.randrange(5000)}" for _ in range(128)]
        hottest.settle([of_user(name) for name in names])
    first = hottest.told(10.0, 3)["keys"]["user"][0]
    assert first["hash"] == HASHER.hashed("user", "alice")
    assert first["share"] == pytest.approx(0.1, abs=0.05)
    asked = hottest.asked(10.0, "@alice:example.org")
    assert (asked["place"], asked["hash"]) == (1, first["hash"])
    assert hottest.asked(10.0, "@nobody:example.org")["at_least"] == 0
    assert "alice" not in repr([hottest._open, hottest._before]) + repr(hottest.told(10.0, 99))


def test_all_are_counted_where_there_are_few() -> None:
    """Fewer than are looked at: exact."""
    hottest = Hottest(HASHER)
    hottest.settle([of_user("a")] * 3 + [of_user("b", client="::1")] * (LOOKED_AT - 3))
    told = hottest.told(2.0, 9)
    assert [each["requests"] for each in told["keys"]["user"]] == [3, 1]
    assert [each["requests"] for each in told["keys"]["address"]] == [3, 1]
    assert hottest.asked(2.0, "::1")["place"] == 2
    assert (told["seconds"], told["keys"]["room"]) == (1.0, [])


def test_what_is_old_is_forgotten() -> None:
    """After one window it still counts, after two it does not; quiet for long it is gone, too."""
    hottest = Hottest(HASHER)
    hottest.settle([of_user("a", 1.0)])
    hottest.settle([of_user("b", 1.0 + SPAN)])
    assert len(hottest.told(2.0 + SPAN, 9)["keys"]["user"]) == 2
    hottest.settle([of_user("b", 2.0 + 2 * SPAN)])
    assert [each["requests"] for each in hottest.told(3.0 + 2 * SPAN, 9)["keys"]["user"]] == [2]
    assert hottest.told(3.0 + 9 * SPAN, 9)["keys"]["user"] == []
    assert hottest.asked(3.0 + 9 * SPAN, "@b:x")["share"] == 0.0


def test_kinds_that_are_not_counted() -> None:
    """Of a request without a key, and of a token that does not name its user, the address only."""
    hottest = Hottest(HASHER)
    hottest.settle([of_user(None), of_user("digest", kind="token"), of_user("s", kind="session")])
    assert {kind: len(keys) for kind, keys in hottest.told(2.0, 9)["keys"].items() if keys} == {"address": 1}


def test_a_reload_with_another_secret_or_bound() -> None:
    """Hashes by another secret mean nobody; none are counted where the setting is 0."""
    hottest = Hottest(HASHER)
    hottest.settle([of_user("a")])
    hottest.use(HASHER, 64)
    assert hottest.told(2.0, 9)["keys"]["user"]
    hottest.use(Hasher(b"another"), 64)
    assert not hottest.told(2.0, 9)["keys"]["user"]
    hottest.use(HASHER, 0)
    hottest.settle([of_user("a")])
    assert not hottest.told(2.0, 9)["keys"]["user"]


@pytest.mark.parametrize(
    ("text", "kind", "key"),
    [
        ("@alice:example.org", "user", "alice"),
        ("@", "user", "@"),
        ("!r:example.org", "room", "!r:example.org"),
        ("#a:example.org", "room", "#a:example.org"),
        ("2001:DB8::0001", "address", "2001:db8::1"),
        ("203.0.113.7", "address", "203.0.113.7"),
        ("example.org:8448", "origin", "example.org:8448"),
    ],
)
def test_what_is_meant_by_a_name(text: str, kind: str, key: str) -> None:
    """By its sigil, or by being an address."""
    assert kind_of(text) == (kind, key)
