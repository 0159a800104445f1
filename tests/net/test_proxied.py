"""The PROXY protocol in front of connections: who has to speak it, who is believed, and that nothing of it stays."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory

from sidecar.entrance.entrances import Entrance

from .peers import Peer, Stage
from .turns import observed, reactor, staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"


def line(client: str) -> bytes:
    family = 6 if ":" in client else 4
    return f"PROXY TCP{family} {client} {client} 4711 443\r\n".encode()


def binary(client: str, vectors: bytes = b"") -> bytes:
    address = ip_address(client)
    content = address.packed * 2 + struct.pack(">HH", 4711, 443) + vectors
    family = 0x11 if isinstance(address, IPv4Address) else 0x21
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(content)) + content


class Balanced(Stage):
    """A stage whose peer 127.0.0.2 is a balancer."""

    def __init__(
        self, directory: Path, *, here: bool = False, everywhere: bool = True, unix: bool = False, **settings: Any
    ) -> None:
        super().__init__(directory, trust="127.0.0.1", **settings)
        policy = type(self.gateway.forwarded)([ip_network("127.0.0.1/32")], None, [ip_network("127.0.0.2/32")])
        self.gateway = evolve(self.gateway, forwarded=policy)
        self.listener.use(self.gateway)
        self.plain, self.path = self.port, str(directory / "public.sock")
        entrance = Entrance(self.listener, reactor, self.poller, here=here, everywhere=everywhere)
        self.port = self.listen(entrance)
        self.local = reactor.listenUNIX(self.path, entrance)
        self.accepting.open(self.local, self.poller, entrance.take)

    async def balanced(self, *pieces: bytes) -> Peer:
        """A connection from the balancer; each piece arrives by itself."""
        peer = await self.client(source="127.0.0.2")
        for piece in pieces:
            peer.send(piece)
            await turns()
        return peer

    async def neighbour(self, octets: bytes) -> Peer:
        """A connection to the UNIX socket."""
        factory = Factory.forProtocol(Peer)
        factory.noisy = False
        peer: Peer = await UNIXClientEndpoint(reactor, self.path).connect(factory)
        self.clients.append(peer)
        peer.send(octets)
        return peer

    async def served(self, peer: Peer, told: str) -> None:
        """The request of `peer` arrives with this address of its client, and is answered."""
        worker = await self.worker.connection()
        head = await worker.head()
        assert b"\r\nX-Forwarded-For: %b\r\n" % told.encode() in head, head
        assert head.startswith(b"GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For")
        worker.send(OK)
        await peer.gets(OK)
        worker.close()

    async def strike(self) -> None:
        await self.plain.stopListening()
        await self.local.stopListening()
        await super().strike()
        assert not self.listener.awaited
        assert self.counters.connections_open == 0


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (line("192.0.2.7"), "192.0.2.7"),
        (line("2001:DB8:0:0::7"), "2001:db8::7"),
        (line("::ffff:192.0.2.7"), "192.0.2.7"),
        (binary("192.0.2.7"), "192.0.2.7"),
        (binary(str(IPv6Address("2001:db8::7")), b"\x20\x00\x05\x01\x00\x00\x00\x00"), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.2"),
        (SIGNATURE + b"\x20\x00\x00\x00", "127.0.0.2"),
    ],
)
@staged(Balanced)
async def test_who_the_header_names_is_the_client(stage: Balanced, header: bytes, told: str) -> None:
    """In both versions; where it names nobody, the balancer itself is."""
    await stage.served(await stage.balanced(header + GET), told)
    await stage.served(await stage.balanced(header, GET), told)
    await stage.served(await stage.balanced(*(bytes([octet]) for octet in header + GET)), told)
    assert stage.counters.connections == 3


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (binary("192.0.2.7", b"\x20\x00\x05\x01\x00\x00\x00\x00"), b"\r\nX-Forwarded-Proto: https\r\n"),
        (binary("192.0.2.7", b"\x20\x00\x05\x00\x00\x00\x00\x00"), b"\r\nX-Forwarded-Proto: http\r\n"),
        (binary("192.0.2.7", b"\x20\x00\x00"), b""),
        (binary("192.0.2.7"), b""),
        (LINE, b""),
    ],
)
@staged(Balanced)
async def test_whether_a_client_used_tls_before_the_balancer(stage: Balanced, header: bytes, told: bytes) -> None:
    """Only the vector for it tells; without one nobody knows, and nothing is said."""
    client = await stage.balanced(header + GET)
    head = await (await stage.worker.connection()).head()
    assert told in head if told else b"X-Forwarded-Proto" not in head
    client.close()


@staged(Balanced)
async def test_the_connection_lives_on_as_any_other(stage: Balanced) -> None:
    """Kept alive, counted for the address that was announced, and on the short way of a plain socket."""
    client = await stage.balanced(LINE + GET)
    worker = await stage.worker.connection()
    for _ in range(3):
        await worker.head()
        worker.send(OK)
        await client.gets(OK)
        client.send(GET)
    (connection,) = stage.sessions
    assert not connection.link.secure
    assert connection.peer == "192.0.2.7"
    assert stage.listener._per_address == {"192.0.2.7": 1}
    client.half_close()
    assert await client.end() == b""


@staged(Balanced)
async def test_what_the_announced_peer_says_of_others(stage: Balanced) -> None:
    """A stranger behind the balancer is not believed; a trusted proxy behind it is."""
    claim = GET[:-2] + b"X-Forwarded-For: 6.6.6.6\r\n\r\n"
    for announced, told in (("192.0.2.7", b"192.0.2.7"), ("127.0.0.1", b"6.6.6.6")):
        client = await stage.balanced(line(announced) + claim)
        worker = await stage.worker.connection()
        assert b"\r\nX-Forwarded-For: %b\r\n" % told in await worker.head()
        client.close()


@pytest.mark.parametrize(
    "octets",
    [
        GET,
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 0443\r\n" + GET,
        b"PROXY UNKNOWN".ljust(107, b"x"),
        binary("192.0.2.7", b"\x01\x00\x09x") + GET,
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\x16\x03\x01",
    ],
)
@staged(Balanced)
async def test_a_balancer_has_to_announce(stage: Balanced, octets: bytes) -> None:
    """Without a header within the limits its connection ends, unanswered, and nobody sees what was in it."""
    client = await stage.balanced(octets)
    assert await client.end("reset") == b""
    assert stage.counters.connections_refused == 1
    assert stage.counters.requests == 0
    assert not stage.worker.accepted


@staged(Balanced)
async def test_nobody_else_is_believed(stage: Balanced) -> None:
    """For a stranger, and for who may say X-Forwarded-For, a PROXY header is a malformed request."""
    for source in ("127.0.0.1", "127.0.0.3"):
        client = await stage.client(LINE + GET, source=source)
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        await stage.served(await stage.client(GET, source=source), source)


@staged(Balanced, timeouts={"proxy_header": 5.0})
async def test_a_header_that_does_not_come(stage: Balanced) -> None:
    """The deadline is a total, for silence and for octet after octet; a complete header ends it."""
    silent = await stage.balanced()
    slow = await stage.balanced(LINE[:10])
    good = await stage.balanced(LINE)
    while len(stage.listener.awaited) < 2 or not stage.listener.connections:
        await turns(1)
    await stage.pass_time(4.0)
    slow.send(LINE[10:12])
    await stage.pass_time(2.0)
    assert await silent.end("reset") == b""
    assert await slow.end("reset") == b""
    assert not good.ended
    good.send(GET)
    await stage.served(good, "192.0.2.7")


@staged(Balanced)
async def test_a_balancer_that_leaves(stage: Balanced) -> None:
    """A connection that ends in its header leaves nothing."""
    changes = []
    stage.listener.on_change = lambda: changes.append(stage.counters.connections_open)
    client = await stage.balanced(LINE[:10])
    while not stage.listener.awaited:
        await turns(1)
    client.reset()
    while stage.listener.awaited:
        await turns(1)
    assert changes == [1, 0]


@staged(Balanced)
async def test_the_log_is_told_once(stage: Balanced) -> None:
    """A balancer that sends no header fills no log; when it has learned and forgotten again it is news."""
    told: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if "was closed" in str(event.get("log_format")):
            told.append(event["log_format"].format(**event))

    with observed(note):
        for _ in range(3):
            await (await stage.balanced(b"GET /?access_token=secret")).end("reset")
        assert len(told) == 1
        await stage.served(await stage.balanced(LINE + GET), "192.0.2.7")
        await (await stage.balanced(b"\x16")).end("reset")
    assert len(told) == 2
    assert told[0].startswith("a connection from 127.0.0.2 was closed: no PROXY header where one is due")
    assert "secret" not in told[0]


@staged(Balanced, everywhere=False)
async def test_elsewhere_it_is_not_expected(stage: Balanced) -> None:
    """Where other entries of `listen` are marked, this one has HTTP only, from everybody."""
    await stage.served(await stage.balanced(GET), "127.0.0.2")
    client = await stage.balanced(LINE + GET)
    assert (await client.head()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("header", [LINE, b"PROXY UNKNOWN\r\n"])
@staged(Balanced, here=True, everywhere=False)
async def test_a_unix_socket_that_is_marked(stage: Balanced, header: bytes) -> None:
    """Its peers are believed, and have to announce; who names nobody is this host."""
    client = await stage.neighbour(header + GET)
    await stage.served(client, "192.0.2.7" if header == LINE else "127.0.0.1")
    assert await (await stage.neighbour(GET)).end("closed") == b""


@staged(Balanced)
async def test_a_unix_socket_that_is_not(stage: Balanced) -> None:
    """It has HTTP as ever, even where the header is expected on all ports."""
    await stage.served(await stage.neighbour(GET), "127.0.0.1")


@staged(Balanced, limits={"connections_per_address": 2})
async def test_the_limit_is_that_of_the_client(stage: Balanced) -> None:
    """Connections are counted for who was announced, not for the balancer."""
    peers = [await stage.balanced(line(f"192.0.2.{number}")) for number in (1, 1, 2, 2, 3)]
    while len(stage.listener.connections) < 5:
        await turns(1)
    assert not any(peer.ended for peer in peers)
    refused = await stage.balanced(line("192.0.2.1") + GET)
    assert (await refused.head()).startswith(b"HTTP/1.1 503 ")


@staged(Balanced, limits={"connections_per_address": 2})
async def test_a_network_is_one_client(stage: Balanced) -> None:
    """Each customer of a provider has 2^64 addresses of IPv6, so a /64 counts as one."""
    clients = ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1"]
    peers = [await stage.balanced(line(client)) for client in clients]
    while len(stage.listener.connections) < len(clients):
        await turns(1)
    assert not any(peer.ended for peer in peers)
    for client in ("2001:db8::3", "192.0.2.1"):
        refused = await stage.balanced(line(client) + GET)
        assert (await refused.head()).startswith(b"HTTP/1.1 503 ")
    peers[0].close()
    await peers[0].vanishes()
    while len(stage.listener.connections) > len(clients) + 1:
        await turns(1)


@staged(Balanced)
async def test_after_a_reload(stage: Balanced) -> None:
    """Who has to announce is asked for each new connection."""
    policy = type(stage.gateway.forwarded)([], None, [ip_network("127.0.0.3/32")])
    stage.listener.use(evolve(stage.gateway, forwarded=policy))
    await stage.served(await stage.balanced(GET), "127.0.0.2")
    client = await stage.client(LINE + GET, source="127.0.0.3")
    await stage.served(client, "192.0.2.7")
