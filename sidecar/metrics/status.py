"""How the running sidecar is, as JSON-able values with sentences for people.

Only looks: knows nothing of HTTP, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs
from attrs import frozen

from sidecar.balancers.balancer import RunningBalancer
from sidecar.balancers.fleet import Fleet
from sidecar.balancers.server import StreamServer
from sidecar.errors import Problem, Severity
from sidecar.observe.logbook import Written
from sidecar.relay.gateway import Gateway
from sidecar.routing.maintenance import Maintenance
from sidecar.routing.overrides import Override
from sidecar.routing.parts import PoolPart, Takes
from sidecar.routing.plan import Plan
from sidecar.upstream.pool import WorkerPool


@frozen(kw_only=True)
class View:
    """What runs at this moment."""

    version: str
    uptime: float
    """Seconds."""
    gateway: Gateway
    plan: Plan
    overrides: Sequence[Override]
    """Weights and maxima of workers that an operator has set."""
    maintenance: Maintenance | None
    """While the mode is on."""
    worker_connections: int
    """The maximum of a worker that has none of its own."""
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
    fleet: Fleet
    """The balancers."""
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
        "maintenance": None if view.maintenance is None else attrs.asdict(view.maintenance),
        "listening": list(view.listening),
        "counters": attrs.asdict(gateway.counters, filter=lambda attribute, _: attribute.name != "misroutes"),
        "workers": {name: {**_worker(pool), **_adjusted(view, name)} for name, pool in gateway.pools.items()},
        "leaving": [_worker(pool) for pool in view.leaving if pool.busy],
        "pools": {
            name: {
                "workers": list(pool.workers),
                "sharing": list(pool.sharing),
                "fallback": list(pool.fallback),
                **_entrance(gateway, name),
                "parts": [_part(part, gateway) for part in plan.parts[name]],
            }
            for name, pool in plan.pools.items()
        },
        "balancers": {name: _balancer(balancer, view.fleet) for name, balancer in view.fleet.running.items()},
        "misroutes": [
            {"endpoint": endpoint, "worker": worker, "count": count}
            for (endpoint, worker), count in gateway.counters.misroutes.items()
        ],
        "problems": [str(problem) for problem in view.problems],
        "errors": sum(problem.severity is Severity.ERROR for problem in view.problems),
        "reload": None if view.reloaded is None else _reload(view.reloaded, list(view.sentences)),
    }


def _reload(accepted: bool, sentences: list[str]) -> dict[str, Any]:
    return {
        "accepted": accepted,
        "problems": [] if accepted else sentences,
        "changes": sentences if accepted else [],
    }


def _entrance(gateway: Gateway, name: str) -> dict[str, int]:
    gate = gateway.gates.get(name)
    if gate is None:
        return {}
    return {
        "running": gate.served,
        "waiting": gate.parked,
        "admitted": gate.running,
        "concurrency": gate.limits.concurrency,
        "queued": gate.waiting,
        "asking": gate.asking,
    }


def _part(part: PoolPart, gateway: Gateway) -> dict[str, Any]:
    turn = part.now(taking(gateway))
    return {**attrs.asdict(part), "sharing": list(part.sharing), "served_by": turn.by, "now": list(turn.workers)}


def unready(view: View, asked: Collection[str] = ()) -> list[str]:
    """Why requests would fail now, one sentence each; empty if none would for want of a worker.

    `asked` are names of pools; with any, only those are judged, also what may be down otherwise.
    """
    if view.gateway.draining:
        return ["The sidecar is stopping."]
    takes = taking(view.gateway)
    parts = [part for name, parts in view.plan.parts.items() if name in asked or not asked for part in parts]
    deserted: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for part in parts:
        by = part.now(takes).by
        if (by == "nobody" and part.required) or (asked and by in ("nobody", "unmounted")):
            deserted.setdefault((part.everybody if part.mounted else (), part.named), []).append(part.name)
    return [
        f"Nobody serves {', '.join(names)}: {_why_nobody(workers, named, view.gateway)}."
        for (workers, named), names in deserted.items()
    ]


def _why_nobody(workers: tuple[str, ...], named: tuple[str, ...], gateway: Gateway) -> str:
    if workers:
        return ", ".join(_why(name, gateway.pools.get(name)) for name in workers)
    if named:
        return f"Synapse's files give it to {', '.join(named)}, whose address is not known"
    return "no process has it"


def taking(gateway: Gateway) -> Takes:
    """Tells of each worker whether it takes new requests."""

    def takes(name: str) -> bool:
        pool = gateway.pools.get(name)
        return pool is not None and serves(pool)

    return takes


def serves(pool: WorkerPool) -> bool:
    """Whether new requests are given to the worker."""
    return pool.health.up and not pool.draining


def state(pool: WorkerPool) -> str:
    """`up`, `down`, `stuck` or `draining`."""
    return "draining" if pool.draining else pool.health.state.value


def _why(name: str, pool: WorkerPool | None) -> str:
    if pool is None:
        return f"{name} has no address"
    if pool.draining:
        return f"{pool.name} is being drained"
    return f"{pool.name} is {state(pool)} ({pool.health.reason})"


def _worker(pool: WorkerPool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "state": state(pool),
        "healthy": pool.health.up,
        "heard": round(pool.clock.seconds() - pool.health.heard, 3),
        "life": pool.life,
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


def _adjusted(view: View, name: str) -> dict[str, Any]:
    """The weight and the maximum in force, and what of them was set at run time."""
    worker = view.plan.workers[name]
    return {
        "weight": worker.share,
        "maximum": worker.maximum or view.worker_connections,
        "overrides": {
            each.what.value: {"value": each.value, "file": each.stated, "by": each.by}
            for each in view.overrides
            if each.worker == name
        },
    }


def _balancer(balancer: RunningBalancer, fleet: Fleet) -> dict[str, Any]:
    return {
        "listening": list(fleet.listening(balancer.name)),
        "balance": balancer.settings.balance,
        "connections": balancer.open,
        "most": balancer.settings.connections,
        "waiting": balancer.waiting,
        "accepted": balancer.accepted,
        "cuts": {why.value: count for why, count in balancer.cuts.items()},
        "servers": {name: _server(server) for name, server in balancer.servers.items()},
        "leaving": [{"name": server.name, "connections": server.count} for server in balancer.leaving if server.count],
    }


def _server(server: StreamServer) -> dict[str, Any]:
    health = server.health
    return {
        "state": server.state,
        "reason": "" if health.takes else health.reason,
        "changed": round(health.clock.seconds() - health.since, 3),
        "changes": health.transitions,
        "connections": server.count,
        "most": server.most,
        "weight": server.weight,
        "connects": server.connects,
        "failures": server.failures,
        "closed": server.closed,
        "checks": health.checks,
        "checks_failed": health.failures,
        "bytes_up": server.bytes_up,
        "bytes_down": server.bytes_down,
    }
