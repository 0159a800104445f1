"""Matrix over one connection of HTTP/2 to a real Synapse: rooms, messages, a long poll that waits meanwhile, media."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define, field
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from .laboratory import Gateway, free_port, register, running_sidecar, running_synapse
from .services import Services
from .synapse_files import SERVER_NAME
from .topology import Process, Topology

TOPOLOGY = Topology(
    name="two",
    processes=(Process("main", ("client", "federation", "media")), Process("sync1", ("client",))),
    pools={"explicit": {}},
)
CLIENT = "/_matrix/client/v3"
MEDIA = 3 << 20


@define
class OneConnection:
    """A client that has one connection for everything; a request is a number until its answer is asked for."""

    sock: socket.socket
    frames: H2Connection = field(factory=lambda: H2Connection(H2Configuration(header_encoding=None)))
    statuses: dict[int, int] = field(factory=dict)
    contents: dict[int, bytes] = field(factory=dict)
    ended: set[int] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.frames.initiate_connection()
        self.frames.increment_flow_control_window(1 << 24)
        self._flush()

    def _flush(self) -> None:
        self.sock.sendall(self.frames.data_to_send())

    def ask(self, method: str, target: str, token: str, body: Any = None) -> int:
        """Make a request; a body that is no bytes is JSON."""
        octets = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = [(":method", method), (":scheme", "http"), (":authority", SERVER_NAME), (":path", target)]
        fields += [("authorization", f"Bearer {token}")]
        if body is not None:
            fields += [("content-type", "application/json"), ("content-length", str(len(octets)))]
        stream = self.frames.get_next_available_stream_id()
        self.frames.send_headers(stream, fields, end_stream=body is None)
        self._flush()
        while octets:
            room = min(self.frames.local_flow_control_window(stream), 16384)
            if room:
                self.frames.send_data(stream, octets[:room], end_stream=len(octets) <= room)
                octets = octets[room:]
                self._flush()
            else:
                self._take()
        return stream

    def cancel(self, stream: int) -> None:
        self.frames.reset_stream(stream)
        self._flush()

    def _take(self) -> None:
        octets = self.sock.recv(65536)
        assert octets, "the connection has ended"
        for event in self.frames.receive_data(octets):
            if isinstance(event, ResponseReceived):
                self.statuses[event.stream_id] = int(dict(event.headers)[b":status"])
            elif isinstance(event, DataReceived):
                self.contents[event.stream_id] = self.contents.get(event.stream_id, b"") + event.data
                self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.ended.add(event.stream_id)
            assert not isinstance(event, StreamReset), event
        self._flush()

    def answer(self, stream: int) -> Any:
        """The content of an answer, which must be 200; read if it is JSON."""
        while stream not in self.ended:
            self._take()
        content = self.contents.get(stream, b"")
        assert self.statuses[stream] == 200, content
        return json.loads(content) if content[:1] == b"{" else content

    def call(self, method: str, target: str, token: str, body: Any = None) -> Any:
        return self.answer(self.ask(method, target, token, body))


@pytest.fixture(scope="module")
def http2(services: Services) -> Iterator[Gateway]:
    port = free_port()
    settings = {"listen": f"http2:tcp:{port}:interface=127.0.0.1"}
    with (
        running_synapse(services, TOPOLOGY) as laboratory,
        running_sidecar(laboratory, "three_lines", port, settings, "http2") as gateway,
    ):
        yield gateway


@pytest.fixture
def client(http2: Gateway) -> Iterator[OneConnection]:
    with closing(socket.create_connection(("127.0.0.1", http2.port), 60)) as sock:
        yield OneConnection(sock)


def newcomer(gateway: Gateway, name: str) -> str:
    return register(gateway.laboratory.layout.socket("main"), f"{name}{secrets.token_hex(4)}")


def test_a_long_poll_beside_everything_else(http2: Gateway, client: OneConnection) -> None:
    """Two users on one connection: while the one waits, the other makes a room, invites, and is heard."""
    alice, bob = newcomer(http2, "alice"), newcomer(http2, "bob")
    bob_id = client.call("GET", f"{CLIENT}/account/whoami", bob)["user_id"]
    since = client.call("GET", f"{CLIENT}/sync?timeout=0", bob)["next_batch"]
    waiting = client.ask("GET", f"{CLIENT}/sync?timeout=30000&since={since}", bob)
    room = client.call("POST", f"{CLIENT}/createRoom", alice, {"preset": "private_chat"})["room_id"]
    path = f"{CLIENT}/rooms/{quote(room, safe='')}"
    assert waiting not in client.ended
    client.call("POST", f"{path}/invite", alice, {"user_id": bob_id})
    told = client.answer(waiting)
    assert room in told["rooms"]["invite"]
    client.call("POST", f"{path}/join", bob, {})
    since = client.call("GET", f"{CLIENT}/sync?timeout=0&since={told['next_batch']}", bob)["next_batch"]
    waiting = client.ask("GET", f"{CLIENT}/sync?timeout=30000&since={since}", bob)
    text = {"msgtype": "m.text", "body": "over one connection"}
    sent = client.call("PUT", f"{path}/send/m.room.message/a%2Fb", alice, text)["event_id"]
    events = client.answer(waiting)["rooms"]["join"][room]["timeline"]["events"]
    assert sent in [event["event_id"] for event in events]
    # A poll that is given up ends nothing but itself.
    client.cancel(client.ask("GET", f"{CLIENT}/sync?timeout=30000&since={since}&x=1", alice))
    many = [client.ask("GET", f"{path}/joined_members", bob) for _ in range(30)]
    assert all(bob_id in client.answer(each)["joined"] for each in many)


def test_media(http2: Gateway, client: OneConnection) -> None:
    """An upload larger than every window comes back as it went."""
    token = newcomer(http2, "carol")
    octets = secrets.token_bytes(MEDIA)
    uri = client.call("POST", "/_matrix/media/v3/upload?filename=a", token, octets)["content_uri"]
    media = uri.removeprefix("mxc://")
    assert client.call("GET", f"/_matrix/client/v1/media/download/{media}", token) == octets
