"""One small request of our own to one process, over HTTP, on a connection of its own.

For what the sidecar itself wants to know (health, a version). Knows no workers, no pools and no clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import treq
from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from sidecar.config.endpoint_strings import client_parts
from sidecar.synapse.asker import HEADERS
from sidecar.upstream.connecting import is_busy, is_name, is_shortage
from sidecar.upstream.health import NoAnswerError
from sidecar.upstream.resolving import Names

MOST = 1 << 20
"""Bytes of an answer, unless told otherwise."""


class TooLongError(Exception):
    """The answer is longer than allowed."""


@frozen
class WorkerAnswer:
    """What was answered."""

    status: int
    headers: Headers
    content: bytes

    def get(self, name: str) -> str:
        """The first value of a field; empty if there is none."""
        return (self.headers.getRawHeaders(name) or [""])[0]

    @property
    def server(self) -> str:
        """The Server field."""
        return self.get("Server")


class _Silent(Factory):
    """Connections on which nothing is sent."""

    protocol = Protocol
    noisy = False


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted logs the start and the end of every connection otherwise."""

    noisy = False


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@define(eq=False)
class _Always:
    """Connects to one endpoint, whatever the URL; `cut` closes the connection."""

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
    """Replaces Twisted's error of a cancelled request."""
    return Failure(DeferredTimeoutError(seconds, "Deferred"))


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _Named:
    """Connects to the first address that a name has."""

    reactor: Any
    names: Names
    host: str
    port: int

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        found: Deferred[Any] = Deferred()
        self.names.find(self.host, found.callback, found.errback)
        return found.addCallback(self._at, protocolFactory)

    def _at(self, addresses: Sequence[str], factory: Any) -> Deferred[Any]:
        kind = TCP6ClientEndpoint if ":" in addresses[0] else TCP4ClientEndpoint
        connected: Deferred[Any] = kind(self.reactor, addresses[0], self.port).connect(factory)
        return connected


def questioned(reactor: Any, names: Names, description: str) -> IStreamClientEndpoint:
    """The endpoint of a Twisted client endpoint string; names are looked up like those of workers."""
    kind, values = client_parts(description)
    if kind == "tcp" and is_name(values["host"]):
        return _Named(reactor, names, values["host"], int(values["port"]))
    endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
    return endpoint


async def ask(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    target: str,
    fields: Mapping[str, str],
    seconds: float,
    *,
    method: str = "GET",
    body: bytes = b"",
    most: int = MOST,
) -> WorkerAnswer:
    """The answer to one request. Fails with what Twisted says, with TimeoutError after `seconds`, or with
    TooLongError."""
    once = _Always(endpoint)
    connections = HTTPConnectionPool(reactor, persistent=False)
    connections._factory = _QuietFactory
    agent = Agent.usingEndpointFactory(reactor, once, connections)
    headers = Headers({name: [value] for name, value in fields.items()})

    async def exchange() -> WorkerAnswer:
        response = await treq.request(
            method,
            f"http://localhost{target}",
            headers=headers,
            data=body or None,
            agent=agent,
            allow_redirects=False,
            unbuffered=True,
        )
        content = await _content(response, most, once.cut)
        return WorkerAnswer(response.code, response.headers, content)

    try:
        return await Deferred.fromCoroutine(exchange()).addTimeout(seconds, reactor, _too_late)
    finally:
        once.cut()  # a body that stalls would keep it


async def _content(response: Any, most: int, cut: Callable[[], None]) -> bytes:
    """The body; at most `most` bytes of it are kept."""
    found = bytearray()

    def collect(data: bytes) -> None:
        found.extend(data[: most + 1 - len(found)])
        if len(found) > most:
            cut()

    try:
        await treq.collect(response, collect)
    except ResponseFailed:
        if len(found) <= most:
            raise
    if len(found) > most:
        raise TooLongError
    return bytes(found)


async def serves(reactor: Any, endpoint: IStreamClientEndpoint, path: str, seconds: float) -> bool:
    """Ask a worker whether it serves, and whether it is Synapse; `path` may be empty: whether it takes connections.

    Fails with NoAnswerError if it runs and does not serve, else with why it cannot be reached.
    """
    try:
        if path:
            answer = await ask(reactor, endpoint, path, HEADERS, seconds)
        else:
            connection: Any = await endpoint.connect(_Silent()).addTimeout(seconds, reactor)
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
