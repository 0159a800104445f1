"""HTTP/2 from clients over real sockets: what reaches a worker, what comes back, and how it all ends."""

from __future__ import annotations

import ssl
from ipaddress import ip_network

import pytest
from attrs import evolve

from sidecar.config.schema import Limits
from sidecar.exchange.failures import Failure
from sidecar.http2.faults import ErrorCode
from sidecar.http2.frames import PREFACE
from sidecar.routing.decision import Decision

from .http2_peers import GET, PUT, Http2Client, Http2Stage
from .peers import FORWARDED, crash
from .secure_peers import Inside, SecureStage
from .turns import staged, turns

HEAD_UP = b" /a HTTP/1.1\r\nHost: x\r\n"
GET_UP = b"GET" + HEAD_UP + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = 4 << 20


@staged(Http2Stage)
async def test_an_exchange(stage: Http2Stage) -> None:
    """A worker sees one request of HTTP/1.1; the client gets the answer without what concerns that connection."""
    client = await stage.http2()
    stream = client.ask([*GET[:3], (b":path", b"/%2F//..?x"), (b"a", b"\xff"), (b"cookie", b"b=1"), (b"cookie", b"c")])
    worker = await stage.worker.connection()
    await worker.gets(b"GET /%2F//..?x HTTP/1.1\r\nHost: x\r\na: \xff\r\ncookie: b=1; c\r\n" + FORWARDED + b"\r\n")
    worker.send(b"HTTP/1.1 299 Oh\r\nB: 1\r\nb: 2\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n\x00\r\n")
    answer = await client.answer(stream)
    assert answer.fields == {b":status": b"299", b"b": b"2", b"content-length": b"3"}
    assert answer.content == b"\x00\r\n"
    assert answer.reset is None
    assert (stage.counters.requests, stage.counters.connections, stage.counters.connections_open) == (1, 1, 1)


@staged(Http2Stage)
async def test_requests_at_once(stage: Http2Stage) -> None:
    """One connection carries many; each has its worker's connection, and answers come in any order."""
    client = await stage.http2()
    streams = [client.ask() for _ in range(50)]
    workers = [await stage.worker.connection() for _ in streams]
    for number, worker in reversed(list(enumerate(workers))):
        await worker.gets(GET_UP)
        worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number)
    contents = {(await client.answer(stream)).content for stream in streams}
    assert len(contents) == 50
    (connection,) = stage.listener.connections
    assert not connection.busy
    assert stage.counters.connections_open == 1


@staged(Http2Stage)
async def test_bodies(stage: Http2Stage) -> None:
    """With a length as it is; without one in chunks, with trailers."""
    client = await stage.http2()
    client.ask([*PUT, (b"content-length", b"3")], b"abc")
    worker = await stage.worker.connection()
    await worker.gets(b"PUT" + HEAD_UP + b"content-length: 3\r\n" + FORWARDED + b"\r\nabc")
    stream = client.ask(PUT, b"ab", ended=False)
    worker = await stage.worker.connection()
    await worker.gets(b"PUT" + HEAD_UP + b"Transfer-Encoding: chunked\r\n" + FORWARDED + b"\r\n2\r\nab\r\n")
    client.frames.send_data(stream, b"c")
    client.frames.send_headers(stream, [(b"x-t", b"1")], end_stream=True)
    client.flush()
    await worker.gets(b"1\r\nc\r\n0\r\nx-t: 1\r\n\r\n")
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"


@staged(Http2Stage)
async def test_answers_without_content(stage: Http2Stage) -> None:
    """HEAD, 204 and 304 end with their head; interim answers come before."""
    client = await stage.http2()
    for method, octets in (
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    ):
        stream = client.ask([(b":method", method), *GET[1:]])
        worker = stage.worker.accepted[0] if stage.worker.accepted else await stage.worker.connection()
        await worker.head()
        worker.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + octets)
        answer = await client.answer(stream)
        assert answer.interim == [{b":status": b"103", b"link": b"</a>"}]
        assert answer.status == int(octets[9:12])
        assert not answer.content


@staged(Http2Stage)
async def test_framings_of_answers(stage: Http2Stage) -> None:
    """Chunks with trailers, and content until the worker's end; one that is cut is a reset."""
    client = await stage.http2()
    stream = client.ask()
    worker = await stage.worker.connection()
    await worker.gets(GET_UP)
    worker.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
    answer = await client.answer(stream)
    assert (answer.content, answer.trailers) == (b"abc", [(b"x-t", b"1")])
    stream = client.ask()
    await worker.gets(GET_UP)
    worker.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
    worker.close()
    assert (await client.answer(stream)).content == b"abc"
    stream = client.ask()
    worker = await stage.worker.connection()
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    await client.until(lambda: client.answers[stream].content == b"abc")
    crash(worker)
    assert (await client.answer(stream)).reset == ErrorCode.INTERNAL_ERROR
    assert not client.peer.ended


@staged(Http2Stage)
async def test_an_early_answer(stage: Http2Stage) -> None:
    """Before the end of the body: all of the answer, then the rest of the body is not wanted (RFC 9113 8.1)."""
    client = await stage.http2()
    stream = client.ask(PUT, b"abc", ended=False)
    worker = await stage.worker.connection()
    await worker.head()
    worker.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    answer = await client.answer(stream)
    await client.until(lambda: answer.reset is not None)
    assert (answer.status, answer.content, answer.ended, answer.reset) == (401, b"no", True, ErrorCode.NO_ERROR)
    await worker.vanishes()
    stream = client.ask()
    worker = await stage.worker.connection()
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"


@staged(Http2Stage)
async def test_a_cancelled_request(stage: Http2Stage) -> None:
    """Its worker's request ends at once, the others go on, and it is counted as abandoned."""
    client = await stage.http2()
    first, second = client.ask(), client.ask()
    workers = [await stage.worker.connection() for _ in range(2)]
    client.frames.reset_stream(first, ErrorCode.CANCEL)
    client.flush()
    await workers[0].vanishes()
    assert stage.counters.client_gone == 1
    workers[1].send(OK)
    assert (await client.answer(second)).content == b"ok"


@staged(Http2Stage)
async def test_a_client_that_leaves(stage: Http2Stage) -> None:
    """All of its requests end, in every way of leaving."""
    for leave in ("close", "reset", "half_close"):
        client = await stage.http2()
        for _ in range(3):
            client.ask()
        workers = [await stage.worker.connection() for _ in range(3)]
        getattr(client.peer, leave)()
        for worker in workers:
            await worker.vanishes()
        await stage.empties()
    assert (stage.counters.client_gone, stage.counters.connections_open) == (9, 0)


@staged(Http2Stage)
async def test_a_client_that_takes_slowly(stage: Http2Stage) -> None:
    """The worker is not read any more when the stream's window is closed; nothing is lost when it opens."""
    client = await stage.http2(taking=False)
    stream = client.ask()
    worker = await stage.worker.connection()
    body = bytes(range(256)) * (LARGE // 256)
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + body)
    answer = client.answers[stream]
    await client.until(lambda: len(answer.content) == 65535)
    await turns(30)
    (arrival,) = stage.listener.connections
    (session,) = arrival._spoken._sessions.values()  # type: ignore[attr-defined]
    assert 0 < session.link.unsent <= 128 * 1024
    other = client.ask()
    assert session.clogged
    client.taking = True
    client.frames.increment_flow_control_window(1 << 20)
    client.frames.increment_flow_control_window(LARGE, stream)
    client.flush()
    await client.until(lambda: answer.ended)
    assert answer.content == body
    second = await stage.worker.connection()
    second.send(OK)
    assert (await client.answer(other)).content == b"ok"


@staged(Http2Stage, limits={"http2_window": 65535, "http2_connection_window": 131072})
async def test_a_worker_that_takes_slowly(stage: Http2Stage) -> None:
    """The client gets no more window than what the worker has taken; other streams have theirs."""
    client = await stage.http2()
    stream = client.ask([*PUT, (b"content-length", b"%d" % LARGE)], b"", ended=False)
    worker = await stage.worker.connection()
    await worker.head()
    worker.pause()
    sent = 0
    await turns(5)
    client.take()
    while room := min(client.frames.local_flow_control_window(stream), LARGE - sent):
        client.more(stream, bytes(room))
        sent += room
        await turns(10)
        client.take()
    # What the window is, what a turn takes, and what the kernel has: far from all.
    assert sent < LARGE // 2
    other = client.ask(PUT, b"abc")
    second = await stage.worker.connection()
    await second.head()
    second.send(OK)
    assert (await client.answer(other)).content == b"ok"
    worker.resume()
    while sent < LARGE:
        room = min(client.frames.local_flow_control_window(stream), LARGE - sent)
        if room:
            client.more(stream, bytes(room))
            sent += room
        else:
            await client.peer.until(lambda: client.peer.received)
            client.take()
    await worker.gets(bytes(LARGE))


@staged(Http2Stage, timeouts={"stall": 10, "idle": 30})
async def test_a_client_that_takes_nothing(stage: Http2Stage) -> None:
    """Its stream is reset in the time of any client that stalls."""
    client = await stage.http2(taking=False)
    stream = client.ask()
    worker = await stage.worker.connection()
    worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + bytes(LARGE))
    await client.until(lambda: len(client.answers[stream].content) == 65535)
    await turns(20)
    # Twice: at first it took what its window was.
    await stage.pass_time(21)
    assert (await client.answer(stream)).reset == ErrorCode.INTERNAL_ERROR
    await worker.vanishes()


@staged(Http2Stage)
async def test_refused_for_itself(stage: Http2Stage) -> None:
    """A malformed request is answered 400 as any other; the next one on the connection is served."""
    client = await stage.http2()
    for fields in (
        [*GET, (b"connection", b"close")],
        [*GET, (b"X-Upper", b"1")],
        [*GET, (b"x", b"a\r\nevil: 1")],
        [*GET, (b"host", b"y")],
        [*GET[:3], (b":path", b"/a b")],
    ):
        answer = await client.answer(client.ask(fields))
        assert answer.status == 400, fields
        assert b"M_UNKNOWN" in answer.content
        assert answer.fields[b"access-control-allow-origin"] == b"*"
    stream = client.ask()
    worker = await stage.worker.connection()
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"
    assert stage.counters.refused == 5


@staged(Http2Stage, limits={"request_head": 4096, "request_body": 1000})
async def test_limits_of_requests(stage: Http2Stage) -> None:
    """Are those of HTTP/1.1: a long target, a long head, a body beyond its limit, with and without a length."""
    client = await stage.http2()
    assert (await client.answer(client.ask([*GET, (b"x", b"y" * 5000)]))).status == 431
    assert (await client.answer(client.ask([*GET[:3], (b":path", b"/" + b"a" * 13000)]))).status in (414, 431)
    stream = client.ask([*PUT, (b"content-length", b"1001")], bytes(1001))
    assert (await client.answer(stream)).status == 413
    stream = client.ask(PUT, bytes(1001), ended=False)
    answer = await client.answer(stream)
    await client.until(lambda: answer.reset is not None)
    assert (answer.status, answer.reset) == (413, ErrorCode.NO_ERROR)


@staged(Http2Stage, decide=lambda *_, **__: Decision(action="refuse", endpoint="any", pool="", status=403, reason="no"))
async def test_own_replies(stage: Http2Stage) -> None:
    """Come as on any connection, and it lives on."""
    client = await stage.http2()
    for _ in range(2):
        answer = await client.answer(client.ask())
        assert (answer.status, b"connection" in answer.fields) == (403, False)


@staged(Http2Stage, away=("main",), timeouts={"wait": 5})
async def test_waiting(stage: Http2Stage) -> None:
    """A request waits for its worker, and is told when that takes too long."""
    client = await stage.http2()
    stream = client.ask()
    await stage.pass_time(6)
    answer = await client.answer(stream)
    assert (answer.status, b"retry-after" in answer.fields) == (503, True)


@staged(Http2Stage, away=("main",), limits={"waiting_bytes": 1000})
async def test_a_body_that_waits(stage: Http2Stage) -> None:
    """While its request is in line no more of it is taken than may wait; then all of it goes on, in order."""
    client = await stage.http2()
    body = bytes(range(256)) * 800
    stream = client.ask([*PUT, (b"content-length", b"%d" % len(body))], b"", ended=False)
    client.more(stream, body[:60_000])
    await turns(10)
    (arrival,) = stage.listener.connections
    (session,) = arrival._spoken._sessions.values()  # type: ignore[attr-defined]
    assert session.link.paused
    stage.worker.start()
    await stage.pass_time(5)
    worker = await stage.worker.connection()
    await worker.head()
    client.take()
    sent = 60_000
    while sent < len(body):
        room = min(client.frames.local_flow_control_window(stream), len(body) - sent)
        client.more(stream, body[sent : sent + room], ended=sent + room == len(body))
        sent += room
        await turns(2)
        client.take()
    await worker.gets(body)
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"


@staged(Http2Stage)
async def test_a_stop(stage: Http2Stage) -> None:
    """The client is told; what it has asked and still asks is answered, and then the connection ends in good order."""
    client = await stage.http2()
    first = client.ask()
    worker = await stage.worker.connection()
    (connection,) = stage.listener.connections
    stage.gateway.draining = True
    connection.drain()
    await turns()
    second = client.ask()
    assert await client.farewell() == ErrorCode.NO_ERROR
    assert client.farewells[-1].last_stream_id == 2**31 - 1
    other = await stage.worker.connection()
    worker.send(OK)
    other.send(OK)
    for frame in (first, second):
        assert frame
    await client.peer.until(lambda: client.peer.ended)
    octets = bytes(client.peer.received)
    assert octets.count(b"ok") == 2
    assert octets.endswith(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + second.to_bytes(4, "big") + bytes(4))
    client.peer.close()
    await stage.empties()


@staged(Http2Stage)
async def test_a_stop_without_requests(stage: Http2Stage) -> None:
    """The connection ends at once, be it before anybody knew what is spoken."""
    client = await stage.http2()
    silent = await stage.client()
    await client.until(lambda: client.frames.remote_settings.max_concurrent_streams == 100)
    while len(stage.listener.connections) < 2:
        await turns(1)
    for connection in tuple(stage.listener.connections):
        connection.drain()
    assert await client.farewell() == ErrorCode.NO_ERROR
    client.peer.close()
    await silent.end()
    silent.close()
    await stage.empties()


@staged(Http2Stage)
async def test_a_client_that_says_goodbye(stage: Http2Stage) -> None:
    """Its GOAWAY ends nothing that it has asked (RFC 9113 6.8)."""
    client = await stage.http2()
    client.ask()
    worker = await stage.worker.connection()
    client.peer.send(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8))
    await turns(10)
    worker.send(OK)
    octets = await client.peer.end()
    assert b"ok" in octets
    client.peer.close()
    await stage.empties()


@staged(Http2Stage, timeouts={"idle": 20, "head": 10, "linger": 2})
async def test_deadlines(stage: Http2Stage) -> None:
    """Of a connection without a request, of one whose fields do not all come, of one that says nothing."""
    client = await stage.http2()
    stream = client.ask()
    worker = await stage.worker.connection()
    await stage.pass_time(30)
    worker.send(OK)
    await client.answer(stream)
    await stage.pass_time(19)
    client.frames.ping(bytes(8))
    client.flush()
    await stage.pass_time(2)
    assert await client.farewell() == ErrorCode.NO_ERROR
    client.peer.close()
    slow = await stage.http2()
    slow.peer.send(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82")
    await stage.pass_time(11)
    assert await slow.farewell() == ErrorCode.NO_ERROR
    await stage.pass_time(3)
    await stage.empties()
    silent, slower = await stage.client(), await stage.client(b"PRI ")
    await stage.pass_time(11)
    await slower.end("reset")
    await stage.pass_time(10)
    await silent.end("reset")
    await stage.empties()


@staged(Http2Stage)
async def test_what_is_spoken(stage: Http2Stage) -> None:
    """HTTP/1.1 goes on as ever on the same port; the preface may come octet by octet."""
    client = await stage.client(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    worker = await stage.worker.connection()
    await worker.gets(b"GET" + HEAD_UP + FORWARDED + b"\r\n")
    worker.send(OK)
    await client.gets(OK)
    almost = await stage.client(b"PRI /a HTTP/1.1\r\nHost: x\r\n\r\n")
    await worker.gets(b"PRI" + HEAD_UP + FORWARDED + b"\r\n")
    worker.send(OK)
    await almost.gets(OK)
    peer = await stage.client()
    for octet in PREFACE:
        peer.send(bytes((octet,)))
        await turns(1)
    peer.send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    await peer.until(lambda: b"\x00\x00\x00\x04\x01" in peer.received)
    other = await stage.client(b"P")
    other.half_close()
    await other.end()


@staged(Http2Stage, limits={"connections_per_address": 1}, trust="10.0.0.0/8")
async def test_too_many_connections_of_one_address(stage: Http2Stage) -> None:
    """Connections are counted, not requests; one too many is told so."""
    client = await stage.http2()
    streams = [client.ask() for _ in range(3)]
    for _ in streams:
        (await stage.worker.connection()).send(OK)
    for stream in streams:
        assert (await client.answer(stream)).status == 200
    second = await stage.client(PREFACE)
    assert b" 503 " in await second.end()
    assert stage.counters.connections_refused == 1


@staged(Http2Stage)
async def test_a_reload(stage: Http2Stage) -> None:
    """The next request works with what is in force then."""
    client = await stage.http2()
    worker = None
    for body in (1000, 3):
        stage.listener.use(evolve(stage.gateway, limits=Limits(request_body=body)))
        stream = client.ask([*PUT, (b"content-length", b"4")], b"abcd")
        if worker is None:
            worker = await stage.worker.connection()
            await worker.head()
            worker.send(OK)
        assert (await client.answer(stream)).status == (200 if body > 4 else 413)


@staged(Http2Stage)
async def test_what_is_noted(stage: Http2Stage) -> None:
    """Every request once, with the client's address."""
    stage.gateway.observed = True
    client = await stage.http2()
    first, second = client.ask(), client.ask()
    (await stage.worker.connection()).send(OK)
    await client.answer(first)
    client.frames.reset_stream(second, ErrorCode.CANCEL)
    client.flush()
    await client.answer(client.ask([*GET, (b"te", b"x")]))
    assert {(record.client, record.status, record.ending) for record in stage.gateway.notes.records} == {
        ("127.0.0.1", 200, "done"),
        ("127.0.0.1", 0, Failure.CLIENT_GONE.ending),
        ("127.0.0.1", 400, "malformed"),
    }


# Inside TLS.


async def inside(stage: SecureStage, *protocols: str) -> Inside:
    stage.context.set_alpn_protocols(protocols)
    return await stage.secure()


class InsidePeer:
    """The inside of a TLS connection, for `Http2Client`."""

    def __init__(self, inner: Inside) -> None:
        self.inner = inner
        self.received = bytearray()

    @property
    def ended(self) -> str:
        return self.inner.peer.ended

    def send(self, octets: bytes) -> None:
        self.inner.send(octets)

    async def until(self, condition: object) -> None:
        self.received += await self.inner.some()


@staged(SecureStage, before="http2:")
async def test_what_is_agreed_on(stage: SecureStage) -> None:
    """ALPN decides: h2 where a client offers it, else HTTP/1.1; who offers neither is told so by TLS."""
    inner = await inside(stage, "http/1.1", "h2")
    assert inner.tls.selected_alpn_protocol() == "h2"
    client = Http2Client(InsidePeer(inner))
    stream = client.ask()
    worker = await stage.worker.connection()
    await worker.gets(b"GET" + HEAD_UP + FORWARDED + b"X-Forwarded-Proto: https\r\n\r\n")
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"
    older = await inside(stage, "http/1.1")
    older.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    await worker.head()
    worker.send(OK)
    await older.gets(OK)
    with pytest.raises(ssl.SSLError):
        await inside(stage, "h3")


@staged(SecureStage, before="http2:")
async def test_prior_knowledge_is_none_inside_tls(stage: SecureStage) -> None:
    """Who has agreed on HTTP/1.1 and begins with the preface of HTTP/2 is refused (RFC 9113 3.2)."""
    inner = await inside(stage, "http/1.1")
    inner.send(PREFACE)
    assert (await inner.head()).startswith(b"HTTP/1.1 505")


@staged(SecureStage)
async def test_not_without_being_asked(stage: SecureStage) -> None:
    """A listener without `http2:` speaks HTTP/1.1, as it always did."""
    inner = await inside(stage, "h2", "http/1.1")
    assert inner.tls.selected_alpn_protocol() == "http/1.1"


@staged(SecureStage, before="http2:", limits={"connections_per_address": 1}, trust="10.0.0.0/8")
async def test_too_many_inside_tls(stage: SecureStage) -> None:
    """One connection too many is told so in what it speaks."""
    await inside(stage, "h2")
    client = Http2Client(InsidePeer(await inside(stage, "h2")))
    assert await client.farewell() == ErrorCode.ENHANCE_YOUR_CALM


@staged(SecureStage, before="http2:haproxy:")
async def test_who_a_balancer_says_it_is(stage: SecureStage) -> None:
    """A PROXY header comes before TLS and HTTP/2, and each request is told to come from whom it names."""
    stage.believe(trust=[], proto=None, announcing=[ip_network("127.0.0.2")])
    stage.context.set_alpn_protocols(["h2"])
    peer = await stage.client(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 443\r\n", source="127.0.0.2")
    client = Http2Client(InsidePeer(await Inside(peer, stage.context).shake()))
    stream = client.ask()
    worker = await stage.worker.connection()
    assert b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n" in await worker.head()
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"
