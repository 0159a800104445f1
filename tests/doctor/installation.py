"""An installation for `doctor`: workers that answer as Synapse does, the real sidecar, a proxy that can misbehave."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import pytest
from hosts import homeserver, worker, write
from processes import PATIENCE, PlainWorker, Running, heads_on

from sidecar.doctor import examination
from sidecar.install import units

VERSION = "1.163.2"
Answer = tuple[int, object]


def look_at_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs on this host, or is installed there."""
    monkeypatch.setattr(units, "ADMIN_SOCKETS", ("/nowhere/*",))
    monkeypatch.setattr(examination, "sidecars", list)
    monkeypatch.setattr("sidecar.install.units.expected", lambda: None)


class StandIn(PlainWorker):
    """A worker that answers as Synapse does to who has no token; `answers` says otherwise, by the end of a path."""

    def __init__(self, path: Path, version: str = VERSION) -> None:
        self.version = version
        self.server = f"Synapse/{version}"
        self.answers: dict[str, Answer | None] = {}
        """None: the connection is cut."""
        super().__init__(path, self._converse)

    def _converse(self, connection: socket.socket) -> None:
        for head in heads_on(connection):
            answer = self._answer(head.decode("latin-1"))
            if answer is None:
                return
            connection.sendall(self._octets(*answer))

    def _answer(self, head: str) -> Answer | None:
        _, target, _ = head.split("\r\n", 1)[0].split(" ")
        path = target.partition("?")[0]
        for end, answer in self.answers.items():
            if path.endswith(end):
                return answer
        if path == "/health":
            return 200, "OK"
        if path.endswith("/federation/v1/version"):
            return 200, {"server": {"name": "Synapse", "version": self.version}}
        if path.endswith("/client/versions"):
            return 200, {"versions": ["v1.11"]}
        if path.endswith("/login"):
            believed = "\r\nx-forwarded-for:" in head.lower()
            return (400, {"errcode": "M_INVALID_PARAM"}) if believed else (500, {"errcode": "M_UNKNOWN"})
        if path.startswith("/_matrix/federation"):
            return 401, {"errcode": "M_UNAUTHORIZED"}
        return 401, {"errcode": "M_MISSING_TOKEN"}

    def _octets(self, status: int, content: object) -> bytes:
        octets = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(octets)}", "Access-Control-Allow-Origin: *"]
        lines += [f"Server: {self.server}"] if self.server else []
        return "\r\n".join([*lines, "", ""]).encode() + octets


WORKERS: Mapping[str, Mapping[str, object]] = {
    "sync1": {},
    "fed1": {"resources": [{"names": ["federation"]}]},
    "typing1": {},
}


class Installation:
    """Synapse's files, its processes, the sidecar's file, and the sidecar as soon as it is asked for."""

    def __init__(self, directory: Path, *, admin: bool = True) -> None:
        self.directory = directory
        self.file = str(directory / "sidecar.yaml")
        instances = {name: {"path": f"/run/{name}.replication.sock"} for name in ("main", *WORKERS)}
        homeserver(
            directory,
            "/etc/homeserver.yaml",
            {"path": str(directory / "main.sock")},
            max_upload_size="20M",
            instance_map=instances,
            stream_writers={"typing": "typing1"},
        )
        for name, listener in WORKERS.items():
            worker(directory, f"/etc/workers/{name}.yaml", path=str(directory / f"{name}.sock"), **listener)
        self.standing: dict[str, StandIn] = {}
        for name in ("main", *WORKERS):
            self.stand(name)
        self.write("" if not admin else 'admin: "unix:admin.sock:mode=660"\n')
        self.sidecar: Running | None = None

    def write(self, more: str = "", port: int = 0) -> None:
        """The sidecar's file."""
        text = f'listen: "tcp:{port}:interface=127.0.0.1"\n{more}synapse:\n  config: etc/homeserver.yaml\n'
        write(self.directory, "/sidecar.yaml", f"{text}  workers: etc/workers\n")

    def stand(self, name: str, version: str = VERSION) -> StandIn:
        """Start a worker, as Synapse with another version would."""
        path = self.directory / f"{name}.sock"
        path.unlink(missing_ok=True)
        self.standing[name] = StandIn(path, version)
        return self.standing[name]

    def fall(self, name: str, *, leave_the_socket: bool = False) -> None:
        """End a worker."""
        self.standing.pop(name).close()
        if not leave_the_socket:
            (self.directory / f"{name}.sock").unlink()

    def start(self) -> Installation:
        """Start the sidecar."""
        self.sidecar = Running(["--config", self.file], self.directory)
        self.sidecar.address()
        return self

    @property
    def port(self) -> int:
        """Where the sidecar listens."""
        assert self.sidecar is not None
        return self.sidecar.address()[1]

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.sidecar is not None:
            self.sidecar.__exit__(kind, error, trace)
        for standing in self.standing.values():
            standing.close()


Change = Callable[[bytes], bytes | None]


class Proxy(PlainWorker):
    """A proxy in front of the sidecar, one request for each connection. `change` gets each head and gives what goes on.

    What it gives that begins with `HTTP/` is the answer; None ends the connection without one.
    """

    def __init__(self, port: int, change: Change = lambda head: head, *, server: str = "", patience: float = PATIENCE):
        self._to = ("127.0.0.1", port)
        self.change = change
        self.server = server
        self.patience = patience
        super().__init__(None, self._pass_on)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _pass_on(self, connection: socket.socket) -> None:
        got = b""
        while b"\r\n\r\n" not in got:
            piece = connection.recv(65536)
            if not piece:
                return
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        changed = self.change(head)
        if changed is not None:
            answer = changed if changed.startswith(b"HTTP/") else self._through(changed + b"\r\n\r\n" + body)
            connection.sendall(answer)
        say_goodbye(connection)

    def _through(self, octets: bytes) -> bytes:
        with socket.create_connection(self._to, self.patience) as sidecar:
            sidecar.settimeout(self.patience)
            sidecar.sendall(octets)
            got = b""
            try:
                while piece := sidecar.recv(65536):
                    got += piece
            except TimeoutError:
                return b"HTTP/1.1 504 Gateway Timeout\r\nServer: slow/1\r\nContent-Length: 0\r\n\r\n"
        if self.server:
            head, mark, content = got.partition(b"\r\n\r\n")
            got = head + f"\r\nServer: {self.server}".encode() + mark + content
        return got

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def say_goodbye(connection: socket.socket) -> None:
    """Close so that the answer arrives: what still comes is read first, or the kernel would reset the connection."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def forwarded(head: bytes, *, address: str = "127.0.0.1", scheme: str = "http") -> bytes:
    """A head with one X-Forwarded-For and one X-Forwarded-Proto, as a good proxy sets them."""
    kept = re.sub(rb"\r\nX-Forwarded-(For|Proto): [^\r]*", b"", head)
    return kept + f"\r\nX-Forwarded-For: {address}\r\nX-Forwarded-Proto: {scheme}".encode()


def target_changed(old: bytes, new: bytes) -> Change:
    """Like a proxy that rewrites paths."""

    def change(head: bytes) -> bytes:
        line, _, fields = head.partition(b"\r\n")
        return forwarded(line.replace(old, new) + b"\r\n" + fields)

    return change
