"""Patterns for values of fields: text in which `*` stands for any text, compared without case.

Clients choose what such a pattern is held against. So it is no regular expression: each part between two `*` is looked
for once, from left to right, and what is found is never given up again, which takes one pass over the value for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from sidecar.config.kinds import Kind, RefusedError, read_line, shown

MOST_STARS = 16
LONGEST = 256


def parts_of(pattern: str) -> tuple[bytes, ...]:
    """What stands between the `*` of a pattern, in lower case."""
    return tuple(part.lower().encode() for part in pattern.split("*"))


def is_like(value: bytes, parts: Sequence[bytes]) -> bool:
    """Whether `value` is like the pattern whose `parts_of` these are."""
    lowered = value.lower()
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return lowered == first
    end = len(lowered) - len(last)
    if end < len(first) or not lowered.startswith(first) or not lowered.endswith(last):
        return False
    position = len(first)
    for part in parts[1:-1]:
        position = lowered.find(part, position, end) + len(part)
        if position < len(part):
            return False
    return True


def _read_wildcard(value: Any, base: str) -> str:
    text = read_line(value, base)
    if not text.isascii() or len(text) > LONGEST or text.count("*") > MOST_STARS:
        raise RefusedError(
            f"{shown(text)} is no pattern; write at most {LONGEST} ASCII characters with at most {MOST_STARS} `*`"
        )
    return text


Wildcard = Annotated[str, Kind("pattern", '"*element*"', _read_wildcard)]
