"""The list of events on the screen of `top`, the newest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.snapshot import Snapshot
from sidecar.admin.words import duration
from sidecar.top.styled import Line, Piece, Style, fitted, left, right

_STYLES: dict[str, Style] = {
    "down": "bad",
    "up": "good",
    "flaps": "bad",
    "drain": "warm",
    "undrain": "good",
    "adjusted": "warm",
    "maintenance": "warm",
    "refused": "warm",
    "shed": "warm",
    "misroutes": "warm",
}
_AGO, _WORD = 11, 15


def events(facts: Snapshot, width: int) -> Iterator[Line]:
    """One line for each."""
    most = max((len(event.about) for event in facts.events), default=0)
    about = min(max(most, 6), max(width // 5, 8))
    yield (Piece(left(f"{right('AGO', _AGO)}  {left('WHAT', _WORD)} {left('WORKER', about)} MORE", width), "title"),)
    if not facts.events:
        yield (Piece("No events, or this sidecar does not report them.", "soft"),)
    for event in facts.events:
        by = f" (by {event.by})" if event.by else ""
        pieces = (
            Piece(f"{right(duration(event.ago), _AGO)}  ", "soft"),
            Piece(left(event.word, _WORD), _STYLES.get(event.kind, "plain")),
            Piece(f" {left(event.about, about)} {event.told}{by}"),
        )
        yield fitted(pieces, width)
