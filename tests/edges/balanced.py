"""Services behind a balancer: real PostgreSQLs and LDAP servers, a stand-in for Patroni, servers that say their name.

Hosts are addresses of loopback, so that all servers can have the ports that they have in a real network.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from pwd import getpwnam
from tempfile import mkdtemp

from end_to_end.children import Child, run
from end_to_end.services import postgres_account, postgres_programs
from processes import PATIENCE

from .programs import program

_ROLES = {"/": "primary", "/master": "primary", "/primary": "primary", "/leader": "primary", "/replica": "replica"}
"""Paths of Patroni's REST API by who answers 200 there (Patroni, "REST API", Health check endpoints)."""


class Patroni(ThreadingHTTPServer):
    """A stand-in for Patroni's REST API, which says so in `Server`. It answers as Patroni does: a status line alone."""

    daemon_threads = True

    def __init__(self, host: str, port: int, role: str) -> None:
        super().__init__((host, port), _Answer)
        self.role = role
        self.answers: list[int] = []
        """Statuses to give before the role counts again."""
        self.asked = threading.Semaphore(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def status(self, path: str) -> int:
        status = self.answers.pop(0) if self.answers else 200 if _ROLES.get(path) == self.role else 503
        self.asked.release()
        return status

    def handle_error(self, *_: object) -> None:
        """Who asks may reset its connection after the answer."""

    def several(self, count: int) -> None:
        """Wait until it was asked so often from now on."""
        while self.asked.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self.asked.acquire(timeout=PATIENCE)

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: Patroni

    def do_OPTIONS(self) -> None:
        status = self.server.status(self.path)
        self.wfile.write(f"{self.protocol_version} {status} stand-in for Patroni\r\n\r\n".encode())

    do_GET = do_HEAD = do_OPTIONS

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


# PostgreSQL.


@contextmanager
def postgresqls(port: int, **hosts: str) -> Iterator[dict[str, Child]]:
    """A PostgreSQL on each host, which has its name for `cluster_name`."""
    programs, user = postgres_programs(), postgres_account()
    assert programs is not None
    place = Path(mkdtemp(prefix="sidecar-pg-"))  # what pytest has is closed to the user that PostgreSQL runs as
    place.chmod(0o711)
    first = place / next(iter(hosts))
    first.mkdir()
    if user is not None:
        os.chown(first, getpwnam(user).pw_uid, -1)
    run(
        [programs / "initdb", "--no-sync", "-A", "trust", "-U", "synapse", "-D", first / "data"],
        directory=first,
        user=user,
    )
    found = {}
    try:
        for name, host in hosts.items():
            if place / name != first:
                subprocess.run(["cp", "-a", first, place / name], check=True)
            settings = {
                "cluster_name": name,
                "listen_addresses": host,
                "port": str(port),
                "unix_socket_directories": "",
                "max_connections": "20",
                "fsync": "off",
            }
            options = [f"--{key}={value}" for key, value in settings.items()]
            command: list[str | Path] = [programs / "postgres", "-D", place / name / "data", *options]
            log = place / f"{name}.log"
            found[name] = Child(name, command, log, directory=place / name, user=user, end=signal.SIGINT)
        for name, host in hosts.items():
            found[name].wait_until(partial(_answers, host, port), limit=30)
        yield found
    finally:
        Child.stop_all(list(found.values()))
        shutil.rmtree(place)


def _answers(host: str, port: int) -> bool:
    try:
        Database((host, port)).close()
    except OSError:
        return False
    return True


class Database:
    """A session of PostgreSQL's protocol, version 3.0."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        said = b"user\0synapse\0database\0postgres\0\0"
        try:
            self._socket.sendall(struct.pack("!ii", 8 + len(said), 196608) + said)
            self._read()
        except BaseException:
            self.close()
            raise

    def name(self) -> str:
        """Of the PostgreSQL that answers."""
        query = b"SELECT current_setting('cluster_name')\0"
        self._socket.sendall(b"Q" + struct.pack("!i", 4 + len(query)) + query)
        return self._read().decode()

    def _read(self) -> bytes:
        """The value that comes until PostgreSQL is ready for a query."""
        value = b""
        while True:
            head = self._whole(5)
            content = self._whole(struct.unpack("!i", head[1:])[0] - 4)
            if head[:1] == b"D":
                value = content[6:]
            elif head[:1] == b"E":
                raise ConnectionError(content.decode("utf-8", "replace"))
            elif head[:1] == b"Z":
                return value

    def _whole(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self._socket.recv(count - len(got))
            if not piece:
                raise ConnectionError("the connection has ended")
            got += piece
        return got

    def ended(self) -> bool:
        """Wait for the end of the connection."""
        with self._socket, suppress(ConnectionError):
            while self._socket.recv(4096):
                pass
        return True

    def close(self) -> None:
        self._socket.close()


# LDAP.

_SLAPD = """\
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_ldif
pidfile {place}/slapd.pid
database ldif
suffix "dc=example,dc=org"
directory {place}/data
"""
_ENTRY = "dn: dc=example,dc=org\nobjectClass: organization\nobjectClass: dcObject\ndc: example\no: {name}\n"


@contextmanager
def ldap_servers(place: Path, port: int, **hosts: str) -> Iterator[dict[str, Child]]:
    """An OpenLDAP server on each host, whose organization has its name."""
    found = {}
    try:
        for name, host in hosts.items():
            there = place / name
            (there / "data").mkdir(parents=True)
            configuration = there / "slapd.conf"
            configuration.write_text(_SLAPD.format(place=there))
            add: list[str | Path] = [program("slapadd"), "-f", configuration]
            subprocess.run(add, input=_ENTRY.format(name=name).encode(), check=True, capture_output=True)
            command: list[str | Path] = [
                program("slapd"),
                "-d",
                "0",
                "-h",
                f"ldap://{host}:{port}",
                "-f",
                configuration,
            ]
            found[name] = Child(name, command, place / f"{name}.log", directory=there)
        for name, host in hosts.items():
            found[name].wait_until(partial(_is_searched, host, port), limit=30)
        yield found
    finally:
        Child.stop_all(list(found.values()))


def _is_searched(host: str, port: int) -> bool:
    return bool(organization((host, port)))


def organization(address: tuple[str, int]) -> str:
    """What `ldapsearch` finds; empty where nobody answers."""
    uri = f"ldap://{address[0]}:{address[1]}"
    command = ["ldapsearch", "-x", "-LLL", "-H", uri, "-b", "dc=example,dc=org", "-s", "base", "o"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    lines = [line.removeprefix("o: ") for line in done.stdout.splitlines() if line.startswith("o: ")]
    return lines[0] if lines else ""


# Servers that say their name.


class Named:
    """Says its name to each client, and keeps the connection until the client ends it."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self._name = name.encode()
        self._listener = socket.create_server((host, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(self._name)
                while connection.recv(64):
                    pass
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Agent:
    """Says its word to whoever connects, as the agents that HAProxy's manual describes (agent-check)."""

    def __init__(self, host: str, port: int) -> None:
        self.word = "up"
        self._listener = socket.create_server((host, port))
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.sendall(f"{self.word}\n".encode())

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def named_servers(port: int, **hosts: str) -> Iterator[dict[str, Named]]:
    with ExitStack() as stack:
        found = {name: Named(name, host, port) for name, host in hosts.items()}
        for each in found.values():
            stack.callback(each.close)
        yield found


def told(clients: Sequence[socket.socket]) -> list[str]:
    """What the servers of these have said."""
    return [client.recv(64).decode() for client in clients]
