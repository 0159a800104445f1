"""What a worker does not know and main does: the request is repeated there, counted, and told once."""

from __future__ import annotations

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from .peers import FORWARDED, Peer, Stage, forward
from .turns import staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOLD = b'{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}'
UNKNOWN = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(TOLD), TOLD)
CHUNKED = b"HTTP/1.1 405 Method Not Allowed\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    len(TOLD),
    TOLD,
)
NOT_FOUND = UNKNOWN.replace(b"M_UNRECOGNIZED", b"M_NOT_FOUND___")
MISROUTED = forward("sync1", main_knows=True)
SETTING = {"workers": ("main", "sync1"), "decide": MISROUTED}


def request(method: bytes = b"POST", body: bytes = b"abc") -> bytes:
    return b"%b /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (method, len(body), body)


async def asked(stage: Stage, octets: bytes) -> tuple[Peer, Peer]:
    """A client that sent `octets`, and the worker that got their head."""
    client = await stage.client(octets)
    worker = await stage.workers["sync1"].connection()
    await worker.head()
    return client, worker


@pytest.mark.parametrize("answer", [UNKNOWN, CHUNKED])
@staged(Stage, **SETTING)
async def test_repeated_on_main(stage: Stage, answer: bytes) -> None:
    """Nothing was done, so even a POST goes on to main as it is; the client gets main's answer and nothing else."""
    said: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "sidecar.selfcheck":
            said.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(note)
    try:
        client, worker = await asked(stage, request())
        for count in range(3):
            await worker.gets(b"abc")
            worker.send(answer[:30])
            await turns()
            worker.send(answer[30:])
            if not count:
                main = await stage.workers["main"].connection()
            assert (await main.head()).endswith(FORWARDED + b"\r\n")
            await main.gets(b"abc")
            main.send(OK)
            await client.gets(OK)
            client.send(request())
            await worker.head()
    finally:
        globalLogPublisher.removeObserver(note)
    assert not client.received
    assert stage.counters.misrouted == 3
    assert stage.counters.misroutes == {("any", "sync1"): 3}
    assert len(said) == 1
    assert said[0].startswith("worker sync1 does not know the endpoint any, which main serves")
    assert len(stage.workers["sync1"].accepted) == 1, "the worker's connection is good"


@staged(Stage, **SETTING)
async def test_what_nobody_knows(stage: Stage) -> None:
    """If main does not know it either the client is told so, and nobody was sent astray."""
    client, worker = await asked(stage, request())
    worker.send(UNKNOWN)
    main = await stage.workers["main"].connection()
    await main.head()
    main.send(CHUNKED)
    await client.gets(CHUNKED)
    assert stage.counters.misrouted == 0
    client.send(request())
    await worker.until(lambda: worker.received.count(b"POST") == 1)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, **SETTING)
async def test_main_knows_it_and_finds_nothing(stage: Stage) -> None:
    """Main's own 404 is an answer like any other."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN)
    main = await stage.workers["main"].connection()
    await main.head()
    main.send(NOT_FOUND)
    await client.gets(NOT_FOUND)
    assert stage.counters.misrouted == 1


@staged(Stage, **SETTING)
async def test_a_404_of_a_worker_that_knows(stage: Stage) -> None:
    """A 404 with another errcode is passed on as it is, at whatever pace it comes, and so is one without end."""
    client, worker = await asked(stage, GET)
    for octet in NOT_FOUND:
        worker.send(bytes([octet]))
        await turns(1)
    await client.gets(NOT_FOUND)
    client.send(GET)
    await worker.head()
    long = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9000\r\n\r\n" + b"a" * 3000
    worker.send(long)
    await client.gets(long)
    worker.send(b"a" * 6000)
    await client.gets(b"a" * 6000)
    assert stage.counters.misrouted == 0


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 59\r\n\r\n"),
        (GET, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    ],
)
@staged(Stage, **SETTING)
async def test_answers_that_say_nothing(stage: Stage, octets: bytes, answer: bytes) -> None:
    """Where there is no content nothing can be told from it."""
    client, worker = await asked(stage, octets)
    worker.send(answer)
    await client.gets(answer)


@staged(Stage, workers=("main", "sync1"), decide=forward("sync1"))
async def test_what_main_does_not_serve(stage: Stage) -> None:
    """A writer's 404 is not main's business."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN)
    await client.gets(UNKNOWN)
    assert stage.counters.misrouted == 0


@staged(Stage, **SETTING, limits={"replay_body": 10})
async def test_a_request_that_is_not_whole_any_more(stage: Stage) -> None:
    """What was not kept cannot be repeated; it is counted, and the client gets the worker's answer."""
    client, worker = await asked(stage, request(body=b"a" * 100))
    await worker.gets(b"a" * 100)
    worker.send(UNKNOWN)
    await client.gets(UNKNOWN)
    assert stage.counters.misroutes == {("any", "sync1"): 1}


@staged(Stage, **SETTING, away=("main",))
async def test_main_is_away(stage: Stage) -> None:
    """Then the worker's answer has to do."""
    stage.pools["main"].health.unreachable(OSError("gone"))
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN)
    await client.gets(UNKNOWN)


@staged(Stage, **SETTING)
async def test_a_worker_that_breaks_off_in_doubt(stage: Stage) -> None:
    """An answer that was held back and is not complete is none: the client is told."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN[:60])
    await turns()
    worker.close()
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")


@staged(Stage, **SETTING, timeouts={"answer_body": 5})
async def test_a_worker_that_stalls_in_doubt(stage: Stage) -> None:
    """And one that does not come to an end is not waited for longer than for any other answer."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN[:60])
    await stage.pass_time(5.5)
    assert (await client.head()).startswith(b"HTTP/1.1 504 ")


@staged(Stage, **SETTING)
async def test_a_worker_that_closes_behind_it(stage: Stage) -> None:
    """The request is repeated all the same, and the connection is not used again."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    main = await stage.workers["main"].connection()
    await main.head()
    main.send(OK)
    await client.gets(OK)
    await worker.vanishes()
