"""Clients that never retry, and say in one word what became of each request."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Sequence

from attrs import define
from busy import Crowd
from processes import connect

Address = tuple[str, int]

REFUSED, RESET, CLOSED, CUT, HUNG = "refused", "reset", "closed without an answer", "cut", "hung"


@define
class Asked:
    """What became of one request: a status, or one of the words above; and the body as far as it came."""

    outcome: str
    body: bytes = b""
    fields: str = ""


def request(target: str, method: str = "GET", body: bytes | None = None, *lines: str) -> bytes:
    """A request of a client that would send another one on the same connection."""
    length = () if body is None else (f"Content-Length: {len(body)}",)
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *length, *lines])
    return f"{head}\r\n\r\n".encode() + (body or b"")


def ask(address: Address, octets: bytes) -> Asked:
    """Send this on a connection of its own and read the answer to its end."""
    try:
        with connect(address) as connection:
            connection.sendall(octets)
            return answer_on(connection, octets.split(b" ", 1)[0].decode())
    except ConnectionRefusedError:
        return Asked(REFUSED)
    except ConnectionError:
        return Asked(RESET)


def answer_on(connection: socket.socket, method: str = "GET") -> Asked:
    """The answer to what was sent on this connection."""
    response = http.client.HTTPResponse(connection, method=method)
    asked = Asked(HUNG)
    try:
        response.begin()
        asked.fields = str(response.headers)
        asked.body = response.read()
        asked.outcome = str(response.status)
    except http.client.IncompleteRead as error:
        asked.outcome, asked.body = CUT, error.partial
    except http.client.RemoteDisconnected:
        asked.outcome = CLOSED
    except http.client.HTTPException as error:
        asked.outcome = f"not HTTP: {error!r}"
    except TimeoutError:
        asked.outcome = HUNG
    except ConnectionError:
        asked.outcome = CUT if asked.fields else RESET
    finally:
        response.close()
    return asked


class Persistent(Crowd):
    """Clients on connections that are kept alive, which go on after a failure, and count it.

    A connection is given up where its answer says so, or when a request on it has failed.
    """

    def __init__(self, count: int, address: Address) -> None:
        super().__init__(address, [request(f"/_matrix/client/v3/persistent/{number}") for number in range(count)])

    def _run(self, octets: bytes) -> None:
        while not self._ended:
            try:
                with connect(self._address) as connection:
                    while not self._ended and self._asks(connection, octets):
                        pass
            except ConnectionError:
                self._count(REFUSED)

    def _asks(self, connection: socket.socket, octets: bytes) -> bool:
        """Whether another request may follow on this connection."""
        try:
            connection.sendall(octets)
            answer = answer_on(connection)
        except ConnectionError:
            answer = Asked(RESET)
        self._count("" if answer.outcome == "200" else answer.outcome)
        return answer.outcome == "200" and "\nConnection: close" not in f"\n{answer.fields}"

    def more(self, count: int) -> None:
        """Wait until so many more requests have ended, however they did."""
        assert self._reaches(count, lambda: False), self.requests


class AtOnce:
    """Requests that are sent at the same moment, each on a connection of its own; what became of them."""

    def __init__(self, address: Address, requests: Sequence[bytes]) -> None:
        self.answers: list[Asked | None] = [None] * len(requests)
        start = threading.Barrier(len(requests))

        def run(position: int, octets: bytes) -> None:
            start.wait()
            self.answers[position] = ask(address, octets)

        self._threads = [threading.Thread(target=run, args=each) for each in enumerate(requests)]
        for thread in self._threads:
            thread.start()

    def outcomes(self) -> list[str]:
        """In the order of the requests, when all have ended."""
        for thread in self._threads:
            thread.join()
        return [answer.outcome for answer in self.answers if answer is not None]
