"""Counts in words: the only place that knows when a word takes its plural. Pure."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 request`, `2 requests`; `many` is the plural where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
