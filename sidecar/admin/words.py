"""Numbers as people read them, the same on the status page and in `matrix-sidecar top`. Pure."""

from __future__ import annotations

NOTHING = "–"  # noqa: RUF001
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_SIZES = ("B", "kB", "MB", "GB", "TB")


def duration(seconds: float | None) -> str:
    """How long something has been so: `5 s`, `12 min`, `3 h 20 min`, `4 d 2 h`."""
    if seconds is None:
        return NOTHING
    for index, (length, unit) in enumerate(_UNITS):
        if seconds >= length:
            whole = int(seconds // length)
            smaller = _UNITS[index + 1] if index + 1 < len(_UNITS) else None
            rest = int(seconds % length // smaller[0]) if smaller is not None else 0
            return f"{whole} {unit} {rest} {smaller[1]}" if smaller is not None and rest else f"{whole} {unit}"
    return f"{int(seconds)} s"


def latency(seconds: float | None) -> str:
    """How long an answer took: `0.4 ms`, `12 ms`, `1.3 s`, `28 s`."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def number(value: float | None) -> str:
    """A count or a rate: `0`, `0.3`, `12`, `1,234`; a thin line where it is not known."""
    if value is None:
        return NOTHING
    return f"{value:.1f}" if 0 < value < 9.95 and value != int(value) else f"{value:,.0f}"


def size(octets: float | None) -> str:
    """Bytes: `512 B`, `1.2 kB`, `35 MB` (powers of 1000)."""
    if octets is None:
        return NOTHING
    unit = 0
    while octets >= 999.5 and unit < len(_SIZES) - 1:
        octets, unit = octets / 1000, unit + 1
    return f"{octets:.1f} {_SIZES[unit]}" if unit and octets < 9.95 else f"{octets:.0f} {_SIZES[unit]}"
