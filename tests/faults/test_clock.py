"""The clock of the machine is stepped by an hour, forwards and backwards, while deadlines run."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from busy import AnsweringWorker
from processes import Running, connect

from .asking import AtOnce, answer_on, request
from .liars import GOOD, Liar

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: [client]}
  typing1: {endpoint: "unix:typing1.sock", serves: [client], writes: [typing]}
pools:
  sync: {workers: [sync1]}
timeouts: {head: 3s, wait: 5m, idle: 5m, answer: 5m}
"""
POLL = "/_matrix/client/v3/sync?since=s1"
TYPING = "/_matrix/client/v3/rooms/%21room/typing/@alice:x"
CLIENTS = 10
TOLERANCE = timedelta(minutes=10)
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class SteppedClock:
    """A clock for one process, moved by writing into a file."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self._file.write_text("+0\n")

    @property
    def environment(self) -> dict[str, Any]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # The monotonic clock is not stepped with the other one, whatever is done to that.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, by: timedelta) -> None:
        self._file.write_text(f"{by.total_seconds():+.0f}\n")


def logged_at(sidecar: Running, reloads: int) -> datetime:
    """What the process takes for the time: that in the line about its `reloads`th reload."""
    sidecar.signal(signal.SIGHUP)
    line = sidecar.says(rf"(?s)(?:reloaded: .*?\n.*?){{{reloads - 1}}}(\d{{4}}-\S+) \[sidecar\S*\] reloaded: ")
    return datetime.strptime(line[1], "%Y-%m-%dT%H:%M:%S%z")


@pytest.mark.needs("faketime")
@pytest.mark.parametrize("hours", [1, -1])
def test_a_stepped_clock(tmp_path: Path, hours: int) -> None:
    """Who waits in line, polls, or is idle, stays; who does not finish a head is told so in seconds, not in an hour."""
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION)
    released, clock = threading.Event(), SteppedClock(tmp_path)

    def hold(connection: socket.socket) -> None:
        assert released.wait(60)
        connection.sendall(GOOD)

    polled = Liar({POLL: hold})
    with ExitStack() as stack:
        for worker in (polled.at(tmp_path / "sync1.sock"), AnsweringWorker(tmp_path, "main")):
            stack.callback(worker.close)
        sidecar = stack.enter_context(Running(["-c", "sidecar.yaml"], tmp_path, **clock.environment))
        address = sidecar.address()
        before = logged_at(sidecar, 1)
        half, idle = (stack.enter_context(connect(address)) for _ in range(2))
        idle.sendall(request("/_matrix/client/versions"))
        assert answer_on(idle).outcome == "200"
        polls = AtOnce(address, [request(POLL)] * CLIENTS)
        waiting = AtOnce(address, [request(TYPING, "PUT", b"{}")] * CLIENTS)
        polled.came(POLL, CLIENTS)
        sidecar.says("worker typing1 is down")
        half.sendall(b"GET / HT")
        clock.step(timedelta(hours=hours))
        assert abs(logged_at(sidecar, 2) - before - timedelta(hours=hours)) < TOLERANCE
        assert answer_on(half).outcome == "408"
        idle.sendall(request("/_matrix/client/versions"))
        assert answer_on(idle).outcome == "200"
        stack.callback(AnsweringWorker(tmp_path, "typing1").close)
        released.set()
        assert polls.outcomes() == waiting.outcomes() == ["200"] * CLIENTS
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0
        assert "Traceback" not in sidecar.said
