"""What the sidecar says of itself is so: each pool of a fully split Synapse is drained, killed and emptied.

Workers are stand-ins here; `tests/end_to_end/test_standing.py` has the real ones, and the same judge.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml
from busy import AnsweringWorker
from end_to_end.topology import SPLIT, Process
from processes import Running, connect, exchange
from standing import Ask, Standing, at_once, drain_all, kill_all, requests_of, sets_of

SETTINGS = {
    "listen": "tcp:0:interface=127.0.0.1",
    "admin": "unix:admin.sock",
    "synapse": {"config": ["homeserver.yaml"], "workers": ["workers"], "version": "1.163.2"},
    "timeouts": {"wait": "200ms", "wait_federation": "200ms", "health_interval": "500ms", "slow_start": 0},
    "operator": {"actions": "page"},
}
NAMES = tuple(process.name for process in SPLIT.processes)


class StandIn(AnsweringWorker):
    """A worker that can be killed, with all its connections."""

    def __init__(self, directory: Path, name: str) -> None:
        self._connections: list[socket.socket] = []
        self._killing = threading.Lock()
        self.alive = True
        super().__init__(directory, name)

    def _converse(self, connection: socket.socket) -> None:
        with self._killing:
            self._connections.append(connection)
        super()._converse(connection)

    def kill(self) -> None:
        self.alive = False
        self.close()
        with self._killing:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


def listener(process: Process, directory: Path) -> dict[str, object]:
    return {
        "type": "http",
        "path": str(directory / f"{process.name}.sock"),
        "x_forwarded": True,
        "resources": [{"names": list(process.resources)}],
    }


def write(directory: Path, absent: Sequence[str] = ()) -> None:
    """Synapse's files, as an administrator writes them; those of the workers that are `absent` are not there."""
    main, *workers = SPLIT.processes
    writers: dict[str, list[str]] = {}
    for worker in workers:
        for stream in worker.writes:
            writers.setdefault(stream, []).append(worker.name)
    shared = {
        "server_name": "example.org",
        "report_stats": False,
        "listeners": [listener(main, directory)],
        "enable_media_repo": False,
        "media_instance_running_background_jobs": "media1",
        "stream_writers": writers,
        "instance_map": {name: {"path": str(directory / f"{name}.replication.sock")} for name in NAMES},
        "experimental_features": {"msc4306_enabled": True},
    }
    (directory / "workers").mkdir()
    (directory / "homeserver.yaml").write_text(yaml.safe_dump(shared))
    for worker in workers:
        own: dict[str, object] = {
            "worker_app": "synapse.app.generic_worker",
            "worker_name": worker.name,
            "worker_listeners": [listener(worker, directory)],
        }
        if "media" in worker.resources:
            own["enable_media_repo"] = True
        if worker.name not in absent:
            (directory / "workers" / f"{worker.name}.yaml").write_text(yaml.safe_dump(own))
    (directory / "sidecar.yaml").write_text(yaml.safe_dump(SETTINGS))


class Operator(HTTPConnection):
    """Of a socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def asking(directory: Path, method: str = "GET") -> Ask:
    """Asks the operator's listener."""

    def ask(path: str) -> tuple[int, bytes]:
        with closing(Operator(directory / "admin.sock")) as operator:
            operator.request(method, path)
            answer = operator.getresponse()
            return answer.status, answer.read()

    return ask


@contextmanager
def town(directory: Path, absent: Sequence[str] = ()) -> Iterator[tuple[Standing, dict[str, StandIn]]]:
    """A sidecar in front of stand-ins for all processes but those that are absent."""
    write(directory, absent)
    workers = {name: StandIn(directory, name) for name in NAMES if name not in absent}
    with Running(["-c", "sidecar.yaml"], directory) as sidecar:
        address = sidecar.address()

        def one(line: str) -> str | None:
            with connect(address) as client:
                answer = exchange(client, f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            status, body = re.fullmatch(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n(.*)", answer, re.DOTALL).groups()
            assert status in (b"200", b"503"), (line, answer)
            return body.decode() if status == b"200" else None

        yield Standing(asking(directory), at_once(one), requests_of(SPLIT.event_writers, absent), directory), workers
    for worker in workers.values():
        if worker.alive:
            worker.kill()
        assert worker.failure is None


@pytest.mark.needs("promtool")
def test_a_drain_of_each_pool(tmp_path: Path) -> None:
    """What it would cost is what it costs, and everything that is said while it lasts is so."""

    def act(name: str, what: str) -> None:
        status, _ = asking(tmp_path, "POST")(f"/api/workers/{name}/{what}")
        assert status == 200

    with town(tmp_path) as (standing, _):
        drain_all(standing, sets_of(SPLIT), act)


@pytest.mark.needs("promtool")
def test_the_end_of_each_pool(tmp_path: Path) -> None:
    """One after another all workers are killed; at the end main."""
    with town(tmp_path) as (standing, workers):

        def gone(names: Sequence[str]) -> None:
            while not all(standing.status()["workers"][name]["state"] == "down" for name in names):
                pass

        kill_all(standing, sets_of(SPLIT), lambda name: workers[name].kill(), gone)


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("absent", [("media1",), ("typing1", "event1", "fed1"), NAMES[1:]], ids=["one", "some", "all"])
def test_empty_pools(tmp_path: Path, absent: Sequence[str]) -> None:
    """Synapse's files give streams and media to workers whose own files are not there."""
    with town(tmp_path, absent) as (standing, _):
        standing.compare()
