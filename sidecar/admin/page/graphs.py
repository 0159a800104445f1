"""The last hour on the status page, as small graphs: SVG that is made here, of lines and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sidecar.admin.page.markup import Child, Markup, tag
from sidecar.admin.page.pieces import Cell, row, section, table
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.words import duration, latency, number

Points = Sequence[float | None]
_WIDTH, _HEIGHT = 240, 56


def _rate(value: float | None) -> str:
    return f"{number(value)}/s"


def graphs(facts: Snapshot) -> Markup | None:
    """What the sidecar did; nothing as long as there are no two points."""
    hour = facts.hour
    if len(hour.get("rate", ())) < 2:
        return None
    shown = (
        _graph("Requests", {"rate": hour["rate"]}, _rate),
        _graph("Errors 5xx", {"errors": hour["errors"]}, _rate),
        _graph("p99, and p50", {"p99": hour["p99"], "p50": hour["p50"]}, latency),
        _graph("Waiting", {"waiting": hour["waiting"]}, number),
    )
    return section("The last hour", "hour", tag("div", shown, class_="graphs"), note="newest at the right")


def _graph(title: str, curves: Mapping[str, Points], told: Callable[[float | None], str]) -> Markup:
    first = next(iter(curves.values()))
    most = max((value for value in first if value is not None), default=None)
    caption = tag("figcaption", title, tag("b", told(first[-1])), tag("small", f"at most {told(most)}"))
    return tag("figure", caption, plot(curves), class_="graph")


def plot(curves: Mapping[str, Points], kind: str = "plot") -> Markup:
    """Lines over the same time, from 0 to the highest of all; decoration, because numbers stand beside."""
    top = max((value for points in curves.values() for value in points if value is not None), default=0.0) or 1.0
    lines = [
        tag("polyline", points=piece, class_=f"of-{name}")
        for name, points in curves.items()
        for piece in _pieces(points, top)
    ]
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", lines, class_=kind, viewBox=box, preserveAspectRatio="none", aria_hidden="true")


def _pieces(points: Points, top: float) -> Iterator[str]:
    """A line for each stretch in which something is known; a single point is a short one."""
    step = _WIDTH / max(len(points) - 1, 1)
    piece: list[str] = []
    for index, value in enumerate((*points, None)):
        if value is not None:
            piece.append(f"{index * step:.1f},{_HEIGHT - 2 - value / top * (_HEIGHT - 4):.1f}")
        elif piece:
            x, _, y = piece[-1].partition(",")
            yield " ".join(piece if len(piece) > 1 else [*piece, f"{float(x) + 1:.1f},{y}"])
            piece = []


def curves(told: Mapping[str, Any]) -> Markup:
    """A row of small graphs for each worker, and for each pool that had something to do: of `/api/history`."""
    parts: list[Child] = []
    for title, name in (("Worker", "workers"), ("Pool", "pools")):
        rows = [_row(subject, curves) for subject, curves in told.get(name, {}).items()]
        parts += [table((title, "Rate", "Errors", "p99", "Waiting"), rows, "cards curves")] if rows else []
    note = f"workers and pools in the last {duration(told.get('seconds', 0.0))}; those that did nothing are left out"
    return section("History", "history", parts or tag("p", "Nothing yet; there is a point each 15 s."), note=note)


def _row(name: str, curves: Mapping[str, Points]) -> Markup:
    cells = [Cell(name)]
    for title, measure, told in (
        ("Rate", "rate", _rate),
        ("Errors", "errors", _rate),
        ("p99", "p99", latency),
        ("Waiting", "waiting", number),
    ):
        points = curves.get(measure, ())
        newest = points[-1] if points else None
        drawn = plot({measure: points}, "plot small") if any(points) else None
        cells.append(Cell((tag("span", told(newest)), drawn), title, "" if drawn is not None else "dull"))
    return row(cells)
