"""The operator's listener as HTTP: never on the public port, its endpoint a loopback address or a UNIX socket.

Knows nothing of what is asked; `sidecar.admin.operations` does.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from sidecar.admin.answers import Answer
from sidecar.admin.operations import Operations
from sidecar.net.listening import address, listen
from sidecar.telemetry import logger

_log = logger("sidecar.admin")


def is_foreign(origin: str | None, host: str | None) -> bool:
    """Whether a page of another site makes the browser ask (`Origin`, RFC 6454 7)."""
    return origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower()


class Pages(Resource):
    """HTTP for `Operations`."""

    isLeaf = True

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self._operations = operations

    def render(self, request: Request) -> bytes:
        method = request.method.decode("latin-1")
        path = request.path.decode("latin-1")
        if method not in ("GET", "HEAD") and is_foreign(request.getHeader("origin"), request.getHeader("host")):
            answer = Answer(403, {"error": "Pages of other sites may not do this."})
        else:
            answer = self._operations.answer(method, path)
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", answer.kind)
        request.setHeader("Cache-Control", "no-store")
        if answer.allow:
            request.setHeader("Allow", answer.allow)
        for name, value in answer.fields:
            request.setHeader(name, value)
        return answer.octets()


class _QuietSite(Site):
    noisy = False

    def log(self, request: Request) -> None:
        """What monitoring asks every few seconds is no news."""


@define(eq=False)
class OperatorListener(Service):
    """Listens for the operator from the start to the end of the last drained exchange."""

    reactor: Any
    endpoint: str
    """A Twisted server endpoint string."""
    operations: Operations
    port: IListeningPort | None = field(default=None, init=False)

    def startService(self) -> None:
        """Raises SidecarError where it cannot listen."""
        site: Any = _QuietSite(Pages(self.operations))
        self.port = listen(self.reactor, self.endpoint, site)
        super().startService()
        _log.info("the operator is listened to on {address}", address=address(self.port))

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening if port is not None else lambda: None)
