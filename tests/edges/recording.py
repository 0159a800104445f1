"""Stand-in workers that answer each request with what they saw of it, octet for octet, and clients that read that."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from processes import PATIENCE, PlainWorker, connect, read_until

HOLD = "/_matrix/client/v3/sync?since=held"


@frozen
class Seen:
    """A request as a worker saw it."""

    worker: str
    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: int
    """Bytes of content."""

    def values(self, name: str) -> list[str]:
        """The values of all field lines of this name."""
        return [value for other, value in self.fields if other.lower() == name.lower()]


class RecordingWorker(PlainWorker):
    """Answers with a `Seen`. A request for `HOLD` is answered when `go_on` is set."""

    def __init__(self, name: str, address: Path | None) -> None:
        self.name = name
        self.held = threading.Event()
        self.go_on = threading.Event()
        super().__init__(address, self._converse)

    def _converse(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while line := stream.readline():
            method, target, _ = line.decode("latin-1").split(" ", 2)
            lines = list(iter(stream.readline, b"\r\n"))
            fields = [tuple(each.decode("latin-1").rstrip("\r\n").split(": ", 1)) for each in lines]
            size = self._read_body(stream.read, stream.readline, {name.lower(): value for name, value in fields})
            if target == HOLD:
                self.held.set()
                assert self.go_on.wait(PATIENCE)
            seen = {"worker": self.name, "method": method, "target": target, "fields": fields, "body": size}
            content = json.dumps(seen).encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
                + content
            )

    def _read_body(self, read: Callable[[int], bytes], readline: Callable[[], bytes], fields: dict[str, str]) -> int:
        if fields.get("transfer-encoding") == "chunked":
            size = 0
            while chunk := int(readline(), 16):
                size += len(read(chunk))
                readline()
            readline()
            return size
        left = announced = int(fields.get("content-length", "0"))
        while left:
            piece = read(min(left, 1 << 20))
            assert piece, "the body ended early"
            left -= len(piece)
        return announced


@frozen
class Reply:
    """A response with its whole content."""

    status: int
    head: bytes
    content: bytes

    @property
    def seen(self) -> Seen:
        """What the worker saw of the request."""
        assert self.status == 200, (self.head, self.content)
        told = json.loads(self.content)
        return Seen(**{**told, "fields": tuple(map(tuple, told["fields"]))})

    def value(self, name: str) -> str | None:
        """That of a field line, of which there is one at most."""
        found = re.findall(rb"(?im)^%b: *(.*?)\r$" % name.encode(), self.head)
        assert len(found) <= 1, self.head
        return found[0].decode() if found else None


def reply(connection: socket.socket) -> Reply:
    """Read a response, however it is delimited, up to its end."""
    got = read_until(connection, lambda got: b"\r\n\r\n" in got)
    head, _, content = got.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if length:
        size = int(length[1])
        if len(content) < size:
            content += read_until(connection, lambda more: len(content) + len(more) >= size)
    elif re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
        if not content.endswith(b"0\r\n\r\n"):
            content += read_until(connection, lambda more: (content + more).endswith(b"0\r\n\r\n"))
        content = _dechunked(content)
    return Reply(status, head, content)


def _dechunked(stream: bytes) -> bytes:
    content = b""
    while True:
        size, _, stream = stream.partition(b"\r\n")
        if not int(size, 16):
            return content
        content += stream[: int(size, 16)]
        stream = stream[int(size, 16) + 2 :]


def secure(
    port: int, name: str, context: ssl.SSLContext, *, source: str = "127.0.0.1", before: bytes = b""
) -> ssl.SSLSocket:
    """A connection inside TLS to a port of this host, for a server of this name."""
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))
    plain.sendall(before)
    return context.wrap_socket(plain, server_hostname=name)


def ask(connection: socket.socket, host: str, target: str, *lines: str, method: str = "GET") -> Reply:
    """A request without a body on a connection that stays open."""
    head = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "\r\n"])
    connection.sendall(head.encode("latin-1"))
    return reply(connection)


def plain_ask(port: int, host: str, target: str, *lines: str) -> Reply:
    """The same on a connection of its own without TLS."""
    with connect(("127.0.0.1", port)) as connection:
        return ask(connection, host, target, *lines)
