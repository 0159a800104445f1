"""The list of events: bounded, in order, and one event for what happens again and again."""

from __future__ import annotations

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from sidecar.history.events import FLAP_SPAN, FLAPS, GATHER, LONGEST, Event, Events, Growth

SINCE = 1_700_000_000.0


@define
class Hands:
    """A clock that the test moves, and the events that go by it."""

    time: float = 0.0
    events: Events = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.events = Events(lambda: self.time)

    def kinds(self) -> list[tuple[str, str, int]]:
        return [(each["kind"], each["about"], each["count"]) for each in self.events.told(SINCE)]


def test_an_event_as_it_is_told() -> None:
    """When, how long ago, what, of whom and by whom."""
    clock = Hands(time=100.0)
    clock.events.note("drain", "sync1", "gets no new requests", by="root on the UNIX socket")
    clock.time = 130.5
    assert clock.events.told(SINCE) == [
        {
            "time": "2023-11-14T22:15:00Z",
            "ago": 30.5,
            "seconds": 0.0,
            "kind": "drain",
            "about": "sync1",
            "text": "gets no new requests",
            "by": "root on the UNIX socket",
            "count": 1,
        }
    ]


def test_the_newest_first_and_within_the_bound() -> None:
    """Also where a reload makes the bound smaller."""
    clock = Hands()
    for number in range(300):
        clock.time = number
        clock.events.note("reload", str(number), "")
    assert [each["about"] for each in clock.events.told(SINCE)] == [str(number) for number in range(299, 99, -1)]
    clock.events.use(2)
    assert [each["about"] for each in clock.events.told(SINCE)] == ["299", "298"]


def test_a_text_has_a_bound() -> None:
    """A refused reload can have a sentence for each line of a file."""
    clock = Hands()
    clock.events.note("refused", "", "x" * 10_000)
    assert clock.events.told(SINCE)[0]["text"] == "x" * (LONGEST - 1) + "…"


def test_what_is_counted_is_one_event_while_it_goes_on() -> None:
    """A minute of silence ends it."""
    clock = Hands()
    growth = Growth(clock.events)
    for moment, total in ((0, 0), (1, 5), (40, 9), (40 + GATHER, 10), (41 + 2 * GATHER, 11)):
        clock.time = moment
        growth.look(total, {})
    assert clock.kinds() == [("shed", "", 1), ("shed", "", 10)]
    assert clock.events.told(SINCE)[1]["seconds"] == 39 + GATHER


def test_misroutes_by_worker() -> None:
    """Those of before are not told again."""
    clock = Hands()
    growth = Growth(clock.events)
    growth.look(0, {("sync", "sync1"): 3})
    growth.look(0, {("sync", "sync1"): 3, ("login", "sync1"): 2, ("login", "sync2"): 1})
    assert clock.kinds() == [("misroutes", "sync1", 5), ("misroutes", "sync2", 1)]
    assert clock.events.told(SINCE)[0]["text"] == "does not know login; main was asked instead"


def turns(clock: Hands, count: int, name: str = "sync1") -> None:
    for _ in range(count):
        clock.time += 1
        clock.events.note("down", name, "Connection refused")
        clock.time += 1
        clock.events.note("up", name, "")


def test_below_the_bound_each_turn_is_told() -> None:
    """Three in five minutes are three."""
    clock = Hands()
    turns(clock, FLAPS - 1)
    assert clock.kinds() == [("up", "sync1", 1), ("down", "sync1", 1)] * (FLAPS - 1)
    clock.time += FLAP_SPAN
    turns(clock, 1)
    assert len(clock.kinds()) == 2 * FLAPS


def test_a_worker_that_flaps_is_one_event() -> None:
    """From the first turn on; others are not touched, and quiet ends it."""
    clock = Hands()
    turns(clock, 1, "sync2")
    turns(clock, 50)
    assert clock.kinds() == [("flaps", "sync1", 50), ("up", "sync2", 1), ("down", "sync2", 1)]
    told = clock.events.told(SINCE)[0]
    assert (told["text"], told["ago"], told["seconds"]) == ("went down again and again; now up", 0.0, 99.0)
    clock.time += FLAP_SPAN + 1
    clock.events.note("down", "sync1", "")
    assert clock.kinds()[:2] == [("down", "sync1", 1), ("flaps", "sync1", 50)]


def test_what_a_worker_that_flaps_is_now() -> None:
    """The text ends with its state."""
    clock = Hands()
    turns(clock, 10)
    clock.events.note("down", "sync1", "Connection refused")
    assert clock.events.told(SINCE)[0]["text"] == "went down again and again; now down (Connection refused)"


KINDS = st.sampled_from(("down", "up", "drain", "reload", "shed", "misroutes"))


@given(
    st.lists(st.tuples(st.floats(0, 200), KINDS, st.sampled_from(("a", "b", "")), st.integers(1, 9))),
    st.integers(1, 12),
)
def test_whatever_happens(noted: list[tuple[float, str, str, int]], most: int) -> None:
    """Never more than the bound, newest first, and the newest is what was noted last."""
    clock = Hands()
    clock.events.use(most)
    for pause, kind, about, count in noted:
        clock.time += pause
        clock.events.note(kind, about, "", count=count)  # type: ignore[arg-type]
        told = clock.events.told(SINCE)
        assert 0 < len(told) <= most
        assert [each["ago"] for each in told] == sorted(each["ago"] for each in told)
        assert told[0]["ago"] == 0
        assert any(each["about"] == about and each["ago"] == 0 for each in told)
        assert all(each["count"] >= 1 and each["seconds"] >= 0 for each in told)


def test_an_event_is_written_by_its_own_module() -> None:
    """`again` is the only change."""
    event = Event("shed", "", "a", "", 1.0, 1.0, 2)
    event.again(5.0, 3, "b")
    assert (event.until, event.count, event.text, event.at) == (5.0, 5, "b", 1.0)
