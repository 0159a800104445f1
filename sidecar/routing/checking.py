"""Faults of `pools:` and `routes:` that show only when the processes are known. Says nothing of syntax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from sidecar.config.schema import Pool, Settings
from sidecar.errors import Problem, Severity
from sidecar.routing.pools import BUILT_IN, Pools, unfold
from sidecar.synapse.endpoints import Endpoint
from sidecar.synapse.names import MAIN


def problems_of(settings: Settings, pools: Pools, rows: Sequence[Endpoint]) -> list[Problem]:
    """Every fault found; those of severity ERROR make a plan impossible."""
    return [
        *_of_pools(settings, pools, rows),
        *_of_routes(settings),
        *_of_writers(settings, pools, rows),
    ]


def _of_pools(settings: Settings, pools: Pools, rows: Sequence[Endpoint]) -> Iterator[Problem]:
    for name, pool in settings.pools.items():
        key = f"pools.{name}"
        for pattern in pool.workers or ():
            if not unfold((pattern,), pools.workers):
                known = _nearest(pattern, pools.workers)
                yield Problem(settings.path, 0, f"{key}.workers", f"no worker is called `{pattern}`; {known}")
        for other in pool.fallback or ():
            if not _is_pool(other, settings):
                yield Problem(settings.path, 0, f"{key}.fallback", _no_pool(other, settings))
        yield from _of_members(settings, pools, rows, name, pool)


def _of_members(settings: Settings, pools: Pools, rows: Sequence[Endpoint], name: str, pool: Pool) -> Iterator[Problem]:
    """Workers that a built-in pool is given and that serve none of its endpoints."""
    own = [row for row in rows if pools.pool_of(row) == name]
    for worker in unfold(pool.workers or (), pools.workers):
        if name != MAIN and own and not any(pools.serves(pools.workers[worker], row) for row in own):
            message = f"`{worker}` serves no endpoint of this pool and will get none of its requests; leave it out"
            yield Problem(settings.path, 0, f"pools.{name}.workers", message, Severity.WARNING)


def _of_routes(settings: Settings) -> Iterator[Problem]:
    for number, route in enumerate(settings.routes):
        key = f"routes[{number}]"
        if route.pool is not None and not _is_pool(route.pool, settings):
            yield Problem(settings.path, 0, f"{key}.pool", _no_pool(route.pool, settings))
        if route.path is not None and "**" in route.path.split("/")[:-1]:
            message = (
                "`**` stands for the rest of a path and can only be its last segment; write `{name}` for one segment"
            )
            yield Problem(settings.path, 0, f"{key}.path", message)


def _of_writers(settings: Settings, pools: Pools, rows: Sequence[Endpoint]) -> Iterator[Problem]:
    """Streams whose requests nobody who can be reached may answer."""
    hard = {row.stream: row for row in rows if row.hard and row.stream}
    for stream, row in hard.items():
        stated = pools.facts.known or pools.writers[stream] != (pools.main.name,)
        if stated and not any(pools.serves(worker, row) for worker in pools.workers.values()):
            writers = ", ".join(pools.writers[stream])
            message = (
                f"no writer of {stream} ({writers}) can be reached for requests, so they are answered 503; give it a "
                f"listener with the resource {' or '.join(sorted(row.worker_resources))}"
            )
            yield Problem(settings.path, 0, f"pools.{stream}", message, Severity.WARNING)


def _is_pool(name: str, settings: Settings) -> bool:
    return name in BUILT_IN or name in settings.pools


def _no_pool(name: str, settings: Settings) -> str:
    return f"there is no pool `{name}`; {_nearest(name, {**dict.fromkeys(BUILT_IN), **settings.pools})}"


def _nearest(name: str, known: object) -> str:
    names = list(known)  # type: ignore[call-overload]
    near = get_close_matches(name, names, 1)
    return f"do you mean `{near[0]}`?" if near else f"known are {', '.join(names)}"
