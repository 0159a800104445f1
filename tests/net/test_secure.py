"""TLS in front of HTTP: what is spoken, how it ends, how long it may take, and a certificate that changes meanwhile."""

from __future__ import annotations

import ssl
import sys
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from OpenSSL import SSL
from pem import Authority

from sidecar.config.endpoint_strings import KeyFiles
from sidecar.entrance.entrances import doors
from sidecar.entrance.tls import Identities
from sidecar.errors import SidecarError
from sidecar.transport.poller import Poller

from .peers import Stage
from .secure_peers import Inside, SecureStage
from .turns import reactor, staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOLD = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"


@staged(SecureStage)
async def test_an_exchange(stage: SecureStage) -> None:
    """Requests go on as ever, kept alive and pipelined, and the worker is told https."""
    client = await stage.secure(GET + GET)
    worker = await stage.worker.connection()
    for _ in range(2):
        await worker.gets(GET[:-2] + TOLD + b"\r\n")
        worker.send(OK)
        await client.gets(OK)
    (connection,) = stage.sessions
    assert connection.link.secure
    client.say_goodbye()
    assert await client.end() == b""


@staged(SecureStage)
async def test_large_bodies(stage: SecureStage) -> None:
    """Sixteen megabytes up and down, with nobody in a hurry, arrive as they were sent."""
    size = 16 << 20  # the kernel keeps four of what a client does not read (tcp_wmem), and some more with the client
    body = bytes(range(256)) * (size // 256)
    client = await stage.secure(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    worker = await stage.worker.connection()
    await worker.head()
    worker.pause()
    client.send(body)
    await turns(20)
    worker.resume()
    await worker.gets(body)
    client.peer.pause()
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
    (connection,) = stage.sessions
    while not connection.clogged:
        await turns(1)
    assert connection.link.unsent > 0
    client.peer.resume()
    await client.head()
    await client.gets(body)
    assert connection.link.unsent == 0


@pytest.mark.parametrize(
    ("offered", "chosen"), [([], None), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1")]
)
@staged(SecureStage)
async def test_only_http_1_1_is_chosen(stage: SecureStage, offered: list[str], chosen: str | None) -> None:
    """Of what a client offers, or without a word where it offers nothing (RFC 7301)."""
    if offered:
        stage.context.set_alpn_protocols(offered)
    client = await stage.secure()
    assert client.tls.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("offered", ["h2", "http/1.0", "acme-tls/1"])
@staged(SecureStage)
async def test_another_protocol_is_an_alert(stage: SecureStage, offered: str) -> None:
    """A client that wants nothing of what is spoken is told so, and the connection ends."""
    stage.context.set_alpn_protocols([offered])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await stage.secure()
    await stage.empties()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@staged(SecureStage)
async def test_versions(stage: SecureStage, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3, with forward secrecy."""
    stage.context.maximum_version = stage.context.minimum_version = version
    client = await stage.secure()
    assert client.tls.version() == version.name.replace("_", ".")
    cipher = client.tls.cipher()
    assert cipher is not None
    assert cipher[0].startswith(("ECDHE-", "TLS_AES", "TLS_CHACHA20"))
    assert client.tls.compression() is None


@staged(SecureStage)
async def test_an_old_version_is_refused(stage: SecureStage) -> None:
    """TLS 1.1 with every cipher that there is."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    tls = SSL.Connection(context, None)
    tls.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        tls.do_handshake()
    peer = await stage.client(tls.bio_read(65536))
    tls.bio_write(await peer.end())
    with pytest.raises(SSL.Error, match="version"):
        tls.do_handshake()


@staged(SecureStage)
async def test_renegotiation_is_refused(stage: SecureStage) -> None:
    """A client cannot make us do a handshake again and again (TLS 1.2)."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    tls = SSL.Connection(context, None)
    tls.set_connect_state()
    peer = await stage.client()

    async def go_on() -> None:
        with suppress(SSL.WantReadError):
            tls.do_handshake()
        peer.send(tls.bio_read(65536))
        await peer.until(lambda: peer.received or peer.ended)
        tls.bio_write(bytes(peer.received))
        peer.received.clear()

    while not tls.get_finished():
        await go_on()
    tls.do_handshake()
    assert tls.renegotiate()
    with pytest.raises(SSL.Error, match="renegotiation"):  # noqa: PT012
        while True:
            await go_on()


@staged(SecureStage, timeouts={"handshake": 10.0, "idle": 75.0})
async def test_a_handshake_that_does_not_end(stage: SecureStage) -> None:
    """Silence, or half a handshake, is reset after its deadline; a complete one has the time of an idle connection."""
    silent, half = await stage.client(), await stage.client(b"\x16\x03\x01\x02\x00\x01")
    good = await stage.secure()
    while len(stage.listener.connections) < 3:
        await turns(1)
    await stage.pass_time(11.0)
    for peer in (silent, half):
        assert await peer.end("reset") == b""
    await stage.pass_time(60.0)
    good.send(GET)
    worker = await stage.worker.connection()
    await worker.head()
    worker.send(OK)
    await good.gets(OK)


@pytest.mark.parametrize("octets", [GET, b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\xff" * 20])
@staged(SecureStage)
async def test_what_is_no_tls(stage: SecureStage, octets: bytes) -> None:
    """Plain HTTP and rubbish end the connection, and are no request."""
    peer = await stage.client(octets)
    await peer.until(lambda: peer.ended)
    await stage.empties()
    assert stage.counters.requests == 0


@staged(SecureStage)
async def test_a_refusal_arrives(stage: SecureStage) -> None:
    """The reply, then the end of TLS in good order, although the client still sends."""
    client = await stage.secure(b"GET  /a HTTP/1.1\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 400 ")
    client.send(b"x" * 100_000)
    assert b"errcode" in await client.end()
    client.say_goodbye()
    await client.peer.end()


@staged(SecureStage, limits={"connections_per_address": 1}, trust="192.0.2.0/24")
async def test_too_many_connections(stage: SecureStage) -> None:
    """One beyond the limit is told so inside TLS."""
    await stage.secure()
    refused = await stage.secure()
    assert (await refused.head()).startswith(b"HTTP/1.1 503 ")


@staged(SecureStage, timeouts={"linger": 2.0})
async def test_a_client_that_does_not_end(stage: SecureStage) -> None:
    """After a refusal TLS is ended; a client that never says so too is reset."""
    client = await stage.secure(b"nonsense\r\n\r\n")
    await client.end()
    assert not client.peer.ended
    await stage.acknowledged()
    await stage.pass_time(3.0)
    await client.peer.end("reset")


@staged(SecureStage, timeouts={"idle": 75.0, "linger": 2.0})
async def test_an_idle_connection(stage: SecureStage) -> None:
    """It is ended without a word of HTTP; what comes afterwards is no request any more; then it is reset."""
    client = await stage.secure()
    (connection,) = stage.sessions
    await stage.pass_time(76.0)
    assert await client.end() == b""
    client.send(GET)
    await stage.acknowledged()
    assert stage.counters.requests == 0
    assert connection.link.open
    await stage.pass_time(3.0)
    await client.peer.end("reset")


@staged(SecureStage, timeouts={"stall": 60.0, "linger": 2.0})
async def test_a_slow_client_of_a_last_answer(stage: SecureStage) -> None:
    """As long as it takes some of what waits, the connection that ends with the answer is not cut."""
    size = 16 << 20
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size + b"x" * size
    client = await stage.secure(GET[:-2] + b"Connection: close\r\n\r\n")
    client.peer.pause()
    worker = await stage.worker.connection()
    await worker.head()
    worker.send(answer)
    taken = b""
    while len(taken) < len(answer):
        await turns(20)
        await stage.pass_time(30.0)
        client.peer.resume()
        until = min(len(answer), len(taken) + (1 << 20))
        while len(taken) < until:
            taken += await client.some()
        client.peer.pause()
    assert taken == answer
    client.peer.resume()
    assert await client.end() == b""


@staged(SecureStage)
async def test_a_client_that_leaves(stage: SecureStage) -> None:
    """In whatever way it leaves, its worker's connection ends at once."""
    for leave in (lambda inside: inside.say_goodbye(), lambda inside: inside.peer.close(), lambda x: x.peer.reset()):
        client = await stage.secure(GET)
        worker = await stage.worker.connection()
        await worker.head()
        leave(client)
        await worker.end()
    await stage.empties()


@staged(SecureStage)
async def test_a_renewed_certificate(stage: SecureStage) -> None:
    """New connections are shown the new one, those that are open go on; broken files change nothing, and say why."""
    before = await stage.secure()
    assert stage.identities.read_again() == {}
    Path(stage.files.certificate).write_bytes(stage.authority.issue("other.example.org")[1])
    with pytest.raises(SidecarError, match="the first certificate is not that of the key"):
        stage.identities.read_again()
    assert (await stage.secure()).serial == before.serial
    stage.renew()
    told = stage.identities.use(stage.identities.read_again())
    assert len(told) == 1
    assert told[0].startswith(f"{stage.files.certificate}: another certificate is in use, until 20")
    after = await stage.secure()
    assert after.serial != before.serial
    for client in (before, after):
        client.send(GET)
        worker = await stage.worker.connection()
        await worker.head()
        worker.send(OK)
        await client.gets(OK)
        worker.close()


@staged(SecureStage)
async def test_a_drain(stage: SecureStage) -> None:
    """A running exchange ends with Connection: close, an idle connection now; both in good order."""
    running, idle = await stage.secure(GET), await stage.secure()
    worker = await stage.worker.connection()
    await worker.head()
    for connection in tuple(stage.listener.connections):
        connection.drain()
    assert await idle.end() == b""
    worker.send(OK)
    assert b"\r\nConnection: close" in await running.head()
    assert await running.end() == b"ok"


@staged(SecureStage, before="haproxy:")
async def test_the_proxy_protocol_comes_before_tls(stage: SecureStage) -> None:
    """And who it names is the client inside TLS."""
    stage.believe(trust=[], proto=None, announcing=[ip_network("127.0.0.2")])
    for pieces in (1, 2):
        peer = await stage.client(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 443\r\n", source="127.0.0.2")
        if pieces == 2:
            await turns()
        client = await Inside(peer, stage.context).shake()
        client.send(GET)
        worker = await stage.worker.connection()
        assert b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n" in await worker.head()
        worker.send(OK)
        await client.gets(OK)
        worker.close()
    stranger = await stage.secure(GET)
    await stage.worker.connection()
    stranger.peer.close()


def test_a_weak_key(tmp_path: Path) -> None:
    """What OpenSSL does not take is told in its words."""
    (tmp_path / "weak.pem").write_bytes(b"".join(Authority().issue("matrix.example.org", weak=True)))
    path = str(tmp_path / "weak.pem")
    with pytest.raises(SidecarError) as caught:
        Identities().identity(KeyFiles(path, path))
    assert str(caught.value) == "OpenSSL does not take the certificate or its key: ee key too small"


@pytest.mark.parametrize("module", ["OpenSSL", "twisted.protocols.tls"])
def test_without_the_libraries(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them is missing, what to install is told."""
    (tmp_path / "both.pem").write_bytes(b"".join(Authority().issue("matrix.example.org")))
    gateway = Stage(tmp_path, away=("main",)).gateway
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SidecarError, match=r"pip install 'matrix-sidecar\[tls\]'"):
        list(doors([f"ssl:443:privateKey={tmp_path}/both.pem"], gateway, Identities(), reactor, Poller(reactor)))


def test_one_certificate_for_two_ports(tmp_path: Path) -> None:
    """It is read once, and renewed for both."""
    (tmp_path / "both.pem").write_bytes(b"".join(Authority().issue("matrix.example.org")))
    gateway, identities = Stage(tmp_path, away=("main",)).gateway, Identities()
    texts = [f"ssl:{port}:privateKey={tmp_path}/both.pem" for port in (443, 8448)]
    assert len(list(doors(texts, gateway, identities, reactor, Poller(reactor)))) == 2
    assert len(identities.known) == 1


def test_a_port_without_its_certificate(tmp_path: Path) -> None:
    """One sentence that names the port and the file."""
    gateway = Stage(tmp_path, away=("main",)).gateway
    with pytest.raises(SidecarError) as caught:
        list(doors([f"ssl:443:privateKey={tmp_path}/absent"], gateway, Identities(), reactor, Poller(reactor)))
    missing = f"{tmp_path}/absent does not exist; give a PEM file that the sidecar's user may read"
    assert str(caught.value) == f"cannot listen on tcp:443 with TLS: {missing}"
