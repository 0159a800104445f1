"""The one object that wires, starts and stops the sidecar; it is allowed to know everything.

Order matters in it: nothing listens before everything is read, and a stop ends clients before it ends pools.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort

from sidecar import __version__
from sidecar.app.making import gates as make_gates
from sidecar.app.making import name_limits, start, worker_pool
from sidecar.app.watching import SocketWatch
from sidecar.app.work import Work
from sidecar.balancers.fleet import Fleet
from sidecar.callers.whoami import Whoami, continued
from sidecar.config.schema import Settings
from sidecar.entrance.accepting import Accepting
from sidecar.entrance.descriptors import connection_ceiling
from sidecar.entrance.entrances import doors
from sidecar.entrance.listening import address, listen_where_possible
from sidecar.entrance.tls import Identities
from sidecar.errors import SidecarError
from sidecar.history.events import Events
from sidecar.history.hottest import Hottest
from sidecar.observe.logbook import Logbook
from sidecar.observe.telemetry import log_from, logger
from sidecar.plurals import counted
from sidecar.records.access_log import AccessLog
from sidecar.records.notes import Notes
from sidecar.records.request_id import RequestIds
from sidecar.records.tally import LONG_POLLS, Tallies
from sidecar.relay.gateway import Gateway
from sidecar.relay.passage import Passage
from sidecar.relay.session import ClientConnection, Listener
from sidecar.routing.changes import changes_anything
from sidecar.routing.compile import POSITIONS
from sidecar.routing.decide import is_initial
from sidecar.routing.workers import PlannedWorker
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.poller import Poller
from sidecar.upstream.pool import WorkerPool
from sidecar.upstream.resolving import Names
from sidecar.wire.forwarded import ForwardedPolicy

_log = logger("sidecar")

LAST_WORDS = 1.0
"""Seconds of a stop in which idle connections stay open: who sends a request in them is answered, and told to close.

Only so a client that is busy loses nothing: it cannot know that its connection ends while its next request is on the
way.
"""
MOVED_AT_ONCE = 50
MOVED_EVERY = 0.01
"""So many long polls of a drained worker move in one turn, and the next after so many seconds: others have their turn,
and so has the worker that gets them."""


def use_monotonic_clock(reactor: Any) -> None:
    """Let the reactor's timers follow the monotonic clock; to be called before the first timer is made.

    Twisted's follow the wall clock: when it is stepped by an hour, every deadline passes at once.
    """
    reactor.seconds = time.monotonic


def forwarded_policy(settings: Settings, public_scheme: str) -> ForwardedPolicy:
    """Whose word is taken, as `forwarded:` says."""
    forwarded = settings.forwarded
    return ForwardedPolicy(
        forwarded.trust, forwarded.proto, forwarded.proxy_protocol, public=public_scheme, hops=forwarded.hops
    )


@define(eq=False)
class SidecarService(Service):
    """The sidecar as a Twisted service: listens when started, drains when stopped."""

    work: Work
    reactor: Any
    introduction: str = ""
    """Printed when everything listens."""
    measured: bool = False
    """Somebody is told what the exchanges add up to, even without an operator's listener."""
    identities: Identities = field(init=False, factory=Identities)
    """Certificates and keys of the listeners that speak TLS."""
    gateway: Gateway = field(init=False)
    poller: Poller = field(init=False)
    sockets: SocketWatch = field(init=False)
    logbook: Logbook = field(init=False)
    events: Events = field(init=False)
    """What has happened."""
    names: Names = field(init=False)
    fleet: Fleet = field(init=False)
    """The balancers."""
    hottest: Hottest = field(init=False)
    """For whom most of the requests are."""
    listeners: list[Listener] = field(init=False, factory=list)
    ports: list[IListeningPort] = field(init=False, factory=list)
    leaving: list[WorkerPool] = field(init=False, factory=list)
    """Pools of workers that a reload removed or moved, as long as requests run there."""
    _drained: Deferred[None] | None = field(init=False, default=None)
    _accepting: Accepting = field(init=False)

    def __attrs_post_init__(self) -> None:
        work, settings = self.work, self.settings
        self.poller = Poller(self.reactor)
        self.sockets = SocketWatch(self.reactor)
        self.logbook = Logbook(self.reactor)
        self.events = Events(self.reactor.seconds, settings.operator.events)
        access_log = self.logbook.use(settings.log, work.log_secret)
        self.hottest = Hottest(self.logbook.hasher, settings.operator.hottest)
        self.names = Names(self.reactor, name_limits(settings))
        deadlines = Deadlines(self.reactor)
        # Whom would tallies be told without an operator's listener?
        tallies = Tallies() if self.measured or settings.admin is not None else None
        self.gateway = Gateway(
            decide=work.decide,
            pools={name: self._pool(worker, settings, deadlines) for name, worker in work.workers.items()},
            forwarded=forwarded_policy(settings, work.public_scheme),
            limits=settings.limits,
            timeouts=settings.timeouts,
            deadlines=deadlines,
            weights=_weights(work),
            gates=make_gates(work.gates, {}),
            main=work.main,
            notes=Notes(deadlines.now, deadlines.set, tallies, access_log, self.hottest if settings.admin else None),
            request_ids=self._request_ids(work.id_fields, access_log),
            changes=changes_anything(settings),
        )
        self.fleet = Fleet(self.reactor, self.names, self.poller, deadlines, self.events.note)
        self._resolve(None)
        counters = self.gateway.counters
        self._accepting = Accepting(self.reactor, lambda: counters.connections_open)
        self._heed(settings)

    def _resolve(self, before: Whoami | None) -> None:
        """Find users whose tokens do not name them, where the configuration says so; `before`: who did until now."""
        gateway = self.gateway
        tokens, pools = self.settings.tokens, gateway.pools
        gateway.ask(continued(before, self.work.askable, tokens, pools, self.reactor, gateway.counters))

    def _heed(self, settings: Settings) -> None:
        """What of the settings is not the data path's."""
        log_from(settings.log.level)
        self.events.use(settings.operator.events)
        self.gateway.complaints.use(settings.log.refusals)
        self.hottest.use(self.logbook.hasher, settings.operator.hottest)
        self.names.use(name_limits(settings))
        if self.running:
            self._accepting.use(_ceiling(settings))

    def _pool(self, worker: PlannedWorker, settings: Settings, deadlines: Deadlines) -> WorkerPool:
        return worker_pool(
            worker, settings, self.reactor, self.names, self.poller, deadlines, self.sockets, self.events
        )

    # Start.

    def startService(self) -> None:
        """Listen. Raises SidecarError with one sentence if that is not possible, and then listens on nothing."""
        super().startService()
        opened = []
        try:
            for door in doors(self.settings.listen, self.gateway, self.identities, self.reactor, self.poller):
                door.listener.tell(self._connections_changed)
                self.listeners.append(door.listener)
                for port in listen_where_possible(self.reactor, door.address, door.entrance, first=not self.ports):
                    self.ports.append(port)
                    opened.append((port, door.entrance.take))
            self.fleet.open(self.settings)
        except SidecarError:
            _each(self.ports, "stopListening")
            self.ports.clear()
            raise
        self._accepting.use(_ceiling(self.settings))
        self.events.note("start", "", f"matrix-sidecar {__version__} with {counted(len(self.work.workers), 'worker')}")
        for port, take in opened:
            self._accepting.open(port, self.poller, take)
            _log.info("listening on {host}", host=address(port))
        start(self.gateway.pools.values())
        self.fleet.use(self.settings)
        if self.introduction:
            # Past the log, for which twistd takes sys.stdout.
            print(self.introduction, file=sys.__stdout__, flush=True)

    # Change.

    def use(self, work: Work) -> None:
        """Serve by these from the next request of each connection on; what runs keeps its decision and its pool.

        Where the sidecar listens does not change.
        """
        before, settings = self.gateway, work.settings
        before.notes.tell()
        access_log = self.logbook.use(settings.log, work.log_secret)
        before.notes.log_to(access_log)
        pools = {name: self._taken_over(worker, settings) for name, worker in work.workers.items()}
        self.work = work
        self.gateway = evolve(
            before,
            decide=work.decide,
            pools=pools,
            forwarded=forwarded_policy(settings, work.public_scheme),
            limits=settings.limits,
            timeouts=settings.timeouts,
            weights=_weights(work),
            gates=make_gates(work.gates, before.gates),
            main=work.main,
            request_ids=self._request_ids(work.id_fields, access_log),
            changes=changes_anything(settings),
        )
        self._resolve(before.whoami)
        self._heed(settings)
        for listener in self.listeners:
            listener.use(self.gateway)
        gone = [pool for name, pool in before.pools.items() if pools.get(name) is not pool]
        for pool in gone:
            pool.retire()
        if self.running:
            self.fleet.use(settings)
            start(pool for name, pool in pools.items() if before.pools.get(name) is not pool)
        self.leaving = [pool for pool in (*self.leaving, *gone) if pool.busy]
        self._connections_changed()

    def _request_ids(self, fields: Sequence[str], access_log: AccessLog | None) -> RequestIds | None:
        """None where neither Synapse nor a log of ours has a use for them."""
        if not fields and access_log is None:
            return None
        return RequestIds(fields, self.logbook.ids)

    def _taken_over(self, worker: PlannedWorker, settings: Settings) -> WorkerPool:
        """The pool that a worker has, with new limits; a new one if the worker is new or elsewhere."""
        fresh = self._pool(worker, settings, self.gateway.deadlines)
        known = self.gateway.pools.get(worker.name)
        if known is None:
            return fresh
        if self.work.workers[worker.name].endpoint != worker.endpoint:
            if known.draining:
                fresh.drain()
            return fresh
        known.use(fresh)
        return known

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.work.settings

    @property
    def ceiling(self) -> int:
        """How many client connections may be open."""
        return self._accepting.ceiling

    def _connections_changed(self) -> None:
        self._accepting.changed()
        if self._drained is not None and not self.gateway.counters.connections_open:
            drained, self._drained = self._drained, None
            drained.callback(None)

    # Stop.

    async def _drain(self) -> None:
        """Stop accepting; let running exchanges end, up to `timeouts.drain`; then close everything."""
        self.gateway.drain()
        self.events.note("stop", "", "running requests end, new ones are not taken")
        ports, self.ports = self.ports, []
        self._accepting.stop()
        for port in ports:
            await _deferred(port.stopListening())
        self._tell(running=True)
        if self.gateway.counters.connections_open:
            left = counted(self.gateway.counters.connections_open, "connection")
            _log.info("waiting for {left} to end", left=left)
            self._drained = Deferred()
            drain = self.settings.timeouts.drain
            limit = self.reactor.callLater(drain, self._give_up)
            last_words = self.reactor.callLater(min(LAST_WORDS, drain), self._tell, running=False)
            await self._drained
            for call in (limit, last_words):
                if call.active():
                    call.cancel()
        # Only now: what was answered until here may have needed a database behind one of them.
        await self.fleet.drain()
        if self.gateway.whoami is not None:
            self.gateway.whoami.close()
        for pool in (*self.gateway.pools.values(), *self.leaving):
            pool.retire()
        self.sockets.close()
        self.names.close()
        self.poller.close()
        self.gateway.notes.tell()
        self.logbook.close()

    def _tell(self, *, running: bool) -> None:
        """Tell the connections with an exchange, or those without, to end."""
        for connection in self._connections():
            if connection.busy is running:
                connection.drain()
        if not running:
            self._abort_awaited()

    def _abort_awaited(self) -> None:
        """Who has not even said for whom it comes is not waited for."""
        for listener in self.listeners:
            for preamble in tuple(listener.awaited):
                preamble.abort()

    def in_flight(self) -> Counter[str]:
        """Requests that have begun and not ended, by endpoint."""
        passages = (passage for connection in self._connections() for passage in connection.passages)
        return Counter(passage.decision.endpoint for passage in passages)

    def move_polls(self, name: str) -> int:
        """Let the long polls that a drained worker has go on elsewhere, some in each turn; how many it has."""
        polls = [
            passage
            for connection in self._connections()
            for passage in connection.passages
            if passage.worker == name and passage.upstream is not None and _is_poll(passage)
        ]
        self._move(name, polls)
        return len(polls)

    def _move(self, name: str, polls: list[Passage]) -> None:
        pool = self.gateway.pools.get(name)
        if pool is None or not pool.draining:
            return
        for passage in polls[:MOVED_AT_ONCE]:
            # In the meantime it may have ended, or have gone to somebody else.
            if passage.worker == name:
                passage.step_aside()
        if rest := polls[MOVED_AT_ONCE:]:
            self.reactor.callLater(MOVED_EVERY, self._move, name, rest)

    def _connections(self) -> list[ClientConnection]:
        return [connection for listener in self.listeners for connection in listener.connections]

    def _give_up(self) -> None:
        _log.warn("timeouts.drain has passed")
        self.cut()

    def cut(self) -> None:
        """Reset the connections that a stop still waits for; only during one."""
        self.fleet.cut()
        if self._drained is not None:
            left = self._connections()
            _log.warn("cutting {connections}", connections=counted(len(left), "connection"))
            for connection in left:
                connection.abort()
            self._abort_awaited()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())


def _is_poll(passage: Passage) -> bool:
    """Whether a request waits for news. A sync from the beginning computes: that is not begun a second time."""
    endpoint, query = passage.decision.endpoint, passage.exchange.target.partition(b"?")[2]
    position = POSITIONS.get(endpoint)
    return endpoint in LONG_POLLS and (position is None or not is_initial(query, position))


def _weights(work: Work) -> dict[str, float]:
    return {name: worker.share for name, worker in work.workers.items()}


def _ceiling(settings: Settings) -> int:
    """How many client connections of HTTP there may be, beside those of balancers."""
    beside = sum(balancer.connections for balancer in settings.balancers.values())
    return connection_ceiling(settings.limits.connections, beside)


async def _deferred(result: Any) -> None:
    if isinstance(result, Deferred):
        await result


def _each(ports: Iterable[Any], method: str) -> None:
    for port in ports:
        action = getattr(port, method, None)
        if action is not None:
            action()
