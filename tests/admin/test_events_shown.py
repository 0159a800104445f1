"""The list of events: what a running sidecar notes by itself, who drained, and how the page and `top` show it."""

from __future__ import annotations

import os
import re
from getpass import getuser
from typing import Any

import pytest
from attrs import evolve
from net.turns import staged, turns
from pictures import parsed, told
from test_reload import Threads

from admin.operated import Operated
from sidecar.admin.operator_answer import Inquiry
from sidecar.admin.page.event_list import SHOWN
from sidecar.admin.page.live import live
from sidecar.admin.snapshot import Happened, snapshot
from sidecar.app.reload import Reload
from sidecar.top.screen import screen
from sidecar.top.state import TopState


async def events(scene: Operated) -> list[tuple[str, str]]:
    """Kind and worker, the oldest first."""
    _, said, _ = await scene.ask("GET", "/api/status")
    return [(each["kind"], each["about"]) for each in reversed(said["events"])]


@staged(Operated)
async def test_what_happens_is_noted(scene: Operated) -> None:
    """The start, a worker that goes down and comes back, a drain and its end, with who wanted it."""
    await scene.worker("sync2").stop()
    pool = scene.sidecar.gateway.pools["sync2"]
    scene.client(b"GET /alone/x HTTP/1.1\r\nHost: x\r\n\r\n")
    while not pool.down:
        await turns(1)
    del scene.workers["sync2"]
    scene.worker("sync2")
    while pool.down:
        await turns(1)
    await scene.ask("POST", "/api/workers/sync1/drain")
    await scene.ask("POST", "/api/workers/sync1/drain")
    await scene.ask("POST", "/api/workers/sync1/undrain")
    happened = await events(scene)
    assert happened == [("start", ""), ("down", "sync2"), ("up", "sync2"), ("drain", "sync1"), ("undrain", "sync1")]
    _, said, _ = await scene.ask("GET", "/api/status")
    newest, drained, _, down, _ = said["events"]
    assert drained["by"] == newest["by"] == f"{getuser()} on the UNIX socket"
    assert down["text"] == "No such file or directory"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", down["time"])


@staged(Operated)
async def test_a_reload_is_an_event_and_forgets_none(scene: Operated) -> None:
    """Refused or accepted; the list goes on, within the bound that the new file sets."""
    reload = next(each for each in scene.services if isinstance(each, Reload))
    reload.reactor = threads = Threads()
    file = scene.directory / "sidecar.yaml"
    good = file.read_text()

    def read(text: str) -> None:
        file.write_text(text)
        reload.reload()
        threads.work()

    read(good.replace("affinity", "affinty") + "nonsense: 1\n")
    read(good + "operator: {events: 3}\n")
    await scene.ask("POST", "/api/workers/sync1/drain")
    assert await events(scene) == [("refused", ""), ("reload", ""), ("drain", "sync1")]
    _, said, _ = await scene.ask("GET", "/api/status")
    assert "nonsense" in said["events"][2]["text"]


@staged(Operated)
async def test_many_turned_away_are_one_event(scene: Operated) -> None:
    """They are counted on their way, and looked at every second."""
    scene.sidecar.gateway.counters.shed += 7
    while ("shed", "") not in await events(scene):
        await turns(1)
    _, said, _ = await scene.ask("GET", "/api/status")
    assert said["events"][0]["count"] == 7


@pytest.mark.parametrize(
    ("asked", "who"),
    [
        ({"peer": "10.0.0.7"}, "10.0.0.7"),
        ({"peer": "10.0.0.7", "user": "ann"}, "ann from 10.0.0.7"),
        ({"local": "root", "user": "ann"}, "ann from root on the UNIX socket"),
        ({}, "somebody on the UNIX socket"),
    ],
)
def test_who_asks(asked: dict[str, Any], who: str) -> None:
    """A name only where a password was shown, which nobody can make up."""
    assert Inquiry(method="POST", path="/", **asked).who == who


HAPPENED = [
    {"kind": "flaps", "about": "sync1", "text": "went down again and again; now up", "count": 9, "seconds": 130.0},
    {"kind": "shed", "text": "a request was turned away", "count": 1234, "seconds": 65.0},
    {"kind": "drain", "about": "<b>", "text": "gets no new requests", "by": "<ann> from ::1", "ago": 7300.0},
    {"kind": "novel", "text": "of a newer sidecar"},
]


def test_on_the_page() -> None:
    """What, whom, how often, by whom; the older ones are folded away, and all of it is text."""
    root = parsed(str(live(snapshot(told(events=HAPPENED * 5)), "", "")))
    section = root.one("section", id="events")
    newest, older = section.all("tbody")
    rows = [[cell.text for cell in row.children if not isinstance(cell, str)] for row in newest.all("tr")]
    assert rows[:4] == [
        ["0 s ago", "flapping", "sync1", "9 times in 2 min: went down again and again; now up"],
        ["0 s ago", "turned away", "", "1,234 times in 1 min: a request was turned away"],
        ["2 h 1 min ago", "drained", "<b>", "gets no new requestsby <ann> from ::1"],
        ["0 s ago", "novel", "", "of a newer sidecar"],
    ]
    assert (len(rows), len(list(older.all("tr")))) == (SHOWN, 20 - SHOWN)
    assert not list(parsed(str(live(snapshot(told()), "", ""))).all("section", id="events"))


def test_in_a_terminal() -> None:
    """A view of its own, one line for each."""
    state = TopState(facts=snapshot(told(events=HAPPENED)), view="events")
    lines = ["".join(piece.text for piece in line).rstrip() for line in screen(state, 100, 24)]
    assert lines[3:8] == [
        "        AGO  WHAT            WORKER MORE",
        "        0 s  flapping        sync1  9 times in 2 min: went down again and again; now up",
        "        0 s  turned away            1,234 times in 1 min: a request was turned away",
        "  2 h 1 min  drained         <b>    gets no new requests (by <ann> from ::1)",
        "        0 s  novel                  of a newer sidecar",
    ]
    quiet = evolve(state, facts=snapshot(told()))
    assert "No events" in "".join(piece.text for piece in screen(quiet, 100, 24)[4])


def test_an_event_without_a_duration() -> None:
    """Twice in one second needs no span."""
    assert Happened(kind="misroutes", text="x", count=2, seconds=0.4).told == "2 times: x"
    assert Happened(kind="up").told == ""


@staged(Operated)
async def test_a_user_without_a_name(scene: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the other end may be nobody that is known here."""
    monkeypatch.setattr("sidecar.admin.listener.getpwuid", lambda user: {}[user])
    await scene.ask("POST", "/api/workers/sync1/drain")
    _, said, _ = await scene.ask("GET", "/api/status")
    assert said["events"][0]["by"] == f"user {os.getuid()} on the UNIX socket"
