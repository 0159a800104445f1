"""The clients: closed loop, fixed rate, media, long polls. An address is a (host, port) pair or a UNIX path.

Every answer is checked; a wrong or missing one raises `LoadError`, because a fast proxy that answers wrongly is no
result. Nothing here knows which program it talks to.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from attrs import define, field

from benchmarks import traffic

Address = tuple[str, int] | str

PATIENCE = 30.0
"""Seconds without any answer after which a run is given up."""

_BATCH = 32
_STATUS = b"HTTP/1.1 200 "
_END = b"\r\n\r\n"


class LoadError(Exception):
    """A sentence about the answer that did not come or was not the right one."""


def connect(address: Address) -> socket.socket:
    """A connected, blocking socket with `PATIENCE` as its timeout."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextmanager
def _checked(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LoadError(f"{what}: {error}") from error


@define(eq=False)
class _Clients:
    """Connected sockets under one epoll, and the beginnings of answers that came in pieces."""

    sockets: Mapping[int, socket.socket]
    epoll: select.epoll
    begun: dict[int, bytes] = field(factory=dict)

    def answered(self, number: int) -> bool:
        """Reads from this socket; True if that completes the 1 KiB answer."""
        data = self.sockets[number].recv(65536)
        if not data:
            raise LoadError("the proxy closed a connection while an answer was due")
        if number in self.begun:
            data = self.begun.pop(number) + data
        if data.endswith(traffic.ANSWER_TAIL) and data.startswith(_STATUS):
            return True
        if not _STATUS.startswith(data[: len(_STATUS)]):
            raise LoadError(f"the proxy answered {data[:80]!r}")
        if len(data) > 2 * len(traffic.ANSWER_BODY):
            raise LoadError(f"the proxy sent more than the answer: {data[-80:]!r}")
        self.begun[number] = data
        return False


@contextmanager
def _clients(addresses: Sequence[Address], connections: int) -> Iterator[_Clients]:
    """So many connections in all, to each of the addresses as many."""
    with ExitStack() as stack, _checked("while small requests were sent"):
        epoll = stack.enter_context(select.epoll())
        sockets = {}
        for number in range(connections):
            sock = stack.enter_context(connect(addresses[number % len(addresses)]))
            sockets[sock.fileno()] = sock
            epoll.register(sock, select.EPOLLIN)
        yield _Clients(sockets, epoll)


def closed_loop(address: Address, requests: Sequence[bytes], connections: int, seconds: float, *others: Address) -> int:
    """Sends the next request as soon as one is answered; returns the number of answers. `others`: shared with these."""
    following = itertools.cycle(requests).__next__
    with _clients((address, *others), connections) as clients:
        for sock in clients.sockets.values():
            sock.send(following())
        count, open_requests, end = 0, connections, time.perf_counter() + seconds
        while open_requests:
            more = time.perf_counter() < end
            for number, _ in _ready(clients.epoll):
                if clients.answered(number):
                    count += 1
                    if more:
                        clients.sockets[number].send(following())
                    else:
                        open_requests -= 1
    return count


def paced(address: Address, requests: Sequence[bytes], connections: int, rate: float, seconds: float) -> list[float]:
    """Sends `rate` requests a second, come what may; returns the seconds from when each was due to its answer.

    A request that found no idle connection waits, and its wait counts.
    """
    following = itertools.cycle(requests).__next__
    total, due = int(rate * seconds), dict[int, float]()
    latencies: list[float] = []
    with _clients((address,), connections) as clients:
        idle = deque(clients.sockets)
        begin, sent = time.perf_counter(), 0
        while len(latencies) < total:
            next_due = begin + sent / rate
            while idle and sent < total and next_due <= time.perf_counter():
                number = idle.popleft()
                due[number] = next_due
                clients.sockets[number].send(following())
                sent += 1
                next_due = begin + sent / rate
            pause = max(0.0, next_due - time.perf_counter()) if idle and sent < total else PATIENCE
            # select() waits in microseconds, epoll only in milliseconds
            ready, _, _ = select.select([clients.epoll], [], [], pause)
            if not ready and pause == PATIENCE:
                raise LoadError(f"no answer within {PATIENCE:.0f} s")
            for number, _ in clients.epoll.poll(0):
                if clients.answered(number):
                    latencies.append(time.perf_counter() - due.pop(number))
                    idle.append(number)
    return latencies


def _ready(epoll: select.epoll) -> list[tuple[int, int]]:
    ready = epoll.poll(PATIENCE)
    if not ready:
        raise LoadError(f"no answer within {PATIENCE:.0f} s")
    return ready


def ask(address: Address, request: bytes) -> bytes:
    """The body of the answer to one small request on a connection of its own."""
    with _checked("while one request was sent"), connect(address) as sock:
        sock.sendall(request)
        return _answer(sock, bytearray(64 * 1024))


def download(address: Address, times: int, expected: bytes | None = None) -> None:
    """Fetches the media `times` times on one connection; compares it with `expected`, if given."""
    buffer = bytearray(traffic.MIB if expected is None else 2 * traffic.MEDIA_SIZE)
    with _checked("during a download"), connect(address) as sock:
        for _ in range(times):
            sock.sendall(traffic.download_request())
            received = _answer(sock, buffer, keep=expected is not None)
            if expected is not None and received != expected:
                raise LoadError("the media that arrived is not the media that was sent")


def upload(address: Address, content: bytes, times: int) -> None:
    """Sends `content` `times` times on one connection."""
    buffer = bytearray(64 * 1024)
    with _checked("during an upload"), connect(address) as sock:
        for _ in range(times):
            sock.sendall(traffic.upload_head())
            sock.sendall(content)
            _answer(sock, buffer)


def _answer(sock: socket.socket, buffer: bytearray, keep: bool = True) -> bytes:
    """Reads one answer with a Content-Length; its body, or nothing if `keep` is false and `buffer` is used over."""
    view, filled = memoryview(buffer), 0
    while (end := buffer.find(_END, 0, filled)) < 0:
        filled += _receive(sock, view[filled:])
    head = bytes(view[:end]).lower()
    if not head.startswith(_STATUS.lower()):
        raise LoadError(f"the proxy answered {head[:80]!r}")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    if len(lengths) != 1:
        raise LoadError(f"the proxy sent {len(lengths)} Content-Length lines")
    begin = end + len(_END)
    left = lengths[0] - (filled - begin)
    while left > 0:
        size = _receive(sock, view[filled:] if keep else view)
        filled += size if keep else 0
        left -= size
    if left < 0:
        raise LoadError(f"the proxy sent {-left} bytes more than it announced")
    return bytes(view[begin:filled]) if keep else b""


def _receive(sock: socket.socket, room: memoryview) -> int:
    size = sock.recv_into(room)
    if not size:
        raise LoadError("the proxy closed a connection while an answer was due")
    return size


@contextmanager
def long_polls(address: Address, count: int, held: Callable[[], int]) -> Iterator[None]:
    """Keeps `count` long polls open for the length of the block; `held` tells how many a worker holds.

    They are opened a few at a time, each batch only when the worker holds the last one, so that no listen queue
    overflows. When the block ends the caller has released them, and each must have been answered.
    """
    polls = traffic.long_polls()
    with _clients((address,), 0) as clients, ExitStack() as stack:
        sockets: list[socket.socket] = []
        while len(sockets) < count:
            for _ in range(min(_BATCH, count - len(sockets))):
                sock = stack.enter_context(connect(address))
                sockets.append(sock)
                sock.sendall(next(polls))
            await_held(held, len(sockets))
        yield
        clients.sockets = {sock.fileno(): sock for sock in sockets}
        _collect(clients, sockets)


def await_held(held: Callable[[], int], expected: int) -> None:
    """Wait until a worker holds so many long polls."""
    end = time.perf_counter() + PATIENCE
    while (seen := held()) != expected:
        if time.perf_counter() > end:
            raise LoadError(f"the worker holds {seen} long polls of the {expected} that were sent")
        time.sleep(0.001)


def _collect(clients: _Clients, sockets: Iterable[socket.socket]) -> None:
    waiting = {sock.fileno() for sock in sockets}
    for sock in sockets:
        clients.epoll.register(sock, select.EPOLLIN)
    while waiting:
        for number, _ in _ready(clients.epoll):
            if clients.answered(number):
                waiting.discard(number)
