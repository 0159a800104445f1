"""Notices that the running Synapse is another version than before, and routes by the endpoints of that one.

Asks when the main process has come back or has been started anew; an upgrade cannot happen otherwise. Part of the
service layer: it may know everything.
"""

from __future__ import annotations

from typing import Any

import treq
from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from sidecar.deployment import for_version
from sidecar.reload import Reload
from sidecar.synapse.asker import HEADERS, PATH, version_in
from sidecar.telemetry import logger

_log = logger("sidecar")

TIMEOUT = 10.0
"""Seconds for the main process to say its version; it may still be busy with starting."""


@implementer(IAgentEndpointFactory)
@define(eq=False)
class _Always:
    """Connects to one endpoint, whatever the URL."""

    endpoint: IStreamClientEndpoint

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        return self.endpoint


@define(eq=False)
class VersionWatch(Service):
    """Keeps the endpoint table in step with Synapse, unless the configuration states a version."""

    reload: Reload
    """Whose deployment is in force."""
    reactor: Any
    _asking: bool = field(default=False, init=False)

    def startService(self) -> None:
        super().startService()
        self.reload.after = self._attach
        self._attach()

    def _attach(self) -> None:
        """Be told when the main process has started anew; after a reload it may be another one."""
        deployment = self.reload.deployment
        asked = deployment.settings.synapse.version is None
        self.reload.sidecar.gateway.pools[deployment.plan.main].on_new_life = self.ask if asked else None

    def ask(self) -> None:
        """Ask main, and route by what it says; nothing while an answer is awaited already."""
        if self.running and not self._asking:
            Deferred.fromCoroutine(self.learn())

    async def learn(self) -> None:
        """Ask main, and route by what it says. Whatever fails is logged."""
        self._asking = True
        try:
            version = await self._version()
            if version is not None and version != self.reload.deployment.table.asked:
                self._use(version)
        except Exception as error:
            _log.warn("the version of the running Synapse could not be learnt: {error}", error=str(error))
        finally:
            self._asking = False

    async def _version(self) -> str | None:
        plan = self.reload.deployment.plan
        endpoint = clientFromString(self.reactor, plan.workers[plan.main].endpoint)
        agent = Agent.usingEndpointFactory(self.reactor, _Always(endpoint))
        headers = Headers({name: [value] for name, value in HEADERS.items()})
        response = await treq.get(f"http://localhost{PATH}", headers=headers, agent=agent, timeout=TIMEOUT)
        content = await treq.content(response)
        server = response.headers.getRawHeaders("Server") or [""]
        return version_in(response.code, server[0], content)

    def _use(self, version: str) -> None:
        before = self.reload.deployment.table.release
        self.reload.use(for_version(self.reload.deployment, version))
        _log.info(
            "Synapse is {version} now; requests go by the endpoints of {release} (before: {before})",
            version=version,
            release=self.reload.deployment.table.release,
            before=before,
        )
