"""Hints for a request that was mistyped: the nearest method or endpoint. Pure; knows nothing of terminals."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches

from sidecar.routing.plan import Plan
from sidecar.synapse.endpoint_rows import Endpoint

_ALIKE = 0.75
"""How alike a path has to be, from 0 to 1, to be proposed."""


def endpoint_hint(method: str, target: str, plan: Plan) -> str:
    """What to say of a request that no endpoint of Synapse takes: another method, another spelling; empty if nothing.

    Compares as Synapse does, which knows one spelling of each path.
    """
    path = target.partition("?")[0]
    rows = [row.endpoint for row in plan.rows]
    fitting = [row for row in rows if _fits(path, row)]
    if fitting:
        methods = {each for row in fitting for each in row.methods}
        taken = f"it takes {', '.join(sorted(methods - {'HEAD'}))}."
        hint = f"did you mean {method.upper()}?" if method.upper() in methods else taken
        return "" if method in methods else f"{shown_path(fitting[0])} does not take {method}; {hint}"
    best = max(((_likeness(path, row), shown_path(row)) for row in rows), default=(0.0, ""))
    return f"Synapse has no such endpoint; did you mean {best[1]}?" if best[0] >= _ALIKE else ""


def shown_path(row: Endpoint) -> str:
    """The path of an endpoint as `routes` shows it."""
    return "/" + "/".join(row.path)


def _fits(path: str, row: Endpoint) -> bool:
    parts = path.split("/")[1:]
    if row.path[-1] == "**":
        return len(parts) >= len(row.path) and all(map(_is, parts, row.path[:-1]))
    return len(parts) == len(row.path) and all(map(_is, parts, row.path))


def _is(part: str, segment: str) -> bool:
    if "|" in segment:
        return part in segment[1:-1].split("|")
    return bool(part) or not segment.endswith("+}") if segment.startswith("{") else part == segment


def _likeness(path: str, row: Endpoint) -> float:
    """From 0 to 1: how alike the literal segments are, where the number of segments is the same or one off."""
    parts = path.split("/")[1:]
    if abs(len(parts) - len(row.path)) > 1 or row.path[-1] == "**":
        return 0.0
    meant = [_nearest_choice(part, segment) for part, segment in zip(parts, row.path, strict=False)]
    meant += [each.strip("{}").partition("|")[0] for each in row.path[len(parts) :]]
    wanted = "/".join(meant)
    return (
        SequenceMatcher(None, path.lower()[1:], wanted.lower(), autojunk=False).ratio()
        if _any_literal(parts, row)
        else 0.0
    )


def _nearest_choice(part: str, segment: str) -> str:
    """The literal that a part of a path may have meant; a parameter takes every part."""
    if not segment.startswith("{"):
        return segment
    if "|" not in segment:
        return part
    choices = segment[1:-1].split("|")
    return next((each for each in choices if each.lower() == part.lower()), choices[0])


def _any_literal(parts: list[str], row: Endpoint) -> bool:
    """Whether the last literal of the row, which says what it is for, has its like in the path."""
    literal = next((each for each in reversed(row.path) if not each.startswith("{") and each), "")
    return bool(get_close_matches(literal.lower(), [part.lower() for part in parts], 1, 0.7))
