"""The list of events on the status page, newest first. The older ones are folded."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.page.pieces import Cell, badge, row, section, table
from sidecar.admin.snapshot import Happened, Snapshot
from sidecar.admin.words import duration

SHOWN = 12
"""The number that is not folded."""
_KINDS = {
    "down": "down",
    "up": "up",
    "flaps": "stuck",
    "drain": "draining",
    "undrain": "up",
    "adjusted": "draining",
    "maintenance": "draining",
    "refused": "stuck",
    "shed": "stuck",
    "misroutes": "stuck",
}
"""By kind of event the kind of badge, where it is not a plain one."""


def events(facts: Snapshot) -> Markup | None:
    """Nothing if the sidecar reports none."""
    if not facts.events:
        return None
    newest, older = facts.events[:SHOWN], facts.events[SHOWN:]
    folded = tag("details", tag("summary", f"{len(older)} older"), _table(older), id="older-events") if older else None
    return section("Events", "events", _table(newest), folded, note="the newest first")


def _table(events: Sequence[Happened]) -> Markup:
    return table(("When", "What", "Worker", "More"), [_row(event) for event in events], "cards events")


def _row(event: Happened) -> Markup:
    when = tag("time", duration(event.ago), " ago", datetime=event.time, title=event.time)
    by = tag("span", f"by {event.by}", class_="reason") if event.by else None
    return row(
        (
            Cell(when),
            Cell(badge(event.word, _KINDS.get(event.kind, "plain"))),
            Cell(event.about, "", "" if event.about else "dull"),
            Cell((event.told, by), "", "wide"),
        )
    )
