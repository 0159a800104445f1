"""Large bodies that pass inside the kernel: the same octets, the same ends, and nothing left open."""

from __future__ import annotations

import hashlib
import os

import pytest

from sidecar.transport import splicing
from sidecar.transport.splicing import Pipe

from .peers import Peer, Stage
from .turns import staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SIZE = 5_000_000
BODY = hashlib.shake_128(b"body").digest(SIZE)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


async def spliced(stage: Stage, sent: int = SIZE) -> tuple[Peer, Peer]:
    """A client that does not read, and a worker that has sent it the first of a large answer."""
    client, worker = await stage.exchange(GET)
    client.pause()
    worker.send(HEAD + BODY[:sent])
    inside = await stage.inside(client)
    while not inside.clogged:
        await turns(1)
    return client, worker


async def everything(client: Peer) -> bytes:
    await client.until(lambda: len(client.received) == len(HEAD) + SIZE)
    await client.gets(HEAD)
    body = bytes(client.received)
    client.received.clear()
    return body


@pytest.mark.parametrize("pipes", [64, 0])
@staged(Stage)
async def test_both_ways(stage: Stage, pipes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large bodies arrive whole in both directions, with pipes or without, and the connections go on."""
    monkeypatch.setattr(splicing, "MOST_PIPES", pipes)
    monkeypatch.setattr(Pipe, "_free", [])
    monkeypatch.setattr(Pipe, "_open", 0)
    client, worker = await stage.exchange(GET)
    for _ in range(2):
        worker.send(HEAD + BODY)
        assert await everything(client) == BODY
        client.send(b"PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY)
        await worker.head()
        await worker.gets(BODY)
        worker.send(OK)
        await client.gets(OK)
        client.send(GET)
        await worker.head()
    assert len(stage.worker.accepted) == 1
    assert Pipe._open <= min(pipes, 2)
    assert len(Pipe._free) == Pipe._open
    for pipe in Pipe._free:
        os.close(pipe.read_end)
        os.close(pipe.write_end)


@staged(Stage)
async def test_no_pipe_to_be_had(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no pipe, bodies take the ordinary way."""

    def none(_flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Pipe, "_free", [])
    monkeypatch.setattr(os, "pipe2", none)
    client, worker = await stage.exchange(GET)
    worker.send(HEAD + BODY)
    assert await everything(client) == BODY


@staged(Stage)
async def test_a_client_that_pauses(stage: Stage) -> None:
    """A client that reads now and then gets everything, and its worker is not read meanwhile."""
    client, worker = await spliced(stage)
    await turns(20)
    unsent = worker.transport.dataBuffer
    await turns(20)
    assert worker.transport.dataBuffer == unsent
    for _ in range(5):
        client.resume()
        before = len(client.received)
        await client.until(lambda: len(client.received) > before)  # noqa: B023
        client.pause()
        await turns(5)
    client.resume()
    assert await everything(client) == BODY
    client.send(GET)
    await worker.head()
    worker.send(OK)
    await client.gets(OK)


@pytest.mark.parametrize("sent", [1_000_000, 3_500_000])
@staged(Stage)
async def test_cut(stage: Stage, sent: int) -> None:
    """A worker that ends in the middle makes it a reset for the client, who has got nothing but the beginning."""
    client, worker = await stage.exchange(GET)
    worker.send(HEAD + BODY[:sent])
    await client.until(lambda: len(client.received) >= len(HEAD) + 600_000)
    worker.close()
    got = await client.end("reset")
    assert (HEAD + BODY[:sent]).startswith(got)


@staged(Stage)
async def test_client_that_goes(stage: Stage) -> None:
    """A client that resets in the middle frees its worker at once."""
    client, worker = await spliced(stage)
    client.reset()
    await worker.until(lambda: worker.ended)
    await stage.empties()
    assert stage.pool.leased == 0


@staged(Stage)
async def test_client_that_goes_while_it_reads(stage: Stage) -> None:
    """The same where the octets were flowing."""
    client, worker = await stage.exchange(GET)
    worker.send(HEAD + BODY[:4_000_000])
    await client.until(lambda: len(client.received) > 500_000)
    client.reset()
    await worker.until(lambda: worker.ended)
    await stage.empties()


@staged(Stage)
async def test_upload_that_is_cut(stage: Stage) -> None:
    """A client that resets in a large upload ends it at the worker, who has got nothing but the beginning."""
    client, worker = await stage.exchange(b"PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
    client.send(BODY[:3_000_000])
    await worker.until(lambda: len(worker.received) > 1_000_000)
    client.reset()
    got = await worker.end()
    assert BODY.startswith(got)
    await stage.empties()


@staged(Stage)
async def test_upload_to_a_worker_that_goes(stage: Stage) -> None:
    """A worker that ends in a large upload is answered for with 502, and the client can read it."""
    client, worker = await stage.exchange(b"PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
    client.send(BODY[:3_000_000])
    await worker.until(lambda: len(worker.received) > 1_000_000)
    worker.reset()
    assert (await client.end()).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("reads", [True, False])
@staged(Stage)
async def test_early_answer_to_a_large_upload(stage: Stage, reads: bool) -> None:
    """An answer in the middle of a large upload reaches its client, be the worker reading or not."""
    client, worker = await stage.exchange(b"PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
    if not reads:
        worker.pause()
    client.send(BODY)
    await turns(30)
    worker.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY)
    await client.gets(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE + BODY)
    assert await client.end() == b""


@staged(Stage)
async def test_half_close_in_a_large_answer(stage: Stage) -> None:
    """A client that closes its side while it reads gets the rest."""
    client, worker = await spliced(stage)
    client.half_close()
    await turns(10)
    client.resume()
    assert await everything(client) == BODY
    assert await client.end() == b""
    assert worker.ended == ""


@staged(Stage)
async def test_nothing_is_left_open(stage: Stage) -> None:
    """Bodies that break off leave no descriptor behind."""
    for _ in range(3):
        client, worker = await spliced(stage)
        client.reset()
        await worker.until(lambda: worker.ended)  # noqa: B023
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        client, worker = await spliced(stage)
        client.reset()
        await worker.vanishes()
        await stage.empties()
        await turns(5)
    assert len(os.listdir("/proc/self/fd")) <= before
