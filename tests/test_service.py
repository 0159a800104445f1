"""The service in this process, on real sockets: what it listens on, how many it lets in, how it stops."""

from __future__ import annotations

import errno
import os
import select
import socket
from pathlib import Path
from typing import Any

import pytest
from net.peers import Peer, Worker, connected, forward
from net.turns import port_of, reactor, spin, staged, turns
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from sidecar.app.service import SidecarService, use_monotonic_clock
from sidecar.app.work import Work
from sidecar.config.schema import Limits, Settings, Timeouts
from sidecar.entrance.listening import listen
from sidecar.errors import SidecarError
from sidecar.routing.workers import PlannedWorker
from sidecar.transport.poller import Poller
from sidecar.upstream import connecting
from sidecar.upstream.connecting import TcpEndpoint, UnixEndpoint, is_shortage, worker_endpoint
from sidecar.upstream.resolving import Names

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
LISTEN = "tcp:0:interface=127.0.0.1"


class Running:
    """A service that is started, with one worker."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.worker = Worker(directory / "main.sock", healthy=True).start()
        self.service = service(f"unix:{self.worker.path}", **settings)
        self.service.startService()
        self.clients: list[Peer] = []

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", port_of(self.service.ports[0])

    async def client(self, octets: bytes = b"") -> Peer:
        peer = await connected(self.service.ports[0])
        self.clients.append(peer)
        if octets:
            peer.send(octets)
        return peer

    async def strike(self) -> None:
        for peer in (*self.clients, *self.worker.accepted):
            if not peer.gone:
                peer.reset()
                await peer.vanishes()
        if self.service.running:
            await self.service.stopService()
        await self.worker.stop()


def service(endpoint: str, *, listen: tuple[str, ...] = (LISTEN,), **others: Any) -> SidecarService:
    introduction = others.pop("introduction", "")
    settings = Settings(listen=listen, **others)
    main = PlannedWorker(name="main", endpoint=endpoint, serves=frozenset(), is_main=True)
    work = Work(settings=settings, workers={"main": main}, decide=forward())
    return SidecarService(work, reactor, introduction)


@staged(Running)
async def test_an_exchange(running: Running) -> None:
    """What the service listens on leads to its worker."""
    client = await running.client(GET)
    worker = await running.worker.connection()
    await worker.gets(GET[:-2] + b"X-Forwarded-For: 127.0.0.1\r\n\r\n")
    worker.send(OK)
    await client.gets(OK)
    assert running.service.gateway.pools["main"].socket_path == str(running.worker.path)


@staged(Running)
async def test_worker_that_is_away(running: Running) -> None:
    """A failed attempt to connect is noticed; the request waits, and is answered when the worker is back."""
    await running.worker.stop()
    client = await running.client(GET)
    pool = running.service.gateway.pools["main"]
    while not pool.down:
        await turns(1)
    assert pool.health.reason == "No such file or directory"
    running.worker.start()
    worker = await running.worker.connection()
    await worker.head()
    worker.send(OK)
    await client.gets(OK)


@staged(Running, listen=(LISTEN, LISTEN))
async def test_several_listeners(running: Running) -> None:
    """Every endpoint of `listen` is listened on, and logged."""
    first, second = map(port_of, running.service.ports)
    assert first != second


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("tcp:{busy}:interface=127.0.0.1", "Address already in use"),
        ("unix:/nonexistent/dir/a.sock", "No such file or directory"),
        ("nonsense:1", "Unknown endpoint type"),
        ("systemd:domain=INET:index=0", ""),
    ],
)
def test_cannot_listen(description: str, why: str) -> None:
    """Where one endpoint cannot be listened on there is one sentence that says why, and none is listened on."""

    async def scenario() -> None:
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            failing = description.format(busy=busy.getsockname()[1])
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", 0))
                free = probe.getsockname()
            one = service("unix:/nonexistent", listen=(f"tcp:{free[1]}:interface=127.0.0.1", failing))
            with pytest.raises(SidecarError) as raised:
                one.startService()
            assert str(raised.value).startswith(f"cannot listen on {failing}: ")
            assert why in str(raised.value)
            assert "\n" not in str(raised.value)
            await turns()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(free)
            await one.stopService()

    spin(scenario())


def test_an_endpoint_that_does_not_say() -> None:
    """An endpoint that has not begun to listen when it returns is taken for a failure, not for a success."""
    from twisted.internet.defer import Deferred
    from twisted.internet.endpoints import TCP4ServerEndpoint

    async def scenario() -> None:
        one = service("unix:/nonexistent", listen=("tcp:0",))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TCP4ServerEndpoint, "listen", lambda *_: Deferred())
            with pytest.raises(SidecarError, match="did not say whether it listens"):
                one.startService()
            patch.setattr(
                TCP4ServerEndpoint, "listen", lambda *_: _failed(CannotListenError("h", 1, OSError("no such thing")))
            )
            with pytest.raises(SidecarError, match="no such thing"):
                one.startService()
        await one.stopService()

    spin(scenario())


def _failed(error: Exception) -> Any:
    from twisted.internet.defer import fail

    return fail(error)


@staged(Running, limits=Limits(connections=2))
async def test_connections_in_total(running: Running) -> None:
    """Beyond the limit clients wait in the kernel's queue, and are served when others leave."""
    first = await running.client(b"GET")
    while running.service.gateway.counters.connections_open < 1:
        await turns(1)
    await running.client(b"GET")
    while running.service.gateway.counters.connections_open < 2:
        await turns(1)
    third = await running.client(GET)
    await turns(20)
    assert running.service.gateway.counters.connections == 2
    first.close()
    worker = await running.worker.connection()
    await worker.head()
    worker.send(OK)
    await third.gets(OK)


@staged(Running)
async def test_stop_lets_exchanges_end(running: Running) -> None:
    """A stop closes what is idle at once, accepts nobody, and waits for the running exchange."""
    idle = await running.client()
    client = await running.client(GET)
    worker = await running.worker.connection()
    address = running.address
    stopped = running.service.stopService()
    await idle.end()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert not stopped.called
    idle.close()
    worker.send(OK)
    await client.gets(CLOSING)
    await client.end()
    client.close()
    await stopped
    await worker.end()


@staged(Running, limits=Limits(connections=1))
async def test_stop_at_the_limit(running: Running) -> None:
    """A stop at the limit of connections does not wake the listener when one leaves."""
    client = await running.client(GET)
    worker = await running.worker.connection()
    stopped = running.service.stopService()
    await turns()
    client.reset()
    await stopped
    await worker.end()


@staged(Running, timeouts=Timeouts(drain=0.05))
async def test_stop_does_not_wait_forever(running: Running) -> None:
    """After `timeouts.drain` what is still running is cut."""
    client = await running.client(GET)
    await running.worker.connection()
    await running.service.stopService()
    await client.end("reset")


@staged(Running)
async def test_stop_without_clients(running: Running) -> None:
    """With no client there is nothing to wait for."""
    stopped = running.service.stopService()
    await turns()
    assert stopped.called


@staged(Running, introduction="Try this.")
async def test_introduction(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    """An introduction is printed past the log, for which twistd takes sys.stdout."""
    assert running.service.running
    assert capfd.readouterr().out == "Try this.\n"


def test_clock() -> None:
    """The reactor's time is monotonic from the start."""
    import time

    class Reactor:
        seconds = staticmethod(time.time)

    one = Reactor()
    use_monotonic_clock(one)
    assert one.seconds is time.monotonic


def test_a_unix_listener(tmp_path: Path) -> None:
    """The service can listen on a UNIX socket, whose peers have no address and are trusted."""

    async def scenario() -> None:
        worker = Worker(tmp_path / "main.sock").start()
        one = service(f"unix:{worker.path}", listen=(f"unix:{tmp_path}/front.sock",))
        one.startService()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "front.sock"))
            client.sendall(GET[:-2] + b"X-Forwarded-For: 192.0.2.9\r\n\r\n")
            connection = await worker.connection()
            assert b"\r\nX-Forwarded-For: 192.0.2.9\r\n" in await connection.head()
            connection.send(OK)
            await turns(10)
            assert client.recv(1000) == OK
        await one.stopService()
        await worker.stop()

    spin(scenario())


def test_worker_endpoints() -> None:
    """Both kinds are connected to on sockets of our own; an attempt over TCP has a timeout."""
    poller = Poller(reactor)
    endpoint, path = worker_endpoint(Names(reactor), poller, "unix:/run/a.sock:timeout=7", 2.0)
    assert isinstance(endpoint, UnixEndpoint)
    assert (endpoint.path, path) == ("/run/a.sock", "/run/a.sock")
    usual, no_path = worker_endpoint(Names(reactor), poller, "tcp:127.0.0.1:8083", 2.0)
    assert isinstance(usual, TcpEndpoint)
    assert (usual.host, usual.port, usual.timeout, no_path) == ("127.0.0.1", 8083, 2.0, None)
    own, _ = worker_endpoint(Names(reactor), poller, r"tcp:host=\:\:1:port=8083:timeout=7", 2.0)
    assert isinstance(own, TcpEndpoint)
    assert (own.host, own.timeout) == ("::1", 7.0)
    poller.close()


def test_no_descriptor_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told like any failure to connect, and says nothing of the worker."""

    async def scenario() -> None:
        def exhausted(*_: Any, **__: Any) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        poller = Poller(reactor)
        failures: list[BaseException] = []
        with monkeypatch.context() as patched:
            patched.setattr(f"{connecting.__name__}.socket.socket", exhausted)
            for endpoint in (
                UnixEndpoint(poller, "/run/a.sock"),
                TcpEndpoint(poller, Names(reactor), "127.0.0.1", 1, 2.0),
            ):
                endpoint.connect(lambda: pytest.fail("connected"), failures.append)
                assert not failures
                await turns(2)
                assert is_shortage(failures.pop())
        poller.close()

    spin(scenario())
    assert not is_shortage(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    assert not is_shortage(None)


def test_a_burst_of_clients(tmp_path: Path) -> None:
    """More clients than Twisted's own backlog of 50 may wait, on TCP and UNIX, unless `backlog` says otherwise."""
    for description, room in (
        ("tcp:0:interface=127.0.0.1", True),
        (f"unix:{tmp_path}/a.sock", True),
        ("tcp:0:interface=127.0.0.1:backlog=1", False),
    ):
        port: Any = listen(reactor, description, Factory())
        port.stopReading()
        clients = [socket.socket(port.addressFamily) for _ in range(200)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(port.socket.getsockname())
        _, connected, _ = select.select([], clients, [], 0)
        assert (len(connected) == len(clients)) is room
        for client in clients:
            client.close()
        port.stopListening()
    spin(turns())


def test_a_worker_on_tcp(tmp_path: Path) -> None:
    """A worker on TCP is served like any other."""

    async def scenario() -> None:
        worker = Worker(tmp_path / "unused")
        port = reactor.listenTCP(0, worker, interface="127.0.0.1")
        one = service(f"tcp:127.0.0.1:{port.getHost().port}")
        one.startService()
        with socket.create_connection(("127.0.0.1", port_of(one.ports[0]))) as client:
            client.sendall(GET)
            connection = await worker.connection()
            await connection.head()
            connection.send(OK)
            await turns(10)
            assert client.recv(1000) == OK
            client.sendall(GET)
            await connection.head()
        await one.stopService()
        await connection.end("reset")
        await port.stopListening()

    spin(scenario())
