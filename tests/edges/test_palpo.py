"""A homeserver of one process behind one port, with the files for Palpo: Caddy, the sidecar, and a stand-in for Palpo.

Palpo itself is not run: it is a container image, and there is no engine where the tests run. The stand-in tells what it
saw of each request. Traefik cannot be installed there; its files are read, and compared with those that are run.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import frozen
from processes import ROOT, connect, free_ports, read_until

from edges.programs import Ports, caddy, file, sidecar, three_ports
from edges.recording import RecordingWorker, ask, reply, secure

CONF = ROOT / "conf" / "palpo"
EXAMPLE, MATRIX = "example.com", "matrix.example.com"
TARGETS = ["/_matrix/client/v3/directory/room/%23a%2Fb:example.com", "/_matrix/client/v3/rooms/%21a//state?"]


@frozen
class Set:
    """All of it."""

    ports: Ports
    context: ssl.SSLContext
    palpo: RecordingWorker


def preset(place: Path, palpo: int) -> str:
    """conf/palpo.yaml on this host."""
    return file(
        "palpo.yaml",
        place,
        (r'"tcp:8008"', '"tcp:0:interface=127.0.0.1"'),
        (r"tcp:palpo:8008", f"tcp:127.0.0.1:{palpo}"),
        (r"127\.0\.0\.0/8", "127.0.0.1"),
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    place = tmp_path_factory.mktemp("palpo")
    palpo = RecordingWorker("palpo", None)
    ports = three_ports()
    with sidecar(place, preset(place, palpo.port)) as process:
        upstream = (r"sidecar:8008", f"127.0.0.1:{process.address()[1]}")
        sites = file("palpo/Caddyfile", place, upstream, (r"example\.com:8448", f"example.com:{ports.federation}"))
        with caddy(place, sites, ports) as context:
            yield Set(ports, context, palpo)
    palpo.close()
    assert palpo.failure is None


@pytest.mark.needs("caddy")
def test_clients_and_servers(running: Set) -> None:
    """Both names and ports, as they were asked for, with the client's address and the scheme."""
    for port, name in ((running.ports.https, MATRIX), (running.ports.federation, EXAMPLE)):
        with secure(port, name, running.context, source="127.0.0.5") as client:
            for target in TARGETS:
                seen = ask(client, name, target, "X-Forwarded-For: 6.6.6.6").seen
                assert (seen.worker, seen.target, seen.values("host")) == ("palpo", target, [name])
                assert seen.values("x-forwarded-for") == ["127.0.0.5"]
                assert seen.values("x-forwarded-proto") == ["https"]


@pytest.mark.needs("caddy")
def test_everything_of_a_client_goes_to_the_homeserver(running: Set) -> None:
    """No endpoint is another process's, whatever Synapse would do with it; delegation is the homeserver's, too."""
    with secure(running.ports.https, MATRIX, running.context) as client:
        for target in ("/_matrix/client/v3/sync?since=1", "/_matrix/client/v3/login", "/", "/_palpo/anything"):
            assert ask(client, MATRIX, target).seen.target == target
    with secure(running.ports.https, EXAMPLE, running.context) as anybody:
        assert ask(anybody, EXAMPLE, "/.well-known/matrix/server").seen.worker == "palpo"


def test_requests_wait_for_a_restart(tmp_path: Path) -> None:
    """While the homeserver is down its clients wait, and are answered by the one that comes back."""
    (port,) = free_ports(1)
    with sidecar(tmp_path, preset(tmp_path, port)) as process, connect(process.address()) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        process.says("worker main is down")
        # Its first question is about its health, and it is asked only for what it takes.
        with socket.create_server(("127.0.0.1", port)) as homeserver:
            asked = b""
            while not asked.startswith(b"GET /a "):
                connection, _ = homeserver.accept()
                with connection:
                    asked = read_until(connection, lambda got: b"\r\n\r\n" in got)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nback")
        assert reply(client).content == b"back"


# What cannot be run.


def compose(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CONF / f"compose.{name}.yaml").read_text())
    return document


def test_the_two_compose_files_differ_in_the_edge_only() -> None:
    """So that what is shown with Caddy holds for the rest of the other."""
    one, other = compose("caddy"), compose("traefik")
    assert one["services"].pop("caddy")["networks"] == other["services"].pop("traefik")["networks"] == ["front"]
    assert one["services"] == other["services"]
    assert "ports" not in one["services"]["sidecar"]
    assert "../palpo.yaml:/etc/matrix-sidecar/sidecar.yaml:ro" in one["services"]["sidecar"]["volumes"]


@pytest.mark.needs("docker-compose")
@pytest.mark.parametrize("name", ["caddy", "traefik"])
def test_docker_compose_takes_the_files(name: str, tmp_path: Path) -> None:
    """`docker-compose config`, which needs no engine."""
    command = ["docker-compose", "-f", str(CONF / f"compose.{name}.yaml"), "config"]
    where = {"PALPO_POSTGRES_PASSWORD": "secret", "PATH": str(Path(shutil.which("docker-compose") or "").parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=where, check=False)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    for mounted in (volume for service in services.values() for volume in service["volumes"]):
        source = str(mounted).partition(":")[0]
        if source.startswith("/") and not source.endswith("palpo.toml"):
            assert Path(source).is_file()


def test_traefik_has_the_routes_that_caddy_has() -> None:
    """The same names, ports and paths lead to the sidecar, and nothing rewrites a path on the way."""
    dynamic = yaml.safe_load((CONF / "traefik.dynamic.yaml").read_text())["http"]
    static = yaml.safe_load((CONF / "traefik.yaml").read_text())
    entries = {name: entry["address"].removeprefix(":") for name, entry in static["entryPoints"].items()}
    routes = set()
    for router in dynamic["routers"].values():
        names = re.findall(r"Host\(`(.*?)`\)", router["rule"])
        paths = re.findall(r"PathPrefix\(`(.*?)`\)", router["rule"]) or ["/"]
        routes |= {(name, entries[entry], path) for name in names for entry in router["entryPoints"] for path in paths}
    caddyfile = (CONF / "Caddyfile").read_text()
    sites = re.findall(r"(?m)^(\S+?)(?::(\d+))? \{\n\treverse_proxy (?:(\S+)\* )?sidecar:8008$", caddyfile)
    assert routes == {(name, port or "443", path or "/") for name, port, path in sites}
    for name in ("websecure", "federation"):
        http = static["entryPoints"][name]["http"]
        assert http["sanitizePath"] is False
        assert all(http["encodedCharacters"].values())
    assert static["entryPoints"]["web"]["http"]["redirections"]["entryPoint"]["to"] == "websecure"
    assert json.dumps(dynamic["services"]).count("http://sidecar:8008") == 1
