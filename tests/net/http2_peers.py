"""Clients that speak HTTP/2, by the library's client side or frame by frame, over the connections of `peers`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hyperframe.frame import Frame

from sidecar.entrance.entrances import Entrance

from .peers import Peer, Stage
from .turns import reactor

Fields = list[tuple[bytes, bytes]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/a")]
PUT: Fields = [(b":method", b"PUT"), *GET[1:]]


class Answer:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.interim: list[dict[bytes, bytes]] = []
        self.fields: dict[bytes, bytes] = {}
        self.content = b""
        self.trailers: Fields = []
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.fields[b":status"])


class Http2Client:
    """A connection of HTTP/2; a test says what is asked, and when windows grow."""

    def __init__(self, peer: Any, *, taking: bool = True, window: int | None = None) -> None:
        """`peer` has what `Peer` has; `taking`: give windows back at once; `window`: of each stream, to begin with."""
        self.peer = peer
        self.taking = taking
        self.frames = H2Connection(
            H2Configuration(
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        if window is not None:
            self.frames.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.frames.local_settings.acknowledge()
        self.frames.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.farewells: list[ConnectionTerminated] = []
        self.flush()

    def flush(self) -> None:
        octets = self.frames.data_to_send()
        if octets:
            self.peer.send(octets)

    def ask(self, fields: Fields = GET, body: bytes | None = None, *, ended: bool = True) -> int:
        """Make a request; `body`: what can be sent of it at once; `ended`: as a whole."""
        stream = self.frames.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.frames.send_headers(stream, fields, end_stream=ended and body is None)
        if body is not None:
            self.frames.send_data(stream, body, end_stream=ended)
        self.flush()
        return stream

    def more(self, stream: int, body: bytes, *, ended: bool = False) -> None:
        """More of a body, as windows allow."""
        while body:
            room = min(self.frames.local_flow_control_window(stream), 16384)
            assert room, "the window is closed"
            self.frames.send_data(stream, body[:room], end_stream=ended and len(body) <= room)
            body = body[room:]
        self.flush()

    def raw(self, *frames: Frame) -> None:
        """Send frames as they are, past the library."""
        self.peer.send(b"".join(frame.serialize() for frame in frames))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Take what comes until `condition` holds; the end of the connection fails."""
        while not condition():
            assert not (self.peer.ended and not self.peer.received), f"the connection was {self.peer.ended}"
            await self.peer.until(lambda: self.peer.received or self.peer.ended)
            self.take()

    def take(self) -> None:
        octets = bytes(self.peer.received)
        self.peer.received.clear()
        for event in self.frames.receive_data(octets):
            self._note(event)
        if not self.farewells:
            self.flush()

    def _note(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0), Answer())
        if isinstance(event, ResponseReceived):
            answer.fields = dict(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            answer.interim.append(dict(event.headers))
        elif isinstance(event, TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, DataReceived):
            answer.content += event.data
            if self.taking:
                self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.farewells.append(event)

    async def answer(self, stream: int) -> Answer:
        """All of an answer."""
        answer = self.answers[stream]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def farewell(self) -> int:
        """The code with which the sidecar ends the connection."""
        await self.until(lambda: self.farewells)
        return int(self.farewells[-1].error_code or 0)


class Http2Stage(Stage):
    """A stage whose port takes HTTP/2."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.plain = self.port
        self.port = self.listen(Entrance(self.listener, reactor, self.poller, http2=True))

    async def http2(self, *, taking: bool = True, window: int | None = None, source: str = "127.0.0.1") -> Http2Client:
        """A new client."""
        peer: Peer = await self.client(source=source)
        return Http2Client(peer, taking=taking, window=window)

    async def strike(self) -> None:
        await self.plain.stopListening()
        await super().strike()
