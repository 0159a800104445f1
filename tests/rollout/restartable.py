"""A sidecar with stand-in workers that a command can restart, as systemd would: what a rollout needs."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from busy import AnsweringWorker
from click.testing import Result
from processes import PlainWorker, Running, connect, exchange, read_until
from runners import runner

from sidecar.cli import main
from sidecar.top.operator_client import OperatorClient, place

COMMAND = f"""#!{sys.executable}
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
control.sendall(sys.argv[2].encode() + b"\\n")
answer = control.makefile().readline()
print("asked for", sys.argv[2])
sys.exit(int(answer))
"""
SETTINGS: dict[str, Any] = {
    "listen": "tcp:0:interface=127.0.0.1",
    "admin": "unix:admin.sock",
    "synapse": {"version": "1.163.2"},
    "workers": {
        "main": {"endpoint": "unix:main.sock"},
        "typing1": {"endpoint": "unix:typing1.sock", "serves": ["client"], "writes": ["typing"]},
        "sync1": {"endpoint": "unix:sync1.sock", "serves": ["client"]},
        "sync2": {"endpoint": "unix:sync2.sock", "serves": ["client"]},
    },
    "pools": {"sync": {"workers": ["sync*"]}},
    "timeouts": {"health_interval": "1h"},
}
TYPING = b"PUT /_matrix/client/v3/rooms/!r:x/typing/@a:x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
MODULE = b"POST /_synapse/client/module HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
"""Which only main has."""
CREATION = b"POST /_matrix/client/v3/createRoom HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Restartable(AnsweringWorker):
    """Can be ended, with all its connections; one that is `held` answers nothing but questions for its health."""

    def __init__(self, directory: Path, name: str) -> None:
        self._connections: list[socket.socket] = []
        self._killing = threading.Lock()
        self._alive = True
        self.released = threading.Event()
        self.released.set()
        self.asked = threading.Semaphore(0)
        """Released for each request that is held."""
        super().__init__(directory, name)

    def heard(self, head: bytes) -> None:
        if not head.startswith(b"GET /health "):
            self.asked.release()
            self.released.wait(30)

    def _converse(self, connection: socket.socket) -> None:
        with self._killing:
            self._connections.append(connection)
        super()._converse(connection)

    def kill(self) -> None:
        if not self._alive:
            return
        self._alive = False
        self.close()
        with self._killing:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


class Scene:
    """The sidecar, its workers, and the command that restarts them; a context manager."""

    def __init__(self, directory: Path, operator: Mapping[str, str] | None = None, **rollout: Any) -> None:
        self.directory = directory
        self._acts = (operator or {}).get("actions") != "none"
        self.restarts: list[str] = []
        """Who was restarted, in order."""
        self.drained: list[str] = []
        """Who was drained at the beginning of each restart, as the first instance says."""
        self.act: Callable[[str], int] = self.restart
        """What the command does for this worker; its exit status."""
        self.workers = {name: Restartable(directory, name) for name in SETTINGS["workers"]}
        self._control = PlainWorker(directory / "control.sock", self._obey)
        script = directory / "restart"
        script.write_text(COMMAND)
        script.chmod(0o755)
        command = [str(script), str(directory / "control.sock"), "{name}"]
        own = {"restart": command, "restart_main": command, "state": "rollout.json", "health": "20s", **rollout}
        self.file = directory / "sidecar.yaml"
        self.file.write_text(yaml.safe_dump({**SETTINGS, "operator": dict(operator or {}), "rollout": own}))
        self.sidecar = Running(["-c", str(self.file)], directory)

    def __enter__(self) -> Scene:
        with ExitStack() as failed:
            failed.push(self)
            self.address = self.sidecar.address()
            for name in self.workers if self._acts else ():
                # So that none of them is in doubt.
                self.operator.check(name)
            failed.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sidecar.__exit__(kind, error, trace)
        self._control.close()
        for worker in self.workers.values():
            worker.released.set()
            worker.kill()

    @property
    def operator(self) -> OperatorClient:
        return OperatorClient(place(f"unix:{self.directory}/admin.sock"))

    def _obey(self, connection: socket.socket) -> None:
        name = read_until(connection, lambda got: got.endswith(b"\n")).decode().strip()
        self.restarts.append(name)
        self.drained += self.draining()
        connection.sendall(f"{self.act(name)}\n".encode())

    def restart(self, name: str) -> int:
        """As it should be."""
        self.end(name)
        self.workers[name] = Restartable(self.directory, name)
        return 0

    def end(self, name: str) -> int:
        """End it, and do not start it again."""
        self.workers[name].kill()
        (self.directory / f"{name}.sock").unlink()
        return 0

    def draining(self) -> list[str]:
        workers = self.operator.look().workers
        return [name for name, worker in workers.items() if worker.state == "draining"]

    def rollout(self, *arguments: str) -> Result:
        return runner().invoke(main, ["rollout", "-c", str(self.file), *arguments])

    def started(self, *arguments: str, by: Sequence[str] = ()) -> Running:
        """The same in a process of its own; `by` is a command that starts another."""
        prefix = [*by, sys.executable, "-m", "sidecar.cli", "rollout", "-c", str(self.file)]
        return Running(arguments, self.directory, prefix, PYTHONUNBUFFERED="1")

    def hold(self, request: bytes) -> tuple[str, threading.Thread]:
        """A request that a worker has, until all are released: who has it, and the thread of its client."""
        for worker in self.workers.values():
            worker.released.clear()
        client = threading.Thread(target=self._ask, args=(request,))
        client.start()
        while not (having := [name for name, worker in self.operator.look().workers.items() if worker.leased]):
            pass
        assert self.workers[having[0]].asked.acquire(timeout=30)
        return having[0], client

    def release(self, client: threading.Thread) -> bytes:
        """Let all workers answer; the answer that the client gets."""
        for worker in self.workers.values():
            worker.released.set()
        client.join()
        return self.answer

    def _ask(self, request: bytes) -> None:
        with connect(self.address) as connection:
            self.answer = exchange(connection, request)

    def remembered(self) -> Any:
        """What the state file says."""
        return json.loads((self.directory / "rollout.json").read_text() or "null")
