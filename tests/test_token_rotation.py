"""The sidecar as it runs, in front of stand-in workers that know whose a token is: devices whose tokens change."""

from __future__ import annotations

import json
import re
import secrets
import socket
import string
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from processes import PlainWorker, Running, connect, exchange, heads_on

ROTATIONS = 300
WORKERS = ("main", "sync1", "sync2", "sync3")
_LETTERS = string.ascii_letters + string.digits


def new_token(kind: str = "mat") -> str:
    return f"{kind}_{''.join(secrets.choice(_LETTERS) for _ in range(30))}_0AbCdE"


def native_token(user: str) -> str:
    return f"syt_{b64encode(user.encode()).decode().rstrip('=')}_xyQVtQzXGennfExeGGhf_2OY2TV"


class Homeserver:
    """Workers that answer with their names, but whoami with the user to whom a token was given."""

    def __init__(self, directory: Path) -> None:
        self.users: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        """Questions by token."""
        self.answers_whoami = threading.Event()
        self.answers_whoami.set()
        self._directory = directory
        self._workers: list[PlainWorker] = []

    def issue(self, user: str, kind: str = "mat") -> str:
        token = new_token(kind)
        self.users[token] = user
        return token

    def start(self) -> None:
        for name in WORKERS:
            self._workers.append(PlainWorker(self._directory / f"{name}.sock", self._converse(name)))

    def stop(self) -> None:
        self.answers_whoami.set()
        for worker in self._workers:
            worker.close()
            assert worker.failure is None

    def _converse(self, name: str) -> Callable[[socket.socket], None]:
        def converse(connection: socket.socket) -> None:
            for head in heads_on(connection):
                connection.sendall(self._answer(name, head.decode()))

        return converse

    def _answer(self, name: str, head: str) -> bytes:
        if not head.startswith("GET /_matrix/client/v3/account/whoami "):
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode())
        self.answers_whoami.wait(30)
        match = re.search(r"\r\nAuthorization: Bearer (\S+)", head)
        assert match is not None
        self.asked[match[1]] += 1
        user = self.users.get(match[1])
        body = json.dumps({"errcode": "M_UNKNOWN_TOKEN"} if user is None else {"user_id": f"@{user}:example.org"})
        status = "401 Unauthorized" if user is None else "200 OK"
        # As Synapse answers: without a length.
        chunked = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
        return f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}".encode()


@contextmanager
def sidecar(directory: Path, homeserver: Homeserver, *tokens: str) -> Iterator[Running]:
    """The sidecar in front of the homeserver, with these keys of `tokens`."""
    lines = ["listen: tcp:0:interface=127.0.0.1", "admin: unix:admin.sock:mode=660", "workers:"]
    lines += [f"  {name}: {{endpoint: 'unix:{name}.sock'}}" for name in WORKERS]
    lines += ["pools: {sync: {workers: 'sync*'}}", f"tokens: {{{', '.join(tokens)}}}", "log: {access: true}"]
    (directory / "sidecar.yaml").write_text("\n".join(lines) + "\n")
    homeserver.start()
    try:
        with Running(["--config", "sidecar.yaml"], directory) as running:
            running.address()
            yield running
    finally:
        homeserver.stop()


def ask(connection: socket.socket, token: str) -> str:
    """Sync; who answered."""
    request = f"GET /_matrix/client/v3/sync?since=s1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    return exchange(connection, request.encode()).rpartition(b"\r\n\r\n")[2].decode()


def counters(directory: Path) -> dict[str, int]:
    """Those of the running sidecar."""
    with socket.socket(socket.AF_UNIX) as operator:
        operator.settimeout(30)
        operator.connect(str(directory / "admin.sock"))
        answer = exchange(operator, b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
    found: dict[str, int] = json.loads(answer.rpartition(b"\r\n\r\n")[2])["counters"]
    return found


def test_a_device_stays_on_one_worker_over_all_changes_of_its_token(tmp_path: Path) -> None:
    """It is the worker of the user, where a device with a token that names the user is too."""
    homeserver = Homeserver(tmp_path)
    tokens = [homeserver.issue("alice") for _ in range(ROTATIONS)]
    with sidecar(tmp_path, homeserver, "resolve: always", "deadline: 30s") as running:
        with connect(running.address()) as connection:
            workers = [ask(connection, token) for token in tokens]
            others = [ask(connection, homeserver.issue("alice", kind)) for kind in ("mct", "mpt", "opaque")]
            named = ask(connection, native_token("alice"))
            again = [ask(connection, token) for token in tokens]
        counted = counters(tmp_path)
        said = running.said
    assert set(workers) == set(again) == {*others} == {named}
    assert set(homeserver.asked.values()) == {1}
    assert counted["tokens_asked"] == ROTATIONS + 3
    assert counted["tokens_known"] == ROTATIONS
    assert counted["tokens_late"] == 0
    assert not any(token in said or token[4:34] in said for token in tokens)


def test_without_asking_the_device_would_move(tmp_path: Path) -> None:
    """What the test before would find if nobody resolved anything."""
    homeserver = Homeserver(tmp_path)
    tokens = [homeserver.issue("alice") for _ in range(ROTATIONS)]
    with sidecar(tmp_path, homeserver, "resolve: never") as running, connect(running.address()) as connection:
        workers = [ask(connection, token) for token in tokens]
    moves = sum(one != other for one, other in pairwise(workers))
    print(f"{moves} of {ROTATIONS - 1} changes moved the device")
    assert moves > ROTATIONS / 2
    assert not homeserver.asked


def test_requests_do_not_wait_for_whoami_longer_than_its_deadline(tmp_path: Path) -> None:
    """Where it is never answered, each request waits once, then none does, and none fails."""
    homeserver = Homeserver(tmp_path)
    homeserver.answers_whoami.clear()
    tokens = [homeserver.issue("alice") for _ in range(30)]
    settings = ("resolve: always", "deadline: 100ms", "patience: 200ms")
    with sidecar(tmp_path, homeserver, *settings) as running, connect(running.address()) as connection:
        waited = []
        for token in tokens:
            began = time.monotonic()
            assert ask(connection, token).startswith("sync")
            waited.append(time.monotonic() - began)
        running.says("whoami is not answered")
        counted = counters(tmp_path)
    print(f"requests took {min(waited):.3f} to {max(waited):.3f} s")
    assert counted["tokens_late"] >= 5
    assert counted["tokens_unasked"] > 0
    assert counted["tokens_late"] + counted["tokens_unasked"] <= len(tokens)
    assert counted["failed"] == 0
