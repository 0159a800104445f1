"""What is known to bring servers of HTTP/2 down, over real sockets: it ends a connection or a stream, and no more."""

from __future__ import annotations

import pytest
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from sidecar.http2.faults import ErrorCode
from sidecar.routing.decision import Decision

from .http2_peers import GET, PUT, Http2Client, Http2Stage
from .peers import forward
from .turns import staged, turns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MANY = 1100
"""More than limits.http2_idle_frames."""


async def lives(stage: Http2Stage) -> None:
    """Other clients are served."""
    client = await stage.http2()
    stream = client.ask([*GET[:3], (b":path", b"/alive")])
    while not (asked := [worker for worker in stage.worker.accepted if b"/alive" in worker.received]):
        await turns(1)
    asked[0].send(OK)
    assert (await client.answer(stream)).content == b"ok"
    client.peer.reset()


FLOODS: dict[str, list[Frame]] = {
    "CVE-2019-9512: PING": [PingFrame(0, b"12345678")],
    "CVE-2019-9515: SETTINGS": [SettingsFrame(0)],
    "CVE-2019-9518: empty DATA": [DataFrame(1)],
    "CVE-2019-9518: nothing but padding": [DataFrame(1, data=b"", flags=["PADDED"], pad_length=0)],
    "CVE-2019-9513: PRIORITY": [PriorityFrame(3, 0, 5), PriorityFrame(5, 3, 7)],
    "CVE-2019-9511, 9517: WINDOW_UPDATE": [WindowUpdateFrame(0, 1)],
    "RST_STREAM of nothing": [RstStreamFrame(1)],
    "frames that nobody knows": [ExtensionFrame(0xAA, 0, flag_byte=0, body=b"")],
}


@pytest.mark.parametrize("flood", FLOODS)
@staged(Http2Stage)
async def test_floods(stage: Http2Stage, flood: str) -> None:
    """Frames that ask for nothing end the connection; the requests on it end with it."""
    client = await stage.http2()
    if "RST_STREAM" in flood:
        client.ask()
        worker = await stage.worker.connection()
        await worker.head()
        worker.send(OK)
        await client.answer(1)
    else:
        client.ask(PUT, ended=False)
        worker = await stage.worker.connection()
    client.raw(*(FLOODS[flood] * MANY)[:MANY])
    assert await client.farewell() == ErrorCode.ENHANCE_YOUR_CALM
    if "RST_STREAM" not in flood:
        await worker.vanishes()
    client.peer.close()
    await stage.empties()
    await lives(stage)


@staged(Http2Stage)
async def test_fewer_are_none_of_our_business(stage: Http2Stage) -> None:
    """A client that pings once in a while, updates its windows and changes its settings."""
    client = await stage.http2()
    for _ in range(5):
        client.raw(*[PingFrame(0, b"12345678"), SettingsFrame(0), WindowUpdateFrame(0, 1)] * 100)
        await client.until(lambda: True)
        await turns(3)
        await stage.pass_time(10)
    stream = client.ask()
    worker = await stage.worker.connection()
    await worker.head()
    worker.send(OK)
    assert (await client.answer(stream)).content == b"ok"


@staged(Http2Stage)
async def test_rapid_reset(stage: Http2Stage) -> None:
    """CVE-2023-44487: requests that are cancelled as soon as they are made."""
    client = await stage.http2()
    for _ in range(201):
        stream = client.frames.get_next_available_stream_id()
        client.frames.send_headers(stream, GET, end_stream=True)
        client.frames.reset_stream(stream, ErrorCode.CANCEL)
    client.flush()
    assert await client.farewell() == ErrorCode.ENHANCE_YOUR_CALM
    client.peer.close()
    await stage.empties()
    assert not any(pool.leased for pool in stage.pools.values())
    await lives(stage)


@staged(Http2Stage)
async def test_cancelling_now_and_then(stage: Http2Stage) -> None:
    """Who gets answers may cancel as often."""
    client = await stage.http2()
    for _ in range(250):
        stream = client.ask()
        worker = await stage.worker.connection()
        await worker.head()
        worker.send(OK)
        await client.answer(stream)
        other = client.ask(PUT, ended=False)
        await worker.head()
        client.frames.reset_stream(other, ErrorCode.CANCEL)
        client.flush()
        await worker.vanishes()
    assert not client.farewells


@staged(Http2Stage)
async def test_made_you_reset(stage: Http2Stage) -> None:
    """CVE-2025-8671: streams that the sidecar has to reset count as if the client had done it."""
    client = await stage.http2()
    for _ in range(201):
        stream = client.frames.get_next_available_stream_id()
        client.frames.send_headers(stream, GET, end_stream=True)
        client.flush()
        client.raw(WindowUpdateFrame(stream, 2**31 - 1))
    assert await client.farewell() == ErrorCode.ENHANCE_YOUR_CALM
    client.peer.close()
    await stage.empties()
    assert not any(pool.leased for pool in stage.pools.values())
    await lives(stage)


@pytest.mark.parametrize(
    "frame",
    [
        DataFrame(1, data=b"x"),
        HeadersFrame(1, data=b"\x82", flags=["END_HEADERS"]),
        PriorityFrame(1, 1, 1),
        DataFrame(5, data=b"x"),
        HeadersFrame(2, data=b"\x82", flags=["END_HEADERS", "END_STREAM"]),
        HeadersFrame(3, data=b"\xff\xff\xff\xff\xff", flags=["END_HEADERS", "END_STREAM"]),
        SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31}),
    ],
    ids=lambda frame: f"{type(frame).__name__}-{frame.stream_id}",
)
@staged(Http2Stage)
async def test_broken_rules(stage: Http2Stage, frame: Frame) -> None:
    """Of the connection or of a stream: its request ends, and the worker's with it."""
    client = await stage.http2()
    stream = client.ask()
    worker = await stage.worker.connection()
    await worker.head()
    client.raw(frame)
    answer = client.answers[stream]
    try:
        await client.until(lambda: client.farewells or answer.reset is not None)
    except ProtocolError:  # the library does not like how it is told
        pytest.fail("no good answer to a bad frame")
    await worker.vanishes()
    await lives(stage)


@staged(Http2Stage)
async def test_continuations_without_an_end(stage: Http2Stage) -> None:
    """CVE-2024-27316, CVE-2024-24549 and kin: a list of fields that goes on and on, in small pieces or large ones."""
    for pieces in ([b""] * MANY, [b"x" * 16000] * 10):
        client = await stage.http2()
        client.raw(HeadersFrame(1, data=b""), *(ContinuationFrame(1, data=piece) for piece in pieces))
        assert await client.farewell() in (ErrorCode.ENHANCE_YOUR_CALM, ErrorCode.PROTOCOL_ERROR)
        client.peer.close()
        await stage.empties()
    await lives(stage)


@staged(Http2Stage)
async def test_a_bomb_of_fields(stage: Http2Stage) -> None:
    """CVE-2016-6581: a field of 4 KB, once, and then a thousand times by one octet each."""
    client = await stage.http2()
    once = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000
    client.raw(HeadersFrame(1, data=once + b"\xbe" * 1000, flags=["END_HEADERS", "END_STREAM"]))
    assert await client.farewell() == ErrorCode.ENHANCE_YOUR_CALM
    client.peer.close()
    await lives(stage)


@staged(Http2Stage)
async def test_fields_without_names(stage: Http2Stage) -> None:
    """CVE-2019-9516: refused as any malformed request."""
    client = await stage.http2()
    answer = await client.answer(client.ask([*GET, *[(b"", b"")] * 50]))
    assert answer.status == 400


@staged(Http2Stage, limits={"http2_streams": 3})
async def test_more_streams_than_may_be(stage: Http2Stage) -> None:
    """They are told how many; one more ends the connection."""
    client = await stage.http2()
    for _ in range(3):
        client.ask()
        await stage.worker.connection()
    while client.frames.remote_settings.max_concurrent_streams != 3:
        await turns(1)
        client.take()
    client.frames.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 10
    client.frames.remote_settings.acknowledge()
    client.ask()
    assert await client.farewell() == ErrorCode.PROTOCOL_ERROR


@staged(Http2Stage)
async def test_more_content_than_the_window(stage: Http2Stage) -> None:
    """Whoever sends without room is not read any more."""
    client = await stage.http2()
    client.ask(PUT, ended=False)
    worker = await stage.worker.connection()
    worker.pause()
    client.raw(*[DataFrame(1, data=bytes(16000))] * 200)
    assert await client.farewell() == ErrorCode.FLOW_CONTROL_ERROR


@staged(Http2Stage)
async def test_a_length_that_is_not_kept(stage: Http2Stage) -> None:
    """RFC 9113 8.1.1: more or less content than Content-Length says."""
    for body in (b"ab", b"abcd"):
        client = await stage.http2()
        client.ask([*PUT, (b"content-length", b"3")], body)
        assert await client.farewell() == ErrorCode.PROTOCOL_ERROR
        client.peer.close()
    await lives(stage)


def only_heads_are_refused(method: bytes, *_: object, **__: object) -> Decision:
    refused = Decision(action="refuse", endpoint="any", pool="", status=403, reason="no")
    forwarded: Decision = forward("main")()
    return refused if method == b"HEAD" else forwarded


@staged(Http2Stage, decide=only_heads_are_refused)
async def test_answers_that_nobody_reads(stage: Http2Stage) -> None:
    """CVE-2019-9517: small requests for much, and a socket that is not read. What is kept is bounded, and nothing
    more is read from such a client."""
    client = await stage.http2(window=2**31 - 1)
    client.frames.increment_flow_control_window(2**31 - 1 - 65535)
    client.flush()
    client.peer.pause()
    for _ in range(20):
        client.ask()
    size = 1 << 20
    for _ in range(20):
        worker = await stage.worker.connection()
        worker.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    await turns(200)
    (arrival,) = stage.listener.connections
    kept = [session.link.unsent for session in arrival._spoken._sessions.values()]  # type: ignore[attr-defined]
    assert max(kept) <= 128 * 1024
    link = arrival._link  # type: ignore[attr-defined]
    assert link.unsent < 512 * 1024
    # Answers without content are sent all the same; at some time nothing is read any more.
    assert not link.paused
    while not link.paused:
        for _ in range(60):
            client.ask([(b":method", b"HEAD"), *GET[1:]])
        await turns(5)
    client.peer.resume()
    for stream in range(1, 41, 2):
        answer = await client.answer(stream)
        assert (answer.status, len(answer.content)) == (200, size)
    assert (await client.answer(max(client.answers))).status == 403
    assert not link.paused


@staged(Http2Stage)
async def test_a_table_of_any_size(stage: Http2Stage) -> None:
    """A client that offers a gigabyte to compress answers with gets what it costs us: 4 KiB."""
    client: Http2Client = await stage.http2()
    client.raw(SettingsFrame(0, settings={SettingCodes.HEADER_TABLE_SIZE: 1 << 30}))
    stream = client.ask()
    worker = await stage.worker.connection()
    await worker.head()
    worker.send(OK)
    assert (await client.answer(stream)).status == 200
    (arrival,) = stage.listener.connections
    assert arrival._spoken.conversation._frames.encoder.header_table_size == 4096  # type: ignore[attr-defined]
