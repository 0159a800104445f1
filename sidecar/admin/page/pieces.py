"""Small pieces of the status page: states, tables, curves, figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from attrs import frozen

from sidecar.admin.columns import state_word
from sidecar.admin.page.markup import Child, Markup, joined, tag
from sidecar.admin.snapshot import WorkerFacts
from sidecar.admin.words import NOTHING

_HEIGHT = 18
_STEP = 3


@frozen
class Cell:
    """A cell of a table; `label` stands before it where the screen is too narrow for columns."""

    content: Child
    label: str = ""
    kind: str = ""


def table(titles: Sequence[Child], rows: Iterable[Markup], kind: str) -> Markup:
    """A table whose rows become cards on a narrow screen."""
    head = tag("tr", [tag("th", title, scope="col") for title in titles])
    return tag("table", tag("thead", head), tag("tbody", rows), class_=kind)


def figure(text: str, label: str, kind: str = "") -> Cell:
    """A number; one that says nothing is left out where there is little room."""
    dull = text in ("0", NOTHING)
    return Cell(text, label, " ".join(filter(None, ("figure", "" if dull else kind, "dull" if dull else ""))))


def row(cells: Iterable[Cell], **attributes: str | None) -> Markup:
    """A row of a table; its first cell names it."""
    first, *rest = cells
    written = [tag("th", first.content, scope="row", class_=first.kind or None)]
    written += [tag("td", cell.content, data_label=cell.label or None, class_=cell.kind or None) for cell in rest]
    return tag("tr", written, **attributes)


def section(title: str, identifier: str, *content: Child, note: Child = None) -> Markup:
    """A part of the page under a heading."""
    heading = tag("h2", title, tag("small", note) if note is not None else None)
    return tag("section", heading, content, id=identifier)


def badge(word: str, kind: str = "") -> Markup:
    """A state, with a sign that is not only a colour."""
    return tag("span", word, class_=f"state is-{(kind or word).replace(' ', '-')}")


def worker_chip(name: str, worker: WorkerFacts | None) -> Markup:
    """The name of a worker with its state, leading to its row."""
    state = "gone" if worker is None else state_word(worker)
    title = None if state == "up" else f"{name} is {state}"
    return tag("a", name, class_=f"chip is-{state.replace(' ', '-')}", href=f"#{row_id(name)}", title=title)


def chips(names: Iterable[str], workers: dict[str, WorkerFacts]) -> Markup:
    """Workers one after another."""
    return joined(worker_chip(name, workers.get(name)) for name in names)


def row_id(name: str) -> str:
    """The anchor of a worker's row."""
    return f"worker-{quote(name, safe='')}"


def curve(rates: Sequence[float]) -> Markup | None:
    """Requests a second in the last half minute as a line, the highest at the top; decoration."""
    if len(rates) < 2 or not any(rates):
        return None
    top = max(*rates, 1.0)
    points = " ".join(
        f"{index * _STEP},{_HEIGHT - 1 - rate / top * (_HEIGHT - 2):.1f}" for index, rate in enumerate(rates)
    )
    width = (len(rates) - 1) * _STEP
    line = tag("polyline", points=points, fill="none")
    return tag(
        "svg", line, class_="curve", viewBox=f"0 0 {width} {_HEIGHT}", width=width, height=_HEIGHT, aria_hidden="true"
    )
