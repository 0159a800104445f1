"""What is odd about `pools:` once the endpoint table is known. Names that mean nothing were found before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.config.schema import Settings
from sidecar.errors import Problem, Severity
from sidecar.routing.pools import Pools
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.names import MAIN


def idle_members(settings: Settings, pools: Pools, rows: Sequence[Endpoint]) -> Iterator[Problem]:
    """Workers that a built-in pool is given and that serve none of its endpoints."""
    for name, workers in pools.named.items():
        # Every process answers /health, which makes no worker of use to a pool.
        own = [row for row in rows if pools.pool_of(row) == name and row.name != "health"]
        for worker in workers if name != MAIN else ():
            if own and not any(pools.serves(pools.workers[worker], row) for row in own):
                message = f"`{worker}` serves no endpoint of this pool and will get none of its requests; leave it out"
                yield settings.source.problem(("pools", name, "workers"), message, Severity.WARNING)
