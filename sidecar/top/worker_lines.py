"""The table of workers on the screen of `top`: as many columns as fit, the chosen row in sight. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen

from sidecar.admin.columns import state_word
from sidecar.admin.snapshot import WorkerFacts
from sidecar.admin.words import NOTHING, duration, latency, number
from sidecar.top.spark import spark
from sidecar.top.state import TopState
from sidecar.top.styled import Line, Piece, Style, left, right

_STYLES: dict[str, Style] = {
    "up": "good",
    "slow start": "warm",
    "draining": "warm",
    "leaving": "warm",
    "down": "bad",
    "stuck": "bad",
}
_LEAST, _MOST = 10, 40
"""Characters of a name."""
_REASON = 20
"""Least room in which a reason is shown."""


@frozen
class Column:
    """A column of numbers."""

    name: str
    """As `sidecar.admin.columns` has it."""
    title: str
    width: int
    text: Callable[[WorkerFacts], str]
    alarm: Style = "plain"
    """Style of what is not zero."""


HOUR = 30
"""Characters of the curve of a worker."""
COLUMNS = (
    Column("flight", "RUNS", 6, lambda worker: number(worker.leased)),
    Column("waiting", "WAIT", 5, lambda worker: number(worker.waiting), "warm"),
    Column("rate", "RATE", 6, lambda worker: number(worker.recent.requests_per_second)),
    Column("p50", "P50", 7, lambda worker: latency(worker.recent.p50)),
    Column("p99", "P99", 7, lambda worker: latency(worker.recent.p99)),
    Column("slowest", "SLOWEST", 7, lambda worker: latency(worker.recent.slowest)),
    Column("errors", "5xx", 5, lambda worker: number(worker.recent.errors), "bad"),
    Column("changed", "SINCE", 11, lambda worker: duration(worker.changed)),
    Column("hour", "LAST HOUR", HOUR, lambda worker: spark(worker.recent.hour, HOUR)),
)
_DISPENSABLE = ("hour", "slowest", "changed", "p50", "errors", "waiting", "p99", "rate")
"""What is left out first where there is no room."""
_LUXURIES = frozenset(("hour", "slowest"))
_SPARE = 45
"""Characters that these leave to long names and to reasons."""
_STATE = 10


def table(state: TopState, width: int, room: int) -> list[Line]:
    """The title, and so many rows that the chosen one is among them."""
    assert state.facts is not None
    workers = [(worker, state_word(worker)) for worker in state.workers]
    workers += [(worker, "leaving") for worker in state.facts.leaving]
    columns = _columns(width)
    spare = width - _STATE - 1 - sum(column.width + 1 for column in columns)
    longest = max((len(worker.name) for worker, _ in workers), default=0)
    name = min(spare, max(_LEAST, min(longest, _MOST)))
    first = min(max(0, state.place - max(room - 2, 1) + 1), max(len(workers) - 1, 0))
    shown = workers[first : first + max(room - 1, 0)]
    rows = [
        _row(worker, word, columns, (name, width), chosen=index == state.place)
        for index, (worker, word) in enumerate(shown, start=first)
    ]
    return [_title(state, columns, name, width), *rows]


def _columns(width: int) -> list[Column]:
    columns = list(COLUMNS)
    for name in _DISPENSABLE:
        spare = _SPARE if name in _LUXURIES else 0
        if _LEAST + 1 + _STATE + sum(column.width + 1 for column in columns) + spare <= width:
            break
        columns = [column for column in columns if column.name != name]
    return columns


def _title(state: TopState, columns: list[Column], name: int, width: int) -> Line:
    arrow = "^" if state.backwards else "v"

    def titled(column: str, text: str) -> str:
        return f"{text}{arrow}" if column == state.order and (state.order or state.backwards) else text

    texts = [left(titled("", "WORKER"), name), left(titled("state", "STATE"), _STATE)]
    texts += [right(titled(column.name, column.title), column.width) for column in columns]
    return (Piece(left(" ".join(texts), width), "title"),)


def _row(worker: WorkerFacts, word: str, columns: list[Column], size: tuple[int, int], *, chosen: bool) -> Line:
    name, width = size
    pieces = list(_cells(worker, word, columns, name))
    used = sum(len(piece.text) for piece in pieces)
    told = "; ".join(text for text in (worker.whereabouts, worker.reason, worker.adjusted) if text)
    reason = f"  {told}" if told and width - used > _REASON else ""
    pieces.append(Piece(left(reason, width - used), "soft"))
    return tuple(Piece(piece.text, "chosen") for piece in pieces) if chosen else tuple(pieces)


def _cells(worker: WorkerFacts, word: str, columns: list[Column], name: int) -> Iterator[Piece]:
    yield Piece(f"{left(worker.name, name)} ", "bold")
    yield Piece(left(f"{word}*" if worker.states else word, _STATE), _STYLES.get(word, "plain"))
    for column in columns:
        text = column.text(worker)
        dull = text in ("0", NOTHING)
        yield Piece(f" {right(text, column.width)}", "soft" if dull else column.alarm)
