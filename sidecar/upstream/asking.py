"""One question of ours to one process over HTTP: small, with an end, on a connection that nobody else uses.

For what the sidecar itself wants to know (health, a version). Knows no workers, no pools and no clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import treq
from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from sidecar.synapse.asker import HEADERS
from sidecar.upstream.endpoints import is_busy, is_shortage
from sidecar.upstream.health import NoAnswerError


@frozen
class WorkerAnswer:
    """What was answered."""

    status: int
    server: str
    """The Server field; empty where there is none."""
    content: bytes


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted logs the start and the end of every connection, unless told not to."""

    noisy = False


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@define(eq=False)
class _Always:
    """Connects to one endpoint, whatever the URL, and cuts the connection when told to."""

    endpoint: IStreamClientEndpoint
    _protocol: Any = None

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return self.endpoint.connect(protocolFactory).addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        self._protocol = protocol
        return protocol

    def cut(self) -> None:
        if self._protocol is not None:
            self._protocol.transport.abortConnection()


def _too_late(_result: object, seconds: float) -> Failure:
    """Whatever Twisted makes of the cancellation."""
    return Failure(DeferredTimeoutError(seconds, "Deferred"))


async def ask(
    reactor: Any, endpoint: IStreamClientEndpoint, target: str, fields: Mapping[str, str], seconds: float
) -> WorkerAnswer:
    """The answer to `GET target`. Fails with what Twisted says, and with TimeoutError after `seconds`."""
    once = _Always(endpoint)
    connections = HTTPConnectionPool(reactor, persistent=False)
    connections._factory = _QuietFactory
    agent = Agent.usingEndpointFactory(reactor, once, connections)
    headers = Headers({name: [value] for name, value in fields.items()})

    async def exchange() -> WorkerAnswer:
        response = await treq.get(f"http://localhost{target}", headers=headers, agent=agent, allow_redirects=False)
        content = await treq.content(response)
        server = response.headers.getRawHeaders("Server") or [""]
        return WorkerAnswer(response.code, server[0], content)

    try:
        return await Deferred.fromCoroutine(exchange()).addTimeout(seconds, reactor, _too_late)
    finally:
        once.cut()  # a body that stalls would keep it


async def serves(reactor: Any, endpoint: IStreamClientEndpoint, path: str, seconds: float) -> bool:
    """Ask a worker whether it serves, and whether it is Synapse; `path` may be empty: whether it takes connections.

    Fails with NoAnswerError where it is there and does not serve, else with why it cannot be reached.
    """
    try:
        if path:
            answer = await ask(reactor, endpoint, path, HEADERS, seconds)
        else:
            silent = Factory.forProtocol(Protocol)
            silent.noisy = False
            connection: Any = await endpoint.connect(silent).addTimeout(seconds, reactor)
            connection.transport.abortConnection()
            return False
    except DeferredTimeoutError:
        raise NoAnswerError(f"it takes connections, but has not answered for {seconds:g} s") from None
    except ResponseFailed:
        raise NoAnswerError("it closes connections without an answer") from None
    except Exception as error:
        if is_busy(error) and not is_shortage(error):
            raise NoAnswerError("its backlog is full") from None
        raise
    if answer.status >= 500:
        raise NoAnswerError(f"it answers {answer.status} when it is asked for its health")
    return answer.server.startswith("Synapse/")
