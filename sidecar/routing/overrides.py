"""What an operator has changed of a worker while the sidecar runs, over what the files say. Pure.

A new plan is made of it, as of a file. An override holds until an operator ends it, the file's own value changes, or
the process ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from attrs import evolve, frozen

from sidecar.config.schema import Limits
from sidecar.routing.workers import PlannedWorker


class Adjustable(Enum):
    """What can be changed at run time."""

    WEIGHT = "weight"
    MAXIMUM = "maximum"


@frozen(kw_only=True)
class Override:
    """One value of one worker that holds in place of the file's."""

    worker: str
    what: Adjustable
    value: float
    stated: float
    """What the file said then: when it says something else, the file counts again."""
    by: str
    """Who wanted it."""


def stated(worker: PlannedWorker, what: Adjustable, limits: Limits) -> float:
    """What the file says."""
    if what is Adjustable.WEIGHT:
        return worker.settings.weight
    return worker.settings.maximum or limits.worker_connections


def adjusted(worker: PlannedWorker, overrides: Iterable[Override]) -> PlannedWorker:
    """The worker with what was changed of it."""
    for each in overrides:
        if each.worker == worker.name and each.what is Adjustable.WEIGHT:
            worker = evolve(worker, weight=each.value)
        elif each.worker == worker.name:
            worker = evolve(worker, maximum=int(each.value))
    return worker


def weights_of(overrides: Iterable[Override]) -> dict[str, float]:
    """The weights among them, by worker."""
    return {each.worker: each.value for each in overrides if each.what is Adjustable.WEIGHT}


def with_override(overrides: Iterable[Override], new: Override) -> tuple[Override, ...]:
    """Those with one more, which ends the one before it; none at all where it says what the file says."""
    others = tuple(each for each in overrides if (each.worker, each.what) != (new.worker, new.what))
    return others if new.value == new.stated else (*others, new)
