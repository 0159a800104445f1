"""The sidecar behind nginx, Caddy, Apache and HAProxy, and as the edge itself, with the files of conf/ as shipped.

The programs are real; the workers are stand-ins that tell what they saw. relayd does not exist for Linux.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen

from edges.programs import EDGES, Ports, sidecar_as_the_edge, sidecar_behind_a_proxy, workers
from edges.recording import HOLD, RecordingWorker, Reply, ask, reply, secure

MATRIX, EXAMPLE = "matrix.example.com", "example.com"
ITSELF = "the sidecar itself"
MIB = 1 << 20

TARGETS = [
    "/_matrix/client/versions",
    "/_matrix/client/v3/rooms/%21room%3Aexample.com/state",
    "/_matrix/client/v3/rooms/!a%2fb%2Fc:example.com/state/m.room.name/",
    "/_matrix/client/v3/rooms/!a:example.com//state//x",
    "/_matrix/client/v3/profile/@%E2%82%AC%ff%25:example.com",
    "/_matrix/client/v3/directory/room/%23a%2Bb+c%20d;e=f:example.com",
    "/_matrix/client/v3/sync?since=s1&filter=%7B%22a%22%3A1%7D",
    "/_matrix/client/v3/sync?",
    "/_matrix/client/v3/search?a=b?c&&d=%26",
    "/_matrix/media/v3/download/example.com/aB~-_.%2E",
]


@frozen
class Edge:
    """An edge that runs, with the sidecar and the workers behind it."""

    name: str
    ports: Ports
    context: ssl.SSLContext
    place: Path
    workers: Mapping[str, RecordingWorker]

    @property
    def authority(self) -> str:
        """A file with what clients trust."""
        return str(self.place / "authority.pem")

    def client(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A client's connection."""
        return secure(self.ports.https, MATRIX, self.context, source=source)

    def server(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """Another server's connection."""
        return secure(self.ports.federation, EXAMPLE, self.context, source=source)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mapping[str, RecordingWorker], int]]:
    """The workers, and the port of the sidecar that all four proxies have behind them."""
    place = tmp_path_factory.mktemp("behind")
    with workers(place) as running, sidecar_behind_a_proxy(place) as port:
        yield running, port


@pytest.fixture(scope="module", params=[*(pytest.param(name, marks=pytest.mark.needs(name)) for name in EDGES), ITSELF])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    name: str = request.param
    place = tmp_path_factory.mktemp("edge")
    with ExitStack() as stack:
        if name == ITSELF:
            running = stack.enter_context(workers(place))
            ports, context, _ = stack.enter_context(sidecar_as_the_edge(place))
        else:
            running, port = request.getfixturevalue("behind")
            ports, context = stack.enter_context(EDGES[name](place, port))
        for worker in running.values():
            worker.held.clear()
            worker.go_on.clear()
        (place / "authority.pem").write_text(authorities(context))
        yield Edge(name, ports, context, place, running)


def authorities(context: ssl.SSLContext) -> str:
    return "".join(map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True)))


def test_targets_arrive_as_they_were_sent(edge: Edge) -> None:
    """Octet for octet, on both ports: federation signatures cover them."""
    with edge.client() as client, edge.server() as server:
        for target in TARGETS:
            assert ask(client, MATRIX, target).seen.target == target
            federated = target.replace("/client/v3", "/federation/v1")
            assert ask(server, EXAMPLE, federated).seen.target == federated


def test_who_the_client_is_and_what_it_asked_for(edge: Edge) -> None:
    """One address, the client's, whatever it says; https; and the host that it named."""
    lies = ["X-Forwarded-For: 6.6.6.6, 7.7.7.7", "x-forwarded-for: 8.8.8.8", "X-Forwarded-Proto: http"]
    for connect, host in ((edge.client, MATRIX), (edge.server, EXAMPLE)):
        with connect(source="127.0.0.5") as connection:
            seen = ask(connection, host, "/_matrix/federation/v1/version", *lies).seen
        assert seen.values("x-forwarded-for") == ["127.0.0.5"]
        assert seen.values("x-forwarded-proto") == ["https"]
        assert seen.values("host") == [host]


def test_the_workers_get_what_is_theirs(edge: Edge) -> None:
    """Client and server requests, on the port where each belongs; /_synapse/client too."""
    with edge.client() as client:
        assert ask(client, MATRIX, "/_matrix/client/v3/sync?since=s1").seen.worker == "sync1"
        assert ask(client, MATRIX, "/_matrix/client/v3/login").seen.worker in ("main", "sync1")
        assert ask(client, MATRIX, "/_synapse/client/password_reset").seen.worker == "main"
    with edge.server() as server:
        assert ask(server, EXAMPLE, "/_matrix/federation/v1/version").seen.worker == "federation1"


def test_administration_is_closed(edge: Edge) -> None:
    """Whoever refuses it, no worker sees it."""
    with edge.client() as client:
        for target in ("/_synapse/admin/v1/users", "/_synapse/metrics", "/_synapse/replication/x"):
            assert ask(client, MATRIX, target).status in (403, 404)


def test_a_body_of_50m(edge: Edge) -> None:
    """It arrives."""
    with edge.client() as client:
        line = f"POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: {MATRIX}\r\nContent-Length: {50 * MIB}\r\n\r\n"
        client.sendall(line.encode())
        block = bytes(MIB)
        for _ in range(50):
            client.sendall(block)
        seen = reply(client).seen
    assert (seen.worker, seen.body) == ("main", 50 * MIB)


def curl(edge: Edge, port: int, name: str, target: str, *options: str) -> tuple[str, str, bytes]:
    """A request by curl: the version of HTTP, the status, the content."""
    url = f"https://{name}:{port}{target}"
    told = "%{stderr}%{http_version} %{http_code}"
    command = ["curl", "--silent", "--path-as-is", "--globoff", "--cacert", edge.authority, "--write-out", told]
    # In its own words: some releases of curl drop a `?` with nothing after it from a URL.
    command += ["--request-target", target, "--resolve", f"{name}:{port}:127.0.0.1", *options, url]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    version, status = done.stderr.decode().split()
    return version, status, done.stdout


@pytest.mark.needs("curl")
def test_a_body_of_51m(edge: Edge) -> None:
    """A client that sends as it pleases is told 413, and no worker sees any of it.

    Caddy closes its side while the client is still sending, so that curl sometimes finds a broken pipe instead; it does
    with Caddy's own `request_body`, too.
    """
    large = edge.place / "large"
    with large.open("wb") as file:
        file.truncate(51 * MIB)
    options = ("--http1.1", "--request", "POST", "--upload-file", str(large))
    _, status, content = curl(edge, edge.ports.https, MATRIX, "/_matrix/media/v3/upload", *options)
    assert status in (("413", "100") if edge.name == "caddy" else ("413",))
    assert b'"worker"' not in content


@pytest.mark.needs("curl")
def test_http_2_becomes_http_1_1(edge: Edge) -> None:
    """Where the edge speaks HTTP/2, targets arrive as they were sent, too, and the client is who it is."""
    for target in TARGETS:
        version, status, content = curl(edge, edge.ports.https, MATRIX, target, "--http2")
        seen = json.loads(content)
        assert (status, seen["target"]) == ("200", target)
        assert version == ("1.1" if edge.name in ("apache2", ITSELF) else "2")
        fields = {name.lower(): value for name, value in seen["fields"]}
        assert (fields["x-forwarded-for"], fields["x-forwarded-proto"]) == ("127.0.0.1", "https")


def test_a_body_of_unknown_length(edge: Edge) -> None:
    """Chunks arrive, in whatever framing."""
    with edge.client() as client:
        line = f"PUT /_matrix/client/v3/rooms/!a:b/send/m/1 HTTP/1.1\r\nHost: {MATRIX}\r\n"
        client.sendall(line.encode() + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n")
        assert reply(client).seen.body == 8


def test_a_long_poll(edge: Edge) -> None:
    """It waits at its worker while others are answered, and gets its answer in the end."""
    worker = edge.workers["sync1"]
    answers: list[Reply] = []
    with edge.client() as waiting, edge.client() as other:
        poll = threading.Thread(target=lambda: answers.append(ask(waiting, MATRIX, HOLD)))
        poll.start()
        assert worker.held.wait(30)
        assert ask(other, MATRIX, "/_matrix/client/v3/sync?since=s1").seen.worker == "sync1"
        assert not answers
        worker.go_on.set()
        poll.join(30)
    assert answers[0].seen.target == HOLD


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("client", {"m.homeserver": {"base_url": f"https://{MATRIX}"}}),
        ("server", {"m.server": f"{EXAMPLE}:8448"}),
    ],
)
def test_delegation(edge: Edge, file: str, content: object) -> None:
    """https://example.com says where the homeserver is, readable for pages of any origin."""
    with secure(edge.ports.https, EXAMPLE, edge.context) as anybody:
        found = ask(anybody, EXAMPLE, f"/.well-known/matrix/{file}", "Origin: https://app.example.org")
        assert (found.status, json.loads(found.content)) == (200, content)
        assert found.value("access-control-allow-origin") == "*"
        assert found.value("content-type") == "application/json"


def test_only_http_1_1_reaches_the_sidecar(edge: Edge) -> None:
    """Whatever was agreed on with the client in TLS."""
    edge.context.set_alpn_protocols(["http/1.1"])
    with edge.client() as client:
        assert client.selected_alpn_protocol() in ("http/1.1", None)
        assert ask(client, MATRIX, "/_matrix/client/versions").status == 200
