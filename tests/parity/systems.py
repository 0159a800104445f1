"""The three systems: a proxy as its author configured it and the preset that replaces it, before the same workers.

Each worker writes down what it gets. A proxy that was replaced tells in its answers which upstream it chose; the
groups are those of both sides that have the same workers.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import crossplane
import yaml
from attrs import frozen
from busy import AnsweringWorker
from processes import PATIENCE, ROOT, Running, await_listener, exchange, free_port

from sidecar.importing.asked import Asked, Proxy
from sidecar.importing.haproxy_site import haproxy_site
from sidecar.importing.haproxy_words import sections
from sidecar.importing.nginx_site import nginx_site
from sidecar.importing.nginx_tree import tree

from . import haproxy_file, nginx_files
from .traffic import RELEASE, Made, Sent


@frozen
class Outcome:
    """What became of a request: the group of the worker that answered, or the answer of the proxy itself."""

    group: str
    """Or `redirect`, or `refuse 403`."""
    worker: str = ""
    chosen: str = ""
    """Upstream or backend, where the proxy says it."""
    location: str = ""


class Recorder(AnsweringWorker):
    """A worker that writes down the request-line of each numbered request."""

    def __init__(self, directory: Path | None, name: str, records: Mapping[str, list[bytes]]) -> None:
        self._records = records
        super().__init__(directory, name)

    def heard(self, head: bytes) -> None:
        number = re.search(rb"\r\nx-request: (\d+)", head, re.IGNORECASE)
        if number is not None:
            self._records[self.name].append(number[1] + b" " + head.partition(b" HTTP/")[0])


@frozen
class System:
    """A proxy, its preset, and how requests for it are made."""

    name: str
    program: str
    preset: Path
    made: Made
    upstreams: Mapping[str, Sequence[str]]
    """Workers, by the names of the preset, of each upstream by the name that the proxy gives it."""
    over_tcp: bool = False
    forwarded: bool = True
    """Sources are told in X-Forwarded-For; otherwise connections come from them."""

    @property
    def groups(self) -> dict[str, str]:
        """The group of each worker."""
        return dict(nginx_files.groups({_group(name): members for name, members in self.upstreams.items()}))

    def group_of(self, worker: str) -> str:
        return self.groups.get(worker, worker)


def _group(upstream: str) -> str:
    return upstream.removeprefix("synapse_inbound_")


NGINX_SOURCES = (
    "10.1.2.3",
    "198.51.100.7",
    "192.168.7.8",
    "2001:db8:beef::7",
    "203.0.113.9",
    "2001:db8:5::1",
    "127.0.0.1",
)
DOCKER_NGINX = System(
    "docker-nginx",
    "nginx",
    ROOT / "conf" / "docker-nginx.yaml",
    Made("matrix.example.org", NGINX_SOURCES[:-1]),
    {f"synapse_inbound_{name}": members for name, members in nginx_files.DOCKER_UPSTREAMS.items()},
)
NGINX_WORKERS = System(
    "nginx-workers",
    "nginx",
    ROOT / "conf" / "nginx-workers.yaml",
    Made("matrix.example.org", (*NGINX_SOURCES, "198.51.100.21", "192.0.2.78")),
    nginx_files.WORKERS_UPSTREAMS,
)
TWO_HOSTS = System(
    "two-hosts",
    "haproxy",
    ROOT / "conf" / "two-hosts.yaml",
    Made("matrix.example.org", tuple(f"127.0.0.{number}" for number in range(2, 8))),
    haproxy_file.UPSTREAMS,
    over_tcp=True,
    forwarded=False,
)
SYSTEMS = (DOCKER_NGINX, NGINX_WORKERS, TWO_HOSTS)


@contextmanager
def place() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="parity-", dir="/tmp") as path:
        yield Path(path)


def find(program: str) -> str | None:
    """The path of a program, those of the system included."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))


@frozen
class Measured:
    """What both sides did with the same requests, in their order."""

    system: System
    requests: Sequence[Sent]
    theirs: Sequence[Outcome]
    ours: Sequence[Outcome]
    their_records: Mapping[str, Sequence[bytes]]
    """Numbers and request-lines by worker."""
    our_records: Mapping[str, Sequence[bytes]]


Workers = Mapping[str, Recorder]


def asked(system: System, sent: Sent) -> Asked:
    """A request as the proxy gets it."""
    fields = {name.lower(): value for name, value in sent.fields}
    if system.forwarded:
        fields["x-forwarded-for"] = sent.source
    return Asked(
        method=sent.method, target=sent.target, fields=fields, source="127.0.0.1" if system.forwarded else sent.source
    )


def read_proxy(system: System, directory: Path) -> Proxy:
    """The configuration with which `measure` ran the proxy, read by our own reader."""
    if system.program == "haproxy":
        return haproxy_site(sections((directory / "proxy" / "haproxy.cfg").read_text(), "haproxy.cfg"))
    return nginx_site(tree(crossplane.parse(str(directory / "proxy" / "nginx.conf"), comments=False)["config"]))


def measure(system: System, directory: Path) -> Measured:
    """Run both, one after the other, and send all requests to each."""
    requests = system.made.requests()
    theirs, their_records = _run(system, requests, directory, _proxy)
    ours, our_records = _run(system, requests, directory, _sidecar)
    return Measured(system, requests, theirs, ours, their_records, our_records)


def _run(
    system: System, requests: Sequence[Sent], directory: Path, start: Callable[[System, Path, Workers, ExitStack], int]
) -> tuple[list[Outcome], Mapping[str, Sequence[bytes]]]:
    records: dict[str, list[bytes]] = {name: [] for name in system.groups}
    place = directory / start.__name__.strip("_")
    place.mkdir()
    with ExitStack() as stack:
        workers = {name: Recorder(None if system.over_tcp else place, name, records) for name in records}
        for worker in workers.values():
            stack.callback(worker.close)
        outcomes = _send(system, start(system, place, workers, stack), requests)
    return outcomes, records


def _sidecar(system: System, place: Path, workers: Workers, stack: ExitStack) -> int:
    write_preset(system, place, {name: f"unix:{name}.sock" if not system.over_tcp else f"tcp:127.0.0.1:{worker.port}"
                                 for name, worker in workers.items()})  # fmt: skip
    return stack.enter_context(Running(["--config", "sidecar.yaml"], place)).address()[1]


def write_preset(system: System, place: Path, endpoints: Mapping[str, str]) -> None:
    """The preset with the addresses of a test, for the release of which the requests are."""
    settings = yaml.safe_load(system.preset.read_text())
    assert set(settings["workers"]) == set(endpoints)
    for name, worker in settings["workers"].items():
        worker["endpoint"] = endpoints[name]
    settings |= {"listen": "tcp:0:interface=127.0.0.1", "synapse": {"version": RELEASE}}
    settings.pop("admin", None)
    (place / "sidecar.yaml").write_text(yaml.safe_dump(settings))


def _proxy(system: System, place: Path, workers: Workers, stack: ExitStack) -> int:
    port = free_port()
    arguments = _ARGUMENTS[system.program](system, place, port, workers)
    program = find(system.program)
    assert program is not None
    process = stack.enter_context(Running(arguments, place, prefix=[program]))
    await_listener(port, process)
    return port


def _nginx(system: System, place: Path, port: int, _workers: Workers) -> list[str]:
    make = {"docker-nginx": nginx_files.docker_nginx, "nginx-workers": nginx_files.nginx_workers}[system.name]
    configuration = make(f"127.0.0.1:{port}", lambda name: f"{place}/{name}.sock").write(place)
    return ["-e", "stderr", "-p", str(place), "-c", str(configuration)]


def _haproxy(_system: System, place: Path, port: int, workers: Workers) -> list[str]:
    sorry = haproxy_file.sorry_page(place)
    others = ("PEER1", "PEER2", "STATS", "HTTP", "MA1SD", "ACME", "LOG")
    places = {name: f"127.0.0.1:{free_port()}" for name in others}
    places |= {"PLACE": str(place), "MAXCONN": "1000", "SORRY": str(sorry), "HTTPS": f"127.0.0.1:{port}"}
    text = haproxy_file.haproxy(places, lambda name: f"127.0.0.1:{workers[name].port}")
    (place / "haproxy.cfg").write_text(text)
    return ["-db", "-L", "mlb1", "-f", str(place / "haproxy.cfg")]


_ARGUMENTS = {"nginx": _nginx, "haproxy": _haproxy}


def _send(system: System, port: int, requests: Sequence[Sent]) -> list[Outcome]:
    """Send the requests one after the other, each on the connection of its source."""
    connections: dict[str, socket.socket] = {}
    groups = system.groups
    outcomes = []
    try:
        for request in requests:
            source = "127.0.0.1" if system.forwarded else request.source
            connection = connections.get(source)
            if connection is None:
                connection = connections[source] = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
            answer = exchange(connection, request.octets(request.source if system.forwarded else None))
            outcomes.append(_outcome(answer, groups))
            if re.search(rb"\r\nconnection: *close\r\n", answer, re.IGNORECASE):
                connections.pop(source).close()
    finally:
        for connection in connections.values():
            connection.close()
    return outcomes


def _outcome(answer: bytes, groups: Mapping[str, str]) -> Outcome:
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    status = head.split(" ", 2)[1]
    fields = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
    }
    if status == "200":
        return Outcome(groups[body], body, fields.get("x-chosen", ""))
    if "location" in fields:
        return Outcome(f"redirect {status}", location=fields["location"])
    return Outcome(f"refuse {status}")
