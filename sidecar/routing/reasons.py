"""Why an endpoint goes where it goes, in one sentence for people. Worked out once for each endpoint row."""

from __future__ import annotations

from collections.abc import Collection

from sidecar.routing.pools import EVENTS, Pools
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.mas import MAS
from sidecar.synapse.names import MAIN


def reason_of(pools: Pools, row: Endpoint, pool: str, members: Collection[str]) -> str:
    """Who can answer `row`, as the plan sees it, and after it what the table says of the endpoint."""
    said = f"; {row.reason[:1].lower()}{row.reason[1:].rstrip('.')}" if row.reason else ""
    return _who(pools, row, pool, members) + said


def _who(pools: Pools, row: Endpoint, pool: str, members: Collection[str]) -> str:
    main = pools.main.name
    stated = set(pools.named.get(pool, ()))
    whoever = f"worker of pool {pool}" if stated else "process"
    if not pools.is_mounted(row, members):
        return f"no {whoever} serves it; main answers 404"
    if pool == MAIN:
        return "only the main process answers it"
    if pool == MAS:
        return "only the Matrix Authentication Service answers it"
    if not members and stated:
        return f"no worker of pool {pool} serves it"
    if not members:
        named = ", ".join(pools.named_for(row))
        return f"no process that can be reached serves it{f'; it belongs to {named}' if named else ''}"
    if row.hard:
        return f"only a writer of {row.stream} can answer it, so no other process is tried"
    if set(members) == {main}:
        if stated == {main}:
            return f"the configuration gives pool {pool} to main alone"
        return f"no {whoever if stated else 'worker'} serves it, so main answers it"
    if pools.waits(pool, row):
        writer = "the event persister that owns the room" if pool == EVENTS else f"the writer of {row.stream}"
        return f"{writer} does it; any other process would only pass it on, so no other is tried"
    if pool == EVENTS:
        return "the event persister that owns the room answers without an internal hop"
    if pool == row.stream and set(members) <= set(pools.writers[pool]):
        return f"the writer of {pool} answers without an internal hop; others would ask it"
    return f"the workers of pool {pool} serve it"
