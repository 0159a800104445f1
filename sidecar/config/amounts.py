"""Durations and sizes as people write them: `10s`, `50M`. Knows nothing of what they are for."""

from __future__ import annotations

import math
import re
from typing import Any

KIB = 1024
MIB = 1024 * KIB
DAY = 24 * 60 * 60
LONGEST = 365 * DAY
"""Longest duration: timers overflow somewhere above it."""

_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": DAY}
_SIZE_UNITS = {"": 1, "K": KIB, "M": MIB, "G": KIB * MIB}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,15})([KMG]?)", re.ASCII)


def read_duration(value: Any) -> float | None:
    """Seconds; None where the value is no duration, not a number where it is too long."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return math.nan if abs(value) > LONGEST else float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) * _DURATION_UNITS[match[2]] if match else None


def write_duration(seconds: float) -> str:
    """`900.0` as `15m`: the largest unit that leaves a whole number."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _DURATION_UNITS[unit] == 0:
            return f"{int(seconds // _DURATION_UNITS[unit])}{unit}"
    return f"{seconds * 1000:.9g}ms" if seconds else "0s"


def read_size(value: Any) -> int | None:
    """Octets; None where the value is no size."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match:
        return int(match[1]) * _SIZE_UNITS[match[2]]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def write_size(size: int) -> str:
    """`52428800` as `50M`: the largest unit that leaves a whole number."""
    for unit in ("G", "M", "K"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)
