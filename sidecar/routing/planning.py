"""The pools that people see: who is in each, and who can take over all that clients ask of it.

What is true of a part of a pool only is told by `sidecar.routing.parts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sidecar.config.schema import Settings
from sidecar.routing.access import AccessRules
from sidecar.routing.decision import DEFAULTS
from sidecar.routing.lanes import is_open
from sidecar.routing.plan import PlannedPool, Step
from sidecar.routing.pools import BUILT_IN, CLIENT, Pools
from sidecar.routing.seats import holders_of
from sidecar.synapse.names import MAIN


def planned_pools(
    settings: Settings, pools: Pools, steps: Iterable[Step], access: AccessRules
) -> dict[str, PlannedPool]:
    """Every pool that an endpoint, the file or a rule names. `steps` are those of all rows."""
    by_pool: dict[str, list[Step]] = {MAIN: []}
    for step in steps:
        by_pool.setdefault(step.pool, []).append(step)
    workers = {
        name: tuple(dict.fromkeys(each for step in own for each in step.members)) for name, own in by_pool.items()
    }
    workers[MAIN] = workers[MAIN] or (pools.main.name,)
    generic = workers.get(CLIENT, workers[MAIN])
    routed = [route.pool for route in settings.routes if route.pool]
    names = (*BUILT_IN, *settings.pools, *routed)
    wanted = [name for name in names if name in workers or name in settings.pools or name in routed]
    members = {name: pools.named.get(name) or workers.get(name, generic) for name in wanted}
    return {
        name: _planned(
            name,
            members,
            _sharing(name, members[name], by_pool.get(name, []), pools),
            _shared(by_pool.get(name, []), access),
            settings,
        )
        for name in members
    }


def _sharing(name: str, members: Sequence[str], steps: Sequence[Step], pools: Pools) -> tuple[str, ...]:
    """The workers that share the keys; of a pool that only routes lead to, as those will have it."""
    if steps:
        return tuple(dict.fromkeys(each for step in steps for each in holders_of(step.seats) or step.members))
    able = [name for name in members if pools.workers[name].standing > 0]
    return holders_of(pools.seats(name, able)[0])


def _planned(
    name: str,
    members: Mapping[str, tuple[str, ...]],
    sharing: tuple[str, ...],
    shared: tuple[str, ...],
    settings: Settings,
) -> PlannedPool:
    stated = settings.pools.get(name, DEFAULTS)
    if stated.fallback is not None:
        shared = tuple(worker for pool in stated.fallback for worker in members.get(pool, ()))
    return PlannedPool(
        name=name,
        workers=members[name],
        fallback=tuple(dict.fromkeys(worker for worker in shared if worker not in members[name])),
        sharing=sharing or members[name],
        settings=stated,
    )


def _shared(steps: Sequence[Step], access: AccessRules) -> tuple[str, ...]:
    """The workers that every row which clients can reach has, be it as substitutes."""
    asked = [step for step in steps if step.row is not None and is_open(step.row, access)] or steps
    each = [dict.fromkeys((*step.members, *(name for group in step.fallback for name in group))) for step in asked]
    return tuple(name for name in each[0] if all(name in names for names in each)) if each else ()
