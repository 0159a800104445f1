"""Exchanges over real sockets: what goes through, in which order, and how they end."""

from __future__ import annotations

import pytest

from sidecar.exchange.replies import CORS
from sidecar.routing.decision import Decision

from .peers import FORWARDED, Peer, Stage, crash, forward
from .turns import staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
GET_UP = b"GET /a HTTP/1.1\r\nHost: x\r\n" + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def post(octets: bytes, *lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in (b"Host: x", *lines))
    return b"POST /p HTTP/1.1\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(octets) + octets


@staged(Stage)
async def test_identity(stage: Stage) -> None:
    """Request and response pass byte for byte, but for the lines of the hop."""
    client = await stage.client(b"PUT /%21//..?x? HTTP/1.1\r\nhOsT:x\r\nContent-Length: 3\r\nA:\t\xff \r\n\r\nabc")
    worker = await stage.worker.connection()
    await worker.gets(
        b"PUT /%21//..?x? HTTP/1.1\r\nhOsT:x\r\nContent-Length: 3\r\nA:\t\xff \r\n" + FORWARDED + b"\r\nabc"
    )
    answer = b"HTTP/1.1 299 Oh\xff yes\r\nb: 1\r\nB:  2\r\nContent-Length: 4\r\n\r\n\x00\r\n\xff"
    worker.send(answer)
    await client.gets(answer)


@staged(Stage)
async def test_keep_alive_on_both_sides(stage: Stage) -> None:
    """Requests that follow each other use one connection on each side."""
    client = await stage.client()
    for _ in range(3):
        client.send(GET)
        if not stage.worker.accepted:
            worker = await stage.worker.connection()
        await worker.gets(GET_UP)
        worker.send(OK)
        await client.gets(OK)
    assert len(stage.worker.accepted) == 1
    assert stage.counters.requests == 3
    assert stage.pool.leased == 0
    assert stage.pool.idle == 1


@staged(Stage)
async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    """Of pipelined requests one at a time is with a worker, in order (R-60, R-72)."""
    client = await stage.client(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(5)))
    worker = await stage.worker.connection()
    for n in range(5):
        await worker.gets(b"GET /%d HTTP/1.1\r\nHost: x\r\n" % n + FORWARDED + b"\r\n")
        await turns()
        assert not worker.received
        worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)
    for n in range(5):
        await client.gets(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)


@staged(Stage, limits={"pipelined": 1000})
async def test_reading_ahead_is_bounded(stage: Stage) -> None:
    """Beyond `limits.pipelined` a client with a request in progress is not read."""
    client, worker = await stage.exchange(GET)
    inside = await stage.inside(client)
    client.send(b"X" * 500)
    await turns()
    client.send(b"X" * 3_000_000)
    await turns(20)
    assert inside.reader.buffered <= 1000 + 65536
    before = inside.reader.buffered
    await turns(20)
    assert inside.reader.buffered == before
    worker.send(OK)
    await client.gets(OK)
    assert (await client.head()).startswith(b"HTTP/1.1 4")


@staged(Stage, limits={"pipelined": 1000})
async def test_reading_goes_on_after_a_hold(stage: Stage) -> None:
    """A client that was not read because it pipelined too much is read again when its answers are out."""
    many = 3000
    client = await stage.client()
    client.send(GET * many)
    worker = await stage.worker.connection()
    for _ in range(many):
        await worker.gets(GET_UP)
        worker.send(OK)
        await client.gets(OK)


@pytest.mark.parametrize(
    ("framing", "begun"), [(b"Content-Length: 10000000", b""), (b"Transfer-Encoding: chunked", b"989680\r\n")]
)
@staged(Stage)
async def test_early_answer_reaches_an_uploading_client(stage: Stage, framing: bytes, begun: bytes) -> None:
    """A final answer while the request is being sent goes through, and both connections end with it (R-54, R-68)."""
    client = await stage.client(b"POST /p HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    worker = await stage.worker.connection()
    await worker.head()
    worker.pause()
    client.send(begun + b"u" * 4_000_000)
    await turns(20)
    # So much that its end still is with the kernel when the worker has closed.
    client.pause()
    big = b"z" * 8_000_000
    worker.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8000000\r\n\r\n" + big)
    worker.close()
    await turns(100)
    client.resume()
    await client.gets(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8000000\r\nConnection: close\r\n\r\n" + big)
    assert await client.end() == b""
    assert stage.pool.idle == 0
    client.close()


@staged(Stage)
async def test_answer_to_an_incomplete_request_ends_both_connections(stage: Stage) -> None:
    """An answer before the request is complete is cut off from what the client still sends."""
    client, worker = await stage.exchange(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    worker.send(OK)
    await client.gets(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    client.send(b"defghij" + GET)
    assert await client.end() == b""
    await worker.until(lambda: worker.ended)
    assert worker.received == b"abc"
    assert stage.counters.requests == 1


@staged(Stage)
async def test_interim_responses(stage: Stage) -> None:
    """Interim responses pass; the final one follows on the same connection."""
    client, worker = await stage.exchange(
        b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    worker.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.gets(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(b"abc")
    await worker.gets(b"abc")
    worker.send(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK)
    await client.gets(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK)
    assert stage.pool.idle == 1


@staged(Stage)
async def test_expectation_goes_to_the_worker(stage: Stage) -> None:
    """Expect: 100-continue is the worker's to answer, be it with a refusal."""
    client = await stage.client(b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    worker = await stage.worker.connection()
    assert b"Expect: 100-continue\r\n" in await worker.head()
    worker.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    await client.gets(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert await client.end() == b""


@staged(Stage)
async def test_too_many_interim_responses(stage: Stage) -> None:
    """Interim responses without end become a 502."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 30)
    assert b"502 Bad Gateway" in await client.head()
    await worker.vanishes()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            GET,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Checksum: 1\r\nb:2\r\n\r\n",
        ),
    ],
)
@staged(Stage)
async def test_framings_that_leave_the_connection_alive(stage: Stage, request_: bytes, answer: bytes) -> None:
    """Answers without content and chunked ones with trailers pass unchanged and leave both connections usable."""
    client, worker = await stage.exchange(request_)
    worker.send(answer)
    await client.gets(answer)
    client.send(GET)
    await worker.gets(GET_UP)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage)
async def test_chunked_request_with_trailer(stage: Stage) -> None:
    """A chunked request passes in its chunks, with its trailer."""
    body = b"3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n"
    client, worker = await stage.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(body[:7])
    await worker.gets(b"3\r\nab")
    client.send(body[7:])
    await worker.gets(body[5:])
    worker.send(OK)
    await client.gets(OK)


@staged(Stage)
async def test_close_delimited_answer(stage: Stage) -> None:
    """An answer that ends with its connection ends the client's in good order."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
    worker.close()
    assert await client.end() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"


@staged(Stage)
async def test_worker_that_closes(stage: Stage) -> None:
    """Connection: close of a worker ends its connection only."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    await client.gets(OK)
    await worker.vanishes()
    client.send(GET)
    second = await stage.worker.connection()
    await second.gets(GET_UP)


@staged(Stage)
async def test_client_that_closes(stage: Stage) -> None:
    """Connection: close of a client ends its connection only, and what follows is not a request (R-73)."""
    client, worker = await stage.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
    worker.send(OK)
    await client.gets(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert await client.end() == b""
    assert stage.pool.idle == 1
    assert stage.counters.requests == 1


@staged(Stage)
async def test_http_1_0_client(stage: Stage) -> None:
    """HTTP/1.0 goes on as such; chunks and interim responses are kept from the client; nothing is reused."""
    client = await stage.client(b"GET /a HTTP/1.0\r\n\r\n")
    worker = await stage.worker.connection()
    await worker.gets(b"GET /a HTTP/1.0\r\n" + FORWARDED + b"\r\n")
    worker.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    worker.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
    assert await client.end() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab"
    await worker.vanishes()


@staged(Stage)
async def test_tunnel(stage: Stage) -> None:
    """After a 101 that matches, octets pass in both directions until one side ends."""
    up = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    client, worker = await stage.exchange(up + b"ahead")
    worker.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
    await client.gets(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
    await worker.gets(b"ahead")
    client.send(b"\x00\x01")
    await worker.gets(b"\x00\x01")
    worker.send(b"\x02")
    await client.gets(b"\x02")
    worker.close()
    assert await client.end() == b""


@staged(Stage)
async def test_tunnel_ended_by_the_client(stage: Stage) -> None:
    """When the client of a tunnel leaves, the worker's connection ends."""
    client, worker = await stage.exchange(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    worker.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    await client.head()
    client.half_close()
    await worker.vanishes()
    await client.end()


@staged(Stage, timeouts={"stall": 60, "tunnel": 600, "answer_body": 120})
async def test_tunnel_that_clogs_and_flows(stage: Stage) -> None:
    """A tunnel whose client was slow for a while is still one: it ends by its own deadline only."""
    client, worker = await stage.exchange(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    worker.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    await client.head()
    client.pause()
    inside = await stage.inside(client)
    size = 0
    while not inside.clogged:
        worker.send(b"d" * 65536)
        size += 65536
        await turns()
    client.resume()
    await client.until(lambda: len(client.received) == size)
    await turns()
    await stage.pass_time(300)
    client.send(b"still")
    await worker.gets(b"still")
    await stage.pass_time(599)
    assert not client.ended
    await stage.pass_time(2)
    await client.end("reset")
    await worker.vanishes()


@staged(Stage)
async def test_unasked_101(stage: Stage) -> None:
    """A 101 that nobody asked for is no answer."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert b" 502 " in await client.head()
    await worker.vanishes()


# Ends.


@staged(Stage)
async def test_half_close_in_a_head(stage: Stage) -> None:
    """A client that closes its side in the middle of a head is told."""
    client = await stage.client(b"GET / HT")
    client.half_close()
    assert (await client.end()).startswith(b"HTTP/1.1 400 ")
    await stage.empties()


@staged(Stage)
async def test_half_close_in_a_body(stage: Stage) -> None:
    """A client that closes its side in the middle of a body is told, and the worker's connection ends."""
    client, worker = await stage.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    client.half_close()
    assert (await client.end()).startswith(b"HTTP/1.1 400 ")
    await worker.vanishes()
    assert stage.counters.failed == 1


@staged(Stage)
async def test_half_close_behind_a_request(stage: Stage) -> None:
    """A client that closes its side behind a request has left: its worker is freed at once (R-70)."""
    client, worker = await stage.exchange(GET)
    client.half_close()
    await worker.vanishes()
    assert await client.end() == b""
    assert stage.counters.client_gone == 1


@staged(Stage)
async def test_half_close_behind_an_answer_that_began(stage: Stage) -> None:
    """An answer that has begun is sent to its end to a client that closed its side."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    await client.gets(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    client.half_close()
    await turns()
    worker.send(b"cd")
    assert await client.end() == b"cd"


@staged(Stage)
async def test_half_close_without_a_request(stage: Stage) -> None:
    """A client that closes an idle connection gets the same."""
    client = await stage.client(b"\r\n")
    client.half_close()
    await client.end()
    idle = await stage.client()
    idle.half_close()
    assert await idle.end() == b""


@staged(Stage)
async def test_client_abort_ends_the_worker_connection(stage: Stage) -> None:
    """When a client resets, its worker's connection ends at once (R-69)."""
    client, worker = await stage.exchange(GET)
    client.reset()
    await worker.vanishes()
    assert stage.counters.client_gone == 1
    assert stage.pool.leased == 0


@staged(Stage)
async def test_client_abort_while_uploading(stage: Stage) -> None:
    """An upload whose client vanishes ends at the worker as an abort, not as a complete request."""
    client, worker = await stage.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\nabc")
    client.reset()
    await worker.vanishes()
    assert bytes(worker.received) in (b"abc", b"")


@staged(Stage)
async def test_client_abort_while_it_waits_in_line(stage: Stage) -> None:
    """A client that leaves gives up its place in line."""
    await stage.worker.stop()
    client = await stage.client(GET)
    inside = await stage.inside(client)
    while inside.passage is None or inside.passage.ticket is None:
        await turns(1)
    client.reset()
    await stage.empties()
    assert stage.pool.waiting == 0


@staged(Stage)
async def test_client_that_vanishes_under_an_answer(stage: Stage) -> None:
    """A client that resets while it is sent an answer frees its worker, even when it was not being read."""
    client, worker = await stage.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc")
    worker.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.head()
    client.reset()
    while not worker.gone:
        worker.send(b"fa0\r\n" + b"more" * 1000 + b"\r\n")
        await turns(1)
    assert stage.pool.leased == 0


# Replays.


async def reused(stage: Stage) -> tuple[Peer, Peer]:
    client, worker = await stage.exchange(GET)
    worker.send(OK)
    await client.gets(OK)
    return client, worker


@staged(Stage)
async def test_stale_connection_is_replaced(stage: Stage) -> None:
    """A GET that a reused connection does not answer is sent once more, on another, with the same octets (R-66)."""
    client, worker = await reused(stage)
    client.send(GET)
    await worker.gets(GET_UP)
    worker.close()
    second = await stage.worker.connection()
    await second.gets(GET_UP)
    second.send(OK)
    await client.gets(OK)
    assert stage.counters.replayed == 1


@staged(Stage, limits={"replays_each": 2})
async def test_replays_have_an_end(stage: Stage) -> None:
    """A request is sent again so often and no oftener, then its client is told (R-65)."""
    client, worker = await stage.exchange(GET)
    for _ in range(2):
        worker.close()
        worker = await stage.worker.connection()
        await worker.gets(GET_UP)
    worker.close()
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert len(stage.worker.accepted) == 3
    assert stage.counters.replayed == 2
    assert stage.counters.replaying == 0
    assert stage.pool.cuts == 3


@staged(Stage)
async def test_post_is_not_replayed(stage: Stage) -> None:
    """A POST of which octets were sent is not sent again (R-62)."""
    client, worker = await reused(stage)
    client.send(post(b"abc"))
    await worker.head()
    worker.close()
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    assert await client.end() != b""
    assert len(stage.worker.accepted) == 1


@staged(Stage, decide=forward(replayable=True))
async def test_replayable_post(stage: Stage) -> None:
    """A POST that the endpoint table calls replayable is sent again, with its body."""
    client, worker = await stage.exchange(post(b"abc"))
    worker.close()
    second = await stage.worker.connection()
    await second.head()
    await second.gets(b"abc")
    second.send(OK)
    await client.gets(OK)


@staged(Stage)
async def test_a_large_body_is_not_replayed(stage: Stage) -> None:
    """What was not kept cannot be sent again, whatever the method."""
    client, worker = await stage.exchange(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
    client.send(b"a" * 100_000)
    await worker.until(lambda: len(worker.received) == 100_000)
    worker.close()
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")


@staged(Stage)
async def test_no_replay_after_an_octet(stage: Stage) -> None:
    """After the first octet of an answer nothing is sent again (R-64)."""
    client, worker = await stage.exchange(GET)
    worker.send(b"H")
    await turns()
    worker.close()
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    assert len(stage.worker.accepted) == 1


@staged(Stage)
async def test_dead_idle_connections_are_not_used(stage: Stage) -> None:
    """An idle connection on which something came, be it the end, is not used for the next request (R-53, R-58)."""
    client, worker = await reused(stage)
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await worker.vanishes()
    client.send(post(b"abc"))
    second = await stage.worker.connection()
    await second.head()
    second.send(OK)
    await client.gets(OK)
    second.close()
    await second.vanishes()
    client.send(post(b"def"))
    third = await stage.worker.connection()
    await third.head()
    third.send(OK)
    await client.gets(OK)


@staged(Stage)
async def test_excess_octets_never_reach_anybody(stage: Stage) -> None:
    """Octets behind an answer end its connection and are nobody's answer (R-53)."""
    client, worker = await stage.exchange(GET)
    worker.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await client.gets(OK)
    await worker.vanishes()
    client.send(GET)
    second = await stage.worker.connection()
    await second.head()
    second.send(OK)
    await client.gets(OK)
    assert client.received == b""


# Answers that are cut.


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n", b"\r\n"],
    ids=["length", "chunks", "close"],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@staged(Stage)
async def test_cut_answers_are_visibly_cut(stage: Stage, head: bytes, version: bytes) -> None:
    """A worker that dies in an answer makes it a reset for the client, in any framing and version."""
    client, worker = await stage.exchange(b"GET / HTTP/%b\r\nHost: x\r\n\r\n" % version)
    worker.send(b"HTTP/1.1 200 OK\r\n" + head + b"ab")
    await client.until(lambda: client.received.endswith(b"ab"))
    client.send(b"unread by the worker")
    if head == b"\r\n":
        # Only what the worker leaves unread makes its end visible where the end is the delimiter.
        (await stage.inside(client)).passage.upstream.link.send(b"unread")
        worker.pause()
        await turns()
    crash(worker)
    await client.end("reset")


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"A: x\r\n" * 201 + b"\r\n",
    ],
)
@staged(Stage)
async def test_invalid_answers(stage: Stage, answer: bytes) -> None:
    """What is no answer becomes a 502."""
    client, worker = await stage.exchange(GET)
    worker.send(answer)
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    await worker.vanishes()


@staged(Stage)
async def test_invalid_chunks_in_an_answer(stage: Stage) -> None:
    """An answer that stops being one is cut."""
    client, worker = await stage.exchange(GET)
    worker.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    await client.until(lambda: b"ab" in client.received)
    worker.send(b"nonsense\r\n")
    await client.end("reset")
    await worker.vanishes()


# Refusals.


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        (b"GET /" + b"a" * 20_000, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 15_950 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (post(b"")[:-5] + b"60000000\r\n\r\n", 413),
    ],
)
@staged(Stage)
async def test_refusals(stage: Stage, octets: bytes, status: int) -> None:
    """What is not served is answered in JSON, readable across origins, and closed so that it can be read."""
    client = await stage.client(octets)
    reply = await client.end()
    head, _, content = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in head
    assert b"\r\nContent-Length: %d\r\n" % len(content) in head
    assert content.startswith(b'{"errcode": "M_')
    assert not stage.worker.accepted
    client.send(b"x" * 100)
    assert not client.gone
    client.close()
    await client.vanishes()


@pytest.mark.parametrize("keeps", [True, False])
@staged(Stage)
async def test_refused_upload(stage: Stage, keeps: bool) -> None:
    """A client that goes on uploading can read the 413, unless it sends more than `limits.linger`."""
    client = await stage.client(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
    reply = await client.end()
    assert reply.startswith(b"HTTP/1.1 413 ")
    client.send(b"u" * (8_000_000 if keeps else 40_000_000))
    if keeps:
        client.close()
    await client.vanishes()
    await stage.empties()


@staged(Stage, limits={"request_body": 10})
async def test_chunks_beyond_the_limit(stage: Stage) -> None:
    """Chunks that announce more than the limit are refused when they do."""
    client, worker = await stage.exchange(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    )
    client.send(b"6\r\nfghijk\r\n")
    assert (await client.end()).startswith(b"HTTP/1.1 413 ")
    await worker.vanishes()


@staged(Stage)
async def test_invalid_body_with_a_worker(stage: Stage) -> None:
    """A body that stops being one is answered 400, and the worker never sees its end."""
    client, worker = await stage.exchange(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    )
    client.send(b"nonsense\r\n")
    assert (await client.end()).startswith(b"HTTP/1.1 400 ")
    await worker.vanishes()
    assert worker.received == b"5\r\nabcde\r\n"
    assert stage.pool.leased == 0


@staged(Stage)
async def test_invalid_request_behind_a_good_one(stage: Stage) -> None:
    """What follows a request and is none is refused after that request was answered."""
    client, worker = await stage.exchange(GET + b"nonsense\r\n\r\n" + GET)
    worker.send(OK)
    await client.gets(OK)
    assert (await client.end()).startswith(b"HTTP/1.1 400 ")
    assert stage.counters.requests == 1


def _authored(_method: bytes, target: bytes, *_: object, **__: object) -> Decision:
    if target == b"/refuse":
        return Decision(action="refuse", endpoint="", pool="", status=404, reason="Not here")
    if target == b"/respond":
        headers = (("Content-Type", "text/plain"),)
        return Decision(action="respond", endpoint="", pool="", status=200, headers=headers, body=b"hi")
    return Decision(action="redirect", endpoint="", pool="", status=302, headers=(("Location", "/x"),))


@staged(Stage, decide=_authored)
async def test_authored_answers(stage: Stage) -> None:
    """Refusals, responses and redirects of the routes leave the connection alive where the request is complete."""
    client = await stage.client(
        b"GET /refuse HTTP/1.1\r\nHost: x\r\n\r\nGET /respond HTTP/1.1\r\nHost: x\r\n\r\n"
        b"HEAD /respond HTTP/1.1\r\nHost: x\r\n\r\nGET /redirect HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert (await client.head()).startswith(b"HTTP/1.1 404 ")
    await client.gets(b'{"errcode": "M_UNRECOGNIZED", "error": "Not here"}')
    cors = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in CORS)
    respond = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%bContent-Length: 2\r\n\r\n" % cors
    await client.gets(respond + b"hi" + respond)
    await client.gets(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n%bContent-Length: 0\r\n\r\n" % cors)
    client.send(b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
    await client.gets(respond[:-2] + b"Connection: close\r\n\r\nhi")
    client.send(b"body")
    assert await client.end() == b""


@pytest.mark.parametrize(("line", "status"), [(b"Access-Control-Request-Method: GET", 204), (b"A: GET", 502)])
@staged(Stage)
async def test_a_preflight_does_not_fail_with_its_worker(stage: Stage, line: bytes, status: int) -> None:
    """What fails is the request itself, whose answer the page can then read."""
    client, worker = await stage.exchange(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % line)
    worker.send(b"nonsense\r\n\r\n")
    assert (await client.end()).startswith(b"HTTP/1.1 %d " % status)


@staged(Stage)
async def test_draining(stage: Stage) -> None:
    """A drain ends idle connections now, running ones with their exchange, new ones with their first."""
    client, worker = await stage.exchange(GET)
    idle = await stage.client()
    begun = await stage.client(b"GET /b")
    inside = [await stage.inside(peer) for peer in (client, idle, begun)]
    while not inside[2].reader.buffered:
        await turns(1)
    stage.gateway.draining = True
    for connection in inside:
        connection.drain()
    assert await idle.end() == b""
    assert not begun.ended
    worker.send(OK)
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    assert await client.end() == closing
    begun.send(b" HTTP/1.1\r\nHost: x\r\n\r\n")
    await worker.head()
    worker.send(OK)
    assert await begun.end() == closing
