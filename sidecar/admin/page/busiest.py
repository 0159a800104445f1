"""Endpoints on the status page: those with the most requests in the last minute, and those that took the most time."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.page.pieces import Cell, figure, row, section, table
from sidecar.admin.snapshot import Lately, Snapshot
from sidecar.admin.words import latency, number

SHOWN = 10
"""The number that is not folded."""


def busiest(facts: Snapshot, order: str) -> Markup | None:
    """The table; `order` is `time` for what they took together, else it is the number of requests."""
    if not facts.busiest:
        return None
    found = sorted(facts.busiest.items(), key=lambda item: -_key(item[1], order))
    older = found[SHOWN:]
    more = tag("details", tag("summary", f"{len(older)} more"), _table(older, order), id="more-endpoints")
    return section("Endpoints", "endpoints", _table(found[:SHOWN], order), more if older else None, note="last minute")


def _key(lately: Lately, order: str) -> float:
    return (lately.seconds or 0.0) if order == "time" else lately.requests


def _table(found: Iterable[tuple[str, Lately]], order: str) -> Markup:
    titles = ("Endpoint", _sorted("Rate", "", order), _sorted("Time", "time", order), "p50", "p99", "Slowest", "Errors")
    rows = [
        row(
            (
                Cell(name),
                Cell(f"{number(each.requests / 60)}/s", "Rate", "figure"),
                figure(latency(each.seconds), "Time"),
                figure(latency(each.p50), "p50"),
                figure(latency(each.p99), "p99"),
                figure(latency(each.slowest), "Slowest"),
                figure(number(each.errors), "Errors", "hot"),
            )
        )
        for name, each in found
    ]
    return table(titles, rows, "cards endpoints")


def _sorted(title: str, name: str, order: str) -> Markup:
    target = f"./?endpoints={name}" if name else "./"
    chosen = "true" if name == order else None
    return tag("a", title, href=target, data_sort=True, aria_current=chosen)
