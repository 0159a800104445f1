"""One connection of HTTP/2 without its socket: bytes in, events out, and the bytes that go back.

`h2` handles frames, windows and states. This adds the limits that it lacks: useless frames, cancelled requests, memory.
Knows no clock; the caller gives the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from sidecar.http2.faults import ConversationError, ErrorCode
from sidecar.http2.frames import LARGEST_FRAME, Allowance, FrameWatch, goaway

_CLOSED_STREAMS = 1024
"""Ended streams that are remembered, for frames that were on their way. `h2` remembers 64 times as many."""
_LARGEST_TABLE = 4096
"""Bytes of our own HPACK table; a client could ask for 4 GiB."""
_DEFAULT_WINDOW = 65535
_EVERY_STREAM = 2**31 - 1
_DATA_FOR_A_FRAME = 4096
"""For this many bytes of an answer, a client may send one more useless frame, mostly a WINDOW_UPDATE."""
_FRAMES_FOR_A_REQUEST = 2


@frozen(slots=True, kw_only=True)
class ConversationBounds:
    """What a client may do; in bytes if not stated otherwise."""

    streams: int = 100
    """Requests at once."""
    window: int = 256 * 1024
    """Of the body of one request that was not passed on yet."""
    connection_window: int = 1024 * 1024
    """Of the bodies of all requests together."""
    fields: int = 22_400
    """A list of fields, uncompressed, with 32 bytes for each field; sent to the client as a setting."""
    idle_frames: int = 1000
    """Useless frames in a minute."""
    resets: int = 200
    """Requests in a minute that the client ends without an answer."""

    @property
    def most_fields(self) -> int:
        """The size of a list of fields that ends the connection, because decoding it would cost too much."""
        return 4 * self.fields


@frozen(slots=True)
class StreamBegun:
    """A request has come."""

    stream: int
    fields: Sequence[tuple[bytes, bytes]]
    ended: bool


@frozen(slots=True)
class StreamContent:
    """A part of its body; `size` is what it takes of the windows until it is `taken`."""

    stream: int
    octets: bytes
    size: int
    ended: bool


@frozen(slots=True)
class StreamTrailers:
    """The end of its body, with fields."""

    stream: int
    fields: Sequence[tuple[bytes, bytes]]


@frozen(slots=True)
class StreamCancelled:
    """The client does not want the answer any more, or has broken the rules of the stream."""

    stream: int


@frozen(slots=True)
class RoomMade:
    """The client has made room in a window."""


ROOM_MADE = RoomMade()

ConversationEvent = StreamBegun | StreamContent | StreamTrailers | StreamCancelled | RoomMade


class _Frames(H2Connection):
    MAX_CLOSED_STREAMS = _CLOSED_STREAMS


class Conversation:
    """One connection with a client."""

    __slots__ = ("_frames", "_idle", "_last", "_out", "_resets", "_watch", "unsent")

    def __init__(self, bounds: ConversationBounds, now: float) -> None:
        # `requests` checks fields, for each request: in `h2`, a fault of one would end all.
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        frames = _Frames(config)
        self._frames: Any = frames
        frames.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: bounds.streams,
                SettingCodes.INITIAL_WINDOW_SIZE: bounds.window,
                SettingCodes.MAX_HEADER_LIST_SIZE: bounds.fields,
                SettingCodes.MAX_FRAME_SIZE: LARGEST_FRAME,
            },
        )
        frames.decoder.max_header_list_size = bounds.most_fields
        frames.initiate_connection()
        if bounds.connection_window > _DEFAULT_WINDOW:
            frames.increment_flow_control_window(bounds.connection_window - _DEFAULT_WINDOW)
        self._watch = FrameWatch(bounds.most_fields)
        self._idle = Allowance(bounds.idle_frames, now)
        self._resets = Allowance(bounds.resets, now)
        self._out = b""
        self._last = 0
        self.unsent = 0
        """Bytes of answers that were not taken yet."""

    @property
    def in_block(self) -> bool:
        """The fields of a request have begun to come, and are not complete."""
        return self._watch.in_block

    @property
    def farewell(self) -> bool:
        """The client makes no more requests."""
        return self._watch.farewell

    def receive(self, octets: bytes, now: float) -> list[ConversationEvent]:
        """The events in `octets`. Raises ConversationError."""
        octets = self._watch.feed(octets)
        idle = self._watch.take_idle()
        if idle and not self._idle.spend(idle, now):
            raise ConversationError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
        try:
            found = self._frames.receive_data(octets)
        except ProtocolError as error:
            # `h2` writes a GOAWAY itself; discard it, because ours follows.
            code = int(getattr(error, "error_code", ErrorCode.PROTOCOL_ERROR))
            self._frames.clear_outbound_data_buffer()
            raise ConversationError(code, f"the rules of HTTP/2 are broken: {error}") from error
        events: list[ConversationEvent] = []
        for event in found:
            meaning = self._meaning(event, now)
            if meaning is not None:
                events.append(meaning)
        return events

    def _meaning(self, event: Any, now: float) -> ConversationEvent | None:
        kind = event.__class__
        if kind is DataReceived:
            ended = event.stream_ended is not None
            return StreamContent(event.stream_id, event.data, event.flow_controlled_length, ended)
        if kind is RequestReceived:
            self._last = event.stream_id
            self._idle.earn(_FRAMES_FOR_A_REQUEST)
            return StreamBegun(event.stream_id, event.headers, event.stream_ended is not None)
        if kind is WindowUpdated:
            return ROOM_MADE
        if kind is TrailersReceived:
            return StreamTrailers(event.stream_id, event.headers)
        if kind is StreamReset:
            # Whether the client reset it or made us do so (CVE-2023-44487, CVE-2025-8671).
            if not self._resets.spend(1, now):
                raise ConversationError(ErrorCode.ENHANCE_YOUR_CALM, "too many cancelled requests")
            return StreamCancelled(event.stream_id)
        if kind is RemoteSettingsChanged:
            self._frames.encoder.header_table_size = min(self._frames.encoder.header_table_size, _LARGEST_TABLE)
            return ROOM_MADE
        return None

    # Answers. For a request that the client has just cancelled, what is sent is dropped.

    def answer(self, stream: int, fields: Sequence[tuple[bytes, bytes]], *, ended: bool) -> None:
        """Send the head of an answer, or its trailers; `ended`: nothing follows."""
        with suppress(StreamClosedError):
            self._frames.send_headers(stream, fields, end_stream=ended)
            if ended:
                self._resets.earn(1)

    def room(self, stream: int) -> int:
        """Bytes of an answer that can be sent now in one frame."""
        try:
            return min(int(self._frames.local_flow_control_window(stream)), LARGEST_FRAME)
        except StreamClosedError:
            return 0

    def content(self, stream: int, octets: bytes, *, ended: bool) -> None:
        """Send a part of an answer, for which there is room; `ended`: nothing follows."""
        with suppress(StreamClosedError):
            self._frames.send_data(stream, octets, end_stream=ended)
            self.unsent += len(octets)
            self._idle.earn(len(octets) / _DATA_FOR_A_FRAME)
            if ended:
                self._resets.earn(1)

    def cut(self, stream: int, code: ErrorCode) -> None:
        """End a stream in both directions."""
        with suppress(StreamClosedError):
            self._frames.reset_stream(stream, code)

    def taken(self, stream: int, size: int) -> None:
        """This much of a request's body was passed on: open the windows again."""
        if size:
            self._frames.acknowledge_received_data(size, stream)

    # The connection.

    def announce(self) -> None:
        """Announce the end (GOAWAY); requests that come until then are answered."""
        self._out = self.take() + goaway(_EVERY_STREAM, ErrorCode.NO_ERROR)

    def end(self, code: int = ErrorCode.NO_ERROR) -> None:
        """End now, and tell the client which request was the last one that was read."""
        self._out = self.take() + goaway(self._last, code)

    def take(self) -> bytes:
        """Take what has to be sent."""
        octets: bytes = self._out + self._frames.data_to_send()
        self._out = b""
        self.unsent = 0
        return octets
