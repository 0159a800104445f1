"""The table of workers on the status page: one row each, sorted by any column."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from sidecar.admin.columns import COLUMNS, ordered, state_word
from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.page.pieces import Cell, badge, curve, figure, row, row_id, section, table
from sidecar.admin.snapshot import Snapshot, WorkerFacts
from sidecar.admin.words import NOTHING, duration, latency, number


def workers(facts: Snapshot, order: str) -> Markup:
    """The table; without an `order` as the configuration has them."""
    rows = [_row(worker, facts) for worker in ordered(facts, order)]
    rows += [_row(worker, facts, leaving=True) for worker in facts.leaving]
    titles = [_title("", "Worker", order, "As in the configuration")]
    titles += [_title(name, column.title, order, column.meaning) for name, column in COLUMNS.items()]
    titles += [tag("span", "Actions", class_="unseen")] if facts.actions == "page" else []
    note = f"{len(facts.workers)}, the last minute"
    return section("Workers", "workers", table(titles, rows, "cards workers"), note=note)


def _title(name: str, title: str, order: str, meaning: str) -> Markup:
    chosen = name == (order if order in COLUMNS else "")
    target = f"./?sort={name}" if name else "./"
    return tag("a", title, href=target, title=meaning, data_sort=True, aria_current="true" if chosen else None)


def _row(worker: WorkerFacts, facts: Snapshot, *, leaving: bool = False) -> Markup:
    recent, word = worker.recent, "leaving" if leaving else state_word(worker)
    per_second = number(recent.requests_per_second)
    rate = (tag("span", per_second if per_second == NOTHING else f"{per_second}/s"), curve(recent.curve))
    cells = [
        Cell(worker.name),
        Cell((badge(word), *_reasons(worker)), "", "states"),
        Cell(number(worker.leased), "In flight", "figure"),
        figure(number(worker.waiting), "Queue", "warm"),
        Cell(rate, "Rate", "figure rate"),
        figure(latency(recent.p50), "p50"),
        figure(latency(recent.p99), "p99"),
        figure(latency(recent.slowest), "Slowest"),
        figure(number(recent.errors), "Errors", "hot"),
        figure(duration(worker.changed), "Since"),
    ]
    if facts.actions == "page":
        cells.append(Cell(None if leaving else _action(worker), "", "action"))
    return tag_row(cells, worker, word, leaving=leaving)


def _reasons(worker: WorkerFacts) -> Iterator[Markup]:
    """Why it is so, and on which instances it is not."""
    for text in (worker.whereabouts, worker.reason, worker.adjusted):
        if text:
            yield tag("span", text, class_="reason")


def tag_row(cells: list[Cell], worker: WorkerFacts, word: str, *, leaving: bool) -> Markup:
    """The row, with the anchor that chips lead to."""
    identifier = None if leaving else row_id(worker.name)
    return row(cells, id=identifier, class_=f"of-{word.replace(' ', '-')}")


def _action(worker: WorkerFacts) -> list[Markup]:
    """Drain and resume where it is drained on some instances only."""
    drain = [] if worker.drained else [_button(worker, "drain", "Drain")]
    resume = [] if worker.undrained else [_button(worker, "undrain", "Resume")]
    return [*drain, *resume, _button(worker, "values", "Change")]


def _button(worker: WorkerFacts, what: str, word: str) -> Markup:
    target = f"workers/{quote(worker.name, safe='')}/{what}"
    return tag("a", word, href=target, class_="button", data_confirm=True, aria_label=f"{word} {worker.name}")
