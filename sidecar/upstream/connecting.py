"""Connections to workers, made on plain sockets of our own: to a UNIX socket, or over TCP.

Knows nothing of what is sent.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Protocol

from attrs import frozen
from twisted.internet.error import ConnectError, TCPTimedOutError, getConnectError
from twisted.internet.interfaces import IDelayedCall

from sidecar.config.endpoint_strings import client_parts
from sidecar.transport.link import Handler
from sidecar.transport.poller import WRITE, Poller
from sidecar.transport.transport import SocketLink
from sidecar.upstream.resolving import Names

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Errors that say that we, and not the worker, are out of resources."""

MakeHandler = Callable[[], Handler]
Failed = Callable[[BaseException], None]


class WorkerEndpoint(Protocol):
    """Where a worker is."""

    def connect(self, handler: MakeHandler, failed: Failed) -> None:
        """Make a link and call its handler, or report why not. Both happen after this returns."""

    def follow(self, moved: Callable[[], None]) -> None:
        """Call `moved` when its addresses change: connections that were made before may lead to another host."""

    def ignore(self, moved: Callable[[], None]) -> None:
        """Undo `follow`."""


@frozen(eq=False)
class UnixEndpoint:
    """A UNIX socket at `path`. Connecting succeeds or fails at once."""

    poller: Poller
    path: str
    half_closeable: bool = False

    def connect(self, handler: MakeHandler, failed: Failed) -> None:
        try:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self.poller.soon(partial(failed, error))
            return
        try:
            made.connect(self.path)
        except OSError as error:
            made.close()
            self.poller.soon(partial(failed, _connect_error(error)))
        else:
            self.poller.soon(partial(_begin, self, made, "", handler, failed))

    def follow(self, moved: Callable[[], None]) -> None:
        """Ignored: a path does not change. The inode tells what listens there."""

    def ignore(self, moved: Callable[[], None]) -> None:
        """See `follow`."""


@frozen(eq=False)
class TcpEndpoint:
    """A TCP port. The addresses of a name are tried one after another; an attempt fails after `timeout` seconds."""

    poller: Poller
    names: Names
    host: str
    port: int
    timeout: float
    half_closeable: bool = False

    def connect(self, handler: MakeHandler, failed: Failed) -> None:
        attempt = _Attempt(self, handler, failed)
        if is_name(self.host):
            soon = self.poller.soon
            self.names.find(
                self.host,
                lambda addresses: soon(partial(attempt.begin, addresses)),
                lambda error: soon(partial(failed, error)),
            )
        else:
            self.poller.soon(partial(attempt.begin, (self.host,)))

    def follow(self, moved: Callable[[], None]) -> None:
        if is_name(self.host):
            self.names.follow(self.host, moved)

    def ignore(self, moved: Callable[[], None]) -> None:
        self.names.ignore(self.host, moved)


class _Attempt:
    """One attempt to connect over TCP."""

    def __init__(self, endpoint: TcpEndpoint, handler: MakeHandler, failed: Failed) -> None:
        self._endpoint = endpoint
        self._handler = handler
        self._failed = failed
        self._socket: socket.socket | None = None
        self._limit: IDelayedCall | None = None
        self._left: list[str] = []
        self._host = ""
        self._ends = 0.0

    def begin(self, addresses: Sequence[str]) -> None:
        """The addresses are known; each gets its share of the time."""
        self._left = list(addresses)
        self._ends = self._endpoint.names.reactor.seconds() + self._endpoint.timeout
        self._next()

    def _next(self) -> None:
        endpoint = self._endpoint
        host = self._host = self._left.pop(0)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            made = self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._failed(error)
            return
        number = made.connect_ex((host, endpoint.port))
        if number not in (0, errno.EINPROGRESS):
            self._end(_connect_error(OSError(number, os.strerror(number))))
            return
        endpoint.poller.add(made.fileno(), self, WRITE)
        reactor = endpoint.names.reactor
        seconds = max(0.0, self._ends - reactor.seconds()) / (len(self._left) + 1)
        self._limit = reactor.callLater(seconds, self._too_late)

    def _too_late(self) -> None:
        assert self._socket is not None
        self._endpoint.poller.remove(self._socket.fileno())
        self._end(TCPTimedOutError(errno.ETIMEDOUT, "timed out"))

    def do_write(self) -> None:
        """The attempt has ended."""
        made, self._socket = self._socket, None
        assert made is not None
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._endpoint.poller.remove(made.fileno())
        number = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._socket = made
            self._end(_connect_error(OSError(number, os.strerror(number))))
        else:
            _begin(self._endpoint, made, self._host, self._handler, self._failed)

    def do_read(self) -> None:
        """The attempt has failed; `writable` finds that out."""
        self.do_write()

    def do_fail(self) -> None:
        """The callback raised an exception."""

    def _end(self, error: BaseException) -> None:
        made, self._socket = self._socket, None
        if made is not None:
            made.close()
        if self._left:
            # Close it after this turn: a new socket may get its number while events for it are pending.
            self._endpoint.poller.soon(self._next)
        else:
            self._failed(error)


def _begin(
    endpoint: UnixEndpoint | TcpEndpoint, made: socket.socket, peer: str, handler: MakeHandler, failed: Failed
) -> None:
    try:
        link = SocketLink(endpoint.poller, made, peer, half_closeable=endpoint.half_closeable)
    except OSError as error:
        made.close()
        failed(_connect_error(error))
        return
    link.begin(handler())


def _connect_error(error: OSError) -> ConnectError:
    found: ConnectError = getConnectError((error.errno, error.strerror))
    return found


def worker_endpoint(
    names: Names, poller: Poller, description: str, timeout: float, *, half_closeable: bool = False
) -> tuple[WorkerEndpoint, str | None]:
    """The endpoint of a Twisted client endpoint string, and its path if it is a UNIX socket.

    `timeout` (seconds) is for one attempt to connect, unless the string has its own. `half_closeable`: each direction
    of a connection is closed separately.
    """
    kind, values = client_parts(description)
    if kind == "unix":
        return UnixEndpoint(poller, values["path"], half_closeable), values["path"]
    seconds = float(values.get("timeout") or timeout)
    return TcpEndpoint(poller, names, values["host"], int(values["port"]), seconds, half_closeable), None


def is_name(host: str) -> bool:
    """Whether a host has to be looked up."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def generation_of(path: str | None) -> int:
    """A number that changes when a worker listens at `path` anew; 0 if nothing is there, or it is no UNIX socket."""
    if path is None:
        return 0
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return hash((status.st_dev, status.st_ino, status.st_ctime_ns))


def missing(path: str) -> ConnectError | None:
    """The error of connecting to `path` if nothing is there."""
    try:
        os.stat(path)
    except OSError as error:
        return ConnectError(error.errno, error.strerror)
    return None


def is_busy(error: BaseException | None) -> bool:
    """The worker may be up, but its backlog is full, or we are out of resources.

    Linux answers a connect to a full UNIX backlog with EAGAIN. Twisted, which health checks use, takes that for "in
    progress" and then reports a bare ConnectError.
    """
    if type(error) is ConnectError and error.osError is None:
        return True
    return is_shortage(error) or (isinstance(error, ConnectError) and error.osError == errno.EAGAIN)


def is_shortage(error: BaseException | None) -> bool:
    """This process is out of descriptors or memory, which says nothing about the worker."""
    number = error.osError if isinstance(error, ConnectError) else getattr(error, "errno", None)
    return number in _EXHAUSTED


def describe(error: BaseException | None) -> str:
    """A connection error in a few words, without Twisted's class names."""
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return os.strerror(number)
    return str(error).strip() or type(error).__name__
