"""The PROXY protocol as HAProxy and nginx really send it, in front of the sidecar as the edge."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from edges.programs import NAMES, Ports, file, haproxy, nginx, sidecar_as_the_edge, three_ports, workers
from edges.recording import ask, plain_ask, secure

EXAMPLE, MATRIX = NAMES
VERSIONS = "/_matrix/client/versions"
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@frozen
class Edge:
    """The edge, which expects the protocol of 127.0.0.1."""

    place: Path
    ports: Ports
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    place = tmp_path_factory.mktemp("edge")
    believed = (r"forwarded:\n", "forwarded:\n  proxy_protocol: 127.0.0.1\n")
    with workers(place), sidecar_as_the_edge(place, believed) as (ports, context, _):
        yield Edge(place, ports, context)


def names_the_client(edge: Edge, ports: Ports) -> None:
    """Who comes through the balancer is who it is, over TLS on both ports, and over HTTP for a challenge."""
    for port, name in ((ports.https, MATRIX), (ports.federation, EXAMPLE)):
        for source in ("127.0.0.5", "127.0.0.6"):
            with secure(port, name, edge.context, source=source) as client:
                for _ in range(2):
                    seen = ask(client, name, VERSIONS, "X-Forwarded-For: 6.6.6.6").seen
                    assert seen.values("x-forwarded-for") == [source]
                    assert seen.values("x-forwarded-proto") == ["https"]
    assert plain_ask(ports.http, MATRIX, "/a").value("location") == f"https://{MATRIX}/a"


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
def test_haproxy(edge: Edge, option: str) -> None:
    """conf/edges/haproxy-tcp.cfg, with version 2, with version 1 instead, and with vectors behind the addresses.

    Its health checks, with a header that names nobody, keep the servers up.
    """
    ports = three_ports()
    sidecar = edge.ports
    text = file(
        "edges/haproxy-tcp.cfg",
        edge.place,
        (r"(?m)^ *server two .*\n", ""),
        (r"send-proxy-v2", option),
        (r"10\.0\.0\.11:80\b", f"127.0.0.1:{sidecar.http}"),
        (r"10\.0\.0\.11:443", f"127.0.0.1:{sidecar.https}"),
        (r"10\.0\.0\.11:8448", f"127.0.0.1:{sidecar.federation}"),
        (r"bind :::80 v4v6", f"bind 127.0.0.1:{ports.http}"),
        (r"bind :::443 v4v6", f"bind 127.0.0.1:{ports.https}"),
        (r"bind :::8448 v4v6", f"bind 127.0.0.1:{ports.federation}"),
    )
    text = text.replace(" check", " check inter 20ms")
    if "unique-id" in option:
        text = text.replace("mode tcp", "mode tcp\n    unique-id-format %[uuid()]")
    with haproxy(edge.place, text, (ports.https, ports.federation, ports.http)):
        names_the_client(edge, ports)
    assert " is DOWN" not in (edge.place / "haproxy.log").read_text()


@pytest.mark.needs("nginx")
@pytest.mark.skipif(not STREAM.exists(), reason="nginx has no stream module: libnginx-mod-stream is not installed")
def test_nginx(edge: Edge) -> None:
    """conf/edges/nginx-stream.conf, which sends version 1."""
    ports = three_ports()
    sidecar = edge.ports
    text = file(
        "edges/nginx-stream.conf",
        edge.place,
        (r"(?m)^ *listen \[::\].*\n", ""),
        (r"listen 443", f"listen 127.0.0.1:{ports.https}"),
        (r"listen 8448", f"listen 127.0.0.1:{ports.federation}"),
        (r"listen 80\b", f"listen 127.0.0.1:{ports.http}"),
        (r"10\.0\.0\.11:443", f"127.0.0.1:{sidecar.https}"),
        (r"10\.0\.0\.11:8448", f"127.0.0.1:{sidecar.federation}"),
        (r"10\.0\.0\.11:80\b", f"127.0.0.1:{sidecar.http}"),
    )
    with nginx(edge.place, f"load_module {STREAM};\n", text, (ports.https, ports.federation, ports.http)):
        names_the_client(edge, ports)


def test_who_sends_no_header(edge: Edge) -> None:
    """The balancer has to; somebody else is who he is, and is not believed either way."""
    with pytest.raises((ConnectionError, ssl.SSLError)):
        secure(edge.ports.https, MATRIX, edge.context)
    with secure(edge.ports.https, MATRIX, edge.context, source="127.0.0.5") as client:
        assert ask(client, MATRIX, VERSIONS).seen.values("x-forwarded-for") == ["127.0.0.5"]
    header = b"PROXY TCP4 6.6.6.6 6.6.6.6 1 443\r\n"
    with pytest.raises((ConnectionError, ssl.SSLError)):
        secure(edge.ports.https, MATRIX, edge.context, source="127.0.0.5", before=header)
