"""Clients that never retry, and workers that answer them: what a restart, a reload or a drain must not be felt by."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from processes import PATIENCE, PlainWorker, connect, exchange, heads_on

Address = tuple[str, int]
_Crowd = TypeVar("_Crowd", bound="Crowd")


class AnsweringWorker(PlainWorker):
    """Answers every request with its own name, as long as it is asked; bodies have a Content-Length."""

    def __init__(self, at: Path | socket.socket | None, name: str) -> None:
        """In this directory, on this socket, which is bound already, or on a port of loopback."""
        self.name = name
        self.answered = 0
        self._lock = threading.Lock()
        super().__init__(at / f"{name}.sock" if isinstance(at, Path) else at, self._converse)

    def heard(self, head: bytes) -> None:
        """Told of the head of each request, in the thread of its connection."""

    def _converse(self, connection: socket.socket) -> None:
        for head in heads_on(connection):
            self.heard(head)
            with self._lock:
                self.answered += 1
            name = self.name.encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))


class Crowd:
    """Clients that send requests, each in a thread of its own, until the crowd is left; a context manager."""

    def __init__(self, address: Address, requests: Iterable[bytes]) -> None:
        self.failures: list[str] = []
        self.requests = 0
        """How many have ended."""
        self._changed = threading.Condition()
        self._address = address
        self._ended = False
        self._threads = [threading.Thread(target=self._run, args=(request,)) for request in requests]

    def _run(self, request: bytes) -> None:
        raise NotImplementedError

    def _count(self, failure: str = "") -> None:
        with self._changed:
            self.requests += 1
            if failure:
                self.failures.append(failure)
            self._changed.notify_all()

    def _reaches(self, count: int, ended: Callable[[], object]) -> bool:
        """Wait until so many more requests have ended, or `ended` says something."""
        with self._changed:
            until = self.requests + count
            return bool(self._changed.wait_for(lambda: self.requests >= until or ended(), PATIENCE))

    def __enter__(self: _Crowd) -> _Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()


class BusyClients(Crowd):
    """Clients on connections that are kept alive, each sending its next request as soon as it has its answer.

    A connection is given up only where its answer says so. A request that fails, in whatever way, is a failure, and
    ends its client.
    """

    def __init__(self, count: int, address: Address, request: Callable[[int], bytes]) -> None:
        super().__init__(address, map(request, range(count)))

    def _run(self, request: bytes) -> None:
        try:
            while not self._ended:
                with connect(self._address) as connection:
                    self._use(connection, request)
        except (OSError, AssertionError) as error:
            self.failures.append(repr(error))

    def _use(self, connection: socket.socket, request: bytes) -> None:
        while not self._ended:
            answer = exchange(connection, request)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            self._count()
            if b"\r\nConnection: close\r\n" in answer:
                return

    def more(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        assert self._reaches(count, lambda: self.failures), f"{self.requests} requests were answered, and no more"
        assert not self.failures


def sync_of(number: int) -> bytes:
    """A sync that goes on, of a user of one's own (the first part of the token is the localpart in base64)."""
    token = f"syt_{'dXNlcg'}{number:02d}_abcdefghijklmnopqrst_0abcde"
    return (
        f"GET /_matrix/client/v3/sync?since=s{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
