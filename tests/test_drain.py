"""A stop, a restart and the drain of a worker: who is served to the end, who is cut, and with which status it ends."""

from __future__ import annotations

import re
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

from busy import AnsweringWorker, BusyClients, sync_of
from processes import PlainWorker, Running, connect, exchange, read_until

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
timeouts: {drain: DRAIN}
"""
POLLS = 50
UPLOADS = 5
HALF = 300_000
POLL = b"GET /_matrix/client/v3/sync?since=1 HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = b"POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * HALF)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def written(directory: Path, drain: str = "20s") -> str:
    path = directory / "sidecar.yaml"
    path.write_text(CONFIGURATION.replace("DRAIN", drain))
    return str(path)


class Polled:
    """A worker that answers a poll when it is told to, and an upload when it has all of it."""

    def __init__(self, directory: Path) -> None:
        self.asked = threading.Semaphore(0)
        """Released for each request head that has come."""
        self.release = threading.Event()
        self.worker = PlainWorker(directory / "main.sock", self._serve)

    def _serve(self, connection: socket.socket) -> None:
        got = read_until(connection, lambda got: b"\r\n\r\n" in got)
        self.asked.release()
        if got.startswith(b"POST"):
            body = len(got) - got.index(b"\r\n\r\n") - 4
            read_until(connection, lambda more: body + len(more) == 2 * HALF)
        else:
            self.release.wait(30)
        connection.sendall(ANSWER)
        connection.recv(1)

    def wait_for(self, requests: int) -> None:
        for _ in range(requests):
            assert self.asked.acquire(timeout=30)


def test_a_stop_lets_all_end(tmp_path: Path) -> None:
    """SIGTERM during long polls and uploads: all are answered, and told to close; the status is 0."""
    polled = Polled(tmp_path)
    with Running(["-c", written(tmp_path)], tmp_path) as sidecar, ExitStack() as stack:
        address = sidecar.address()
        polls = [stack.enter_context(connect(address)) for _ in range(POLLS)]
        uploads = [stack.enter_context(connect(address)) for _ in range(UPLOADS)]
        for poll in polls:
            poll.sendall(POLL)
        for upload in uploads:
            upload.sendall(UPLOAD + bytes(HALF))
        polled.wait_for(POLLS + UPLOADS)
        sidecar.signal(signal.SIGTERM)
        sidecar.says(f"waiting for {POLLS + UPLOADS} connections to end")
        for upload in uploads:
            upload.sendall(bytes(HALF))
        polled.release.set()
        for client in (*polls, *uploads):
            answer = exchange(client, b"")
            assert answer == ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            assert client.recv(1) == b""
        assert sidecar.ends() == 0
        assert "Traceback" not in sidecar.said
    assert polled.worker.failure is None
    polled.worker.close()


def test_a_stop_cuts_what_does_not_end(tmp_path: Path) -> None:
    """After `timeouts.drain` what still runs is reset, and the status is 0."""
    polled = Polled(tmp_path)
    with Running(["-c", written(tmp_path, "300ms")], tmp_path) as sidecar, connect(sidecar.address()) as client:
        client.sendall(POLL)
        polled.wait_for(1)
        sidecar.signal(signal.SIGTERM)
        sidecar.says("cutting 1 connection")
        assert is_reset(client)
        assert sidecar.ends() == 0
    polled.release.set()
    polled.worker.close()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Who asks twice does not want to wait; the status is 0 all the same."""
    polled = Polled(tmp_path)
    with Running(["-c", written(tmp_path, "1h")], tmp_path) as sidecar, connect(sidecar.address()) as client:
        client.sendall(POLL)
        polled.wait_for(1)
        sidecar.signal(signal.SIGTERM)
        sidecar.says("waiting for 1 connection to end")
        sidecar.signal(signal.SIGHUP)
        sidecar.says("the sidecar is stopping")
        sidecar.signal(signal.SIGTERM)
        assert is_reset(client)
        assert sidecar.ends() == 0
        assert "Traceback" not in sidecar.said
    polled.release.set()
    polled.worker.close()


def is_reset(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except ConnectionResetError:
        return True


# Restarts with a socket that systemd holds.


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def test_restarts_refuse_nobody(tmp_path: Path) -> None:
    """Busy clients that never retry notice no restart behind a socket that outlives the process."""
    workers = [AnsweringWorker(tmp_path, "main")]
    arguments = ["-c", written(tmp_path), "--listen", "systemd:domain=INET:name=http"]
    with listening() as listener, ExitStack() as stack:
        address = listener.getsockname()
        sidecar = stack.enter_context(Running(arguments, tmp_path, listener=listener))
        with BusyClients(20, address, sync_of) as clients:
            clients.more(200)
            for _ in range(3):
                sidecar.signal(signal.SIGTERM)
                assert sidecar.ends() == 0
                sidecar = stack.enter_context(Running(arguments, tmp_path, listener=listener))
                clients.more(200)
        assert not clients.failures
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0
    for worker in workers:
        worker.close()
        assert worker.failure is None


def test_two_instances_take_turns(tmp_path: Path) -> None:
    """Of two processes on one socket one can restart while the other serves."""
    worker = AnsweringWorker(tmp_path, "main")
    arguments = ["-c", written(tmp_path), "--listen", "systemd:domain=INET:name=http"]
    with listening() as listener, ExitStack() as stack:
        pair = [stack.enter_context(Running(arguments, tmp_path, listener=listener)) for _ in range(2)]
        for sidecar in pair:
            sidecar.says("listening on 127")
        with BusyClients(10, listener.getsockname(), sync_of) as clients:
            clients.more(100)
            for turn in (0, 1):
                pair[turn].signal(signal.SIGTERM)
                assert pair[turn].ends() == 0
                clients.more(100)
                pair[turn] = stack.enter_context(Running(arguments, tmp_path, listener=listener))
                pair[turn].says("listening on 127")
                clients.more(100)
        assert not clients.failures
    worker.close()


def test_every_socket_of_the_unit_is_served(tmp_path: Path) -> None:
    """A unit with several `ListenStream=` passes several sockets under one name; IPv6 and a path are among them."""
    worker = AnsweringWorker(tmp_path, "main")
    arguments = ["-c", written(tmp_path), "--listen", "systemd:domain=INET:name=http"]
    with listening() as four, socket.socket(socket.AF_INET6) as six, socket.socket(socket.AF_UNIX) as local:
        six.bind(("::1", 0))
        local.bind(str(tmp_path / "http.sock"))
        for each in (six, local):
            each.listen()
            each.setblocking(False)
        with Running(arguments, tmp_path, listener=(four, six, local)) as sidecar:
            sidecar.says("listening on 127")
            for each in (four, six, local):
                with socket.socket(each.family) as client:
                    client.connect(each.getsockname())
                    assert exchange(client, sync_of(0)).endswith(b"main")
    worker.close()


def test_no_socket_from_systemd(tmp_path: Path) -> None:
    """Without the socket there is one sentence that says what to start."""
    with Running(["-c", written(tmp_path), "--listen", "systemd:domain=INET:name=http"], tmp_path) as sidecar:
        assert sidecar.ends() == 1
        assert "systemctl start matrix-sidecar.socket" in sidecar.said
        assert "Traceback" not in sidecar.said


# The drain of one worker, through the operator's listener.

TWO_SYNCS = """\
listen: "tcp:0:interface=127.0.0.1"
admin: "unix:admin.sock:mode=660"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: [client]}
  sync2: {endpoint: "unix:sync2.sock", serves: [client]}
pools:
  sync: {workers: ["sync*"]}
"""


def ask(directory: Path, method: str, path: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as operator:
        operator.settimeout(30)
        operator.connect(str(directory / "admin.sock"))
        answer = exchange(operator, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).decode()
    status = re.match(r"HTTP/1\.1 (\d+)", answer)
    assert status is not None
    return int(status[1]), answer.partition("\r\n\r\n")[2]


def answers_again(worker: AnsweringWorker, clients: BusyClients, before: int) -> None:
    """The worker answers more than `before`, sooner or later: on a busy machine its clients may be the slow ones."""
    for _ in range(50):
        if worker.answered > before:
            return
        clients.more(200)
    raise AssertionError(f"{worker.name} has answered nothing of 10000 requests")


def test_draining_a_worker_under_load(tmp_path: Path) -> None:
    """A drained worker gets nothing more, its users go elsewhere without noticing, and come back afterwards."""
    (tmp_path / "sidecar.yaml").write_text(TWO_SYNCS)
    main, first, second = workers = [AnsweringWorker(tmp_path, name) for name in ("main", "sync1", "sync2")]
    with Running(["-c", str(tmp_path / "sidecar.yaml")], tmp_path) as sidecar:
        with BusyClients(10, sidecar.address(), sync_of) as clients:
            answers_again(first, clients, 0)
            answers_again(second, clients, 0)
            for _ in range(5):
                status, told = ask(tmp_path, "POST", "/api/workers/sync1/drain")
                assert (status, '"draining"' in told) == (200, True)
                while '"leased": 0' not in ask(tmp_path, "POST", "/api/workers/sync1/drain")[1]:
                    pass
                before = first.answered
                clients.more(200)
                assert first.answered == before
                assert ask(tmp_path, "GET", "/ready")[0] == 200
                assert ask(tmp_path, "POST", "/api/workers/sync1/undrain")[0] == 200
                answers_again(first, clients, before)
        assert not clients.failures
        assert not main.answered
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0
    for worker in workers:
        worker.close()
        assert worker.failure is None
