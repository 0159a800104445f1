"""Which worker of a decision gets a request now: the first candidate that takes requests, else the best that is left.

Asks the pools only whether they take requests; sends nothing and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from sidecar.relay.gateway import Gateway
from sidecar.routing.decision import Decision
from sidecar.upstream.pool import WorkerPool


def choose(gateway: Gateway, decision: Decision, client: str, *, falling_back: bool) -> WorkerPool | None:
    """The worker to ask; None if there is none.

    `client` is the address for whom there is no key. `falling_back`: main counts this request already as one that it
    serves for others.
    """
    candidates = decision.candidates
    if len(candidates) > 1:
        candidates = gateway.candidates(decision)
    names = candidates or decision.fallback
    if not names:
        return None
    chosen = gateway.pools[names[0]]
    if chosen.taking:
        return chosen
    return best(gateway, decision, candidates, client, falling_back=falling_back)


def best(
    gateway: Gateway, decision: Decision, candidates: Iterable[str], client: str, *, falling_back: bool
) -> WorkerPool:
    """The first worker that takes requests, among others only within a budget; else the first that will."""
    pools = gateway.pools
    own = [pools[name] for name in candidates]
    fraction = _fraction_of(decision.key or client)
    for pool in own:
        if pool.taking or pool.admits(fraction):
            return pool
    for pool in own:
        if pool.health.up and not pool.draining:
            return pool
    others = [pools[name] for name in decision.fallback]
    free = [pool for pool in others if not pool.draining and within_budget(gateway, pool, falling_back=falling_back)]
    for pool in free:
        if pool.health.up:
            return pool
    return next((pool for pool in (*own, *free) if not pool.draining), (*own, *others)[0])


def within_budget(gateway: Gateway, pool: WorkerPool, *, falling_back: bool) -> bool:
    """Whether main may take over one more request from other workers (`limits.fallback`)."""
    return falling_back or pool.name != gateway.main or gateway.counters.falling_back < gateway.limits.fallback


def _fraction_of(key: str) -> float:
    """A number in [0, 1) that is always the same for a key, so that a key moves to a worker once."""
    return crc32(key.encode("utf-8", "surrogatepass")) / 2**32
