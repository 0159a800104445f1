"""How the pools of syncs were formed, what that costs, and what else could be written: sentences for people.

Of other pools there is little to say: how many workers share their keys costs Synapse next to nothing. Names of workers
are looked at only for what is proposed; they decide nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sidecar.config.schema import Pool
from sidecar.plurals import counted
from sidecar.routing.plan import Plan, PlannedPool
from sidecar.routing.pools import LIKE_SYNC, SYNC

COST = "Each worker that holds syncs loads every event of its users' rooms, so fewer workers mean less load on Synapse."


def sentences(plan: Plan) -> Iterator[str]:
    """What there is to say; nothing where one process has all syncs anyway."""
    alike: dict[str, list[str]] = {}
    for name in (SYNC, *LIKE_SYNC):
        pool = plan.pools.get(name)
        if pool is not None and len(pool.workers) > 1:
            alike.setdefault(f"{_shared(pool)} {_why(name, plan)}", []).append(name)
    for told, names in alike.items():
        yield f"{', '.join(names)}: {told}"
    if alike:
        yield f"{COST} {_otherwise(plan)}"


def _shared(pool: PlannedPool) -> str:
    sharing, reserve = ", ".join(pool.sharing), pool.reserve
    if not reserve:
        return f"{sharing} serve the syncs."
    verb = "serve" if len(pool.sharing) > 1 else "serves"
    others = "the others stand" if len(reserve) > 1 else "the other stands"
    return (
        f"{len(pool.sharing)} of {counted(len(pool.workers), 'worker')} {verb} the syncs ({sharing}); {others} in "
        f"({', '.join(reserve)})."
    )


def _why(name: str, plan: Plan) -> str:
    settings = plan.membership.settings
    for pool in (name, SYNC):
        stated = settings.get(pool, Pool())
        if stated.spread is not None:
            return f"`pools.{pool}.spread` says so."
        if stated.workers is not None:
            return f"`pools.{pool}.workers` names them."
    return "Without `pools.sync`, half of the workers that serve clients do."


def _otherwise(plan: Plan) -> str:
    """What to write for another choice."""
    pool = plan.pools[SYNC]
    found = "Write `pools: {sync: {spread: N}}` for another number"
    globs = meant_for(SYNC, pool.workers)
    if globs and plan.membership.settings.get(SYNC, Pool()).workers is None:
        return f"{found}, or `pools: {{sync: {{workers: {_listed(globs)}}}}}` to have those of that name."
    return f"{found}."


def _listed(globs: Iterable[str]) -> str:
    return f"[{', '.join(_quoted(glob) for glob in globs)}]"


def _quoted(glob: str) -> str:
    return f'"{glob}"'


def meant_for(word: str, names: Collection[str]) -> tuple[str, ...]:
    """Globs of the workers whose names hold the word; none where none or all do, which tells nothing.

    `sync` is in sync1, synchrotron2 and generic-sync-3.
    """
    meant = [name for name in names if word in name.lower()]
    if not meant or len(meant) == len(names):
        return ()
    return tuple(dict.fromkeys(f"{name.rstrip('0123456789-_.')}*" for name in meant))
