"""Several real sidecars with one configuration file, and neighbours that are none, for what one says of all."""

from __future__ import annotations

import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from busy import AnsweringWorker
from processes import PATIENCE, PlainWorker, Running

WORKERS = ("main", "sync1", "sync2")
CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
admin: "unix:none.sock:mode=660"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
pools:
  sync: {workers: "sync*"}
"""


def over_unix(path: Path, method: str, target: str, password: str = "", body: str = "") -> tuple[int, Any]:
    """Status and JSON of an answer at a UNIX socket."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(str(path))
    fields = {"Authorization": "Basic " + b64encode(f"operator:{password}".encode()).decode()} if password else {}
    connection.request(method, target, body=body or None, headers=fields)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


class Family:
    """So many sidecars in one directory, `1` and so on, as the `@` units have them; all the same siblings."""

    def __init__(self, directory: Path, count: int = 2, operator: str = "", siblings: Sequence[str] = ()) -> None:
        """`operator` goes on below the list of siblings, which begins with `siblings`."""
        self.directory = directory
        self._stack = ExitStack()
        self.workers = {name: AnsweringWorker(directory, name) for name in WORKERS}
        for worker in self.workers.values():
            self._stack.callback(worker.close)
        self.names = [f"m-{number}" for number in range(1, count + 1)]
        for name in self.names:
            (directory / name).mkdir()
        entries = [*siblings, *(f"unix:{name}/admin.sock" for name in self.names)]
        (directory / "sidecar.yaml").write_text(
            f"{CONFIGURATION}operator:\n  siblings: {json.dumps(entries)}\n{operator}"
        )
        self.running: dict[str, Running] = {}
        for name in self.names:
            self.begin(name)
        for each in self.running.values():
            each.says("operator is listened to on")
            each.address()

    def begin(self, name: str, admin: str = "", state: str = "") -> Running:
        """Start one, once more where it was stopped; `state` is the directory that systemd makes for it."""
        admin = admin or f"unix:{self.socket(name)}:mode=660"
        arguments = ["-c", str(self.directory / "sidecar.yaml"), "--admin", admin]
        self.running[name] = self._stack.enter_context(Running(arguments, self.directory, STATE_DIRECTORY=state))
        return self.running[name]

    def socket(self, name: str) -> Path:
        return self.directory / name / "admin.sock"

    def ask(self, method: str, target: str, name: str = "m-1", **more: str) -> tuple[int, Any]:
        return over_unix(self.socket(name), method, target, **more)

    def state(self, name: str, worker: str) -> str:
        return str(self.ask("GET", "/api/status", name)[1]["workers"][worker]["state"])

    def weight(self, name: str, worker: str) -> float:
        return float(self.ask("GET", "/api/status", name)[1]["workers"][worker]["weight"])

    def __enter__(self) -> Family:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def neighbour(path: Path, reply: bytes, heard: list[bytes] | None = None) -> PlainWorker:
    """Something at a UNIX socket that says `reply` to each request, which it notes; nothing if that is empty."""

    def serve(connection: socket.socket) -> None:
        request = connection.recv(65536)
        if heard is not None:
            heard.append(request)
        connection.sendall(reply)
        if not reply:
            connection.recv(65536)

    return PlainWorker(path, serve)
