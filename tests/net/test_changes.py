"""Exchanges of which something is changed on their way, over real sockets: compressed answers, and other paths."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any

import pytest

from sidecar.config.compression import Compress
from sidecar.exchange.changing import Changes
from sidecar.records.notes import Notes

from .peers import FORWARDED, Peer, Stage, forward
from .test_short_way import Everything
from .turns import staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CODED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TEXT = b'{"rooms": {"join": {}}, "next_batch": "s1"}' * 9
BIG = b"".join(b'{"event_id": "$%d", "type": "m.room.member"},' % number for number in range(20_000))


def compressing(**others: Any) -> Any:
    return forward("main", changes=Changes(compress=Compress()), **others)


class Compressing(Stage):
    """A gateway that compresses."""

    def __init__(self, *arguments: Any, **others: Any) -> None:
        super().__init__(*arguments, **{"decide": compressing(), **others})
        self.gateway.changes = True
        self.gateway.ask(None)
        self.log = Everything()
        deadlines = self.gateway.deadlines
        self.gateway.notes = Notes(deadlines.now, deadlines.set, log=self.log)  # type: ignore[arg-type]
        self.gateway.observed = True

    def coding(self) -> tuple[int, int]:
        return self.counters.compressed, self.counters.compressing


async def chunk(client: Peer) -> bytes:
    """The next chunk that the client gets."""
    await client.until(lambda: b"\r\n" in client.received)
    line, _, _ = bytes(client.received).partition(b"\r\n")
    size = int(line, 16)
    await client.until(lambda: len(client.received) >= len(line) + size + 4)
    data = bytes(client.received[len(line) + 2 : len(line) + 2 + size])
    del client.received[: len(line) + size + 4]
    return data


async def content(client: Peer) -> bytes:
    """All that a compressed answer has, up to its last chunk."""
    octets = b""
    while data := await chunk(client):
        octets += data
    return gzip.decompress(octets)


@pytest.mark.parametrize("framing", [b"Content-Length: %d", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("body", [TEXT * 4, BIG])
@staged(Compressing)
async def test_an_answer_is_compressed(stage: Compressing, framing: bytes, body: bytes) -> None:
    """The same content in another coding; both connections go on, and the log tells both sizes."""
    chunked = framing.startswith(b"Transfer")
    head = JSON + (framing if chunked else framing % len(body)) + b"\r\n\r\n"
    octets = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    client, worker = await stage.exchange(GET)
    for _ in range(2):
        worker.send(head + octets)
        await client.gets(CODED)
        assert await content(client) == body
        client.send(GET)
        await worker.head()
    assert len(stage.worker.accepted) == 1
    assert stage.coding() == (2, 0)
    assert stage.counters.compressed_from == 2 * len(body)
    assert stage.counters.compressed_to < len(body)
    stage.gateway.notes.tell()
    first = stage.log.records[0]
    assert first.uncompressed == len(body)
    assert first.bytes_down < len(body) / 2


@staged(Compressing)
async def test_what_comes_goes_on_at_once(stage: Compressing) -> None:
    """Nothing of a streamed answer is held back until more comes."""
    client, worker = await stage.exchange(GET)
    worker.send(JSON + b"Transfer-Encoding: chunked\r\n\r\n")
    await client.gets(CODED)
    undo = zlib.decompressobj(31)
    for part in (b"first", b"second", b"third"):
        worker.send(b"%x\r\n%b\r\n" % (len(part), part))
        assert undo.decompress(await chunk(client)) == part
    worker.send(b"0\r\n\r\n")
    assert undo.decompress(await chunk(client)) == b""
    assert undo.eof
    await client.gets(b"0\r\n\r\n")


@staged(Compressing)
async def test_who_does_not_ask_gets_it_as_it_came(stage: Compressing) -> None:
    """But for Vary; a small answer, and one of another type, as it came to the last octet, and large ones spliced."""
    client, worker = await stage.exchange(b"GET /a HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br\r\n\r\n")
    worker.send(JSON + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG)
    await client.gets(JSON + b"Content-Length: %d\r\nVary: Accept-Encoding\r\n\r\n" % len(BIG) + BIG)
    for answer in (
        JSON + b"Content-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG,
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
    ):
        client.send(GET)
        await worker.head()
        worker.send(answer)
        await client.gets(answer)
    assert stage.coding() == (0, 0)


@staged(Compressing, limits={"compressing": 1})
async def test_memory_is_bounded(stage: Compressing) -> None:
    """Beyond `limits.compressing` answers go as they are, until one of those before is over."""
    first, slow = await stage.exchange(GET)
    slow.send(JSON + b"Transfer-Encoding: chunked\r\n\r\n")
    await first.gets(CODED)
    second, worker = await stage.exchange(GET)
    worker.send(JSON + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG)
    await second.gets(JSON + b"Content-Length: %d\r\nVary: Accept-Encoding\r\n\r\n" % len(BIG) + BIG)
    assert stage.coding() == (1, 1)
    slow.send(b"0\r\n\r\n")
    assert await content(first) == b""
    second.send(GET)
    await slow.head()
    slow.send(JSON + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG)
    await second.gets(CODED)
    assert await content(second) == BIG
    assert stage.coding() == (2, 0)


@pytest.mark.parametrize("who", ["client", "worker"])
@staged(Compressing)
async def test_an_answer_that_is_cut(stage: Compressing, who: str) -> None:
    """It does not look whole, nobody's memory stays taken, and what has gone is told."""
    client, worker = await stage.exchange(GET)
    worker.send(JSON + b"Content-Length: 1000000\r\n\r\n" + BIG[:1000])
    await client.gets(CODED)
    await chunk(client)
    assert stage.coding() == (1, 1)
    (client if who == "client" else worker).reset()
    await stage.empties()
    assert stage.coding() == (1, 0)
    assert stage.counters.compressed_from == 1000
    assert b"0\r\n\r\n" not in client.received


@staged(Compressing)
async def test_a_slow_client_slows_its_worker(stage: Compressing) -> None:
    """Of an answer that hardly becomes smaller no more is read than the client takes."""
    noise = random.Random(1).randbytes(10_000_000)
    client, worker = await stage.exchange(GET)
    client.pause()
    worker.send(JSON + b"Content-Length: %d\r\n\r\n" % len(noise) + noise)
    inside = await stage.inside(client)
    while not inside.clogged:
        await turns(1)
    await turns(20)
    assert inside.link.unsent < 1_000_000
    assert stage.counters.bytes_down < 9_000_000
    client.resume()
    await client.gets(CODED)
    assert await content(client) == noise


@staged(Compressing, decide=forward("main", changes=Changes(strip=b"/livekit/sfu", add=b"/rtc")))
async def test_another_path(stage: Compressing) -> None:
    """A service is asked for the path that it knows, and leads clients where they find it; a tunnel is a tunnel."""
    client, worker = await stage.exchange(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    worker.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    await client.head()
    client.send(b"GET /livekit/sfu/validate?a=%2F HTTP/1.1\r\nHost: x\r\n\r\n")
    await worker.gets(b"GET /rtc/validate?a=%2F HTTP/1.1\r\nHost: x\r\n" + FORWARDED + b"\r\n")
    worker.send(b"HTTP/1.1 302 Found\r\nLocation: /rtc/login\r\nContent-Length: 0\r\n\r\n")
    await client.gets(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /livekit/sfu/login\r\n\r\n")
    client.send(b"GET /livekit/sfu HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await worker.head()).startswith(b"GET /rtc/ HTTP/1.1\r\n")
    worker.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    await client.head()
    await client.gets(b"hello")
    client.send(b"\x81\x00")
    await worker.gets(b"\x81\x00")


@staged(Compressing, decide=forward("main", changes=Changes(add=b"/" + b"x" * 200)), limits={"request_head": 200})
async def test_a_path_that_becomes_too_long(stage: Compressing) -> None:
    """A head that is too large only with what is added is refused like any other."""
    client = await stage.client(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 431 ")
