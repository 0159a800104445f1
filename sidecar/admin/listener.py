"""The operator's listener as HTTP: never on the public port, its endpoint a loopback address or a UNIX socket.

Knows who may ask, and nothing of what is asked.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from io import BytesIO
from pwd import getpwuid
from typing import Any

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from sidecar.admin.credentials import Doorkeeper
from sidecar.admin.guard import PROBES, may_connect, refusal
from sidecar.admin.operator_answer import Inquiry, OperatorAnswer
from sidecar.config.endpoint_strings import entrance
from sidecar.config.operator import Operator
from sidecar.config.passwords import Secret
from sidecar.entrance.listening import address, listen
from sidecar.entrance.tls import Identities, secured
from sidecar.observe.telemetry import logger

_log = logger("sidecar.admin")

SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""With every answer: nothing of another origin is loaded, nobody frames this, and nothing inline is run.

`Referrer-Policy: no-referrer` would make browsers send `Origin: null` with forms (Fetch 3.1).
"""


@define(eq=False)
class OperatorEntrance:
    """Lets in who may, and passes on what is asked."""

    answer: Callable[[Inquiry], Awaitable[OperatorAnswer]]
    rules: Callable[[], tuple[Operator, Secret | None]]
    """`operator:` and the password of this moment."""
    doorkeeper: Doorkeeper
    dressed: Callable[[Inquiry, OperatorAnswer], OperatorAnswer] = lambda _, answer: answer
    """The answer as who asked can read it best."""
    machine: str = field(factory=socket.gethostname)

    async def respond(self, inquiry: Inquiry) -> OperatorAnswer:
        """The answer, whoever asks."""
        return self.dressed(inquiry, await self._answer(inquiry))

    async def _answer(self, inquiry: Inquiry) -> OperatorAnswer:
        operator, secret = self.rules()
        refused = refusal(inquiry, operator, self.machine)
        if refused is None and inquiry.parts not in PROBES:
            authorization = inquiry.fields.get("authorization", "")
            refused = await self.doorkeeper.refusal(
                authorization, inquiry.peer, operator.user, secret, operator.attempts
            )
        if refused is not None:
            return refused
        return await self.answer(inquiry if secret is None else evolve(inquiry, user=operator.user))


class Pages(Resource):
    """HTTP for an `OperatorEntrance`."""

    isLeaf = True

    def __init__(self, entrance: OperatorEntrance) -> None:
        super().__init__()
        self._entrance = entrance

    def render(self, request: Request) -> int:
        Deferred.fromCoroutine(self._respond(request))
        return NOT_DONE_YET

    async def _respond(self, request: Request) -> None:
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            answer = await self._entrance.respond(_inquiry(request))
        except Exception:
            _log.failure("answering the operator failed")
            answer = OperatorAnswer(500, {"error": "This failed; the log says why."})
        if not gone:
            _send(request, answer)


def _inquiry(request: Any) -> Inquiry:
    peer = request.transport.getPeer()
    return Inquiry(
        method=request.method.decode("latin-1"),
        path=request.path.decode("latin-1"),
        query=request.uri.partition(b"?")[2].decode("latin-1"),
        peer=getattr(peer, "host", "") or "",
        local=_local_user(request.transport) if isinstance(peer, UNIXAddress) else "",
        secure=bool(request.isSecure()),
        fields={
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in request.requestHeaders.getAllRawHeaders()
        },
        body=request.content.read(),
    )


def _local_user(transport: Any) -> str:
    """The user of the process at the other end of a UNIX socket (unix(7), SO_PEERCRED)."""
    credentials = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    try:
        return getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _send(request: Request, answer: OperatorAnswer) -> None:
    octets = answer.octets()
    request.setResponseCode(answer.status)
    fields = {**SAFE, "Content-Type": answer.kind, "Content-Length": str(len(octets))}
    if answer.allow:
        fields["Allow"] = answer.allow
    for name, value in (*fields.items(), *answer.fields):
        request.setHeader(name, value)
    request.write(octets)
    request.finish()


class _BoundedRequest(Request):
    """A request whose body is kept in memory, up to a limit."""

    channel: Any
    content: Any
    _refused = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        self._bound(length or 0)

    def handleContentChunk(self, data: bytes) -> None:
        if self._bound(self.content.tell() + len(data)):
            self.content.write(data)

    def _bound(self, length: int) -> bool:
        if length > self.channel.site.most() and not self._refused:
            self._refused = True
            self.channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
            self.channel.loseConnection()
        return not self._refused

    def process(self) -> None:
        if not self._refused:
            self.channel.came()
            super().process()


class _Channel(HTTPChannel):
    """A connection, whose requests have to be complete in time: in all, not from one byte to the next."""

    site: OperatorSite
    requestFactory = _BoundedRequest
    _late: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._expect()

    def dataReceived(self, data: bytes) -> None:
        if self._late is None and not self.requests:
            self._expect()
        super().dataReceived(data)

    def came(self) -> None:
        """A request is complete."""
        self._cancel()
        self.site.busy(self)

    def requestDone(self, request: Any) -> None:
        super().requestDone(request)
        if not self.requests:
            self.site.rests(self)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self._cancel()
        self.site.lost(self)
        super().connectionLost(reason)

    def abort(self) -> None:
        """Close at once."""
        transport: Any = self.transport
        transport.abortConnection()

    def _expect(self) -> None:
        self._late = self.site.reactor.callLater(self.site.patience(), self.abort)

    def _cancel(self) -> None:
        if self._late is not None:
            if self._late.active():
                self._late.cancel()
            self._late = None


class OperatorSite(Site):
    """So many connections at once, and requests of so many bytes and seconds. No log: probes are no news.

    Where there is no room, who has waited longest without a request makes some: so nobody is kept out by connections
    on which nothing is asked.
    """

    noisy = False
    protocol: Any = _Channel

    def __init__(self, entrance: OperatorEntrance, reactor: Any) -> None:
        super().__init__(Pages(entrance), requestFactory=_BoundedRequest, reactor=reactor)
        self._rules = entrance.rules
        self._resting: OrderedDict[_Channel, None] = OrderedDict()
        """Connections without a request that is being answered, the longest first."""
        self._all: set[_Channel] = set()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._all)

    def most(self) -> int:
        """Bytes in a body."""
        return self._rules()[0].request

    def patience(self) -> float:
        """Seconds in which a request has to be complete."""
        return self._rules()[0].head

    def admits(self, peer: str) -> bool:
        """Whether a connection from an address is taken; an old one may be closed for it."""
        operator = self._rules()[0]
        if not may_connect(peer, operator):
            return False
        if self.open >= operator.connections and self._resting:
            oldest, _ = self._resting.popitem(last=False)
            self._all.discard(oldest)
            oldest.abort()
        return self.open < operator.connections

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        self._all.add(protocol)
        self._resting[protocol] = None
        return protocol

    def busy(self, channel: _Channel) -> None:
        """A request of this connection is being answered."""
        self._resting.pop(channel, None)

    def rests(self, channel: _Channel) -> None:
        """Nothing is being answered on this connection any more."""
        if channel in self._all:
            self._resting[channel] = None

    def lost(self, channel: _Channel) -> None:
        """A connection has ended."""
        self._resting.pop(channel, None)
        self._all.discard(channel)

    def acceptableProtocols(self) -> list[bytes]:
        """Never HTTP/2, whatever is installed."""
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        """Nothing."""


class _Porch(Factory):
    """Takes a connection, before anything is spoken on it, or does not."""

    noisy = False

    def __init__(self, site: OperatorSite, factory: Any) -> None:
        self._site, self._factory = site, factory
        self.doStart = factory.doStart  # type: ignore[method-assign]
        self.doStop = factory.doStop  # type: ignore[method-assign]

    def buildProtocol(self, addr: Any) -> Any:
        peer = getattr(addr, "host", "") or ""
        return self._factory.buildProtocol(addr) if self._site.admits(peer) else None


@define(eq=False)
class OperatorListener(Service):
    """Listens for the operator from the start to the end of the last drained exchange."""

    reactor: Any
    endpoint: str
    """A Twisted server endpoint string."""
    site: OperatorSite
    identities: Identities = field(factory=Identities)
    """Where its certificate is kept, if it speaks TLS."""
    port: IListeningPort | None = field(default=None, init=False)

    def startService(self) -> None:
        """Raises SidecarError where it cannot listen."""
        door = entrance(self.endpoint)
        site: Any = self.site
        if door.tls is not None:
            site = secured(self.identities.identity(door.tls), site, self.reactor)
        self.port = listen(self.reactor, door.address, _Porch(self.site, site))
        super().startService()
        _log.info("the operator is listened to on {address}", address=address(self.port))

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening if port is not None else lambda: None)
