"""What is told of an exchange, however it ends: by a whole sidecar that writes its access log, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from admin.operated import Operated, received
from twisted.logger import capturedLogs, formatEvent

from net.turns import staged, turns
from sidecar.observe import sink
from sidecar.routing.decision import Decision

LOG = "log: {access: true, format: json, file: access.log}\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /_matrix/client/v3/pushers?access_token=zxqv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer zxqv\r\n\r\n"
SYNC = b"GET /_matrix/client/v3/sync?since=1&access_token=syt_YWxpY2U_abc_123 HTTP/1.1\r\nHost: x\r\n\r\n"
TYPING = b"PUT /_matrix/client/v3/rooms/!zxqv:x/typing/@zxqv:x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
UPLOAD = b"POST /_matrix/client/v3/pushers/set HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are gathered for no time."""
    monkeypatch.setattr(sink, "PAUSE", 0.0)


class Logged(Operated):
    """A sidecar that writes its access log."""

    def __init__(self, directory: Path, more: str = LOG, away: tuple[str, ...] = ()) -> None:
        super().__init__(directory, more, away)

    async def told(self, count: int = 1) -> list[dict[str, Any]]:
        """So many lines of the access log, all that there are."""
        path = self.directory / "access.log"
        while not path.exists() or path.read_text().count("\n") < count:
            await turns(1)
        await turns()
        text = path.read_text()
        assert "zxqv" not in text
        lines = [json.loads(line) for line in text.splitlines()]
        assert len(lines) == count
        return lines


async def answered(client: socket.socket) -> bytes:
    return await received(client, lambda got: got.endswith((b"ok", b"}")))


@staged(Logged)
async def test_done(scene: Logged) -> None:
    """The ordinary case, twice on one connection: nothing of the first is left in the second."""
    client = scene.client(GET)
    connection = await scene.worker("main").connection()
    sent = await connection.head()
    connection.send(OK)
    await answered(client)
    client.sendall(GET)
    await connection.head()
    connection.send(OK.replace(b"200 OK", b"404 No"))
    await answered(client)
    first, second = await scene.told(2)
    for line, status in ((first, 200), (second, 404)):
        assert (line["client"], line["method"], line["endpoint"]) == ("127.0.0.1", "GET", "pushers")
        assert (line["pool"], line["worker"], line["status"]) == ("main", "main", status)
        assert (line["affinity"], line["key"]) == ("none", None)
        assert (line["bytes_up"], line["bytes_down"]) == (len(sent), len(OK))
        assert (line["retries"], line["ending"], line["ended_by"]) == (0, "done", "worker")
        assert 0 < line["first_byte"] <= line["total"] < 30
    assert first["id"] != second["id"]
    # The first waited for a connection to be made, the second found it.
    assert 0 < first["connect"] <= first["queue"] < first["total"]
    assert (second["queue"], second["connect"]) == (0, 0)


@staged(Logged)
async def test_keys(scene: Logged) -> None:
    """The same user has the same word, which is not the user; so that one can be followed from line to line."""
    for _ in range(2):
        client = scene.client(SYNC)
        gateway = scene.sidecar.gateway
        while not any(pool.leased for pool in gateway.pools.values()):
            await turns(1)
        name = next(name for name, pool in gateway.pools.items() if pool.leased)
        connection = await scene.worker(name).connection()
        await connection.head()
        connection.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        connection.close()
        await answered(client)
    first, second = await scene.told(2)
    assert first["affinity"] == "user"
    assert first["key"] == second["key"] != "alice"
    assert first["worker"] == second["worker"]


@staged(Logged)
async def test_refused(scene: Logged) -> None:
    """By a route or `access`: no pool, no worker."""
    client = scene.client(b"GET /_synapse/admin/v1/rooms HTTP/1.1\r\nHost: x\r\n\r\n")
    got = await answered(client)
    (line,) = await scene.told()
    assert (line["endpoint"], line["pool"], line["worker"]) == ("admin_list_room", "", "")
    assert (line["status"], line["ending"], line["ended_by"]) == (403, "refuse", "sidecar")
    assert f"\r\nX-Request-ID: {line['id']}\r\n".encode() in got


@staged(Logged)
async def test_malformed(scene: Logged) -> None:
    """What is no request has a line all the same, without anything that was sent."""
    client = scene.client(b"GET /zxqv HTTP/1.1\r\nHost : zxqv\r\n\r\n")
    assert (await answered(client)).startswith(b"HTTP/1.1 400 ")
    (line,) = await scene.told()
    assert (line["method"], line["endpoint"], line["status"]) == ("-", "-", 400)
    assert (line["client"], line["ending"], line["ended_by"]) == ("127.0.0.1", "malformed", "sidecar")


@staged(Logged)
async def test_malformed_in_the_middle(scene: Logged) -> None:
    """A body that breaks the rules ends the exchange to which it belongs."""
    head = b"POST /_matrix/client/v3/pushers/set HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = scene.client(head + b"2\r\n{}\r\n")
    connection = await scene.worker("main").connection()
    await connection.head()
    client.sendall(b"zxqv\r\n")
    assert (await answered(client)).startswith(b"HTTP/1.1 400 ")
    (line,) = await scene.told()
    assert (line["method"], line["endpoint"], line["ending"]) == ("POST", "pushers_set", "malformed")


@staged(Logged)
async def test_too_large(scene: Logged) -> None:
    """Refused by its length; nobody was asked."""
    client = scene.client(UPLOAD % 10**12)
    got = await answered(client)
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["worker"]) == (413, "body_too_large", "")
    assert f"\r\nX-Request-ID: {line['id']}\r\n".encode() in got


@staged(Logged)
async def test_client_gone(scene: Logged) -> None:
    """Whose client went away has no status; the worker that had it is told."""
    client = scene.client(GET)
    connection = await scene.worker("main").connection()
    await connection.head()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["ended_by"], line["worker"]) == (0, "client_gone", "client", "main")
    assert line["first_byte"] == 0
    assert line["bytes_down"] == 0


@staged(Logged)
async def test_client_cut(scene: Logged) -> None:
    """Half a request."""
    client = scene.client(UPLOAD % 10 + b"{")
    connection = await scene.worker("main").connection()
    await connection.head()
    client.shutdown(socket.SHUT_WR)
    await answered(client)
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["ended_by"]) == (400, "client_cut", "client")


@staged(Logged, more=LOG + "timeouts: {head: 100ms}\n")
async def test_slow_head(scene: Logged) -> None:
    """A head that does not end is no request yet."""
    client = scene.client(b"GET /zxqv HTTP/1.1\r\nHost: zx")
    assert (await answered(client)).startswith(b"HTTP/1.1 408 ")
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["endpoint"]) == (408, "client_slow_head", "-")


@staged(Logged)
async def test_head_that_breaks_off(scene: Logged) -> None:
    """The same, where the client ends it."""
    client = scene.client(b"GET /zxqv HTTP/1.1\r\nHost: zx")
    await turns()
    client.shutdown(socket.SHUT_WR)
    await answered(client)
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["ended_by"]) == (400, "client_cut", "client")


@staged(Logged)
async def test_worker_cut(scene: Logged) -> None:
    """A worker that closes without an answer, until it is not asked again."""
    client = scene.client(b"POST /_matrix/client/v3/pushers/set HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    connection = await scene.worker("main").connection()
    await connection.head()
    connection.close()
    got = await answered(client)
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["ended_by"], line["worker"]) == (502, "worker_cut", "worker", "main")
    assert f"\r\nX-Request-ID: {line['id']}\r\n".encode() in got


@staged(Logged)
async def test_sent_again(scene: Logged) -> None:
    """What was safe to send again was, and all that was sent is counted."""
    client = scene.client(GET)
    worker = scene.worker("main")
    first = await worker.connection()
    sent = await first.head()
    first.close()
    second = await worker.connection()
    await second.head()
    second.send(OK)
    await answered(client)
    (line,) = await scene.told()
    assert (line["status"], line["retries"], line["ending"]) == (200, 1, "done")
    assert line["bytes_up"] == 2 * len(sent)


@staged(Logged)
async def test_answer_cut(scene: Logged) -> None:
    """A worker that breaks off in the middle: the status was told."""
    client = scene.client(GET)
    connection = await scene.worker("main").connection()
    await connection.head()
    connection.send(OK[:-1])
    await received(client, lambda got: got.endswith(b"o"))
    connection.reset()
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["ended_by"]) == (200, "answer_cut", "worker")
    assert line["first_byte"] > 0
    assert line["bytes_down"] == len(OK) - 1


@staged(Logged, more=LOG + "timeouts: {wait: 100ms}\n", away=("typing1",))
async def test_no_worker(scene: Logged) -> None:
    """Who waits in vain has waited."""
    got = await answered(scene.client(TYPING))
    assert got.startswith(b"HTTP/1.1 503 ")
    (line,) = await scene.told()
    assert (line["pool"], line["worker"], line["status"], line["ending"]) == ("typing", "", 503, "no_worker")
    assert line["queue"] >= 0.1


@staged(Logged)
async def test_a_large_body(scene: Logged) -> None:
    """What goes past the process in the kernel is counted too."""
    size = 4 * 1024 * 1024
    body = os.urandom(1024) * 4096
    client = scene.client(UPLOAD % size)
    client.setblocking(False)
    connection = await scene.worker("main").connection()
    head = await connection.head()
    left = memoryview(body)
    while left:
        try:
            left = left[client.send(left) :]
        except BlockingIOError:
            await turns(1)
    await connection.until(lambda: len(connection.received) == size)
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
    got = await received(client, lambda got: len(got) > size)
    (line,) = await scene.told()
    assert (line["bytes_up"], line["bytes_down"]) == (len(head) + size, len(got))
    counters = scene.sidecar.gateway.counters
    assert (counters.bytes_up, counters.bytes_down) == (line["bytes_up"], line["bytes_down"])


@staged(Logged, more="log: {access: true, file: access.log, format: json, endpoints: {pushers: faults}}\n")
async def test_chosen(scene: Logged) -> None:
    """Of an endpoint of which only faults are told, nothing else is."""
    client = scene.client(GET)
    connection = await scene.worker("main").connection()
    for status in (b"200 OK", b"502 No"):
        await connection.head()
        connection.send(OK.replace(b"200 OK", status))
        await answered(client)
        client.sendall(GET)
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["ended_by"]) == (502, "done", "worker")


@staged(Operated)
async def test_nobody_is_told(scene: Operated) -> None:
    """Without an access log nothing is named, no file is made, and metrics count all the same."""
    client = scene.client(b"GET /_synapse/admin/v1/rooms HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"X-Request-ID" not in await answered(client)
    gateway = scene.sidecar.gateway
    assert gateway.observed
    tallies = gateway.notes.told()
    assert tallies is not None
    assert [place[0] for place in tallies.cells] == ["admin_list_room"]
    assert gateway.request_ids is None
    assert not (scene.directory / "access.log").exists()


@staged(Logged)
async def test_the_rule_of_a_400_is_in_the_ordinary_log(scene: Logged) -> None:
    """Which one it was, and nothing of what was sent; not more than are wanted in a minute."""
    scene.sidecar.gateway.complaints.use(1)
    with capturedLogs() as events:
        for _ in range(2):
            client = scene.client(b"GET /zxqv HTTP/1.1\r\nHost : zxqv\r\n\r\n")
            await answered(client)
    (told,) = [formatEvent(event) or "" for event in events if event["log_namespace"] == "sidecar.relay"]
    assert told.startswith("127.0.0.1 was answered 400: ")
    assert "RFC 9112" in told
    assert "zxqv" not in told


@staged(Logged)
async def test_nobody_at_all_is_no_refusal(scene: Logged) -> None:
    """A pool without a worker fails, as one whose worker is down does; nobody has forbidden anything."""
    nobody = Decision(action="refuse", endpoint="typing", pool="typing", status=503, reason="nobody")
    scene.sidecar.gateway.decide = lambda *_, **__: nobody
    await answered(scene.client(GET))
    (line,) = await scene.told()
    assert (line["status"], line["ending"], line["pool"]) == (503, "no_worker", "typing")
    counters = scene.sidecar.gateway.counters
    assert (counters.failed, counters.refused) == (1, 0)


TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "field",
    [
        b"traceparent: %b" % TRACE,
        b"Traceparent: %b" % TRACE.replace(b"00-4", b"ff-4"),
        b"traceparent: 00-%b-00f067aa0ba902b7-01" % (b"0" * 32),
        b"traceparent: %b\r\ntraceparent: %b" % (TRACE, TRACE),
        b'traceparent: ","a":"',
        b"X: y",
    ],
)
def test_a_trace_is_passed_on_and_told(field: bytes, tmp_path: Path) -> None:
    """As it came, whatever it is; told only where it is valid, and never made."""

    @staged(Logged)
    async def told(scene: Logged) -> None:
        client = scene.client(GET.replace(b"Host: x\r\n", b"Host: x\r\n%b\r\n" % field))
        connection = await scene.worker("main").connection()
        sent = await connection.head()
        assert field in sent
        assert (b"traceparent" in sent.lower()) is (b"traceparent" in field.lower())
        connection.send(OK)
        await answered(client)
        (line,) = await scene.told()
        valid = field == b"traceparent: %b" % TRACE
        assert line.get("traceparent") == (TRACE.decode() if valid else None)

    told(tmp_path)
