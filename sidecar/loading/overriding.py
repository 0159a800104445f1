"""From a deployment to one in which a worker has another weight or maximum, and what a reload keeps of that. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.loading.deployment import Deployment, with_overrides
from sidecar.routing.overrides import Adjustable, Override, stated, with_override
from sidecar.routing.plan import Plan

LARGEST = 1_000_000
"""Of a weight or a maximum."""


class RefusedValueError(ValueError):
    """A value that a worker cannot have; the text is a sentence."""


def adjusted_deployment(
    deployment: Deployment, name: str, what: Adjustable, value: float | None, by: str
) -> Deployment:
    """The deployment in which a worker of it has `value`, or again the file's (None). Raises RefusedValueError."""
    worker = deployment.plan.workers[name]
    filed = stated(worker, what, deployment.settings.limits)
    wanted = filed if value is None else value
    if value is not None:
        _check(deployment, name, what, value)
    new = Override(worker=name, what=what, value=wanted, stated=filed, by=by)
    found = with_overrides(deployment, with_override(deployment.overrides, new))
    deserted = sorted(_deserted(found.plan) - _deserted(deployment.plan))
    if deserted:
        raise RefusedValueError(
            f"Nobody else serves {', '.join(deserted)}. Drain {name} instead: then those requests wait for it."
        )
    return found


def _check(deployment: Deployment, name: str, what: Adjustable, value: float) -> None:
    if what is Adjustable.MAXIMUM:
        if not 1 <= value <= LARGEST or value != int(value):
            raise RefusedValueError(
                f"A maximum is a whole number from 1 to {LARGEST}. To give {name} no requests, drain it."
            )
        return
    if not 0 <= value <= LARGEST:
        raise RefusedValueError(f"A weight is a number from 0 to {LARGEST}.")
    if not value and deployment.plan.workers[name].is_main:
        raise RefusedValueError(f"{name} is the main process, which some requests need. It cannot have weight 0.")


def _deserted(plan: Plan) -> set[str]:
    """What no worker serves, whoever is up."""
    parts = [part for parts in plan.parts.values() for part in parts if part.open and not part.everybody]
    return {f"{endpoint} (pool {part.pool})" for part in parts for endpoint in part.endpoints}


def carried(before: Deployment, found: Deployment) -> tuple[Deployment, tuple[str, ...]]:
    """What a reload has found, with the overrides that still hold; and a sentence for each that does not."""
    kept: list[Override] = []
    ended = []
    for each in before.overrides:
        why = _why_over(each, found) or _why_missed(each, kept, found)
        if why:
            value = f"the {each.what.value} {each.value:g} that was set at run time"
            ended.append(f"{each.worker}: {value} has ended, because {why}")
        else:
            kept.append(each)
    return (with_overrides(found, tuple(kept)) if kept else found), tuple(ended)


def _why_over(override: Override, found: Deployment) -> str:
    worker = found.plan.workers.get(override.worker)
    if worker is None:
        return "the worker is gone"
    filed = stated(worker, override.what, found.settings.limits)
    return f"the file now says {filed:g}" if filed != override.stated else ""


def _why_missed(override: Override, kept: Sequence[Override], found: Deployment) -> str:
    """Why a worker that was taken out at run time is needed now, because of what the files say."""
    if override.value or override.what is not Adjustable.WEIGHT:
        return ""
    deserted = sorted(_deserted(with_overrides(found, (*kept, override)).plan) - _deserted(found.plan))
    return f"nobody else serves {', '.join(deserted)}" if deserted else ""
