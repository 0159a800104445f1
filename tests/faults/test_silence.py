"""Workers that accept and never answer, stop in the middle, or answer an octet at a time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen
from busy import AnsweringWorker, BusyClients
from processes import Running, connect

from .asking import CUT, AtOnce, answer_on, ask, request
from .liars import GOOD, Liar, says

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: [client]}
pools:
  sync: {workers: [sync1]}
timeouts: {answer: 1s, answer_body: 1s, body: 1s, stall: 1s}
"""
SYNC = "/_matrix/client/v3/sync?since=s1&case="
SILENT, PARTIAL, STOPPED, SLOW = (SYNC + name for name in ("silent", "partial", "stopped", "slow"))
OTHER = "/_matrix/client/versions"
CLIENTS = 20
OCTETS = 8


def never(connection: socket.socket) -> None:
    """Read on and say nothing."""


def an_octet_at_a_time(connection: socket.socket) -> None:
    """With pauses that together are longer than any deadline, but each of them shorter."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % OCTETS)
    for _ in range(OCTETS):
        time.sleep(0.4)
        connection.sendall(b"x")


@frozen
class Scene:
    sidecar: Running
    liar: Liar
    other: AnsweringWorker

    def knows_no_leases(self) -> None:
        """A new request is answered: whatever the silent ones held is free again."""
        assert ask(self.sidecar.address(), request(SYNC + "good")).outcome == "200"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION)
    liar = Liar(
        {
            SILENT: never,
            PARTIAL: says(b"HTTP/1.1 200 OK\r\nContent-", close=False),
            STOPPED: says(GOOD[:-1], close=False),
            SLOW: an_octet_at_a_time,
        }
    )
    with ExitStack() as stack:
        worker = liar.at(tmp_path / "sync1.sock")
        stack.callback(worker.close)
        other = AnsweringWorker(tmp_path, "main")
        stack.callback(other.close)
        sidecar = stack.enter_context(Running(["-c", str(tmp_path / "sidecar.yaml")], tmp_path))
        yield Scene(sidecar, liar, other)
        assert "Traceback" not in sidecar.said
        assert worker.failure is None


@pytest.mark.parametrize(("target", "outcome"), [(SILENT, "504"), (PARTIAL, "504"), (STOPPED, CUT)])
def test_a_worker_that_falls_silent(scene: Scene, target: str, outcome: str) -> None:
    """Its clients get 504 after `timeouts.answer`, or a cut after `answer_body`; those of others notice nothing."""
    address = scene.sidecar.address()
    with BusyClients(5, address, lambda number: request(f"{OTHER}?{number}")) as others:
        silent = AtOnce(address, [request(target)] * CLIENTS)
        scene.liar.came(target, CLIENTS)
        others.more(200)
        assert silent.outcomes() == [outcome] * CLIENTS
        others.more(200)
    assert not others.failures
    assert scene.liar.count(target) == CLIENTS
    assert scene.liar.after(target) == []
    scene.knows_no_leases()


def test_who_leaves_a_silent_worker(scene: Scene) -> None:
    """The worker's connection ends with its client's, without waiting for a deadline."""
    ended = threading.Semaphore(0)

    def until_it_ends(connection: socket.socket) -> None:
        assert connection.recv(1) == b""
        ended.release()

    target = SYNC + "left"
    scene.liar.faults = {target: until_it_ends}
    with connect(scene.sidecar.address()) as client:
        client.sendall(request(target))
        scene.liar.came(target)
    assert ended.acquire(timeout=30)
    scene.knows_no_leases()


def test_an_octet_at_a_time(scene: Scene) -> None:
    """An answer that goes on, however slowly, is passed on to its end while others are served."""
    address = scene.sidecar.address()
    with connect(address) as slow, BusyClients(5, address, lambda number: request(f"{OTHER}?{number}")) as others:
        slow.sendall(request(SLOW))
        scene.liar.came(SLOW)
        others.more(200)
        answer = answer_on(slow)
        assert (answer.outcome, answer.body) == ("200", b"x" * OCTETS)
    assert not others.failures
