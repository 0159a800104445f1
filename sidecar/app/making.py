"""Makes the pool of one worker from the settings: its endpoint, its limits, and how it is asked for its health.

The only place where the data path is put together from settings; knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail

from sidecar.app.watching import SocketWatch
from sidecar.config.schema import Limits, Settings
from sidecar.history.events import Events
from sidecar.relay.admission import Gate, GateLimits
from sidecar.relay.gateway import response_limits
from sidecar.routing.plan import PlannedPool
from sidecar.routing.workers import PlannedWorker
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.poller import Poller
from sidecar.upstream.asking import questioned, serves
from sidecar.upstream.connecting import describe, missing, worker_endpoint
from sidecar.upstream.health import Health, HealthLimits, WorkerState
from sidecar.upstream.pool import PoolLimits, WorkerPool
from sidecar.upstream.resolving import NameLimits, Names

INITIAL_SYNC = "initial_sync"


class UnknownPlaceError(Exception):
    """Nobody knows where the worker is."""


def worker_pool(
    worker: PlannedWorker,
    settings: Settings,
    reactor: Any,
    names: Names,
    poller: Poller,
    deadlines: Deadlines,
    sockets: SocketWatch,
    events: Events,
) -> WorkerPool:
    """The pool of connections to a worker. One whose file has a fault is down for as long as it has this pool."""
    client, path = worker_endpoint(names, poller, worker.endpoint, settings.timeouts.connect)

    # Not `client`, which tells of nothing but failure.
    asked = questioned(reactor, names, worker.endpoint)

    fault = worker.process.fault
    unknown = UnknownPlaceError(f"its file cannot be used: {fault}") if fault else None

    def ask() -> Deferred[bool]:
        if unknown is not None:
            return fail(unknown)
        return Deferred.fromCoroutine(serves(reactor, asked, worker.settings.health, pool.health.limits.patience))

    def look() -> Exception | None:
        return unknown if unknown is not None or path is None else missing(path)

    def watch(wanted: bool) -> None:
        if path is not None and unknown is None:
            (sockets.watch if wanted else sockets.ignore)(path, pool.health.appeared)

    pool = WorkerPool(
        name=worker.name,
        endpoint=client,
        socket_path=path,
        limits=pool_limits(worker, settings),
        reader_limits=response_limits(settings.limits),
        clock=reactor,
        deadlines=deadlines,
        health=Health(
            name=worker.name,
            ask=ask,
            clock=reactor,
            limits=health_limits(settings),
            describe=describe,
            look=look,
            watch=watch,
            told=partial(note_turn, events, worker.name),
        ),
    )
    return pool


def note_turn(events: Events, name: str, state: WorkerState, reason: str) -> None:
    """A worker went down or came up."""
    if state is WorkerState.UP:
        events.note("up", name, "")
    else:
        stuck = "takes connections, but does not answer: " if state is WorkerState.STUCK else ""
        events.note("down", name, stuck + reason)


def pool_limits(worker: PlannedWorker, settings: Settings) -> PoolLimits:
    """How many connections to one worker there may be, and who waits for one."""
    limits = settings.limits
    return PoolLimits(
        connections=worker.maximum or limits.worker_connections,
        idle=limits.worker_idle,
        connecting=limits.worker_connecting,
        waiting=limits.waiting,
        idle_time=settings.timeouts.worker_idle,
    )


def health_limits(settings: Settings) -> HealthLimits:
    """How often, and how patiently, a worker is asked."""
    return HealthLimits(
        interval=settings.timeouts.health_interval,
        patience=settings.timeouts.health,
        failures=settings.limits.health_failures,
        slow_start=settings.timeouts.slow_start,
    )


def name_limits(settings: Settings) -> NameLimits:
    """How names of workers and servers are looked up."""
    timeouts = settings.timeouts
    return NameLimits(
        patience=timeouts.resolve,
        hold=timeouts.resolve_hold,
        interval=timeouts.resolve_interval,
        lookups=settings.limits.lookups,
    )


def gate_limits(pool: PlannedPool, limits: Limits) -> GateLimits:
    """How many requests of a pool are served at once."""
    stated = pool.settings
    usual = limits.initial_syncs if pool.name == INITIAL_SYNC else limits.concurrency
    each = usual if stated.concurrency is None else stated.concurrency
    concurrency = each * max(1, len(pool.sharing))
    waiting = limits.waiting if stated.waiting is None else stated.waiting
    return GateLimits(
        concurrency=concurrency,
        per_key=max(1, int(each * limits.key_share)),
        per_place=max(1, int(concurrency * limits.address_share)),
        waiting=waiting,
        waiting_per_place=max(1, int(waiting * limits.address_share)),
    )


def gates(wanted: Mapping[str, GateLimits], known: Mapping[str, Gate]) -> dict[str, Gate]:
    """An entrance for each pool; those that are there stay, with whoever is in or waits."""
    made = {name: known.get(name) or Gate(limits) for name, limits in wanted.items()}
    for name, limits in wanted.items():
        made[name].use(limits)
    return made


def start(pools: Iterable[WorkerPool]) -> None:
    """Find out how the workers are."""
    for pool in pools:
        pool.start()
