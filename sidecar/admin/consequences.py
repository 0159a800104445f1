"""What the drain of a worker would do, told before it is done: on the status page and in `matrix-sidecar top`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.snapshot import BAD, PoolFacts, Snapshot
from sidecar.admin.words import counted


def consequences(facts: Snapshot, name: str) -> Iterator[str]:
    """What becomes of the requests that a worker has, and where those of each pool go that it would not get."""
    yield f"It gets no new requests. {_running(facts.workers[name].leased)}"
    pools: dict[str, list[str]] = {}
    for pool_name, pool in facts.pools.items():
        if name in pool.workers:
            pools.setdefault(_instead(facts, pool, name), []).append(pool_name)
    for outcome, names in pools.items():
        yield f"{', '.join(names)}: {outcome}."


def _instead(facts: Snapshot, pool: PoolFacts, name: str) -> str:
    def taking(names: tuple[str, ...]) -> list[str]:
        workers = [facts.workers[each] for each in names if each != name and each in facts.workers]
        return [worker.name for worker in workers if worker.state not in BAD and worker.state != "draining"]

    others = taking(pool.workers) or taking(pool.fallback)
    if others:
        return f"{', '.join(others)} {'takes' if len(others) == 1 else 'take'} its requests"
    return "nobody else may take these; they wait, and are then answered 503"


def _running(leased: int) -> str:
    if not leased:
        return "It has none in flight."
    return f"{counted(leased, 'request')} that it has now {'ends by itself' if leased == 1 else 'end by themselves'}."
