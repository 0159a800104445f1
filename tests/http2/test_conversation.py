"""One connection without its socket: whatever comes is an event or a fault, and answers come out as they went in."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http2.conversation import (
    Conversation,
    ConversationBounds,
    RoomMade,
    StreamBegun,
    StreamCancelled,
    StreamContent,
    StreamTrailers,
)
from sidecar.http2.faults import ConversationError, ErrorCode
from sidecar.http2.frames import PREFACE

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/")]
BLOCK = b"\x82\x86\x84\x41\x01x"
"""The same, compressed."""

streams = st.sampled_from([0, 1, 2, 3, 5, 7])
flags = st.lists(st.sampled_from(["END_HEADERS", "END_STREAM"]), unique=True)
blocks = st.sampled_from([BLOCK, BLOCK[:3], b"\x82", b"\xff\xff\xff", b"\x3f\xe1\x1f" + BLOCK])
numbers = st.sampled_from([0, 1, 2**14, 2**16, 2**31 - 1])


def made(kind: type[Frame], stream: int, which: list[str], block: bytes, number: int) -> bytes:
    """A frame of one kind with what of these it can have; nothing where there is no such frame."""
    try:
        if kind is HeadersFrame or kind is ContinuationFrame or kind is PushPromiseFrame:
            return kind(stream, data=block, flags=[flag for flag in which if flag != "END_STREAM"]).serialize()
        if kind is DataFrame:
            return DataFrame(stream, data=block, flags=[flag for flag in which if flag == "END_STREAM"]).serialize()
        if kind is WindowUpdateFrame:
            return WindowUpdateFrame(stream, number).serialize()
        if kind is SettingsFrame:
            return SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: number}).serialize()
        if kind is PriorityFrame:
            return PriorityFrame(stream, 1, 3).serialize()
        return kind(stream).serialize()
    except Exception:
        return b""


kinds = st.sampled_from(
    [
        *(HeadersFrame, ContinuationFrame, PushPromiseFrame, DataFrame, WindowUpdateFrame, SettingsFrame),
        *(PriorityFrame, RstStreamFrame, PingFrame, GoAwayFrame, ExtensionFrame),
    ]
)
frames = st.builds(made, kinds, streams, flags, blocks, numbers)
sound = st.builds(
    lambda number, ended: HeadersFrame(
        number * 2 + 1, data=BLOCK, flags=["END_HEADERS", *(["END_STREAM"] if ended else [])]
    ).serialize(),
    st.integers(0, 5),
    st.booleans(),
)
anything = st.lists(st.one_of(frames, sound, st.binary(max_size=30)), max_size=12)


@given(anything, st.booleans())
def test_whatever_comes(pieces: list[bytes], answering: bool) -> None:
    """Is events or a ConversationError, and answers to what was asked never fail, whatever came behind."""
    conversation = Conversation(ConversationBounds(), 0.0)
    try:
        for piece in (PREFACE, *pieces):
            for event in conversation.receive(piece, 1.0):
                assert isinstance(event, StreamBegun | StreamContent | StreamTrailers | StreamCancelled | RoomMade)
                if isinstance(event, StreamContent):
                    conversation.taken(event.stream, event.size)
                elif isinstance(event, StreamBegun) and answering:
                    conversation.answer(event.stream, [(b":status", b"200")], ended=False)
                    if conversation.room(event.stream) >= 2:
                        conversation.content(event.stream, b"ok", ended=True)
                    conversation.cut(event.stream, ErrorCode.NO_ERROR)
            assert isinstance(conversation.take(), bytes)
    except ConversationError as error:
        conversation.end(error.code)
        assert conversation.take()[-17:-8].startswith(b"\x00\x00\x08\x07")


def client() -> H2Connection:
    connection = H2Connection(H2Configuration(header_encoding=None))
    connection.initiate_connection()
    return connection


@given(st.lists(st.binary(max_size=5000), max_size=8), st.booleans())
def test_bodies_both_ways(parts: list[bytes], ended: bool) -> None:
    """What one side sends the other gets, in order."""
    conversation, peer = Conversation(ConversationBounds(), 0.0), client()
    peer.send_headers(1, [(b":method", b"PUT"), *GET[1:]])
    for part in parts:
        peer.send_data(1, part)
    peer.end_stream(1)
    events = conversation.receive(peer.data_to_send(), 0.0)
    assert isinstance(events[0], StreamBegun | RoomMade)
    content = [event for event in events if isinstance(event, StreamContent)]
    assert b"".join(event.octets for event in content) == b"".join(parts)
    assert [event.ended for event in content] == [False] * len(parts) + [True]
    conversation.answer(1, [(b":status", b"200")], ended=False)
    for part in parts:
        conversation.content(1, part, ended=False)
    if ended:
        conversation.content(1, b"", ended=True)
    else:
        conversation.answer(1, [(b"x-t", b"1")], ended=True)
    found = peer.receive_data(conversation.take())
    assert b"".join(event.data for event in found if isinstance(event, DataReceived)) == b"".join(parts)
    assert isinstance(found[-1], StreamEnded)


def test_what_the_client_is_told() -> None:
    """The bounds, in the first frame, and the window of the connection in the second."""
    peer = client()
    bounds = ConversationBounds(streams=7, window=70_000, connection_window=90_000, fields=5000)
    peer.receive_data(Conversation(bounds, 0.0).take())
    told = peer.remote_settings
    assert (told.max_concurrent_streams, told.initial_window_size, told.max_header_list_size) == (7, 70_000, 5000)
    assert peer.outbound_flow_control_window == 90_000


def test_a_list_of_fields_that_is_too_long_to_decode() -> None:
    """Ends the connection; one that is only longer than was told is for the reader of heads to refuse."""
    for size, fine in ((6000, True), (25_000, False)):
        conversation, peer = Conversation(ConversationBounds(fields=5000), 0.0), client()
        peer.send_headers(1, [*GET, *((b"x%d" % number, b"y" * 1000) for number in range(size // 1000))])
        octets = peer.data_to_send()
        if fine:
            assert any(isinstance(event, StreamBegun) for event in conversation.receive(octets, 0.0))
        else:
            with pytest.raises(ConversationError):
                conversation.receive(octets, 0.0)
