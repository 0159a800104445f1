"""What a worker does not know and main does: the request is repeated there, counted, and told once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogEvent

from sidecar.routing.decision import Decision

from .peers import FORWARDED, Peer, Stage, forward
from .turns import observed, staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOLD = b'{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}'
SYNAPSE = b"Server: Synapse/1.163.2\r\n"
UNKNOWN = b"HTTP/1.1 404 Not Found\r\n%bContent-Length: %d\r\n\r\n%b" % (SYNAPSE, len(TOLD), TOLD)
CHUNKED = b"HTTP/1.1 405 Method Not Allowed\r\n%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    SYNAPSE,
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
    """No worker of this release has it: nothing was done, and even a POST goes on to main as it is."""
    said: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "sidecar.selfcheck":
            said.append(str(event["log_format"]).format(**event))

    with observed(note):
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


@staged(Stage, workers=("main", "sync1"), decide=forward("sync1"))
async def test_an_endpoint_that_main_does_not_serve(stage: Stage) -> None:
    """The worker's word is the last: main is not asked."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN)
    await client.gets(UNKNOWN)
    assert not stage.workers["main"].accepted


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
    worker.send(UNKNOWN[:-9])
    await turns()
    worker.close()
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")


@staged(Stage, **SETTING, timeouts={"answer_body": 5})
async def test_a_worker_that_stalls_in_doubt(stage: Stage) -> None:
    """And one that does not come to an end is not waited for longer than for any other answer."""
    client, worker = await asked(stage, GET)
    worker.send(UNKNOWN[:-9])
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


# What another server says, and a worker passes on.

PUBLIC_ROOMS = b"POST /_matrix/client/v3/publicRooms?server=x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def asks(endpoint: str, **others: Any) -> dict[str, Any]:
    """A stage on which every request is one for this endpoint."""
    decision = Decision(
        action="forward",
        endpoint=endpoint,
        pool="client",
        candidates=("sync1",),
        main_knows=True,
        **others,
    )
    return {"workers": ("main", "sync1"), "decide": lambda *_, **__: decision}


@pytest.mark.parametrize("octets", [PUBLIC_ROOMS, PUBLIC_ROOMS.replace(b"POST", b"GET")])
@staged(Stage, **asks("public_room_list"))
async def test_what_another_server_does_not_know(stage: Stage, octets: bytes) -> None:
    """Workers of this release have the endpoint: it is the other server that says so, and nobody is asked again."""
    client, worker = await asked(stage, octets)
    worker.send(UNKNOWN)
    await client.gets(UNKNOWN)
    assert not stage.workers["main"].accepted
    assert stage.counters.misrouted == 0


@pytest.mark.parametrize("server", [b"", b"Server: nginx\r\n", b"Server: Synapse/9.1.0\r\n", b"Server: Synapse/x\r\n"])
@staged(Stage, **asks("public_room_list"))
async def test_of_an_unknown_release(stage: Stage, server: bytes) -> None:
    """What a worker mounts is not known: a POST may have been acted on, and is answered as it was; a GET goes on."""
    answer = UNKNOWN.replace(SYNAPSE, server)
    client, worker = await asked(stage, PUBLIC_ROOMS)
    worker.send(answer)
    await client.gets(answer)
    assert not stage.workers["main"].accepted
    client.send(PUBLIC_ROOMS.replace(b"POST", b"GET"))
    await worker.until(lambda: worker.received.count(b"publicRooms") == 1)
    worker.send(answer)
    main = await stage.workers["main"].connection()
    await main.head()
    main.send(OK)
    await client.gets(OK)


@staged(Stage, **asks("public_room_list", strangers=("sync1",)))
async def test_a_worker_whose_listener_lacks_it(stage: Stage) -> None:
    """Where a route sends what the worker's listener does not serve, even a POST is repeated."""
    client, worker = await asked(stage, PUBLIC_ROOMS)
    worker.send(UNKNOWN)
    main = await stage.workers["main"].connection()
    await main.head()
    main.send(OK)
    await client.gets(OK)


@pytest.mark.parametrize(
    "content",
    [
        b'{"errcode":"M_UNRECOGNIZED","error":"No such method"}',
        b'{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request","extra":1}',
        b'{"error":"M_UNRECOGNIZED"}',
    ],
)
@staged(Stage, **SETTING)
async def test_other_words(stage: Stage, content: bytes) -> None:
    """Only Synapse's own words are taken for its own."""
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
    client, worker = await asked(stage, GET)
    worker.send(answer)
    await client.gets(answer)
    assert not stage.workers["main"].accepted
