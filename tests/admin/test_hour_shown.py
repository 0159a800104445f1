"""The last hour, endpoints, refusals and the process on the page; and what a running sidecar tells of them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from net.turns import staged
from pictures import Element, parsed, told

from admin.operated import Operated
from sidecar.admin.operator_answer import Inquiry, OperatorAnswer
from sidecar.admin.own import OwnUse
from sidecar.admin.page.graphs import curves
from sidecar.admin.page.live import live
from sidecar.admin.page.pages import StatusPage
from sidecar.admin.snapshot import snapshot
from sidecar.admin.verdict import verdict
from sidecar.history.hour import MEASURES

LINE = {"rate": [1.0, None, 4.0], "errors": [0.0] * 3, "p50": [None] * 3, "p99": [0.2, 0.1, 0.5], "waiting": [0, 7, 0]}
BUSY = {"requests": 600, "requests_per_second": 10.0, "seconds": 30.0, "p50": 0.01, "p99": 0.3, "slowest": 1.5}
RARE = {
    "requests": 6,
    "requests_per_second": 0.1,
    "seconds": 180.0,
    "p50": 29.0,
    "p99": 30.0,
    "slowest": 30.2,
    "errors": 2,
}


def shown(endpoints: str = "", **more: object) -> Element:
    return parsed(str(live(snapshot(told(**more)), "", "", endpoints)))


def cells(section: Element) -> list[list[str]]:
    return [
        [cell.text for cell in row.children if isinstance(cell, Element)]
        for body in section.all("tbody")
        for row in body.all("tr")
    ]


def test_graphs_of_the_sidecar() -> None:
    """With the newest value and the highest; a gap is a gap, and one point alone is seen."""
    graphs = list(shown(hour={**LINE, "slowest": []}).one("section", id="hour").all("figure"))
    assert [graph.one("figcaption").text for graph in graphs] == [
        "Requests4/sat most 4/s",
        "Errors 5xx0/sat most 0/s",
        "p99, and p50500 msat most 500 ms",
        "Waiting0at most 7",
    ]
    assert [len(list(graph.all("polyline"))) for graph in graphs] == [2, 1, 1, 1]
    assert graphs[0].one("svg").attributes["aria-hidden"] == "true"
    first, last = (line.attributes["points"] for line in graphs[0].all("polyline"))
    assert (first, last) == ("0.0,41.0 1.0,41.0", "240.0,2.0 241.0,2.0")
    assert not list(shown(hour={}).all("section", id="hour"))


def test_curves_of_workers_and_pools() -> None:
    """A row for each, and a sentence as long as there is none."""
    section = parsed(str(curves({"seconds": 3600.0, "workers": {"<a>": LINE}, "pools": {"sync": LINE}})))
    assert cells(section) == [["<a>", "4/s", "0/s", "500 ms", "0"], ["sync", "4/s", "0/s", "500 ms", "0"]]
    assert "Nothing yet" in parsed(str(curves({}))).text


def test_endpoints_by_rate_and_by_time() -> None:
    """By the number of requests, or by what they took together."""
    busiest = {"sync": RARE, "login": BUSY}
    assert cells(shown(busiest=busiest).one("section", id="endpoints")) == [
        ["login", "10/s", "30 s", "10 ms", "300 ms", "1.5 s", "0"],
        ["sync", "0.1/s", "180 s", "29 s", "30 s", "30 s", "2"],
    ]
    by_time = shown("time", busiest=busiest).one("section", id="endpoints")
    assert cells(by_time)[0][0] == "sync"
    assert by_time.one("a", aria_current="true").text == "Time"
    many = shown(busiest={str(number): BUSY for number in range(25)}).one("section", id="endpoints")
    assert "15 more" in many.text


def test_refusals_and_failures_are_two_lists() -> None:
    """What is refused because of what it is stands once."""
    malformed = {"pool": "", "reason": "malformed", "told": "no request", "count": 3}
    cut = {"pool": "sync", "reason": "worker_cut", "told": "cut", "count": 1}
    root = shown(recent={"failures": [malformed, cut], "refusals": [malformed]})
    assert cells(root.one("section", id="refused")) == [["–", "no request", "3"]]  # noqa: RUF001
    assert cells(root.one("section", id="failures")) == [["sync", "cut", "1"]]


def test_the_process_and_the_classes_of_answers() -> None:
    """A share of one core, bytes, and how far the limits are."""
    process = {"cpu": 0.123, "memory": 65_000_000, "files": 40, "files_limit": 1024, "connections_limit": 8000}
    root = shown(process=process, recent={"statuses": {"2xx": 1200, "4xx": 7, "5xx": 2}})
    figures = root.one("dl", class_="figures").text
    for each in ("connections of 8,000", "Processor12%of one core", "Memory65 MB40 files of 1,024"):
        assert each in figures
    assert "Answers2 5xx1,200 2xx, 7 4xx, last minute" in figures


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"errors": 2}, "down", "The configuration has 2 errors. Requests can fail until they are fixed."),
        (
            {"reload": {"accepted": False, "problems": ["a.yaml:1: no"]}},
            "stuck",
            "refused, and nothing has changed: a.yaml",
        ),
        ({}, "ready", "Every pool has a worker."),
    ],
)
def test_the_verdict(more: dict[str, object], kind: str, said: str) -> None:
    """Red for errors in the configuration, amber for a refused reload, also where a worker is unavailable."""
    workers = {"main": {"name": "main"}}
    found = verdict(snapshot({"version": "1", "workers": workers, **more}))
    assert (found.kind, said in found.told) == (kind, True)
    missing = verdict(snapshot({"version": "1", "workers": {"main": {"name": "main", "state": "down"}}, **more}))
    assert "main is unavailable" in missing.told
    assert (said in missing.told) is bool(more)


def test_the_processor_as_a_share_of_one_core() -> None:
    """Of the last ten seconds."""
    spent = iter([1.0, 1.5, 6.5, 6.5])
    own = OwnUse(lambda: next(spent))
    assert own.cpu is None
    for moment in (0.0, 1.0, 11.0):
        own.look(moment)
    assert own.cpu == 0.5
    own.look(30.0)
    assert own.cpu is None
    facts = own.told()
    assert facts["memory"] > 1_000_000
    assert 0 < facts["files"] < facts["files_limit"]


@staged(Operated)
async def test_what_a_running_sidecar_tells(scene: Operated) -> None:
    """`/api/status` has the process and the hour, `/api/history` all curves, in as many points as are asked for."""
    _, said, _ = await scene.ask("GET", "/api/status")
    assert said["process"]["connections_limit"] > 0
    assert tuple(said["hour"]) == MEASURES
    assert said["busiest"] == {}
    assert said["errors"] == 0
    assert said["pools"]["sync"]["recent"]["requests"] == 0
    status, said, _ = await scene.ask("GET", "/api/history?points=5")
    assert (status, said["seconds"], said["workers"]) == (200, 3600.0, {})
    for wrong in ("0", "x", "1001", "-1"):
        assert (await scene.ask("GET", f"/api/history?points={wrong}"))[0] == 400
    status, _, page = await scene.say("GET", "/history")
    assert (status, "Nothing yet" in page) == (200, True)


def test_the_page_asks_for_the_curves_by_themselves() -> None:
    """A part of its own, which the script fetches for each point and not each second."""
    page = StatusPage(
        facts=lambda: told(),
        act=lambda *_: None,  # type: ignore[arg-type]
        explain=lambda *_: None,  # type: ignore[arg-type]
        hour=lambda: {"seconds": 60.0, "workers": {"sync1": LINE}},
        clock=lambda: datetime(2026, 1, 1, tzinfo=timezone.utc),
    )
    for path in ("/", "/history"):
        answer = page.answer(Inquiry(method="GET", path=path))
        assert isinstance(answer, OperatorAnswer)
        assert b"sync1" in answer.octets()
        assert b'id="history"' in answer.octets()
