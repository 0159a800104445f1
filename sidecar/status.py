"""How the running sidecar is, as JSON-able values with sentences for people.

Only looks: knows nothing of HTTP, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from attrs import frozen

from sidecar.errors import Problem
from sidecar.logbook import Written
from sidecar.net.gateway import Gateway
from sidecar.net.pool import WorkerPool
from sidecar.routing.plan import Plan
from sidecar.synapse.names import MAIN


@frozen(kw_only=True)
class View:
    """What runs at this moment."""

    version: str
    uptime: float
    """Seconds."""
    gateway: Gateway
    plan: Plan
    release: str
    """Of Synapse, by whose endpoints requests go."""
    listening: Sequence[str]
    in_flight: Callable[[], Counter[str]]
    """Requests that have begun and not ended, by endpoint; every connection is looked at."""
    ceiling: int
    """Client connections that may be open at once."""
    written: Written
    """What has become of the lines of the access log."""
    read_at: float
    """When the files in force were read, in seconds since 1970."""
    leaving: Sequence[WorkerPool]
    """Of workers that are not in the configuration any more."""
    problems: Sequence[Problem]
    reloaded: bool | None
    """Whether the last reload was accepted; None: there was none."""
    sentences: Sequence[str]
    """What the last reload changed, or why it did not."""


def status(view: View) -> dict[str, Any]:
    """Everything."""
    plan, gateway = view.plan, view.gateway
    return {
        "version": view.version,
        "endpoints": view.release,
        "uptime": round(view.uptime, 3),
        "ready": not unready(view),
        "stopping": gateway.draining,
        "listening": list(view.listening),
        "counters": attrs.asdict(gateway.counters, filter=lambda attribute, _: attribute.name != "misroutes"),
        "workers": {name: _worker(pool) for name, pool in gateway.pools.items()},
        "leaving": [_worker(pool) for pool in view.leaving if pool.busy],
        "pools": {
            name: {"workers": list(pool.workers), "fallback": list(pool.fallback), **_entrance(gateway, name)}
            for name, pool in plan.pools.items()
        },
        "misroutes": [
            {"endpoint": endpoint, "worker": worker, "count": count}
            for (endpoint, worker), count in gateway.counters.misroutes.items()
        ],
        "problems": [str(problem) for problem in view.problems],
        "reload": None if view.reloaded is None else {"accepted": view.reloaded, "sentences": list(view.sentences)},
    }


def _entrance(gateway: Gateway, name: str) -> dict[str, int]:
    gate = gateway.gates.get(name)
    if gate is None:
        return {}
    return {"running": gate.running, "waiting": gate.waiting, "concurrency": gate.limits.concurrency}


def unready(view: View) -> list[str]:
    """Why requests would fail now, one sentence each; empty if none would for want of a worker."""
    if view.gateway.draining:
        return ["The sidecar is stopping."]
    plan, pools = view.plan, view.gateway.pools
    needed = {MAIN: (plan.main,)} | {
        pool.name: pool.workers
        for pool in plan.pools.values()
        # What is no Synapse may be away: it is not what clients wait for, and perhaps there only now and then.
        if not pool.fallback and any(plan.workers[name].serves for name in pool.workers)
    }
    deserted: dict[tuple[str, ...], list[str]] = {}
    for name, workers in needed.items():
        if not any(serves(pools[worker]) for worker in workers):
            deserted.setdefault(workers, []).append(name)
    return [
        f"Nobody serves {', '.join(names)}: {', '.join(_why(pools[worker]) for worker in workers)}."
        for workers, names in deserted.items()
    ]


def serves(pool: WorkerPool) -> bool:
    """Whether new requests are given to the worker."""
    return pool.health.up and not pool.draining


def state(pool: WorkerPool) -> str:
    """`up`, `away`, `stuck` or `draining`."""
    return "draining" if pool.draining else pool.health.state.value


def _why(pool: WorkerPool) -> str:
    if pool.draining:
        return f"{pool.name} is being drained"
    return f"{pool.name} is {state(pool)} ({pool.health.reason})"


def _worker(pool: WorkerPool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "state": state(pool),
        "leased": pool.leased,
        "idle": pool.idle,
        "connecting": pool.connecting,
        "waiting": pool.waiting,
        "connects": pool.connects,
        "failures": pool.failures,
        "reason": "" if pool.health.up else pool.health.reason,
        "changed": round(pool.clock.seconds() - pool.health.since, 3),
        "changes": pool.health.transitions,
        "slow_start": pool.health.warming,
        "cuts": pool.cuts,
        "waiting_bytes": pool.waiting_octets,
    }
