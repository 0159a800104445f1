"""The screen of `top`, for states and sizes."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pictures import told as tell

from sidecar.admin.snapshot import snapshot
from sidecar.top.screen import screen
from sidecar.top.state import VIEWS, Action, Maintaining, Setting, TopState, told, untold
from sidecar.top.styled import Line


def state(**more: Any) -> TopState:
    return told(TopState(), snapshot(tell(**more)))


def text(line: Line) -> str:
    return "".join(piece.text for piece in line).rstrip()


def shown(of: TopState, width: int = 80, height: int = 24) -> list[str]:
    return [text(line) for line in screen(of, width, height)]


def test_the_ordinary_screen() -> None:
    """80 by 24: what it is, numbers, workers, what is out of order, keys."""
    assert shown(state()) == [
        "matrix-sidecar  gate1  ready without sync2                          up 1 h 1 min",
        "req 15/s  in flight 216  waiting 9  failed 5  in 20 kB/s  out 1.5 MB/s",
        "",
        "WORKER     STATE        RUNS  WAIT   RATE     P50     P99   5xx       SINCE",
        "main       up              3     0     12  4.0 ms  310 ms     0     1 d 1 h",
        "sync1      up            210     0      3       –       –     2           –",  # noqa: RUF001
        "sync2      down            0     4      –       –       –     0        12 s",  # noqa: RUF001
        "client1    draining        1     0      –       –       –     0           –",  # noqa: RUF001
        "typing1    slow start      0     2      –       –       –     0           –",  # noqa: RUF001
        "old1       leaving         2     0      –       –       –     0           –",  # noqa: RUF001
        "",
        "Missing",
        "  sync2 is unavailable",
        "  main takes over client",
        "  nobody serves empty",
        "Waiting",
        "  4 requests for sync2: it is down (Connection refused)",
        "  2 requests for typing1: a connection is being made",
        "  3 requests for a place in pool media: 4 of 4 are taken",
        "Failures in the last minute",
        "  3 requests of sync: gone",
        "  4 requests of no pool: timeout",
        "",
        "q quit  ? help  Tab view  / filter  s sort  d drain  u resume  w weight  m max",
    ]


def test_where_there_is_room_the_reason_is_told() -> None:
    """In the row of its worker."""
    assert shown(state(), 130)[6].endswith("12 s  Connection refused")


def test_where_there_is_little_room() -> None:
    """Columns are left out one after the other; name, state and requests in flight stay."""
    assert shown(state(), 40)[3].split() == ["WORKER", "STATE", "RUNS", "RATE"]
    assert shown(state(), 30)[3].split() == ["WORKER", "STATE", "RUNS"]
    assert shown(state(), 66)[3].split() == ["WORKER", "STATE", "RUNS", "WAIT", "RATE", "P50", "P99", "5xx"]


def test_the_chosen_one_is_in_sight() -> None:
    """However many there are, however small the screen."""
    workers = {f"w{number:02}": {"name": f"w{number:02}"} for number in range(40)}
    for chosen in (0, 5, 19, 39):
        of = evolve(state(workers=workers, leaving=[]), chosen=f"w{chosen:02}")
        for height in (6, 10, 24):
            lines = screen(of, 80, height)
            (row,) = [line for line in lines if line and line[0].style == "chosen"]
            assert text(row).startswith(f"w{chosen:02}")


def test_the_order_is_marked() -> None:
    """With an arrow at the column, and none for the order of the configuration."""
    assert "P99v" in shown(evolve(state(), order="p99"))[3]
    assert "RUNS^" in shown(evolve(state(), order="flight", backwards=True))[3]
    assert "WORKER^" in shown(evolve(state(), backwards=True))[3]
    assert "STATEv" in shown(evolve(state(), order="state"))[3]


def test_a_question() -> None:
    """What a drain would do stands above it."""
    lines = shown(evolve(state(), asked=Action("sync1", True)))
    assert lines[-3:] == [
        "It gets no new requests. 210 requests that it has now end by themselves.",
        "sync, initial_sync: main takes its requests.",
        "Drain sync1? y: yes, any other key: no",
    ]
    assert shown(evolve(state(), asked=Action("client1", False)))[-1].startswith("Resume client1?")
    assert shown(evolve(state(), asked=Action("gone", True)))[-1].startswith("Drain gone?")


def test_messages_and_trouble() -> None:
    """In the place of the keys; how long there was no answer is told above."""
    assert shown(evolve(state(), message="Done."))[-1] == "Done."
    lost = untold(state(), "No answer from here.", 75.0)
    assert shown(lost, 40)[0] == "matrix-sidecar  gate1  no answer for 1 …"
    assert shown(lost)[-1] == shown(evolve(lost, message="Done."))[-1] == "No answer from here."
    assert shown(TopState())[1] == "Asking the sidecar."
    assert shown(untold(TopState(), "No answer.", 1.0))[1] == "No answer."


def test_help() -> None:
    """It fits into 80 by 24."""
    lines = shown(evolve(state(), help=True))
    assert not [line for line in lines[3:] if line.endswith("…")]
    assert any(line.startswith("SINCE") for line in lines)


def test_pools() -> None:
    """Who is in them, and who stands in; scrolled, but not beyond the end."""
    of = evolve(state(), view="pools")
    assert shown(of, height=12)[3:11] == [
        "POOL                RUNS   WAIT  WORKERS",
        "main                   –      0  main",  # noqa: RUF001
        "sync                   5      0  sync1 sync2 else main",
        "initial_sync           2      0  sync1 sync2 else main",
        "client                 –      0  client1 else main",  # noqa: RUF001
        "typing                 –      0  typing1",  # noqa: RUF001
        "media             4 of 4      3  main",
        "empty                  –      0  nobody",  # noqa: RUF001
    ]
    assert shown(evolve(of, scroll=99), height=8)[-2].startswith("empty")
    (row,) = [line for line in screen(of, 80, 24) if text(line).startswith("sync ")]
    assert [(piece.text.strip(), piece.style) for piece in row[3:5]] == [("sync1", "plain"), ("sync2", "bad")]


def test_notes() -> None:
    """Everything that is out of order, and warnings of the configuration."""
    misroutes = [{"endpoint": "sync", "worker": "sync1", "count": 1, "ago": 5.0}, {"endpoint": "x", "worker": "y"}]
    more = {"misroutes": misroutes, "ready": False, "reasons": ["Nobody."], "reload": {"changes": ["a: b"]}}
    told_ = "\n".join(shown(evolve(state(**more), view="notes"), 100, 40))
    for sentence in (
        "Nobody.",
        "4 requests for sync2: it is down",
        "3 requests of sync: gone",
        "sync1 does not know sync: 1 time, last 5 s ago",
        "y does not know x: 0 times, last –",  # noqa: RUF001
        "/etc/s.yaml:3: listen: warning: odd",
        "a: b",
    ):
        assert sentence in told_
    refused = state(reload={"accepted": False, "problems": ["/etc/s.yaml:1: a: bad"]})
    told_ = "\n".join(shown(refused, 100, 40))
    assert "Reload refused" in told_
    assert "/etc/s.yaml:1: a: bad" in told_
    calm = state(workers={}, pools={}, leaving=[], recent={}, problems=[])
    assert shown(evolve(calm, view="notes"))[3] == "Everything is in order."


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"stopping": True}, "stopping"),
        ({"ready": False}, "not ready"),
        ({"workers": {}}, "ready"),
        ({}, "ready without sync2"),
    ],
)
def test_the_verdict(more: dict[str, Any], verdict: str) -> None:
    """Beside the name of the host."""
    assert shown(state(**more))[0].split("  ")[2] == verdict


STATES = st.builds(
    evolve,
    st.sampled_from(
        [TopState(), state(), untold(state(), "x" * 300, 5.0), state(workers={}, pools={}, host="\x1b[2J" * 9)]
    ),
    view=st.sampled_from(VIEWS),
    order=st.sampled_from(["", "p99", "state"]),
    backwards=st.booleans(),
    chosen=st.sampled_from(["", "sync2", "gone"]),
    help=st.booleans(),
    asked=st.sampled_from([None, Action("sync1", True), Action("gone", False), Maintaining(True), Maintaining(False)]),
    setting=st.sampled_from([None, Setting("sync1", "weight", "0.5"), Setting("gone", "maximum", "")]),
    message=st.sampled_from(["", "a\x1bb" * 60]),
    scroll=st.integers(0, 30),
)


@given(STATES, st.integers(1, 200), st.integers(1, 60))
def test_any_size(of: TopState, width: int, height: int) -> None:
    """As many lines as there are, none longer than the screen is wide, nothing that moves a cursor."""
    lines = screen(of, width, height)
    assert len(lines) == height
    for line in lines:
        assert sum(len(piece.text) for piece in line) <= width
        assert all(piece.text.isprintable() for piece in line)


def test_the_width_is_used() -> None:
    """The slowest answer, and the last hour of each worker and of the sidecar, where there is room."""
    busy = {"requests_per_second": 1.0, "slowest": 10.25, "hour": [0.0, 1.0, None, 2.0]}
    workers = {"main": {"name": "main", "recent": busy}}
    hour = {"rate": [0.0, 4.0, 8.0], "errors": [0.0] * 3, "p99": [None, 0.1, 0.2], "waiting": [0.0] * 3}
    wide = shown(state(workers=workers, hour=hour), 170)
    assert wide[2].split() == ["rate", "▁▅█", "errors", "▁▁▁", "p99", "▅█", "waiting", "▁▁▁"]
    assert wide[4].startswith("WORKER")
    assert "10 s" in wide[5]
    assert wide[5].endswith("▁▅ █")
    narrow = shown(state(workers=workers, hour=hour), 80)
    assert narrow[3].startswith("WORKER")
    assert "SLOWEST" not in narrow[3]


def test_endpoints_and_the_hottest() -> None:
    """One line for each, with what they took; hashes below."""
    busiest = {"sync": {"requests": 600, "seconds": 18.0, "p50": 0.01, "p99": 0.3, "slowest": 1.5, "errors": 2}}
    key = {"hash": "b55e01593be30392", "per_second": 51.2, "share": 0.384}
    of = evolve(state(busiest=busiest, hottest={"seconds": 90.0, "keys": {"user": [key]}}), view="endpoints")
    assert shown(of)[3:8] == [
        "ENDPOINT       RATE     TIME      P50      P99  SLOWEST    5xx",
        "sync           10/s     18 s    10 ms   300 ms    1.5 s      2",
        "",
        "Users, the last 1 min",
        "  b55e01593be30392       51/s   38%",
    ]
    assert "No request has ended" in shown(evolve(state(), view="endpoints"))[4]


def test_what_does_not_fit_the_filter_is_not_shown() -> None:
    """Of any view, but for its title; the last line says that there is a filter."""
    assert [line for line in shown(evolve(state(), filter="SYNC"))[3:] if line.startswith(("main ", "client1"))] == []
    pools = shown(evolve(state(), view="pools", filter="media"))
    assert (pools[3][:4], pools[4][:5], pools[5]) == ("POOL", "media", "")
    assert pools[-1].startswith("/media  Esc shows all")
    assert shown(evolve(state(), filter="me", typing=True))[-1].startswith("/me_  Enter ends")


def test_a_pool_that_few_workers_share() -> None:
    """Those that stand in for them are told after them."""
    part = {"name": "sync", "pool": "sync", "workers": ["sync1", "main"], "seats": [["sync1", "main"]]}
    pools = {"sync": {"workers": ["sync1", "main"], "parts": [part]}}
    assert shown(evolve(state(pools=pools), view="pools"))[4].endswith("  sync1 then main")
