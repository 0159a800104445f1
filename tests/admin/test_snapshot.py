"""What `/api/status` tells, read by the page and by `top`, from this and from other releases."""

from __future__ import annotations

import pytest
from pictures import told

from sidecar.admin.explained import Explained, at_this_moment
from sidecar.admin.snapshot import Wait, snapshot


def test_everything_that_is_told_is_read() -> None:
    """Workers, pools, and what they come to."""
    facts = snapshot(told())
    assert facts.in_flight == 216
    assert facts.waiting == 9
    assert facts.ailing == ["sync2"]
    assert facts.workers["main"].recent.p99 == 0.31
    assert facts.waits == [
        Wait(4, "for sync2", "it is down (Connection refused)"),
        Wait(2, "for typing1", "a connection is being made"),
        Wait(3, "for a place in pool media", "4 of 4 are taken"),
    ]


def test_why_it_waits() -> None:
    """A worker that is down without a reason, and one that is full."""
    workers = {"a": {"name": "a", "state": "draining", "waiting": 1}, "b": {"name": "b", "waiting": 2}}
    facts = snapshot({"version": "1", "workers": workers})
    assert [wait.why for wait in facts.waits] == ["it is draining", "all connections to it are taken"]


def test_what_is_absent_and_what_is_new() -> None:
    """An older sidecar tells less, a newer one more; both can be looked at."""
    facts = snapshot({"version": "9", "workers": {"a": {"name": "a", "mood": "good"}}, "weather": []})
    assert facts.workers["a"].state == "up"
    assert (facts.actions, facts.pools, facts.recent.seconds) == ("api", {}, 0)


@pytest.mark.parametrize("text", [[], "x", {}, {"version": "1"}, {"version": "1", "workers": [1]}])
def test_what_is_something_else(text: object) -> None:
    """JSON of another program is told as such."""
    with pytest.raises(ValueError, match=r"\$|mapping|required|expected"):
        snapshot(text)  # type: ignore[arg-type]


def test_who_gets_it_at_this_moment() -> None:
    """Only where that is not who gets it when all are up."""
    workers = snapshot(told()).workers

    def now(*order: str) -> str:
        return at_this_moment(Explained(title="", steps=(), outcome="", forwarded=True, order=order), workers)

    assert now("sync1", "sync2") == ""
    assert now() == ""
    assert now("sync2", "sync1") == "Now sync1 gets it, because sync2 is down."
    assert now("sync2", "client1", "new", "main") == (
        "Now main gets it, because sync2 is down, client1 is draining and new is gone."
    )
    assert now("sync2") == "Now it waits, because sync2 is down."
