"""The endpoint table as a file: what each release has, in rows with `since` and `until`, the overlay written in.

`python -m sidecar.synapse.table` writes the overlay into the table anew, after the overlay was changed. Pure but for
that and for reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from sidecar.synapse.overlay import Judgement, Overlay, OverlayError, read_overlay
from sidecar.synapse.releases import Release, release_of, text_of

TABLE = Path(__file__).parent / "data" / "endpoints.json"


@frozen
class Fact:
    """That Synapse has `method` on `path` (in the notation of `patterns`), and which listener resources serve it."""

    method: str
    path: str
    name: str
    main: frozenset[str] = frozenset()
    worker: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    lacks: frozenset[str] = field(default=frozenset(), eq=False, repr=False)
    """What a worker does not have of what its code uses, in words (`NAME in FUNCTION`). Known only of the release that
    is being asked; the table does not keep it, and is not written until the overlay has judged it."""


Facts = frozenset[Fact]
"""What one release has. One method of one path is there twice where it depends on the configuration who serves it."""


@frozen
class Span:
    """A fact, and the releases in which it holds: from `since` (None: the oldest known) to before `until`."""

    fact: Fact
    since: Release | None
    until: Release | None

    def holds_in(self, release: Release) -> bool:
        return (self.since is None or self.since <= release) and (self.until is None or release < self.until)


def spans_of(releases: Mapping[Release, Facts]) -> list[Span]:
    """The facts of all `releases`, each with the unbroken stretches of releases that have it unchanged."""
    order = sorted(releases)
    spans: list[Span] = []
    running: dict[Fact, tuple[Release | None, str]] = {}
    for previous, release in zip([None, *order], order, strict=False):
        present = {evolve(fact, name=""): fact.name for fact in releases[release]}
        for fact in [each for each in running if each not in present]:
            since, name = running.pop(fact)
            spans.append(Span(evolve(fact, name=name), since, release))
        for fact, name in present.items():
            since = running[fact][0] if fact in running else (release if previous else None)
            running[fact] = (since, name)
    spans.extend(Span(evolve(fact, name=name), since, None) for fact, (since, name) in running.items())
    return spans


def releases_of(spans: list[Span], known: list[Release]) -> dict[Release, Facts]:
    """The reverse of `spans_of`, for all `known` releases; a name is that of the newest release."""
    return {release: frozenset(span.fact for span in spans if span.holds_in(release)) for release in sorted(known)}


def read_table(file: Path = TABLE) -> dict[Release, Facts]:
    """The facts in `file` by release; empty where there is no file yet."""
    if not file.exists():
        return {}
    document = json.loads(file.read_text("utf-8"))
    spans = [
        Span(_fact(row, method), _release(row.get("since")), _release(row.get("until")))
        for row in document["endpoints"]
        for method in row["methods"].split()
    ]
    return releases_of(spans, [release_of(each) for each in document["releases"]])


def _release(text: str | None) -> Release | None:
    return release_of(text) if text else None


def _fact(row: Mapping[str, Any], method: str) -> Fact:
    main, worker, needs = (frozenset(row.get(column, "").split()) for column in ("main", "worker", "needs"))
    return Fact(method, row["path"], row["name"], main, worker, needs)


def text_of_table(releases: Mapping[Release, Facts], overlay: Overlay) -> str:
    """The file: one line for each row, sorted by path. Raises OverlayError where overlay and facts do not fit."""
    rows = list(_rows(spans_of(releases), overlay))
    missing = [
        f"overlay.yaml: no entry gives a group to {row['methods']} {row['path']}" for row in rows if not row["group"]
    ]
    faults = (
        missing
        + [each for facts in releases.values() for each in _unjudged(facts, overlay)]
        + [f"overlay.yaml: {selector!r} means no endpoint" for selector in overlay.unused()]
    )
    if faults:
        raise OverlayError("\n".join(faults))
    known = json.dumps([text_of(release) for release in sorted(releases)])
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    return f'{{"releases": {known},\n"endpoints": [\n{lines}\n]}}\n'


def _unjudged(facts: Facts, overlay: Overlay) -> Iterator[str]:
    """What workers may not be able to answer although they mount it, and of which no entry says what to do."""
    lacking = [fact for fact in facts if fact.lacks]
    for fact in sorted(lacking, key=lambda each: (each.path, each.method)):
        judgement = overlay.judge(fact.method, fact.path)
        for lack in sorted(fact.lacks - judgement.safe) if judgement.group != "main" else ():
            yield (
                f"overlay.yaml: workers mount {fact.method} {fact.path} but lack {lack}; "
                f"write `group: main`, or `safe: [{lack}]` with the reason why that does no harm"
            )


def _rows(spans: list[Span], overlay: Overlay) -> Iterator[dict[str, Any]]:
    """Rows for the file; methods that agree in everything else share one. What MAS brings comes after what it ends."""
    merged: dict[str, dict[str, Any]] = {}
    for span in sorted(spans, key=_place):
        row = row_of(span, _judge(span.fact, overlay))
        methods = row.pop("methods")
        same = merged.setdefault(json.dumps(row, sort_keys=True), {"path": row["path"], "methods": "", **row})
        same["methods"] = f"{same['methods']} {methods}".strip()
    yield from merged.values()


def _place(span: Span) -> tuple[object, ...]:
    return (span.fact.path, "mas" in span.fact.needs, span.since or (0, 0), span.fact.method, sorted(span.fact.needs))


def _judge(fact: Fact, overlay: Overlay) -> Judgement:
    judgement = overlay.judge(fact.method, fact.path)
    if fact.worker:
        return judgement
    return Judgement(
        group="main",
        replayable=judgement.replayable,
        cost=judgement.cost,
        reason="No worker of this release serves it.",
    )


def row_of(span: Span, judgement: Judgement) -> dict[str, Any]:
    """A row of the file, without the columns that are empty."""
    fact = span.fact
    row = {
        "methods": fact.method,
        "path": fact.path,
        "name": fact.name,
        "main": " ".join(sorted(fact.main)),
        "worker": " ".join(sorted(fact.worker)),
        "needs": " ".join(sorted(fact.needs)),
        "since": span.since and text_of(span.since),
        "until": span.until and text_of(span.until),
        "group": judgement.group,
        "stream": judgement.stream,
        "hard": judgement.hard,
        "affinity": judgement.affinity,
        "key": judgement.key,
        "replayable": judgement.replayable,
        "cost": judgement.cost,
        "reason": judgement.reason,
    }
    return {column: value for column, value in row.items() if value or column == "group"}


def write_table(releases: Mapping[Release, Facts], overlay: Overlay, file: Path = TABLE) -> None:
    """Writes `file`; nothing is written where overlay and facts do not fit (OverlayError)."""
    file.write_text(text_of_table(releases, overlay), "utf-8")


if __name__ == "__main__":
    write_table(read_table(), read_overlay())
