"""What a route of ours is, for what a proxy does with a request. Knows neither proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.importing.asked import Asked, Position, ProxyVerdict
from sidecar.importing.draft import OwnRoute
from sidecar.importing.paths import covers
from sidecar.importing.prefixes import NO_PREFIXES

FILES = "it serves files; keep them on a web server, and route these paths to it with a pool"
_HUNG_UP = 444


def own_route(
    place: Position,
    conditions: Mapping[str, Any],
    verdict: ProxyVerdict,
    asked: Asked | None = None,
    *,
    is_filter: bool = False,
) -> OwnRoute:
    """The route of a line that does this with requests for which these conditions hold."""
    if verdict.action == "forward" and (not verdict.rewrites or verdict.prefixes):
        prefixes = verdict.prefixes or NO_PREFIXES
        return OwnRoute(place=place, conditions=conditions, upstream=verdict.pool, prefixes=prefixes)
    outcome = outcome_of(verdict, asked)
    why_not = "" if outcome else verdict.rewrites and f"{verdict.rewrites}, which the sidecar does not do"
    if verdict.action == "files":
        return OwnRoute(place=place, conditions=conditions, outcome={"refuse": 404}, why_not="", remark=FILES)
    if not outcome:
        why_not = why_not or "; ".join(verdict.doubts) or "the sidecar has nothing like it"
    refuses = verdict.action == "refuse" and (verdict.status or 0) in (401, 403, 429, 444)
    return OwnRoute(
        place=place, conditions=conditions, outcome=outcome, why_not=why_not, is_filter=is_filter or refuses
    )


def outcome_of(verdict: ProxyVerdict, asked: Asked | None = None) -> dict[str, Any]:
    """The outcome of a route that answers like this; empty where there is none."""
    if verdict.action == "redirect":
        to = verdict.location
        if asked is not None:
            to = to.replace(asked.host, "{host}") if asked.host else to
            to = to.replace(asked.target, "{target}") if asked.target != "/" else to
        return {"redirect": {"to": to or "/", "status": verdict.status or 302}}
    if verdict.action == "refuse" and (verdict.status or 0) >= 400:
        # Who hangs up without a word is answered with a word here.
        return {"refuse": 403 if verdict.status == _HUNG_UP else verdict.status}
    if verdict.action == "respond" and not verdict.doubts:
        json = {"Content-Type": "application/json"} if verdict.body.lstrip().startswith("{") else {}
        headers = {**json, **verdict.headers}
        body = {"body": verdict.body} if verdict.body else {}
        return {"respond": {"status": verdict.status, **body, **({"headers": headers} if headers else {})}}
    return {}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both conditions together; None where they exclude each other, or cannot be said in one route."""
    found = dict(one)
    for key, value in other.items():
        if key not in found:
            found[key] = value
        elif key == "path":
            if covers(found[key], value):
                found[key] = value
            elif not covers(value, found[key]):
                return None
        elif isinstance(value, list):
            both = [each for each in value if each in found[key]]
            if not both:
                return None
            found[key] = both
        elif found[key] != value:
            return None
    return found
