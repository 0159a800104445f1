"""Keeps drains through a restart, where `operator.remember_drains` names a file for them.

Part of the service layer: it may know everything. A file that cannot be read or written is reported, and prevents
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.threads import deferToThreadPool

from sidecar.app.drain_file import Drained, read_drains, state_path, write_drains
from sidecar.app.reload import Reload
from sidecar.observe.telemetry import logger

_log = logger("sidecar.admin")

PATIENCE = 2.0
"""Seconds that a drain waits for the disk; it holds in any case. Less than `operator.sibling_timeout` is by default, so
that the instance that asked hears that it is drained."""


@define(eq=False)
class RememberedDrains(Service):
    """Workers are drained again when everything has been started, and before the first connection is accepted."""

    reload: Reload
    reactor: Any
    environment: Mapping[str, str] = field(factory=lambda: os.environ)
    _kept: tuple[str, Drained] | None = field(default=None, init=False)
    """What the file says, and where; None: nobody knows."""
    _writing: Deferred[str] | None = field(default=None, init=False)
    """The write that is going on."""

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
        writing = self._writing
        if writing is None:
            writing = self._writing = Deferred.fromCoroutine(self._write())
            writing.addCallback(self._written)
        waiter: Deferred[str] = Deferred()

        def tell(result: str) -> str:
            if not waiter.called:
                waiter.callback(result)
            return result

        writing.addCallback(tell)
        try:
            # The write itself goes on: a second one beside it could be overtaken.
            return await waiter.addTimeout(PATIENCE, self.reactor)
        except DeferredTimeoutError:
            return self._lost(f"the disk has not answered for {PATIENCE:g} s")

    async def _write(self) -> str:
        """One write at a time, until the file says what is drained; why it does not, else empty."""
        try:
            while (path := self._path()) is not None and self._kept != (path, now := self._now()):
                write = partial(write_drains, path, now)
                await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), write)
                self._forget(frozenset() if self._kept is None else self._kept[1].names - now.names)
                self._kept = (path, now)
        except Exception as error:
            return self._lost(_why(error))
        return ""

    def _written(self, result: str) -> str:
        self._writing = None
        return result

    def _forget(self, ended: frozenset[str]) -> None:
        """Say which drains have ended because there is no such worker or server any more."""
        for name in sorted(ended - self._known()):
            _log.warn("{name} was drained, but is not in the configuration any more: that is forgotten", name=name)

    def _lost(self, why: str) -> str:
        sentence = f"Drains will not survive a restart: {self._path()} cannot be written, {why}."
        self._complain(sentence)
        return sentence

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
    return str(getattr(error, "strerror", None) or error)
