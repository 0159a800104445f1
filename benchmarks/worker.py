"""The worker behind every proxy: answers small requests, holds long polls, sends and takes media, and counts.

One process, one thread, level-triggered epoll. It must stay cheaper than any proxy in front of it, so it knows the
handful of requests in `traffic` and no HTTP beyond them. `python -m benchmarks.worker SOCKET`.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys

from attrs import define, field

from benchmarks import traffic

_END = b"\r\n\r\n"
_READ = 256 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_SMALL = traffic.answer()


@define(eq=False)
class _Connection:
    sock: socket.socket
    head: bytes = b""
    body_left: int = 0
    unsent: memoryview = field(factory=lambda: memoryview(b""))


@define(eq=False)
class Worker:
    """Listens on `path` (a UNIX socket, open to every user) and serves until its process ends."""

    path: str
    _epoll: select.epoll = field(factory=select.epoll)
    _connections: dict[int, _Connection] = field(factory=dict)
    _held: set[_Connection] = field(factory=set)
    _answered: int = 0
    _uploaded: int = 0
    _media: memoryview = field(factory=lambda: memoryview(traffic.media()))
    _scratch: bytearray = field(factory=lambda: bytearray(_READ))

    def run(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        os.chmod(self.path, 0o666)  # nginx gives up root for its own user
        listener.listen(1024)
        self._epoll.register(listener, select.EPOLLIN)
        connections, at_listener = self._connections, listener.fileno()
        while True:
            for number, events in self._epoll.poll():
                if number == at_listener:
                    self._accept(listener)
                elif events & select.EPOLLOUT:
                    self._write(connections[number])
                else:
                    self._read(connections[number])

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setblocking(False)
        self._connections[sock.fileno()] = _Connection(sock)
        self._epoll.register(sock, select.EPOLLIN)

    def _read(self, connection: _Connection) -> None:
        try:
            size = connection.sock.recv_into(self._scratch)
            if not size:
                self._close(connection)
            elif connection.body_left:
                self._take_body(connection, size)
            else:
                self._take_head(connection, bytes(self._scratch[:size]))
        except OSError:
            self._close(connection)

    def _take_head(self, connection: _Connection, data: bytes) -> None:
        data = connection.head + data
        head, end, rest = data.partition(_END)
        connection.head = b"" if end else data
        if end:
            self._serve(connection, head + end, rest)

    def _serve(self, connection: _Connection, head: bytes, rest: bytes) -> None:
        target = head.split(b" ", 2)[1]
        if target.startswith(b"/_matrix/client/v3/"):
            if b"timeout=30000" in target:
                self._held.add(connection)
            else:
                self._answered += 1
                connection.sock.send(_SMALL)
        elif target.startswith(b"/_matrix/client/v1/media/download/"):
            self._send(connection, traffic.answer_head(traffic.MEDIA_SIZE, b"application/octet-stream"))
            self._send(connection, self._media)
        elif target == b"/_matrix/media/v3/upload":
            length = _LENGTH.search(head)
            connection.body_left = int(length[1]) if length else 0
            self._take_body(connection, len(rest))
        else:
            self._send(connection, traffic.answer(self._report(target, head)))

    def _report(self, target: bytes, head: bytes) -> bytes:
        """What the harness asks about: a head as it arrived here, the counts, and the release of what is held."""
        if target == b"/benchmark/head":
            return head
        if target == b"/benchmark/release":
            for held in self._held:
                held.sock.send(_SMALL)
            self._held.clear()
        counts = {"answered": self._answered, "held": len(self._held), "uploaded": self._uploaded}
        return json.dumps(counts).encode()

    def _take_body(self, connection: _Connection, size: int) -> None:
        connection.body_left -= size
        self._uploaded += size
        if not connection.body_left:
            self._send(connection, traffic.answer(b'{"content_uri":"mxc://example.org/benchmark"}'))

    def _send(self, connection: _Connection, data: bytes | memoryview) -> None:
        connection.unsent = memoryview(bytes(connection.unsent) + data) if connection.unsent else memoryview(data)
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        """Sends what it can; Synapse too writes from memory, in pieces, not with sendfile."""
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent[:_READ]) :]
        except BlockingIOError:
            self._epoll.modify(connection.sock, select.EPOLLOUT)
        except OSError:
            self._close(connection)
        else:
            self._epoll.modify(connection.sock, select.EPOLLIN)

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.sock.fileno()]
        self._held.discard(connection)
        connection.sock.close()


if __name__ == "__main__":
    Worker(sys.argv[1]).run()
