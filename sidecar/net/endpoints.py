"""Client endpoints: a UNIX socket without the wrappers that Twisted's own puts around each connection.

Twisted's endpoint keeps a factory, a protocol and a Deferred for every connection for as long as it lives, which is a
quarter of the memory of a long poll that waits. Knows nothing of what is sent.
"""

from __future__ import annotations

import errno
import os
from math import ceil
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IConnector, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""What the system says when we, and not the worker, are at the end of our means."""


class _Attempt(ClientFactory):
    """One attempt to connect. The connector refers to it, so it keeps nothing once that has ended."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, outcome: Deferred[Any]) -> None:
        self._factory: IProtocolFactory | None = factory
        self._outcome: Deferred[Any] | None = outcome

    def buildProtocol(self, addr: Any) -> Any:
        assert self._factory is not None
        protocol: IProtocol | None = self._factory.buildProtocol(addr)
        self._factory = self._outcome = None
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.errback(reason)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class UnixSocketEndpoint:
    """A UNIX socket at `path`; an attempt fails after `timeout` seconds.

    The Deferred of `connect` only tells of failure; a connection tells of itself, in its `connectionMade`.
    """

    reactor: Any
    path: str
    timeout: float

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        outcome: Deferred[Any] = Deferred()
        try:
            self.reactor.connectUNIX(self.path, _Attempt(factory, outcome), timeout=self.timeout)
        except OSError:
            # No descriptor could be had for it.
            outcome.errback(Failure())
        return outcome


def worker_endpoint(reactor: Any, description: str, timeout: float) -> tuple[IStreamClientEndpoint, str | None]:
    """The endpoint for a Twisted client endpoint string, and its path if it is a UNIX socket.

    `timeout` (seconds) holds for one attempt to connect, unless the string has one of its own.
    """
    stated = ":timeout=" in description
    endpoint: Any = clientFromString(reactor, description if stated else f"{description}:timeout={ceil(timeout)}")
    if isinstance(endpoint, UNIXClientEndpoint):
        path: Any = endpoint._path
        return UnixSocketEndpoint(reactor, path, endpoint._timeout if stated else timeout), path
    return endpoint, None


def generation_of(path: str | None) -> int:
    """A number that changes when a worker listens at `path` anew; 0 where nothing is there, or it is no UNIX socket."""
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
    """The worker may well be there, but its backlog is full, or we have nothing left to connect with.

    Linux answers a connect to a full UNIX backlog with EAGAIN; Twisted takes that for «in progress» and then reports
    a bare ConnectError for a connection that ended.
    """
    if type(error) is ConnectError and error.osError is None:
        return True
    return is_shortage(error) or (isinstance(error, ConnectError) and error.osError == errno.EAGAIN)


def is_shortage(error: BaseException | None) -> bool:
    """This process has no descriptor or no memory for a connection, which says nothing of the worker."""
    number = error.osError if isinstance(error, ConnectError) else getattr(error, "errno", None)
    return number in _EXHAUSTED


def describe(error: BaseException | None) -> str:
    """A connection error in a few words, without Twisted's class names."""
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return os.strerror(number)
    return str(error).strip() or type(error).__name__
