"""What keys change in `top`."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pictures import told as tell

from sidecar.admin.snapshot import snapshot
from sidecar.top.state import LONGEST_FILTER, ORDERS, Action, Maintaining, Setting, TopState, press, told, untold

NAMES = ["main", "sync1", "sync2", "client1", "typing1"]
FRESH = told(TopState(), snapshot(tell()))


def pressed(state: TopState, *keys: str) -> TopState:
    for key in keys:
        state, action = press(state, key)
        assert action is None
    return state


def test_moving() -> None:
    """Up and down, by one, by a page, to the ends, and never beyond."""
    assert pressed(FRESH, "down").chosen == "sync1"
    assert pressed(FRESH, "j", "j", "k").chosen == "sync1"
    assert pressed(FRESH, "up").chosen == "main"
    assert pressed(FRESH, "page down").chosen == "typing1"
    assert pressed(FRESH, "end", "home").chosen == "main"
    assert pressed(TopState(), "down").chosen == ""


def test_the_choice_stays_with_its_worker() -> None:
    """Whatever the order becomes; and with the first, where it is gone."""
    state = pressed(FRESH, "down", "down", "r")
    assert [worker.name for worker in state.workers] == NAMES[::-1]
    assert (state.chosen, state.place) == ("sync2", 2)
    assert told(state, snapshot(tell(workers={"a": {"name": "a"}}))).place == 0
    assert pressed(FRESH, "s", "s").workers[0].name == "sync1"
    assert TopState().workers == []


def test_orders() -> None:
    """One column after the other, and round."""
    state, seen = FRESH, []
    for _ in ORDERS:
        state = pressed(state, "s")
        seen.append(state.order)
    assert seen == [*ORDERS[1:], ""]
    for back in ("S", "<", "left"):
        assert pressed(FRESH, back).order == ORDERS[-1]
    for on in (">", "right"):
        assert pressed(FRESH, on).order == ORDERS[1]


def test_views() -> None:
    """All of them, and round; elsewhere than among workers it is scrolled."""
    seen = [pressed(FRESH, *["tab"] * count).view for count in range(8)]
    assert seen == ["workers", "pools", "balancers", "endpoints", "events", "notes", "instances", "workers"]
    assert pressed(FRESH, "shift tab").view == "instances"
    assert pressed(FRESH, "tab", "down", "down", "up").scroll == 1
    assert pressed(FRESH, "tab", "up").scroll == 0
    assert pressed(FRESH, "tab", "down", "tab").scroll == 0


def test_a_drain_needs_a_yes() -> None:
    """Any other key means no, and no key at all leaves the question open."""
    asked = pressed(FRESH, "down", "d")
    assert asked.asked == Action("sync1", True)
    assert pressed(asked, "", "").asked is not None
    assert pressed(asked, "n").message == "Nothing was done."
    assert pressed(asked, "q").ended is False
    for yes in ("y", "Y"):
        state, action = press(asked, yes)
        assert (state.asked, action) == (None, Action("sync1", True))
    resumed, action = press(pressed(FRESH, "end", "up", "u"), "y")
    assert (resumed.asked, action) == (None, Action("client1", False))


def test_drains_that_make_no_sense() -> None:
    """They are told, and nothing is asked."""
    assert pressed(FRESH, "u").message == "main is not draining."
    assert pressed(FRESH, "end", "up", "d").message == "client1 is draining already."
    assert "Choose a worker" in pressed(FRESH, "tab", "d").message
    assert "Choose a worker" in pressed(TopState(), "d").message
    assert "operator.actions" in pressed(told(TopState(), snapshot(tell(actions="none"))), "d").message
    assert pressed(FRESH, "u", "down").message == ""


def test_help_and_end() -> None:
    """Any key leaves the help; q ends."""
    for key in ("?", "h"):
        assert pressed(FRESH, key).help
        assert not pressed(FRESH, key, "j").help
    assert not pressed(FRESH, "?", "j").ended
    assert pressed(FRESH, "?", "q").ended
    assert pressed(FRESH, "q").ended


def test_answers_come_and_stay_away() -> None:
    """The last facts stay while there are no new ones."""
    lost = untold(FRESH, "No answer.", 3.0)
    assert (lost.trouble, lost.age, lost.facts) == ("No answer.", 3.0, FRESH.facts)
    assert told(lost, snapshot(tell())).trouble == ""


@given(st.lists(st.sampled_from(["up", "down", "tab", "s", "S", "r", "d", "u", "n", "y", "?", "x", "", "page down"])))
def test_any_keys(keys: list[str]) -> None:
    """Nothing is done but what was asked about, and there is always a chosen worker."""
    state = evolve(FRESH)
    for key in keys:
        before = state
        state, action = press(state, key)
        assert action == (before.asked if key == "y" and not before.help else None)
        assert 0 <= state.place < len(NAMES)


def test_maintenance_mode_needs_a_yes() -> None:
    """It is turned on where it is off, and off where it is on."""
    assert pressed(FRESH, "tab", "M").asked == Maintaining(True)
    assert press(pressed(FRESH, "M"), "y")[1] == Maintaining(True)
    assert pressed(FRESH, "M", "n").asked is None
    on = told(FRESH, snapshot({**tell(), "maintenance": {"text": "Back soon."}}))
    assert pressed(on, "M").asked == Maintaining(False)
    denied = told(FRESH, snapshot({**tell(), "actions": "none"}))
    assert (pressed(denied, "M").asked, pressed(TopState(), "M").asked) == (None, None)


def test_a_value_is_typed() -> None:
    """Digits and a point; Enter sets it, nothing at all is the value of the file, Escape leaves it."""
    typing = pressed(FRESH, "down", "w", "x", "0", ".", "5", "7", "backspace")
    assert typing.setting == Setting("sync1", "weight", "0.5")
    assert pressed(typing, "q").ended is False
    state, action = press(typing, "enter")
    assert (state.setting, action) == (None, Setting("sync1", "weight", "0.5"))
    _, action = press(pressed(FRESH, "m"), "enter")
    assert action == Setting("main", "maximum", "file")
    assert pressed(typing, "escape").message == "Nothing was done."
    assert pressed(FRESH, "tab", "w").message == "Choose a worker first; Tab leads to them."
    denied = told(FRESH, snapshot({**tell(), "actions": "none"}))
    assert "`operator.actions` is `none`" in pressed(denied, "m").message


def test_a_filter_is_typed() -> None:
    """Every printable key is a letter of it; Enter keeps it, Escape empties it."""
    typing = pressed(FRESH, "/", "s", "y", "n", "q", "backspace")
    assert (typing.filter, typing.typing, typing.ended) == ("syn", True, False)
    kept = pressed(typing, "enter")
    assert ([worker.name for worker in kept.workers], kept.typing) == (["sync1", "sync2"], False)
    assert pressed(kept, "escape").filter == pressed(typing, "escape").filter == ""
    assert len(pressed(FRESH, "/", *["x"] * 99).filter) == LONGEST_FILTER
    assert pressed(typing, "up").filter == "syn"
