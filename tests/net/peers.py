"""The far ends of connections, played by a test over real sockets: clients, workers, and the sidecar between them."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from twisted.internet import error as connecting
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from sidecar.config.schema import Limits, Timeouts
from sidecar.entrance.accepting import Accepting
from sidecar.entrance.entrances import Entrance
from sidecar.relay.admission import Gate, GateLimits
from sidecar.relay.gateway import Gateway, response_limits
from sidecar.relay.session import Listener, Session
from sidecar.routing.decision import Decision
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.link import NOTHING
from sidecar.transport.poller import Poller
from sidecar.transport.transport import SocketLink
from sidecar.transport.twisted_link import SecureLink
from sidecar.upstream.connecting import UnixEndpoint, describe
from sidecar.upstream.health import Health, HealthLimits
from sidecar.upstream.pool import PoolLimits, WorkerPool
from sidecar.wire.forwarded import ForwardedPolicy

from .turns import port_of, reactor, turns

FORWARDED = b"X-Forwarded-For: 127.0.0.1\r\n"
"""What the sidecar adds to a request of a client of these tests, whose peer may speak for others and says no scheme."""


HEALTHY = b"HTTP/1.1 200 OK\r\nServer: Synapse/1.163.2\r\nContent-Length: 2\r\n\r\nOK"
"""What Synapse says at /health."""


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """One end of a connection; a test writes to it and awaits what comes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = ""
        """How the other side ended: `closed` in good order, or `reset`."""
        self.gone = False
        """Nothing is left of the connection."""
        self._waiting: list[tuple[Callable[[], Any], Deferred[None]]] = []

    # Twisted calls.

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def readConnectionLost(self) -> None:
        self.ended = self.ended or "closed"
        self._look()

    def writeConnectionLost(self) -> None:
        """We did it ourselves."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        self.ended = self.ended or ("closed" if reason.check(ConnectionDone) else "reset")
        self._look()

    # What a test says.

    def send(self, octets: bytes) -> None:
        self.transport.write(octets)

    def half_close(self) -> None:
        self.transport.loseWriteConnection()

    def close(self) -> None:
        self.transport.loseConnection()

    def reset(self) -> None:
        self.transport.abortConnection()

    def pause(self) -> None:
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.transport.resumeProducing()

    # What a test awaits.

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until `condition` holds, looked at whenever something comes or ends."""
        if not condition():
            waiting: Deferred[None] = Deferred()
            self._waiting.append((condition, waiting))
            await waiting

    async def gets(self, expected: bytes) -> None:
        """Take exactly `expected`; anything else fails."""
        await self.until(lambda: len(self.received) >= len(expected) or self.ended)
        assert bytes(self.received[: len(expected)]) == expected, f"{self.ended}: {bytes(self.received[:2000])!r}"
        del self.received[: len(expected)]

    async def head(self) -> bytes:
        """Take everything up to the end of a head."""
        await self.until(lambda: b"\r\n\r\n" in self.received or self.ended)
        assert b"\r\n\r\n" in self.received, f"{self.ended}: {bytes(self.received)!r}"
        end = self.received.index(b"\r\n\r\n") + 4
        head = bytes(self.received[:end])
        del self.received[:end]
        return head

    async def end(self, how: str = "closed") -> bytes:
        """Wait for the end, which must be as it should, and take what came before it."""
        await self.until(lambda: self.ended)
        assert self.ended == how, bytes(self.received[:2000])
        rest = bytes(self.received)
        self.received.clear()
        return rest

    async def vanishes(self) -> None:
        """Wait until nothing is left of the connection."""
        await self.until(lambda: self.gone)

    def _look(self) -> None:
        for waiting in tuple(self._waiting):
            condition, deferred = waiting
            if condition():
                self._waiting.remove(waiting)
                deferred.callback(None)


async def connected(listening: IListeningPort, source: str = "127.0.0.1") -> Peer:
    """A client of what listens there on loopback, from an address of loopback."""
    factory = Factory.forProtocol(Peer)
    factory.noisy = False
    peer: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port_of(listening), bindAddress=(source, 0)).connect(
        factory
    )
    assert isinstance(peer, Peer)
    return peer


class Worker(Factory):
    """Listens on a UNIX socket and hands each connection to the test, in the order in which they came.

    A `healthy` one answers questions for its health by itself, and hands on the connections with another request.
    """

    noisy = False

    def __init__(self, path: Path, *, healthy: bool = False) -> None:
        self.path = path
        self.healthy = healthy
        self.asked = 0
        """Questions for its health so far."""
        self.accepted: list[Peer] = []
        self._new: deque[Peer] = deque()
        self._asked: deque[Deferred[Peer]] = deque()
        self._port: Any = None

    def buildProtocol(self, addr: object) -> Peer:
        return _Accepted(self)

    def serves(self) -> Deferred[bool]:
        """Answers for the worker when it is asked for its health: as if at `/health`, but on no connection."""
        return (
            succeed(False)
            if self._port is not None
            else fail(connecting.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        )

    def start(self) -> Worker:
        self._port = reactor.listenUNIX(str(self.path), self)
        return self

    async def stop(self) -> None:
        """Stop listening; connections stay."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    async def connection(self) -> Peer:
        """The next connection that was not asked for yet."""
        if self._new:
            return self._new.popleft()
        asked: Deferred[Peer] = Deferred()
        self._asked.append(asked)
        return await asked

    def came(self, peer: Peer) -> None:
        self.accepted.append(peer)
        if self._asked:
            self._asked.popleft().callback(peer)
        else:
            self._new.append(peer)


class _Accepted(Peer):
    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def connectionMade(self) -> None:
        if not self._worker.healthy:
            self._worker.came(self)

    def dataReceived(self, data: bytes) -> None:
        if self._worker.healthy and self not in self._worker.accepted:
            if data.startswith(b"GET /health HTTP/1.1\r\n"):
                self._worker.asked += 1
                self.transport.write(HEALTHY)
                self.transport.loseConnection()
                return
            self._worker.came(self)
        super().dataReceived(data)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        self.transport.loseConnection()


def forward(*candidates: str, **others: Any) -> Callable[..., Decision]:
    """Decides the same for every request."""
    decision = Decision(action="forward", endpoint="any", pool="any", candidates=candidates or ("main",), **others)
    return lambda *_, **__: decision


class Stage:
    """A gateway on a TCP port with its workers on UNIX sockets, and a clock that only the test moves."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: tuple[str, ...] = ("main",),
        away: tuple[str, ...] = (),
        decide: Callable[..., Decision] | None = None,
        limits: dict[str, Any] | None = None,
        timeouts: dict[str, Any] | None = None,
        trust: str = "127.0.0.0/8",
        idle: int = 64,
        connections: int = 8192,
        waiting: int = 1000,
        gates: dict[str, GateLimits] | None = None,
        health: HealthLimits | None = None,
    ) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.poller = Poller(reactor)
        self.limits = Limits(**(limits or {}))
        self.timeouts = Timeouts(**(timeouts or {}))
        self.workers = {name: Worker(directory / f"{name}.sock") for name in workers}
        deadlines = Deadlines(self.clock)
        self.pools = {
            name: WorkerPool(
                name=name,
                endpoint=UnixEndpoint(self.poller, str(worker.path)),
                socket_path=str(worker.path),
                limits=PoolLimits(idle=idle, connections=connections, waiting=waiting),
                reader_limits=response_limits(self.limits),
                clock=self.clock,
                deadlines=deadlines,
                health=Health(
                    name=name,
                    ask=worker.serves,
                    clock=self.clock,
                    limits=health or HealthLimits(interval=0, slow_start=0),
                    describe=describe,
                ),
            )
            for name, worker in self.workers.items()
        }
        self.gateway = Gateway(
            decide=decide or forward(*workers),
            pools=self.pools,
            forwarded=ForwardedPolicy([ip_network(trust)], None),
            limits=self.limits,
            timeouts=self.timeouts,
            deadlines=deadlines,
            gates={name: Gate(limits) for name, limits in (gates or {}).items()},
        )
        for name, worker in self.workers.items():
            if name not in away:
                worker.start()
            self.pools[name].health.start()
        self.listener = Listener(self.gateway)
        self.accepting = Accepting(reactor, lambda: len(self.listener.connections), ceiling=10_000)
        self.port = self.listen(Entrance(self.listener, reactor, self.poller))
        self.clients: list[Peer] = []

    def listen(self, entrance: Entrance) -> Any:
        """A port on which `entrance` serves."""
        port = reactor.listenTCP(0, entrance, interface="127.0.0.1")
        self.accepting.open(port, self.poller, entrance.take)
        return port

    @property
    def worker(self) -> Worker:
        """The first worker."""
        return next(iter(self.workers.values()))

    @property
    def pool(self) -> WorkerPool:
        return next(iter(self.pools.values()))

    @property
    def counters(self) -> Any:
        return self.gateway.counters

    async def client(self, octets: bytes = b"", *, source: str = "127.0.0.1") -> Peer:
        """A new connection to the sidecar, on which `octets` were sent."""
        peer = await connected(self.port, source)
        self.clients.append(peer)
        peer.transport.setTcpNoDelay(True)
        if octets:
            peer.send(octets)
        return peer

    async def exchange(self, octets: bytes) -> tuple[Peer, Peer]:
        """A new client that sent `octets`, and the worker's connection on which their head arrived (and was taken)."""
        client = await self.client(octets)
        worker = await self.worker.connection()
        await worker.head()
        return client, worker

    @property
    def sessions(self) -> list[Session]:
        """The sidecar's ends of all clients' connections."""
        return [each for each in self.listener.connections if isinstance(each, Session)]

    async def inside(self, client: Peer) -> Session:
        """The sidecar's end of the client's connection."""
        address = client.transport.getHost()
        while True:
            for connection in self.sessions:
                if remote(connection) == (address.host, address.port):
                    return connection
            await turns(1)

    async def empties(self) -> None:
        """Wait until the sidecar has no client any more."""
        while self.listener.connections:
            await turns(1)

    async def acknowledged(self) -> None:
        """Wait until the clients' kernels have acknowledged what they were sent."""
        while any(connection.link.under_way != NOTHING for connection in self.sessions):
            await turns(1)

    async def pass_time(self, seconds: float) -> None:
        """Let what was sent arrive, then let the time pass, in steps that leave no timer out."""
        await turns()
        whole, rest = divmod(seconds, 0.25)
        for _ in range(int(whole)):
            self.clock.advance(0.25)
        self.clock.advance(rest)
        await turns()

    async def strike(self) -> None:
        """End everything that the test left."""
        self.accepting.stop()
        await self.port.stopListening()
        for worker in self.workers.values():
            await worker.stop()
        for peer in [*self.clients, *(peer for worker in self.workers.values() for peer in worker.accepted)]:
            if not peer.gone:
                peer.reset()
                await peer.vanishes()
        for connection in tuple(self.listener.connections):
            connection.abort()
        for pool in self.pools.values():
            pool.retire()
        while self.listener.connections or any(pool.leased or pool.connecting for pool in self.pools.values()):
            await turns(1)
        await turns(1)
        self.poller.close()
        assert not self.clock.getDelayedCalls() or all(call.active() for call in self.clock.getDelayedCalls())


def remote(connection: Session) -> tuple[str, int]:
    """Address and port of the client, as the socket has them."""
    link = connection.link
    below = link.below if isinstance(link, SecureLink) else link
    assert isinstance(below, SocketLink)
    host, port = below.socket.getpeername()
    return host, port


def crash(peer: Peer) -> None:
    """Let a peer end as a killed process does: what it was sent and has not read makes it a reset."""
    peer.reset()
