"""A crowd of slow clients on one thread: they begin requests that they do not end, or ask for more than they read.

`python -m benchmarks.crowd HOST PORT COUNT` is one in a process of its own, with so many of each kind, in front of the
worker of the benchmarks; it says `connected`, and ends with its standard input.
"""

from __future__ import annotations

import itertools
import resource
import select
import socket
import sys
import threading
from enum import Enum
from types import TracebackType

from attrs import define, field

from benchmarks import traffic

Address = tuple[str, int]

INTERVAL = 1.0
"""Seconds after which each client sends or reads a little more."""
PARTS = 100
"""Of the crowd, which take turns: slow clients do not keep step."""


class Slow(Enum):
    """What a client is slow at."""

    HEAD = "a head, octet by octet"
    BODY = "a body, octet by octet"
    READING = "reading a long answer"


BEGINNINGS = {
    Slow.HEAD: traffic.small_requests(1)[0][:-2],
    Slow.BODY: traffic.upload_head() + b"{",
    Slow.READING: traffic.download_request(),
}
"""What each sends first. An octet more of it, whichever, does not make it whole."""


@define(eq=False)
class _Client:
    slow: Slow
    connection: socket.socket
    ended: bool = False


@define(eq=False)
class Crowd:
    """As a context: so many clients of each kind are connected, and go on until the end of the block."""

    address: Address
    count: int
    """Of each kind."""
    _clients: list[_Client] = field(factory=list)
    _leaving: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Crowd:
        raise_open_files(2 * self.count * len(Slow))
        for _ in range(self.count):
            for kind in Slow:
                connection = socket.socket()
                if kind is Slow.READING:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(30)
                connection.connect(self.address)
                connection.sendall(BEGINNINGS[kind])
                connection.setblocking(False)
                self._clients.append(_Client(kind, connection))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        parts = [self._clients[part::PARTS] for part in range(PARTS)]
        for part in itertools.cycle(parts):
            if self._leaving.wait(INTERVAL / PARTS):
                return
            for client in part:
                if not client.ended:
                    self._turn(client)

    def _turn(self, client: _Client) -> None:
        try:
            if client.slow is Slow.READING:
                client.ended = client.connection.recv(1) == b""
            else:
                client.connection.send(b"x")
        except BlockingIOError:
            return
        except ConnectionError:
            client.ended = True

    def answered(self, kind: Slow, limit: float = 30.0) -> set[bytes]:
        """Wait until every client of this kind has been told something; the status lines."""
        poll = select.poll()
        left = {client.connection.fileno(): client for client in self._clients if client.slow is kind}
        for descriptor in left:
            poll.register(descriptor, select.POLLIN)
        told = set()
        while left:
            ready = poll.poll(limit * 1000)
            assert ready, f"{len(left)} clients that were slow at {kind.value} have been told nothing"
            for descriptor, _ in ready:
                poll.unregister(descriptor)
                told.add(_first_line(left.pop(descriptor).connection))
        return told

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        for client in self._clients:
            client.connection.close()


def _first_line(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096).split(b"\r\n")[0]
    except ConnectionError as error:
        return type(error).__name__.encode()


def raise_open_files(needed: int) -> None:
    """Lift the soft limit of this process, in which both ends of a connection may lie."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed + 1000
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"{wanted} open files are needed, {hard} are allowed"
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    with Crowd((sys.argv[1], int(sys.argv[2])), int(sys.argv[3])):
        print("connected", flush=True)
        sys.stdin.read()
