"""conf/services.yaml: services beside Synapse, with stand-ins that are asked for the paths of the real ones."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping

import pytest
from attrs import frozen
from click.testing import CliRunner
from processes import PATIENCE, ROOT, PlainWorker, Running, connect, read_until

from edges.programs import SYNAPSE, file, sidecar, workers
from edges.recording import RecordingWorker, Reply, ask, plain_ask
from sidecar.cli import main

MATRIX, AUTH, WEB, ADMIN = (f"{name}.example.com" for name in ("matrix", "auth", "element", "admin"))
STRANGER = "X-Forwarded-For: 198.51.100.7"
PLACES = {"mas": 8080, "jwt": 8081, "web": 8083, "synapse-admin": 8084}
ROUNDS, FRAME = 2000, 42


class Sfu(PlainWorker):
    """Stands in for LiveKit's signalling: takes WebSockets at /rtc, and sends back what it is sent."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        super().__init__(None, self._converse)

    def _converse(self, connection: socket.socket) -> None:
        head = read_until(connection, lambda got: got.endswith(b"\r\n\r\n")).decode()
        self.targets.append(head.split(" ")[1])
        key = re.findall(r"(?i)\r\nSec-WebSocket-Key: (.*)\r\n", head)[0]
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while octets := connection.recv(65536):
            connection.sendall(octets)


@frozen
class Services:
    """The sidecar, and who is behind it."""

    process: Running
    sfu: Sfu
    synapse: Mapping[str, RecordingWorker]

    def asks(self, host: str, target: str, *lines: str) -> Reply:
        return plain_ask(self.process.address()[1], host, target, STRANGER, *lines)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    place = tmp_path_factory.mktemp("services")
    beside = {name: RecordingWorker(name, None) for name in PLACES}
    sfu = Sfu()
    ports = [(rf"127\.0\.0\.1:{PLACES[name]}", f"127.0.0.1:{worker.port}") for name, worker in beside.items()]
    text = file(
        "services.yaml",
        place,
        *ports,
        (r"127\.0\.0\.1:7880", f"127.0.0.1:{sfu.port}"),
        (r"tcp:8008:", "http2:tcp:0:"),
        (r"compress: \{\}", "compress: {min: 1}"),
        *SYNAPSE,
    )
    with workers(place) as synapse, sidecar(place, text) as running:
        yield Services(running, sfu, synapse)
    for worker in (*beside.values(), sfu):
        worker.close()
        assert worker.failure is None


def test_check_misses_nothing_but_that_synapse_uses_mas() -> None:
    """As it is shipped; whose homeserver.yaml enables MAS is told nothing."""
    result = CliRunner().invoke(main, ["check", "--no-ask", "-c", str(ROOT / "conf/services.yaml")])
    told = [line for line in result.output.splitlines() if "pools." in line or "routes[" in line]
    assert told == []


@pytest.mark.parametrize(
    ("host", "target", "worker", "inside"),
    [
        (MATRIX, "/livekit/jwt/sfu/get", "jwt", "/sfu/get"),
        (MATRIX, "/livekit/jwt/get_token", "jwt", "/get_token"),
        (MATRIX, "/livekit/jwt/healthz?a=%2F", "jwt", "/healthz?a=%2F"),
        (WEB, "/config.json", "web", "/config.json"),
        (WEB, "/bundles/x/bundle.js", "web", "/bundles/x/bundle.js"),
        (ADMIN, "/", "synapse-admin", "/"),
        (AUTH, "/account/?action=%2F", "mas", "/account/?action=%2F"),
        (MATRIX, "/_matrix/client/v3/login", "mas", "/_matrix/client/v3/login"),
        (MATRIX, "/_matrix/client/v3/rooms/%21a%2Fb/messages", None, "/_matrix/client/v3/rooms/%21a%2Fb/messages"),
        (MATRIX, "/_matrix/federation/v1/version", None, "/_matrix/federation/v1/version"),
    ],
)
def test_everybody_gets_the_paths_that_they_know(
    services: Services, host: str, target: str, worker: str | None, inside: str
) -> None:
    """Services those without the prefix, Synapse those that were sent and signed; None: a process of Synapse."""
    seen = services.asks(host, target).seen
    assert seen.target == inside
    assert seen.values("host") == [host]
    assert seen.worker in ([worker] if worker else services.synapse)


def test_who_may_use_the_admin_api(services: Services) -> None:
    """The pages of Synapse Admin are for everybody, what they ask Synapse for is not."""
    target = "/_synapse/admin/v2/users?limit=10"
    assert services.asks(MATRIX, target).status == 403
    inside = plain_ask(services.process.address()[1], MATRIX, target, "X-Forwarded-For: 10.8.0.5")
    assert inside.seen.target == target


def test_clients_find_livekit(services: Services) -> None:
    """By the delegation of the homeserver."""
    told = json.loads(services.asks(MATRIX, "/.well-known/matrix/client").content)
    assert told["org.matrix.msc4143.rtc_foci"][0]["livekit_service_url"] == f"https://{MATRIX}/livekit/jwt"


def test_what_is_compressed(services: Services) -> None:
    """Answers to clients and pages, not to servers, nor to browsers with cookies of their logins."""
    for host, target, lines, coded in (
        (WEB, "/bundles/x/bundle.js", (), True),
        (MATRIX, "/_matrix/client/v3/sync?since=1", (), True),
        (MATRIX, "/_matrix/federation/v1/version", (), False),
        (AUTH, "/account/", ("Cookie: session=1",), False),
    ):
        answer = services.asks(host, target, "Accept-Encoding: gzip", *lines)
        assert (answer.value("content-encoding") == "gzip") is coded, target
        content = gzip.decompress(answer.content) if coded else answer.content
        assert json.loads(content)["target"] == target


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["--http2-prior-knowledge", "--http1.1"])
def test_curl_undoes_what_is_compressed(services: Services, version: str) -> None:
    """The same over both versions of HTTP."""
    url = "http://{}:{}/_matrix/client/v3/sync?since=1".format(*services.process.address())
    options = ("--silent", "--show-error", "--compressed", "--dump-header", "/dev/stderr", version)
    done = subprocess.run(
        ["curl", *options, "--header", f"Host: {MATRIX}", url], capture_output=True, timeout=PATIENCE, check=True
    )
    assert re.search(rb"(?i)\r\ncontent-encoding: gzip\r\n", done.stderr)
    assert json.loads(done.stdout)["target"] == "/_matrix/client/v3/sync?since=1"


def test_a_call_goes_on_through_a_reload(services: Services) -> None:
    """A WebSocket to the SFU, long and in both directions, with the token in the query and without the prefix."""
    with connect(services.process.address()) as client:
        head = (
            f"GET /livekit/sfu/rtc?access_token=ey.J%2F HTTP/1.1\r\nHost: {MATRIX}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        client.sendall(head.encode())
        told = read_until(client, lambda got: got.endswith(b"\r\n\r\n"))
        assert told.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in told
        for number in range(ROUNDS):
            if number == ROUNDS // 2:
                services.process.signal(signal.SIGHUP)
                services.process.says("reload")
            frame = b"\x82\x28%040d" % number
            client.sendall(frame)
            assert read_until(client, lambda got: len(got) >= FRAME) == frame
    assert services.sfu.targets == ["/rtc?access_token=ey.J%2F"]
    with connect(services.process.address()) as client:
        assert ask(client, WEB, "/", STRANGER).status == 200
