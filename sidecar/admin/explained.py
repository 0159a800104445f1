"""What would happen to a request, as the page and `/api/explain` show it. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from sidecar.admin.snapshot import BAD, WorkerFacts


@frozen(kw_only=True)
class Explained:
    """The story of one request that nobody sent."""

    title: str
    steps: tuple[tuple[str, str], ...]
    outcome: str
    """One sentence."""
    forwarded: bool
    order: tuple[str, ...] = ()
    """Workers in the order in which they would be tried, those of the fallback last."""
    keyless: bool = False
    """Among those that could take it the one with the fewest requests in flight does."""
    others: tuple[tuple[str, str], ...] = ()
    """Who is not chosen, and why."""
    facts: Mapping[str, Any] = field(factory=dict)
    """What `explain --json` prints."""


Explain = Callable[[str, str], Explained]
"""Takes a request as a person pastes it, and the address that it comes from. Raises ValueError with a sentence."""


def at_this_moment(explained: Explained, workers: Mapping[str, WorkerFacts]) -> str:
    """Who would get the request now, where that is not who would get it if all were up; else empty."""
    passed: list[str] = []
    for name in explained.order:
        worker = workers.get(name)
        if worker is not None and worker.state not in BAD and worker.state != "draining":
            return f"Now {name} gets it, because {_and(passed)}." if passed else ""
        passed.append(f"{name} is {worker.state if worker is not None else 'gone'}")
    return f"Now it waits, because {_and(passed)}." if passed else ""


def _and(clauses: list[str]) -> str:
    *most, last = clauses
    return f"{', '.join(most)} and {last}" if most else last
