"""Balancers on real sockets in one process: who gets a connection, what passes, and how each of them ends."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sidecar.balancers.balancer import Cut, RunningBalancer
from sidecar.balancers.fleet import Fleet
from sidecar.config.load import settle
from sidecar.config.schema import Settings
from sidecar.document import parse_document
from sidecar.errors import SidecarError
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.poller import Poller
from sidecar.upstream.resolving import Names

from .turns import reactor, spin, turns


class Echo(Protocol):
    """Answers with the name of its server first, then with what it gets; says goodbye at the end of that."""

    factory: Any
    lost: Callable[[], None] = staticmethod(lambda: None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost()

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self.transport.write(self.factory.name)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Server(Factory):
    """A server on a port of loopback."""

    protocol = Echo
    noisy = False

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name.encode()
        self.connections: list[Echo] = []
        self.port = reactor.listenTCP(port, self, interface="127.0.0.1")
        self.number: int = self.port.getHost().port

    async def stop(self) -> None:
        await maybeDeferred(self.port.stopListening)


class Scene:
    """A fleet with one balancer in front of two servers."""

    def __init__(self, more: str = "", servers: int = 2) -> None:
        self.servers = [Server(name) for name in "ab"[:servers]]
        self.fleet = Fleet(reactor, Names(reactor), Poller(reactor), Deadlines(reactor))
        self.settings = self.written(more)
        self.fleet.open(self.settings)
        self.fleet.use(self.settings)
        self.clients: list[socket.socket] = []

    def written(self, more: str = "", ports: str = "0") -> Settings:
        listed = [f"      {each.name.decode()}: {{endpoint: 'tcp:127.0.0.1:{each.number}'}}\n" for each in self.servers]
        text = (
            "workers: {main: {endpoint: 'unix:/nowhere'}}\nbalancers:\n  echo:\n"
            f"    listen: 'tcp:{ports}:interface=127.0.0.1'\n    servers:\n{''.join(listed)}{more}"
        )
        if "check:" not in more:
            text += "    check: {interval: 20ms, rise: 1, fall: 1}\n"
        return settle(parse_document(text.encode(), "sidecar.yaml"))

    @property
    def balancer(self) -> RunningBalancer:
        return self.fleet.running["echo"]

    def client(self) -> socket.socket:
        address = next(iter(self.fleet.listening("echo")))
        client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        self.clients.append(client)
        return client

    async def until(self, happened: Callable[[], object]) -> None:
        """Turn until it has; a scenario has a limit."""
        while not happened():
            later: Deferred[None] = Deferred()
            reactor.callLater(0.005, later.callback, None)
            await later

    async def ready(self) -> None:
        await self.until(lambda: all(each.health.known for each in self.balancer.servers.values()))

    async def got(self, client: socket.socket, count: int) -> bytes:
        """So many bytes, or fewer where it ends before."""
        got = b""
        while len(got) < count:
            try:
                piece = client.recv(count - len(got), socket.MSG_DONTWAIT)
            except BlockingIOError:
                await self.until(lambda: select.select([client], [], [], 0)[0])
                continue
            except ConnectionError:
                break
            if not piece:
                break
            got += piece
        return got

    async def ended(self, client: socket.socket) -> bytes:
        """What comes until it ends, however it does."""
        return await self.got(client, 1 << 30)

    async def named(self) -> bytes:
        return await self.got(self.client(), 1)

    async def strike(self) -> None:
        for client in self.clients:
            client.close()
        self.fleet.cut()
        await self.fleet.drain()
        for server in self.servers:
            await server.stop()
            for connection in server.connections:
                connection.transport.abortConnection()
        await turns()
        self.fleet.poller.close()


@asynccontextmanager
async def staged(*args: Any, **more: Any) -> AsyncIterator[Scene]:
    scene = Scene(*args, **more)
    try:
        await scene.ready()
        yield scene
    finally:
        await scene.strike()


def played(play: Callable[[], Any]) -> Callable[[], None]:
    def test() -> None:
        spin(play())

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


@played
async def test_connections_are_spread_and_pass_both_ways() -> None:
    """Each server gets one after the other; what a client says first arrives, however early it says it."""
    async with staged() as scene:
        assert [await scene.named() for _ in range(4)] == [b"a", b"b", b"a", b"b"]
        client = scene.client()
        client.sendall(b"early")
        assert await scene.got(client, 6) == b"aearly"
        assert scene.balancer.open == 5
        client.close()
        await scene.until(lambda: scene.balancer.open == 4)
        server = scene.balancer.servers["a"]
        assert (server.count, server.connects, server.bytes_up, server.bytes_down) == (2, 3, 5, 8)


@played
async def test_much_is_moved_by_the_kernel_and_arrives_whole() -> None:
    """A direction that is full is spliced, and given back when no more comes; both directions at once."""
    async with staged(servers=1) as scene:
        client = scene.client()
        sent = os.urandom(3 << 20)
        sending = threading.Thread(target=client.sendall, args=(sent,), daemon=True)
        sending.start()
        assert await scene.got(client, 1 + len(sent)) == b"a" + sent
        sending.join()
        client.sendall(b"and on")
        assert await scene.got(client, 6) == b"and on"
        assert scene.balancer.servers["a"].bytes_up == len(sent) + 6


@played
async def test_one_direction_may_end_before_the_other() -> None:
    """A half-close goes through, and what comes after it the other way as well."""
    async with staged(servers=1) as scene:
        client = scene.client()
        client.sendall(b"x")
        assert await scene.got(client, 2) == b"ax"
        connection = scene.servers[0].connections[-1]
        ended: Deferred[None] = Deferred()
        connection.lost = lambda: ended.callback(None)
        client.shutdown(socket.SHUT_WR)
        await ended  # Twisted's protocol, not half-closeable, ends the other direction then
        assert await scene.ended(client) == b""
        await scene.until(lambda: not scene.balancer.open)


@played
async def test_a_server_that_goes_down_loses_its_clients_where_that_is_wanted() -> None:
    """`on_down: close`: they end at once, those of the other stay, and new ones go there."""
    async with staged("    on_down: close\n") as scene:
        clients = {await scene.got(client, 1): client for client in (scene.client(), scene.client())}
        await scene.servers[0].stop()
        assert await scene.ended(clients[b"a"]) == b""
        assert scene.balancer.cuts[Cut.DOWN] == 1
        clients[b"b"].sendall(b"still")
        assert await scene.got(clients[b"b"], 5) == b"still"
        assert [await scene.named() for _ in range(2)] == [b"b", b"b"]
        assert scene.balancer.servers["a"].state == "down"


@played
async def test_a_server_that_goes_down_keeps_them_otherwise() -> None:
    async with staged() as scene:
        client = scene.client()
        assert await scene.got(client, 1) == b"a"
        await scene.servers[0].stop()
        await scene.until(lambda: not scene.balancer.servers["a"].health.up)
        client.sendall(b"still")
        assert await scene.got(client, 5) == b"still"


@played
async def test_clients_wait_for_a_server_and_for_a_place() -> None:
    """Nobody is up, then somebody; then its only place is taken, and free again."""
    async with staged(servers=1) as scene:
        port = scene.servers[0].number
        await scene.servers[0].stop()
        await scene.until(lambda: not scene.balancer.servers["a"].health.up)
        first, second = scene.client(), scene.client()
        await scene.until(lambda: scene.balancer.waiting == 2)
        settings = scene.written("    check: {interval: 20ms, rise: 1, fall: 1}\n")
        one = settings.balancers["echo"]
        servers = {"a": evolve(one.servers["a"], connections=1)}
        scene.fleet.use(evolve(settings, balancers={"echo": evolve(one, servers=servers)}))
        scene.servers[0] = Server("a", port)
        assert await scene.got(first, 1) == b"a"
        assert scene.balancer.waiting == 1
        first.close()
        assert await scene.got(second, 1) == b"a"


@pytest.mark.parametrize(
    ("more", "why"),
    [("    waiting: 0\n", Cut.FULL), ("    wait: 0\n", Cut.WAIT), ("    connections_per_address: 1\n", Cut.ADDRESS)],
)
def test_who_cannot_be_served_is_closed(more: str, why: Cut) -> None:
    """Too many wait, it waited too long, too many from one address: closed, and counted."""

    async def play() -> None:
        async with staged(more, servers=1) as scene:
            if why is Cut.ADDRESS:
                await scene.named()
            else:
                await scene.servers[0].stop()
                await scene.until(lambda: not scene.balancer.servers["a"].health.up)
            assert await scene.ended(scene.client()) == b""
            assert scene.balancer.cuts == {why: 1}

    spin(play())


@played
async def test_a_server_that_refuses_is_passed_over() -> None:
    """Without a check it counts as up, but the connection goes to the next one; where there is none, it ends."""
    async with staged("    check: none\n    retries: 1\n    retry_pause: 1ms\n") as scene:
        await scene.servers[0].stop()
        assert [await scene.named() for _ in range(3)] == [b"b"] * 3
        assert scene.balancer.servers["a"].failures
        await scene.servers[1].stop()
        assert await scene.ended(scene.client()) == b""
        assert scene.balancer.cuts == {Cut.UNREACHABLE: 1}


@played
async def test_what_does_not_move_is_closed() -> None:
    async with staged("    idle: 50ms\n", servers=1) as scene:
        assert await scene.ended(scene.client()) == b"a"
        assert scene.balancer.cuts == {Cut.IDLE: 1}


@played
async def test_drained_servers_keep_what_they_have() -> None:
    async with staged() as scene:
        client = scene.client()
        assert await scene.got(client, 1) == b"a"
        balancer = scene.balancer
        balancer.drain(balancer.servers["a"], True)
        assert [await scene.named() for _ in range(2)] == [b"b", b"b"]
        client.sendall(b"on")
        assert await scene.got(client, 2) == b"on"
        balancer.drain(balancer.servers["a"], False)
        assert await scene.named() == b"a"


@played
async def test_a_reload_keeps_what_it_names_again() -> None:
    """The socket, the servers, their connections; who is not named any more ends by itself, and new doors open."""
    async with staged() as scene:
        before, server = scene.balancer, scene.balancer.servers["b"]
        clients = [scene.client(), scene.client()]
        assert [await scene.got(client, 1) for client in clients] == [b"a", b"b"]
        gone, scene.servers = scene.servers[0], scene.servers[1:]
        scene.fleet.open(scene.written())
        scene.fleet.use(scene.written("    connections: 7\n"))
        assert scene.balancer is before
        assert scene.balancer.servers == {"b": server}
        for client in clients:
            client.sendall(b"on")
            assert await scene.got(client, 2) == b"on"
        assert [each.name for each in before.leaving] == ["a"]
        clients[0].close()
        await scene.until(lambda: not before.leaving)
        assert await scene.named() == b"b"
        address = next(iter(scene.fleet.listening("echo"))).rpartition(":")[2]
        scene.fleet.use(evolve(scene.settings, balancers={}))
        assert scene.fleet.leaving == [before]
        with pytest.raises(OSError, match="refused"):
            await scene.until(lambda: socket.create_connection(("127.0.0.1", int(address))).close())
        clients[1].sendall(b"on")
        assert await scene.got(clients[1], 2) == b"on"
        scene.servers.append(gone)


@played
async def test_a_port_that_is_taken_is_told_with_its_place() -> None:
    """And nothing new is listened on."""
    async with staged(servers=1) as scene:
        taken = Server("other")
        with pytest.raises(SidecarError) as caught:
            scene.fleet.open(scene.written(ports=str(taken.number)))
        await taken.stop()
        said = str(caught.value)
        assert said.startswith("sidecar.yaml:4: balancers.echo.listen: cannot listen on tcp:")
        assert said.endswith("shows the program that listens there; stop it, or write another port")


@played
async def test_a_stop_waits_for_connections_only_so_long() -> None:
    """Then they are closed; who waits for a server is closed at once."""
    async with staged("    drain: 50ms\n", servers=1) as scene:
        client = scene.client()
        assert await scene.got(client, 1) == b"a"
        draining = Deferred.fromCoroutine(scene.fleet.drain())
        assert await scene.ended(client) == b""
        await draining
        assert scene.balancer.cuts == {Cut.STOP: 1}
