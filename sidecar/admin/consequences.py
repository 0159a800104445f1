"""What a drain of a worker would do, shown before it is done on the status page and in `matrix-sidecar top`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.snapshot import Snapshot
from sidecar.plurals import counted
from sidecar.routing.parts import Turn, drained


def consequences(facts: Snapshot, name: str) -> Iterator[str]:
    """What becomes of the requests that a worker has, and who gets those that it would have got."""
    yield f"It gets no new requests. {_running(facts.workers[name].leased)}"
    outcomes: dict[str, list[str]] = {}
    for part, turn in drained(facts.parts, facts.takes, name):
        outcomes.setdefault(_instead(turn), []).append(part.name)
    for outcome, names in outcomes.items():
        yield f"{', '.join(names)}: {outcome}."


def _instead(turn: Turn) -> str:
    if turn.workers:
        return f"{', '.join(turn.workers)} {'takes' if len(turn.workers) == 1 else 'take'} its requests"
    return "nobody else may take these; they wait, and are then answered 503"


def _running(leased: int) -> str:
    if not leased:
        return "It has none in flight."
    return f"{counted(leased, 'request')} that it has now {'ends by itself' if leased == 1 else 'end by themselves'}."
