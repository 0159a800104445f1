"""Keeps drains through a restart, where `operator.remember_drains` names a file for them.

Part of the service layer: it may know everything. A file that cannot be read or written is reported, and prevents
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.threads import deferToThreadPool

from sidecar.app.drain_file import Drained, read_drains, state_path, write_drains
from sidecar.app.reload import Reload
from sidecar.observe.telemetry import logger

_log = logger("sidecar.admin")

PATIENCE = 5.0
"""Seconds that a drain waits for the disk; it holds in any case."""


@define(eq=False)
class RememberedDrains(Service):
    """Workers are drained again when everything has been started, and before the first connection is accepted."""

    reload: Reload
    reactor: Any
    environment: Mapping[str, str] = field(factory=lambda: os.environ)
    _kept: tuple[str, Drained] | None = field(default=None, init=False)
    """What the file says, and where; None: nobody knows."""
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    def startService(self) -> None:
        super().startService()
        self.reload.after.append(lambda: Deferred.fromCoroutine(self.keep()))
        # Other parts are started in this turn. In the next one, this comes before any connection is accepted.
        self.reactor.callLater(0, self._restore)

    def _restore(self) -> None:
        path = self._path()
        if path is None or not self.running:
            return
        try:
            found = read_drains(path)
        except (OSError, ValueError) as error:
            self._complain(f"nothing is drained from before: {path} cannot be used, {_why(error)}")
            return
        self._kept = (path, found)
        self._drain(found)
        Deferred.fromCoroutine(self.keep())

    def _path(self) -> str | None:
        settings = self.reload.deployment.settings
        written = settings.operator.remember_drains
        return None if written is None else state_path(written, settings.path, self.environment)

    def _drain(self, found: Drained) -> None:
        sidecar = self.reload.sidecar
        for name, pool in sidecar.gateway.pools.items():
            if name in found.workers:
                pool.drain()
                self._say(name, "requests")
        for name, balancer in sidecar.fleet.running.items():
            for server_name, server in balancer.servers.items():
                if (name, server_name) in found.servers:
                    balancer.drain(server, True)
                    self._say(f"{name}/{server_name}", "connections")

    def _say(self, name: str, what: str) -> None:
        _log.info("{name} is drained, as it was before the restart", name=name)
        self.reload.sidecar.events.note("drain", name, f"gets no new {what}, as before the restart")

    async def keep(self) -> str:
        """Write what is drained now, if that is not what the file says; why it could not be, else empty."""
        written = self._lock.run(lambda: Deferred.fromCoroutine(self._keep()))
        written.addTimeout(PATIENCE, self.reactor)
        try:
            await written
        except Exception as error:
            sentence = f"Drains will not survive a restart: {self._path()} cannot be written, {_why(error)}."
            self._complain(sentence)
            return sentence
        return ""

    async def _keep(self) -> None:
        path, now = self._path(), self._now()
        if path is None or self._kept == (path, now):
            return
        pool = self.reactor.getThreadPool()
        await deferToThreadPool(self.reactor, pool, write_drains, path, now)
        before = self._kept[1].names if self._kept is not None else frozenset()
        for name in sorted(before - now.names - self._known()):
            _log.warn("{name} was drained, but is not in the configuration any more: that is forgotten", name=name)
        self._kept = (path, now)

    def _now(self) -> Drained:
        sidecar = self.reload.sidecar
        return Drained(
            frozenset(name for name, pool in sidecar.gateway.pools.items() if pool.draining),
            frozenset(
                (name, server_name)
                for name, balancer in sidecar.fleet.running.items()
                for server_name, server in balancer.servers.items()
                if server.draining
            ),
        )

    def _known(self) -> frozenset[str]:
        """Names of all that there is."""
        sidecar = self.reload.sidecar
        servers = (f"{name}/{each}" for name, balancer in sidecar.fleet.running.items() for each in balancer.servers)
        return frozenset((*sidecar.gateway.pools, *servers))

    def _complain(self, sentence: str) -> None:
        _log.error("{sentence}", sentence=sentence)
        self.reload.sidecar.events.note("remember", "", sentence)


def _why(error: BaseException) -> str:
    if isinstance(error, (DeferredTimeoutError, CancelledError)):
        return f"the disk has not answered for {PATIENCE:g} s"
    return str(getattr(error, "strerror", None) or error)
