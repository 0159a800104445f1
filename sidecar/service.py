"""The one object that wires, starts and stops the sidecar; it is allowed to know everything.

Order matters in it: nothing listens before everything is read, and a stop ends clients before it ends pools.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure as TwistedFailure

from sidecar.config.schema import Settings
from sidecar.errors import SidecarError
from sidecar.net.batching import BatchingReactor
from sidecar.net.deadlines import Deadlines
from sidecar.net.downstream import Listener
from sidecar.net.endpoints import worker_endpoint
from sidecar.net.gateway import Decide, Gateway, response_limits
from sidecar.net.pool import PoolLimits, WorkerPool
from sidecar.wire.forwarded import ForwardedPolicy

_log = Logger(namespace="sidecar")


def use_monotonic_clock(reactor: Any) -> None:
    """Let the reactor's timers follow the monotonic clock; to be called before the first timer is made.

    Twisted's follow the wall clock: when it is stepped by an hour, every deadline passes at once.
    """
    reactor.seconds = time.monotonic


def worker_pool(name: str, endpoint: str, settings: Settings, reactor: Any, deadlines: Deadlines) -> WorkerPool:
    """The pool of connections to the worker at `endpoint`, a Twisted client endpoint string."""
    limits = settings.limits
    client, path = worker_endpoint(reactor, endpoint, settings.timeouts.connect)
    return WorkerPool(
        name=name,
        endpoint=client,
        socket_path=path,
        limits=PoolLimits(
            connections=limits.worker_connections,
            idle=limits.worker_idle,
            connecting=limits.worker_connecting,
            waiting=limits.waiting,
            idle_time=settings.timeouts.worker_idle,
        ),
        reader_limits=response_limits(limits),
        clock=reactor,
        deadlines=deadlines,
    )


@define(eq=False)
class SidecarService(Service):
    """The sidecar as a Twisted service: listens when started, drains when stopped."""

    settings: Settings
    workers: Mapping[str, str]
    """Client endpoint string of each worker."""
    decide: Decide
    reactor: Any
    introduction: str = ""
    """Printed when everything listens."""
    weights: Mapping[str, float] = field(factory=dict)
    """Of each worker, where it is not 1."""
    bounded: Mapping[str, float] = field(factory=dict)
    """`bounded` of each pool that has it."""
    gateway: Gateway = field(init=False)
    data_reactor: BatchingReactor = field(init=False)
    listeners: list[Listener] = field(init=False, factory=list)
    ports: list[IListeningPort] = field(init=False, factory=list)
    _drained: Deferred[None] | None = field(init=False, default=None)
    _accepting: bool = field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.data_reactor = BatchingReactor(self.reactor)
        deadlines = Deadlines(self.reactor)
        self.gateway = Gateway(
            decide=self.decide,
            pools={
                name: worker_pool(name, endpoint, settings, self.data_reactor, deadlines)
                for name, endpoint in self.workers.items()
            },
            forwarded=ForwardedPolicy(settings.forwarded.trust, settings.forwarded.proto),
            limits=settings.limits,
            timeouts=settings.timeouts,
            deadlines=deadlines,
            weights=self.weights,
            bounded=self.bounded,
        )

    # Start.

    def startService(self) -> None:
        """Listen. Raises SidecarError with one sentence if that is not possible, and then listens on nothing."""
        super().startService()
        for description in self.settings.listen:
            listener = Listener(self.gateway, "https" if description.startswith("ssl:") else "http")
            listener.on_change = self._connections_changed
            self.listeners.append(listener)
            try:
                self.ports.append(self._listen(description, listener))
            except SidecarError:
                _each(self.ports, "stopListening")
                self.ports.clear()
                raise
        for port in self.ports:
            _log.info("listening on {host}", host=_address(port))
        if self.introduction:
            # Past the log, for which twistd takes sys.stdout.
            print(self.introduction, file=sys.__stdout__, flush=True)

    def _listen(self, description: str, listener: Listener) -> IListeningPort:
        results: list[Any] = []
        try:
            serverFromString(self.data_reactor, description).listen(listener).addBoth(results.append)
        except (ValueError, IndexError, TypeError, OSError) as error:
            raise SidecarError(f"cannot listen on {description}: {error}") from error
        if not results:
            raise SidecarError(f"cannot listen on {description}: the endpoint did not say whether it listens")
        result = results[0]
        if isinstance(result, TwistedFailure):
            raise SidecarError(f"cannot listen on {description}: {_why(result.value)}") from result.value
        port: IListeningPort = result
        return port

    # The limit of connections in total: beyond it clients wait in the kernel's queue.

    def _connections_changed(self) -> None:
        limit = self.settings.limits.connections
        open_now = self.gateway.counters.connections_open
        if self._accepting and open_now >= limit:
            self._accepting = False
            _log.warn("limits.connections reached ({limit}); new connections wait", limit=limit)
            _each(self.ports, "stopReading")
        elif not self._accepting and open_now < limit:
            self._accepting = True
            _each(self.ports, "startReading")
        if self._drained is not None and not open_now:
            drained, self._drained = self._drained, None
            drained.callback(None)

    # Stop.

    async def _drain(self) -> None:
        """Stop accepting; let running exchanges end, up to `timeouts.drain`; then close everything."""
        ports, self.ports = self.ports, []
        for port in ports:
            await _deferred(port.stopListening())
        self.gateway.draining = True
        connections = [connection for listener in self.listeners for connection in listener.connections]
        for connection in connections:
            connection.relay.drain()
        if self.gateway.counters.connections_open:
            _log.info("waiting for {count} connections to end", count=self.gateway.counters.connections_open)
            self._drained = Deferred()
            limit = self.reactor.callLater(self.settings.timeouts.drain, self._give_up)
            await self._drained
            if limit.active():
                limit.cancel()
        for pool in self.gateway.pools.values():
            pool.retire()
        self.data_reactor.close()

    def _give_up(self) -> None:
        left = [connection for listener in self.listeners for connection in listener.connections]
        _log.warn("timeouts.drain has passed; cutting {count} connections", count=len(left))
        for connection in left:
            connection.abort()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())


async def _deferred(result: Any) -> None:
    if isinstance(result, Deferred):
        await result


def _each(ports: Iterable[Any], method: str) -> None:
    for port in ports:
        action = getattr(port, method, None)
        if action is not None:
            action()


def _address(port: IListeningPort) -> str:
    host: Any = port.getHost()
    if hasattr(host, "port"):
        return f"{host.host}:{host.port}"
    return str(getattr(host, "name", host))


def _why(error: BaseException | None) -> str:
    """Why listening failed, in the words of the operating system."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error)
