"""Kinds of value for how work is shared among workers, and how they are asked whether they can do it.

Like `sidecar.config.kinds`: knows no key, no file and no line.
"""

from __future__ import annotations

from typing import Annotated, Any

from sidecar.config.kinds import Kind, RefusedError, shown


def _read_share(value: Any, _base: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise RefusedError("must be a number above 0 and at most 1: write for example `0.5`")
    if not 0 < value <= 1:
        raise RefusedError(f"must be above 0 and at most 1, not {shown(value)}")
    return float(value)


def _read_health(value: Any, _base: str) -> str:
    if value is False:
        return ""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or " " in value:
        raise RefusedError(f"must be a path such as `/health`, or `false`, not {shown(value)}")
    return value


Share = Annotated[
    float,
    Kind(
        "share",
        "0.5",
        _read_share,
        "{:g}".format,
        json={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    ),
]
HealthPath = Annotated[
    str,
    Kind(
        "path or `false`",
        "/health",
        _read_health,
        lambda path: path or "false",
        {"anyOf": [{"type": "string", "pattern": "^/"}, {"const": False}]},
    ),
]
