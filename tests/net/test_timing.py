"""Every deadline of an exchange and what it does, on a clock that the test moves; limits of connections."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sidecar.config.schema import Pool
from sidecar.routing.decision import Decision
from sidecar.transport.link import NOTHING
from sidecar.transport.splicing import PIPE_SIZE

from .peers import FORWARDED, Peer, Stage, forward
from .turns import staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
GET_UP = b"GET /a HTTP/1.1\r\nHost: x\r\n" + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def upload(size: int) -> bytes:
    return b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size


async def status(client: Peer) -> bytes:
    """The status of a reply that closes its connection, and of which the client read everything."""
    head, _, content = (await client.end()).partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d\r\n" % len(content) in head
    return head.split(b" ")[1]


@staged(Stage, timeouts={"head": 10})
async def test_head(stage: Stage) -> None:
    """A head has so many seconds in total, whatever trickles in: then 408 (R-75, R-76)."""
    client = await stage.client(b"GET / HTTP/1.1\r\n")
    for _ in range(9):
        await stage.pass_time(1)
        client.send(b"A: b\r\n")
    assert not client.ended
    await stage.pass_time(1.5)
    assert await status(client) == b"408"


@staged(Stage, timeouts={"idle": 75})
async def test_idle(stage: Stage) -> None:
    """A client without a request is closed without a word, before the first request and after the last."""
    fresh = await stage.client()
    client, worker = await stage.exchange(GET)
    worker.send(OK)
    await client.gets(OK)
    await stage.pass_time(74.5)
    assert not fresh.ended
    await stage.pass_time(1)
    assert await fresh.end() == b""
    assert await client.end() == b""
    await stage.empties()


@staged(Stage, timeouts={"head": 10, "body": 30})
async def test_body_that_does_not_begin(stage: Stage) -> None:
    """A body that was announced and does not come is answered 408, however the head came, on any connection."""
    client, worker = await stage.exchange(GET)
    worker.send(OK)
    await client.gets(OK)
    client.send(upload(5)[:20])
    await stage.pass_time(5)
    client.send(upload(5)[20:])
    await worker.head()
    await stage.pass_time(29)
    assert not client.ended
    await stage.pass_time(1.5)
    assert await status(client) == b"408"
    await worker.until(lambda: worker.ended)
    assert stage.pool.leased == 0


@staged(Stage, limits={"request_rate": 0}, timeouts={"body": 30})
async def test_body_that_stops(stage: Stage) -> None:
    """A body has so many seconds for each piece."""
    client, worker = await stage.exchange(upload(100))
    for _ in range(5):
        await stage.pass_time(29)
        client.send(b"x")
        await worker.gets(b"x")
    await stage.pass_time(31)
    assert await status(client) == b"408"


@staged(Stage, timeouts={"body": 30})
async def test_body_that_drips(stage: Stage) -> None:
    """A byte now and then is not enough: beyond timeouts.body, limits.request_rate must be reached (F-12)."""
    client, worker = await stage.exchange(upload(100_000))
    client.send(b"x" * 2500)
    await worker.gets(b"x" * 2500)
    for _ in range(3):
        await stage.pass_time(9)
        client.send(b"x")
        await worker.gets(b"x")
    await stage.pass_time(9)
    assert not client.ended  # 2503 bytes are ten seconds more at 250 a second
    await stage.pass_time(5)
    assert await status(client) == b"408"


@staged(Stage, limits={"request_rate": 0}, timeouts={"body": 30, "answer": 900})
async def test_body_behind_an_interim_response(stage: Stage) -> None:
    """After a 100 the body is timed by its pieces, and the answer from the end of the body."""
    client, worker = await stage.exchange(
        b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    )
    worker.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.head()
    for _ in range(4):
        await stage.pass_time(29)
        client.send(b"x")
        await worker.gets(b"x")
    await stage.pass_time(890)
    assert not client.ended
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, timeouts={"answer": 900})
async def test_silent_worker(stage: Stage) -> None:
    """A worker that does not answer in time is answered for with 504, and was asked once (F-7)."""
    client, worker = await stage.exchange(GET)
    await stage.pass_time(899)
    assert not client.ended
    await stage.pass_time(1.5)
    assert await status(client) == b"504"
    await worker.until(lambda: worker.ended)
    assert len(stage.worker.accepted) == 1


@staged(Stage, decide=forward(settings=Pool(answer=5.0)))
async def test_answer_of_a_pool(stage: Stage) -> None:
    """A pool can have its own time for answers."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 2")
    await stage.pass_time(5.5)
    assert await status(client) == b"504"


@staged(Stage, timeouts={"idle": 10, "worker_idle": 3})
async def test_long_poll_on_a_reused_connection(stage: Stage) -> None:
    """The time for which a connection was idle does not count against the exchange that it then carries."""
    client, worker = await stage.exchange(GET)
    worker.send(OK)
    await client.gets(OK)
    await stage.pass_time(2)
    client.send(GET)
    await worker.gets(GET_UP)
    await stage.pass_time(600)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, timeouts={"answer_body": 120})
async def test_answer_that_stops(stage: Stage) -> None:
    """An answer that has begun has so many seconds for each piece, then it is visibly cut."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n")
    await client.head()
    for _ in range(3):
        await stage.pass_time(119)
        worker.send(b"x")
        await client.gets(b"x")
    await stage.pass_time(121)
    await client.end("reset")
    await worker.until(lambda: worker.ended)


async def clogged(stage: Stage, size: int) -> tuple[Peer, Peer]:
    """A client that does not read an answer of `size` octets, and its worker."""
    client, worker = await stage.exchange(GET)
    client.pause()
    inside = await stage.inside(client)
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size)
    while not inside.clogged:
        await turns(1)
    return client, worker


@staged(Stage, timeouts={"stall": 60})
async def test_stalled_client(stage: Stage) -> None:
    """A client that takes nothing is reset, and its worker freed (F-10)."""
    client, worker = await clogged(stage, 20_000_000)
    await stage.pass_time(59)
    assert not worker.ended
    await stage.pass_time(1.5)
    await worker.until(lambda: worker.ended)
    await stage.empties()
    client.resume()
    assert await client.end("reset") != b""


@staged(Stage, timeouts={"stall": 60, "answer_body": 120})
async def test_slow_client(stage: Stage) -> None:
    """A client that takes something is not a stalled one, and gets everything."""
    client, worker = await stage.exchange(GET)
    client.pause()
    inside = await stage.inside(client)
    worker.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"4000\r\n" + b"z" * 0x4000 + b"\r\n"
    chunks = 0
    while not inside.clogged:
        worker.send(chunk)
        chunks += 1
        await turns()
    # From here on the kernel takes only as much as it may.
    room = 0
    link: Any = inside.link
    plain = link.socket

    class Narrow:
        """A socket whose kernel takes little."""

        def __getattr__(self, name: str) -> Any:
            return getattr(plain, name)

        def send(self, data: Any) -> int:
            nonlocal room
            taken = min(room, len(data))
            room -= taken
            if not taken:
                raise BlockingIOError
            return plain.send(bytes(data[:taken]))

    link.socket = Narrow()
    client.resume()
    for _ in range(4):
        await stage.pass_time(50)
        before = inside.link.unsent
        room = 1000
        while inside.link.unsent == before:
            await turns(1)
    room = 1 << 30
    worker.send(b"0\r\n\r\n")
    await client.head()
    await client.gets(chunk * chunks + b"0\r\n\r\n")


@pytest.mark.parametrize("closing", [True, False])
@staged(Stage, timeouts={"idle": 75, "stall": 60, "linger": 2})
async def test_client_that_stalls_at_the_end(stage: Stage, closing: bool) -> None:
    """A client that does not take the end of an answer is reset, however its connection would have gone on."""
    line = b"Connection: close\r\n" if closing else b""
    client, worker = await stage.exchange(b"GET /a HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n")
    client.pause()
    inside = await stage.inside(client)
    worker.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not inside.link.unsent:
        worker.send(b"4000\r\n" + b"z" * 0x4000 + b"\r\n")
        await turns()
    worker.send(b"0\r\n\r\n")
    while inside.passage is not None:
        await turns(1)
    await stage.pass_time(50)
    assert stage.listener.connections
    await stage.pass_time(100)
    assert not stage.listener.connections


@staged(Stage, timeouts={"stall": 60, "body": 30, "answer": 900})
async def test_worker_that_stops_reading(stage: Stage) -> None:
    """A worker that does not take the request is answered for with 504; its client was not read meanwhile (F-26)."""
    client, worker = await stage.exchange(upload(30_000_000))
    worker.pause()
    inside = await stage.inside(client)
    client.send(b"u" * 30_000_000)
    while inside.passage is None or not inside.passage.worker_clogged:
        await turns(1)
    await stage.pass_time(59)
    assert inside.passage.upstream is not None
    assert inside.passage.upstream.link.unsent <= PIPE_SIZE + 65536
    await stage.pass_time(1.5)
    await client.until(lambda: b"504 Gateway" in client.received)


@staged(Stage, timeouts={"stall": 60, "body": 30, "answer": 900})
async def test_worker_that_reads_slowly(stage: Stage) -> None:
    """When a worker reads again, the body and then the answer are waited for."""
    client, worker = await stage.exchange(upload(3_000_000))
    inside = await stage.inside(client)
    worker.pause()
    client.send(b"u" * 2_999_999)
    while inside.passage is None or not inside.passage.worker_clogged:
        await turns(1)
    await stage.pass_time(50)
    worker.resume()
    await worker.until(lambda: len(worker.received) == 2_999_999)
    await stage.pass_time(29)
    worker.pause()
    client.send(b"u")
    await turns()
    worker.resume()
    await worker.until(lambda: len(worker.received) == 3_000_000)
    await stage.pass_time(890)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, timeouts={"stall": 60, "answer": 900})
async def test_end_of_an_upload_that_clogs(stage: Stage) -> None:
    """When the last of a request has gone out late, the answer has its time from then."""
    client, worker = await stage.exchange(upload(700_000))
    inside = await stage.inside(client)
    worker.pause()
    client.send(b"u" * 700_000)
    while inside.passage is None or not inside.passage.worker_clogged:
        await turns(1)
    await stage.pass_time(50)
    worker.resume()
    await worker.until(lambda: len(worker.received) == 700_000)
    await stage.pass_time(890)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, timeouts={"linger": 2})
async def test_linger(stage: Stage) -> None:
    """After a refusal a client has so many seconds to close its side."""
    client = await stage.client(b"nonsense\r\n\r\n")
    assert await status(client) == b"400"
    assert stage.listener.connections
    await stage.acknowledged()
    await stage.pass_time(2.5)
    await stage.empties()


@staged(Stage, timeouts={"tunnel": 600})
async def test_tunnel(stage: Stage) -> None:
    """A tunnel on which nothing moves ends; whatever moves, in either direction, keeps it."""
    client, worker = await stage.exchange(UPGRADE)
    worker.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    await client.head()
    for sender, receiver in ((client, worker), (worker, client)) * 2:
        await stage.pass_time(599)
        sender.send(b"x")
        await receiver.gets(b"x")
    await stage.pass_time(601)
    await client.end("reset")
    await worker.until(lambda: worker.ended)


# Workers that are down.


@staged(Stage, away=("main",), timeouts={"wait": 10})
async def test_waits_until_the_worker_returns(stage: Stage) -> None:
    """A request waits for a worker that restarts, with its body, and is then answered (F-4)."""
    client = await stage.client(upload(5) + b"hel")
    inside = await stage.inside(client)
    while not stage.pool.down:
        await turns(1)
    await stage.pass_time(3)
    client.send(b"lo")
    await turns()
    stage.worker.start()
    await stage.pass_time(1)
    worker = await stage.worker.connection()
    await worker.head()
    await worker.gets(b"hello")
    await stage.pass_time(20)
    worker.send(OK)
    await client.gets(OK)
    assert not stage.pool.down
    assert stage.counters.waited == 1
    assert inside.passage is None or inside.passage.ticket is None


@staged(Stage, away=("main",), timeouts={"wait": 10})
async def test_worker_that_does_not_return(stage: Stage) -> None:
    """After its time in line a request is answered 503 with Retry-After, GET or HEAD."""
    client = await stage.client(GET)
    other = await stage.client(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    await stage.pass_time(10.5)
    reply = await client.end()
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in reply
    assert (await other.end()).endswith(b"\r\n\r\n")
    assert stage.pool.waiting == 0


@staged(Stage, away=("main",), limits={"pipelined": 1000}, timeouts={"wait": 10})
async def test_body_in_line_is_bounded(stage: Stage) -> None:
    """Of a body whose worker is down so much is read, and no more; the rest follows when it returns."""
    client = await stage.client(upload(5_000_000))
    client.send(b"u" * 5_000_000)
    inside = await stage.inside(client)
    await turns(50)
    kept = inside.passage.exchange.waiting_bytes
    assert 1000 < kept < 200_000
    await turns(50)
    assert inside.passage.exchange.waiting_bytes == kept
    stage.worker.start()
    await stage.pass_time(1)
    worker = await stage.worker.connection()
    await worker.head()
    await worker.gets(b"u" * 5_000_000)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, workers=("main", "spare"), away=("main",), timeouts={"wait": 10, "answer": 900})
async def test_next_candidate(stage: Stage) -> None:
    """When the first candidate is down the next one gets the request, for as long as an answer may take."""
    client = await stage.client(GET)
    spare = await stage.workers["spare"].connection()
    await spare.gets(GET_UP)
    spare.send(OK)
    await client.gets(OK)
    client.send(upload(4) + b"ab")
    await stage.pass_time(1)
    await spare.head()
    await spare.gets(b"ab")
    await stage.pass_time(25)
    client.send(b"cd")
    await spare.gets(b"cd")
    await stage.pass_time(600)
    spare.send(OK)
    await client.gets(OK)
    assert len(stage.workers["spare"].accepted) == 1


@staged(Stage, workers=("main", "spare"), decide=forward("main", fallback=("spare",)), away=("main", "spare"))
async def test_whichever_returns_first(stage: Stage) -> None:
    """With all candidates away a request waits, and moves to the one that returns."""
    client = await stage.client(GET)
    while not (stage.pools["main"].down and stage.pools["spare"].down):
        await turns(1)
    stage.workers["spare"].start()
    for _ in range(10):
        await stage.pass_time(0.5)
    spare = await stage.workers["spare"].connection()
    await spare.gets(GET_UP)
    spare.send(OK)
    await client.gets(OK)


@staged(Stage, decide=lambda *_, **__: Decision(action="forward", endpoint="", pool="", candidates=()))
async def test_nobody_to_ask(stage: Stage) -> None:
    """A request that no worker serves is answered 503."""
    assert await status(await stage.client(GET)) == b"503"


@staged(Stage, connections=1, waiting=1)
async def test_full_line(stage: Stage) -> None:
    """With the line for a worker full, a request is answered 429 at once; who waits is served in turn."""
    client, worker = await stage.exchange(GET)
    second = await stage.client(GET)
    while not stage.pool.waiting:
        await turns(1)
    assert await status(await stage.client(GET)) == b"429"
    assert stage.counters.shed == 1
    worker.send(OK)
    await client.gets(OK)
    await worker.gets(GET_UP)
    worker.send(OK)
    await second.gets(OK)


@staged(Stage, waiting=0, timeouts={"wait": 10})
async def test_no_line(stage: Stage) -> None:
    """With `limits.waiting` at 0 nobody waits for a worker that is down, but a connection can be made."""
    client, worker = await stage.exchange(GET)
    worker.send(OK)
    await client.gets(OK)
    await stage.worker.stop()
    worker.close()
    first = await stage.client(GET)
    await stage.pass_time(0.1)
    assert await status(await stage.client(GET)) == b"429"
    await stage.pass_time(11)
    assert await status(first) == b"503"


@staged(Stage, connections=1)
async def test_a_lost_connection_makes_room(stage: Stage) -> None:
    """At the limit of connections, who waits gets a new one when a leased one is lost."""
    _client, worker = await stage.exchange(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
    second = await stage.client(GET)
    while not stage.pool.waiting:
        await turns(1)
    worker.close()
    other = await stage.worker.connection()
    await other.gets(GET_UP)
    other.send(OK)
    await second.gets(OK)


@staged(Stage, away=("main",))
async def test_replay_waits_with_its_body(stage: Stage) -> None:
    """A request that is replayed while its worker is down waits, and body that comes meanwhile is not lost."""
    stage.worker.start()
    client, worker = await stage.exchange(upload(100_004) + b"ab")
    await worker.gets(b"ab")
    await stage.worker.stop()
    worker.close()
    while not stage.pool.down:
        await turns(1)
    client.send(b"c" * 100_000)
    await turns(20)
    stage.worker.start()
    await stage.pass_time(1)
    second = await stage.worker.connection()
    await second.head()
    client.send(b"ef")
    await second.gets(b"ab" + b"c" * 100_000 + b"ef")
    second.send(OK)
    await client.gets(OK)


# Limits of connections.


@staged(Stage, limits={"connections_per_address": 2}, trust="192.0.2.0/24")
async def test_connections_of_an_address(stage: Stage) -> None:
    """An address has so many connections; one more is told so, and closing one makes room."""
    first = await stage.client()
    second = await stage.client()
    third = await stage.client(GET)
    reply = await third.end()
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 5\r\n" in reply
    assert stage.counters.connections_refused == 1
    other = await stage.client(b"nonsense\r\n\r\n", source="127.0.0.2")
    assert await status(other) == b"400"
    for peer in (first, second, third, other):
        peer.close()
    await stage.empties()
    again = await stage.client(b"nonsense\r\n\r\n")
    assert await status(again) == b"400"


@staged(Stage, limits={"connections_per_address": 2})
async def test_trusted_addresses_are_exempt(stage: Stage) -> None:
    """An address that speaks for many may have many connections."""
    for _ in range(5):
        assert await status(await stage.client(b"nonsense\r\n\r\n")) == b"400"


@staged(Stage)
async def test_a_new_gateway(stage: Stage) -> None:
    """After a reload the next request of a connection is decided by the new gateway."""
    from attrs import evolve

    client, worker = await stage.exchange(GET)
    refusing = lambda *_, **__: Decision(action="refuse", endpoint="", pool="", status=404, reason="gone")  # noqa: E731
    stage.listener.use(evolve(stage.gateway, decide=refusing))
    worker.send(OK)
    await client.gets(OK)
    client.send(GET)
    assert (await client.head()).startswith(b"HTTP/1.1 404 ")


@staged(Stage, timeouts={"stall": 60.0, "linger": 2.0})
async def test_a_slow_client_of_what_the_kernel_has(stage: Stage) -> None:
    """A last answer that the kernel has taken altogether is not lost by a reset while the client still takes some."""
    size = 1 << 19
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size + b"x" * size
    client = await stage.client()
    client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    client.send(GET[:-2] + b"Connection: close\r\n\r\n")
    worker = await stage.worker.connection()
    await worker.head()
    client.pause()
    connection = await stage.inside(client)
    worker.send(answer)
    while connection.link.under_way == NOTHING or connection.link.unsent:
        await turns(1)
    for _ in range(4):
        await stage.pass_time(3.0)
        before = connection.link.under_way
        client.resume()
        while connection.link.under_way == before:
            assert not client.ended
            await turns(1)
        client.pause()
        await stage.pass_time(30.0)
    client.resume()
    await client.gets(answer)
    assert await client.end() == b""
