"""The files of conf/ as they are shipped, with ports and paths of a test in place of the usual, and what runs them.

Each `…_in_front` starts one program in front of a sidecar on `sidecar`; nothing in its file is different otherwise.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import hosts
from attrs import frozen
from end_to_end.children import Child
from pem import Authority
from processes import PATIENCE, ROOT, Running, connect, free_ports
from system_programs import find

from edges.recording import RecordingWorker

CONF = ROOT / "conf"
NAMES = ("example.com", "matrix.example.com")
WORKERS = {"main": ["client", "federation"], "sync1": ["client"], "federation1": ["federation"]}
APACHE_MODULES = "/usr/lib/apache2/modules"


@frozen
class Ports:
    """Where an edge listens on 127.0.0.1."""

    https: int
    federation: int
    http: int
    more: tuple[int, ...] = ()


def three_ports() -> Ports:
    https, federation, http = free_ports(3)
    return Ports(https, federation, http)


def file(name: str, place: Path, *replaced: tuple[str, str]) -> str:
    """The text of a shipped file with some of it replaced; what is not there to be replaced is a failure."""
    text = (CONF / name).read_text()
    for pattern, value in replaced:
        text, count = re.subn(pattern, value.replace("\\", r"\\"), text)
        assert count, f"{name} holds nothing like {pattern!r}"
    return text.replace("/etc/ssl/matrix", str(place))


def program(name: str) -> str:
    found = find(name)
    assert found is not None
    return found


# Certificates, workers and the sidecar.


def certificates(place: Path) -> Authority:
    """A certificate with both names, in the files that the edges want."""
    authority = Authority()
    key, certificate = authority.issue(*NAMES)
    (place / "privkey.pem").write_bytes(key)
    (place / "fullchain.pem").write_bytes(certificate)
    (place / "haproxy.pem").write_bytes(certificate + key)
    for name in ("privkey.pem", "haproxy.pem"):
        (place / name).chmod(0o640)
    return authority


def trusting(authority: Authority | Path) -> ssl.SSLContext:
    """What a client of this authority's needs."""
    if isinstance(authority, Path):
        return ssl.create_default_context(cafile=str(authority))
    return ssl.create_default_context(cadata=authority.certificate.decode())


@contextmanager
def workers(place: Path) -> Iterator[Mapping[str, RecordingWorker]]:
    """Synapse's files in `place`, and a stand-in for each process that they name."""
    listener: dict[str, object] = {"path": str(place / "main.sock")}
    hosts.homeserver(place, "homeserver.yaml", listener, server_name="example.com")
    for name, resources in WORKERS.items():
        if name != "main":
            names = [{"names": resources}]
            hosts.worker(place, f"workers/{name}.yaml", path=str(place / f"{name}.sock"), resources=names)
    running = {name: RecordingWorker(name, place / f"{name}.sock") for name in WORKERS}
    try:
        yield running
    finally:
        for worker in running.values():
            worker.go_on.set()
            worker.close()
    assert [worker.failure for worker in running.values()] == [None] * len(running)


SYNAPSE = (
    (r"/etc/matrix-synapse/homeserver\.yaml, /etc/matrix-synapse/conf\.d", "homeserver.yaml"),
    (r"/etc/matrix-synapse/workers", "workers"),
    (r"unix:/run/matrix-sidecar/admin\.sock", "unix:admin.sock"),
    # The clients of the tests have loopback addresses, too; only the proxies' is that of one.
    (r"127\.0\.0\.0/8", "127.0.0.1"),
)


@contextmanager
def sidecar(place: Path, text: str, *arguments: str) -> Iterator[Running]:
    """The sidecar with this configuration, listening."""
    (place / "sidecar.yaml").write_text(text)
    with Running(["-c", str(place / "sidecar.yaml"), *arguments], place) as running:
        running.says("listening on ")
        yield running
        assert "Traceback" not in running.said, running.said


@contextmanager
def sidecar_behind_a_proxy(place: Path) -> Iterator[int]:
    """conf/behind-a-proxy.yaml; its port."""
    with sidecar(place, file("behind-a-proxy.yaml", place, (r"tcp:8008:", "tcp:0:"), *SYNAPSE)) as running:
        yield running.address()[1]


# The edges.


@contextmanager
def child(name: str, place: Path, command: Sequence[str], ports: Sequence[int], **environment: str) -> Iterator[None]:
    """A program that runs as soon as it listens on all of these ports of 127.0.0.1; its log is beside its files."""
    process = Child(name, command, place / f"{name}.log", directory=place, environment=environment)
    try:
        process.wait_until(lambda: all(map(_is_open, ports)), PATIENCE)
        yield
    finally:
        Child.stop_all([process])


def _is_open(port: int) -> bool:
    try:
        connect(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def nginx_in_front(place: Path, sidecar: int) -> Iterator[tuple[Ports, ssl.SSLContext]]:
    ports = three_ports()
    authority = certificates(place)
    text = file(
        "edges/nginx.conf",
        place,
        (r"listen 443", f"listen 127.0.0.1:{ports.https}"),
        (r"listen 8448", f"listen 127.0.0.1:{ports.federation}"),
        (r"(?m)^ *listen \[::\].*\n", ""),
        (r"127\.0\.0\.1:8008", f"127.0.0.1:{sidecar}"),
    )
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    http = f"http {{ access_log off; {temporary} {text} }}\n"
    with nginx(place, "", http, (ports.https, ports.federation)):
        yield ports, trusting(authority)


@contextmanager
def nginx(place: Path, modules: str, text: str, ports: Sequence[int]) -> Iterator[None]:
    """Nginx with these lines at the top of its configuration and these blocks, listening on these ports."""
    user = "user root;" if os.geteuid() == 0 else ""
    (place / "nginx.conf").write_text(
        f"{modules}{user} daemon off; error_log stderr; pid {place}/nginx.pid; events {{}}\n{text}"
    )
    command = [program("nginx"), "-p", str(place), "-e", "stderr", "-c", str(place / "nginx.conf")]
    with child("nginx", place, command, ports):
        yield


@contextmanager
def caddy_in_front(place: Path, sidecar: int) -> Iterator[tuple[Ports, ssl.SSLContext]]:
    """Its certificates are from an authority of its own, because there is no other for these names here."""
    ports = three_ports()
    text = file(
        "edges/Caddyfile",
        place,
        (r"example\.com:8448", f"example.com:{ports.federation}"),
        (r"127\.0\.0\.1:8008", f"127.0.0.1:{sidecar}"),
    )
    with caddy(place, text, ports) as context:
        yield ports, context


@contextmanager
def caddy(place: Path, text: str, ports: Ports) -> Iterator[ssl.SSLContext]:
    """Caddy with these sites."""
    options = f"admin off\nlocal_certs\nskip_install_trust\ndefault_bind 127.0.0.1\nhttp_port {ports.http}\n"
    (place / "Caddyfile").write_text(f"{{\n{options}https_port {ports.https}\n}}\n{text}")
    command = [program("caddy"), "run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]
    where = {"HOME": str(place), "XDG_DATA_HOME": str(place / "data"), "XDG_CONFIG_HOME": str(place / "config")}
    with child("caddy", place, command, (ports.https,), **where):
        context = trusting(place / "data/caddy/pki/authorities/local/root.crt")
        _has_certificates(ports, context)
        yield context


def _has_certificates(ports: Ports, context: ssl.SSLContext) -> None:
    """Caddy listens before it has them."""
    until = time.monotonic() + PATIENCE
    for port, name in ((ports.https, NAMES[1]), (ports.https, NAMES[0]), (ports.federation, NAMES[0])):
        while True:
            try:
                context.wrap_socket(connect(("127.0.0.1", port)), server_hostname=name).close()
            except ssl.SSLError:
                assert time.monotonic() < until
                time.sleep(0.05)
            else:
                break


@contextmanager
def apache_in_front(place: Path, sidecar: int) -> Iterator[tuple[Ports, ssl.SSLContext]]:
    ports = three_ports()
    authority = certificates(place)
    text = file(
        "edges/apache.conf",
        place,
        (r"(?m)^Listen 8448", f"Listen 127.0.0.1:{ports.federation}"),
        (r"\*:443", f"*:{ports.https}"),
        (r"\*:8448", f"*:{ports.federation}"),
        (r"127\.0\.0\.1:8008", f"127.0.0.1:{sidecar}"),
    )
    (place / "matrix.conf").write_text(text)
    modules = ("mpm_event", "authz_core", "env", "ssl", "socache_shmcb", "headers", "proxy", "proxy_http")
    lines = [f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in modules]
    lines += [
        f"PidFile {place}/apache.pid",
        "ErrorLog /dev/stderr",
        f"DefaultRuntimeDir {place}",
        "ServerName localhost",
    ]
    lines += ["User www-data", "Group www-data"] if os.geteuid() == 0 else []
    lines += [f"Listen 127.0.0.1:{ports.https}", f"Include {place}/matrix.conf"]
    (place / "apache2.conf").write_text("\n".join(lines) + "\n")
    command = [program("apache2"), "-d", str(place), "-f", str(place / "apache2.conf"), "-DFOREGROUND"]
    with child("apache", place, command, (ports.https, ports.federation)):
        yield ports, trusting(authority)


@contextmanager
def haproxy_in_front(place: Path, sidecar: int) -> Iterator[tuple[Ports, ssl.SSLContext]]:
    ports = three_ports()
    authority = certificates(place)
    text = file(
        "edges/haproxy.cfg",
        place,
        (r"bind :::443 v4v6", f"bind 127.0.0.1:{ports.https}"),
        (r"bind :::8448 v4v6", f"bind 127.0.0.1:{ports.federation}"),
        (r"127\.0\.0\.1:8008", f"127.0.0.1:{sidecar}"),
    )
    with haproxy(place, text, (ports.https, ports.federation)):
        yield ports, trusting(authority)


@contextmanager
def haproxy(place: Path, text: str, ports: Sequence[int]) -> Iterator[None]:
    """HAProxy with this file, listening on these ports."""
    (place / "haproxy.cfg").write_text(text)
    command = [program("haproxy"), "-db", "-f", str(place / "haproxy.cfg")]
    with child("haproxy", place, command, ports):
        yield


@contextmanager
def sidecar_as_the_edge(
    place: Path, *replaced: tuple[str, str], acme: int = 1
) -> Iterator[tuple[Ports, ssl.SSLContext, Running]]:
    """conf/edge.yaml, with a port for bridges in `Ports.more`, and the server for ACME on port `acme`."""
    (place / "tls").mkdir(exist_ok=True)
    authority = certificates(place / "tls")
    challenges = (r"tcp:127\.0\.0\.1:8402", f"tcp:127.0.0.1:{acme}")
    with sidecar(place, file("edge.yaml", place, *EDGE, challenges, *replaced)) as running:
        listening = [running.says(r"(?s)" + r"listening on \S+?:(\d+).*?" * number)[number] for number in (1, 2, 3, 4)]
        https, federation, http, bridges = map(int, listening)
        yield Ports(https, federation, http, (bridges,)), trusting(authority), running


EDGE = (
    (r"ssl:443:", "ssl:0:"),
    (r"ssl:8448:", "ssl:0:"),
    (r"tcp:80:", "tcp:0:"),
    (r"interface=[\\:]+", "interface=127.0.0.1"),
    (r"tcp:8008:", "tcp:0:"),
    *SYNAPSE,
)

EDGES: Mapping[str, Callable[[Path, int], AbstractContextManager[tuple[Ports, ssl.SSLContext]]]] = {
    "nginx": nginx_in_front,
    "caddy": caddy_in_front,
    "apache2": apache_in_front,
    "haproxy": haproxy_in_front,
}
