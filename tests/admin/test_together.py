"""Several instances as one picture: sums, states that differ, and the one that is silent, on the page and before it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import Element, parsed, recent, told

from sidecar.admin.page.forms import question
from sidecar.admin.page.live import live, title
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.together import snapshot_of
from sidecar.admin.verdict import verdict


def instance(name: str, status: Any, why: str = "", remark: str = "") -> dict[str, Any]:
    return {"name": name, "endpoint": f"unix:/{name}", "own": name == "one", "why": why, "status": status} | {
        "remark": remark
    }


def calm(**more: Any) -> dict[str, Any]:
    """A sidecar whose workers are all up."""
    found = told(**more)
    for worker in found["workers"].values():
        worker.update(state="up", reason="")
    del found["pools"]["empty"]
    return found


def both(first: dict[str, Any], second: dict[str, Any] | None, **more: Any) -> Snapshot:
    return snapshot_of({"instances": [instance("one", first), instance("two", second, **more)]})


def text(facts: Snapshot, identifier: str) -> str:
    return parsed(live(facts, "", "now")).one("section", id=identifier).text


def test_numbers_add_up() -> None:
    """What can be added is; times are the longest."""
    second = calm()
    second["workers"]["main"]["recent"] = recent(1.0, errors=1, p50=0.1, p99=0.2, slowest=99.0)
    facts = both(calm(), second)
    main = facts.workers["main"]
    assert (main.leased, main.recent.errors) == (6, 1)
    assert main.recent.requests_per_second == pytest.approx(13.34)
    assert (main.recent.p50, main.recent.p99, main.recent.slowest) == (0.1, 0.31, 99.0)
    assert facts.counters == {"requests": 8642, "connections_open": 500}
    assert facts.recent.per_second["requests"] == pytest.approx(30.6)
    assert facts.recent.more["failed"] == 10
    assert [each.count for each in facts.recent.failures] == [6, 8]
    assert (facts.pools["media"].running, facts.pools["media"].concurrency, facts.pools["media"].waiting) == (8, 8, 6)
    assert facts.in_flight == sum(each.in_flight or 0 for each in facts.instances)
    assert "13/s" in text(facts, "workers")


def test_a_weight_that_is_set_on_one() -> None:
    """The row says where; on all alike it is said once. A form begins with the weight of the own one."""
    first, second = calm(), calm()
    second["workers"]["sync1"] |= {"weight": 0.5, "overrides": {"weight": {"value": 0.5, "file": 1.0, "by": "me"}}}
    worker = both(first, second).workers["sync1"]
    assert worker.adjusted == "as the file says on one; weight 0.5 (file: 1) on two"
    assert worker.weight == 1
    assert both(second, second).workers["sync1"].adjusted == "weight 0.5 (file: 1)"
    assert both(first, first).workers["sync1"].adjusted == ""


def test_a_worker_that_is_drained_on_one() -> None:
    """Its row says on which; both buttons are there, and each only where it does something."""
    second = calm()
    second["workers"]["sync1"]["state"] = "draining"
    facts = both(calm(), second)
    assert facts.workers["sync1"].whereabouts == "up on one; draining on two"
    assert facts.workers["main"].whereabouts == ""
    root = parsed(live(facts, "", "now"))
    row = root.one("tr", id="worker-sync1")
    assert "draining" in row.text
    assert "up on one; draining on two" in row.text
    assert [button.text for button in row.all("a", class_="button")] == ["Drain", "Resume", "Change"]
    assert [button.text for button in root.one("tr", id="worker-main").all("a", class_="button")] == [
        "Drain",
        "Change",
    ]
    for first in (second, calm()):
        first["workers"]["sync1"]["state"] = "draining"
    facts = both(second, second)
    assert facts.workers["sync1"].drained
    assert [
        each.text for each in parsed(live(facts, "", "now")).one("tr", id="worker-sync1").all("a", class_="button")
    ] == ["Resume", "Change"]


@pytest.mark.parametrize(
    ("why", "remark"), [("Connection refused", ""), ("no answer within 3 s (`operator.sibling_timeout`)", "")]
)
def test_one_that_is_silent(why: str, remark: str) -> None:
    """It is said first, in the title and in its row; the numbers are those of the other."""
    facts = both(calm(), None, why=why, remark=remark)
    found = verdict(facts)
    assert (found.kind, found.word) == ("stuck", "Ready")
    assert found.told.endswith(f"two does not answer: {why}.")
    assert title(facts) == "two does not answer · gate1"
    assert why in text(facts, "instances")
    assert facts.counters["requests"] == 4321


def test_verdicts() -> None:
    """What all say is said once; else who says it, and nothing of those that are well."""
    assert verdict(both(calm(), calm())) == verdict(snapshot_of(calm()))
    found = verdict(both(calm(), calm(ready=False, reasons=["Nobody serves sync."])))
    assert (found.kind, found.word, found.told) == ("down", "Not ready", "two: Nobody serves sync.")
    newer = both(calm(), calm(version="9"), remark="it is version 9, and this one is 0.1.0")
    assert verdict(newer).told.endswith("two: it is version 9, and this one is 0.1.0.")
    assert "it is version 9" in text(newer, "instances")


def test_events_say_where() -> None:
    """Those of all instances, the newest first."""
    event = {"kind": "drain", "about": "sync1", "text": "gets no new requests", "by": "kim"}
    facts = both(calm(events=[{**event, "ago": 5.0}]), calm(events=[{**event, "ago": 2.0}]))
    assert [each.told for each in facts.events] == ["two: gets no new requests", "one: gets no new requests"]


def test_the_question_before_a_drain() -> None:
    """All instances unless this one is chosen; with a single one nothing is asked."""
    form = parsed(question(both(calm(), calm()), "sync1", "t", drain=True))
    choices = [(each.attributes["value"], "checked" in each.attributes) for each in form.all("input", name="where")]
    assert choices == [("all", True), ("own", False)]
    assert "On all 2 instances" in form.text
    assert "Only on one" in form.text
    alone = parsed(question(snapshot_of(calm()), "sync1", "t", drain=True))
    assert not list(alone.all("input", name="where"))
    assert not [each for each in parsed(live(snapshot_of(calm()), "", "now")).all("section") if named(each)]


def named(section: Element) -> bool:
    return section.attributes.get("id") == "instances"


def test_a_single_instance_is_as_ever() -> None:
    """A list of one is what it would tell by itself."""
    assert snapshot_of({"instances": [instance("one", told())]}) == snapshot_of(told())


@pytest.mark.parametrize("listed", [[], [7], [{}], 7, [{"name": "one", "status": None}], [{"name": "x", "status": 7}]])
def test_what_is_no_status(listed: Any) -> None:
    """Another program may answer anything; the instance that was asked has to say how it is."""
    with pytest.raises(ValueError):  # noqa: PT011
        snapshot_of({"instances": listed})


def test_a_sibling_that_tells_nonsense() -> None:
    """It counts as silent."""
    facts = both(calm(), {"workers": 7, "version": "1"})
    assert [each.why for each in facts.silent] == ["what answers there is not a matrix-sidecar"]


@given(st.lists(st.lists(st.none() | st.floats(0, 1e6), max_size=8), min_size=1, max_size=4))
def test_curves_end_now(curves: list[list[float | None]]) -> None:
    """The newest points of all are added to each other, however long each has run."""
    statuses = []
    for curve in curves:
        status = copy.deepcopy(calm())
        status["hour"] = {"rate": curve, "p99": curve}
        statuses.append(status)
    listed = [instance("one", statuses[0]), *(instance(f"n{index}", each) for index, each in enumerate(statuses[1:]))]
    facts = snapshot_of({"instances": listed})
    rate, p99 = facts.hour["rate"], facts.hour["p99"]
    assert len(rate) == max(map(len, curves))
    last = [curve[-1] for curve in curves if curve and curve[-1] is not None]
    if rate:
        assert rate[-1] == (pytest.approx(sum(last)) if last else None)
        assert p99[-1] == (max(last) if last else None)
