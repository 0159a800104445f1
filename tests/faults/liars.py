"""A worker in a thread that answers well, but for the targets for which it has a fault."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from attrs import define, field
from processes import PlainWorker, read_until

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
END = b"\r\n\r\n"

Fault = Callable[[socket.socket], None]
"""What is done on a connection instead of answering. It may return; then the connection is read on."""


def _holds(octets: int, got: bytes) -> bool:
    return len(got) >= octets


@define(eq=False)
class Liar:
    """Remembers which targets came on which of its connections."""

    faults: Mapping[str, Fault]
    connections: list[list[str]] = field(factory=list)
    changed: threading.Condition = field(factory=threading.Condition)

    def at(self, path: Path) -> PlainWorker:
        """Serve at this socket."""
        worker = PlainWorker(path, self.serve)
        path.chmod(0o666)
        return worker

    def serve(self, connection: socket.socket) -> None:
        targets: list[str] = []
        self.connections.append(targets)
        while True:
            try:
                head = read_until(connection, lambda got: END in got)
            except AssertionError:
                return
            length = LENGTH.search(head)
            left = int(length[1]) + head.index(END) + 4 - len(head) if length else 0
            if left > 0:
                read_until(connection, partial(_holds, left))
            target = head.split(b" ", 2)[1].decode()
            with self.changed:
                targets.append(target)
                self.changed.notify_all()
            if target == "/benchmark/head":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(head), head))
            elif fault := self.faults.get(target):
                fault(connection)
            else:
                connection.sendall(GOOD)

    def after(self, target: str) -> list[str]:
        """What came later on the connections on which this target came: nothing, if they were not used again."""
        return [later for targets in self.connections if target in targets for later in _behind(targets, target)]

    def came(self, target: str, times: int = 1) -> None:
        """Wait until this target has come so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.count(target) >= times, 30), target

    def count(self, target: str) -> int:
        return sum(targets.count(target) for targets in self.connections)


def _behind(targets: list[str], target: str) -> list[str]:
    return targets[targets.index(target) + 1 :]


def says(*pieces: bytes, close: bool = True) -> Fault:
    """Send these, and close in good order, or leave it at that."""

    def fault(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        if close:
            connection.shutdown(socket.SHUT_RDWR)

    return fault


def endlessly(begin: bytes, again: bytes) -> Fault:
    """Send `begin`, and then `again` until the other side has had enough."""

    def fault(connection: socket.socket) -> None:
        connection.sendall(begin)
        block = again * (65536 // len(again) + 1)
        while True:
            connection.sendall(block)

    return fault
