"""Endpoints and the hottest keys on the screen of `top`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.snapshot import HOT_KINDS, Snapshot
from sidecar.admin.words import duration, latency, number
from sidecar.top.styled import Line, Piece, fitted, left, right

_COLUMNS = (("RATE", 8), ("TIME", 8), ("P50", 8), ("P99", 8), ("SLOWEST", 8), ("5xx", 6))


def endpoints(facts: Snapshot, width: int) -> Iterator[Line]:
    """Those with requests in the last minute, the busiest first."""
    taken = sum(size + 1 for _, size in _COLUMNS)
    longest = max((len(name) for name in facts.busiest), default=0)
    name_size = max(10, min(longest, width - taken))
    titles = " ".join(right(title, size) for title, size in _COLUMNS)
    yield (Piece(left(f"{left('ENDPOINT', name_size)} {titles}", width), "title"),)
    if not facts.busiest:
        yield (Piece("No request has ended in the last minute.", "soft"),)
    for name, lately in facts.busiest.items():
        texts = (
            f"{number(lately.requests / 60)}/s",
            latency(lately.seconds),
            latency(lately.p50),
            latency(lately.p99),
            latency(lately.slowest),
        )
        numbers = " ".join(right(text, size) for text, (_, size) in zip(texts, _COLUMNS, strict=False))
        errors = Piece(f" {right(number(lately.errors), 6)}", "bad" if lately.errors else "soft")
        yield fitted((Piece(f"{left(name, name_size)} ", "bold"), Piece(numbers), errors), width)


def hottest(facts: Snapshot, width: int) -> Iterator[Line]:
    """A few of each kind, as hashes."""
    for kind, title in HOT_KINDS.items():
        keys = facts.hottest.keys.get(kind, ())
        if keys:
            yield fitted((Piece(f"{title}, the last {duration(facts.hottest.seconds)}", "bold"),), width)
        for key in keys:
            told = f"  {key.hash} {right(number(key.per_second), 8)}/s {right(f'{key.share:.0%}', 5)}"
            yield fitted((Piece(told),), width)
