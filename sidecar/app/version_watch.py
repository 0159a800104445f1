"""Notices that the running Synapse is another version than before, and routes by the endpoints of that one.

Asks when the main process has come back or has been started anew, because an upgrade cannot happen otherwise; and until
it was heard for the first time. Part of the service layer: it may know everything.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from sidecar.app.reload import Reload
from sidecar.loading.deployment import for_version
from sidecar.observe.telemetry import logger
from sidecar.synapse.asker import HEADERS, PATH, version_in
from sidecar.upstream.asking import ask, questioned

_log = logger("sidecar")

TIMEOUT = 10.0
"""Seconds for the main process to say its version; it may still be busy with starting. Asked again after as many."""


@define(eq=False)
class VersionWatch(Service):
    """Keeps the endpoint table in step with Synapse, unless the configuration states a version."""

    reload: Reload
    """Whose deployment is in force."""
    reactor: Any
    timeout: float = TIMEOUT
    _asking: bool = field(default=False, init=False)
    _again: bool = field(default=False, init=False)
    _failed: bool = field(default=False, init=False)
    _later: IDelayedCall | None = field(default=None, init=False)

    def startService(self) -> None:
        super().startService()
        self.reload.after.append(self._attach)
        self._attach()
        self._ask_later()

    def stopService(self) -> None:
        super().stopService()
        self._ask_no_more()

    @property
    def _wanted(self) -> bool:
        """Nobody has stated the version, and it is known to be Synapse that would be asked.

        A main process that is stated by hand only, and told nothing at the start, may be anything: no question of ours
        should come to it among the clients' requests.
        """
        deployment = self.reload.deployment
        synapse = deployment.topology.known or deployment.table.asked is not None
        return bool(self.running) and deployment.settings.synapse.version is None and synapse

    def _attach(self) -> None:
        """Be told when the main process has started anew; after a reload it may be another one."""
        deployment = self.reload.deployment
        main = self.reload.sidecar.gateway.pools[deployment.plan.main]
        main.tell(
            new_life=self.ask if self._wanted else None,
            first_contact=self.ask if self._wanted and deployment.table.asked is None else None,
        )

    def ask(self) -> None:
        """Ask main, and route by what it says; while an answer is awaited, ask once more after it."""
        if self._asking:
            self._again = True
        elif self._wanted:
            Deferred.fromCoroutine(self._ask())

    async def _ask(self) -> None:
        self._asking = self._again = True
        self._ask_no_more()
        while self._again:
            self._again = False
            await self._learn()
        self._asking = False

    async def _learn(self) -> None:
        """Whatever fails is logged, once until something succeeds."""
        try:
            version = await self._version()
            if version is not None and self._wanted and version != self.reload.deployment.table.asked:
                self._use(version)
            self._failed = False
        except Exception as error:
            if not self._failed:
                why = str(error) or type(error).__name__
                _log.warn("the version of the running Synapse could not be found: {error}", error=why)
            self._failed = True
            self._ask_later()

    def _ask_later(self) -> None:
        """As long as no version is known: nobody may need main, and then its coming is not noticed."""
        if self._wanted and self.reload.deployment.table.asked is None and self._later is None:
            self._later = self.reactor.callLater(self.timeout, self._ask_now)

    def _ask_now(self) -> None:
        self._later = None
        self.ask()

    def _ask_no_more(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    async def _version(self) -> str | None:
        plan = self.reload.deployment.plan
        main = questioned(self.reactor, self.reload.sidecar.names, plan.workers[plan.main].endpoint)
        answer = await ask(self.reactor, main, PATH, HEADERS, self.timeout)
        return version_in(answer.status, answer.server, answer.content)

    def _use(self, version: str) -> None:
        before = self.reload.deployment.table.release
        self.reload.use(for_version(self.reload.deployment, version))
        release = self.reload.deployment.table.release
        self.reload.sidecar.events.note(
            "version", "", f"Synapse is {version}; endpoints of {before} before, {release} now"
        )
        _log.info(
            "Synapse is {version}; requests go by the endpoints of {release}{before}",
            version=version,
            release=release,
            before="" if release == before else f" (before: {before})",
        )
