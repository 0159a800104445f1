"""Listens on an endpoint that a Twisted server endpoint string describes, and says in one sentence why it cannot.

Knows nothing of what is served there.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure as TwistedFailure

from sidecar.errors import SidecarError
from sidecar.telemetry import logger

_log = logger("sidecar")

BACKLOG = 1024
"""Clients that may wait to be accepted; the kernel takes its own limit (net.core.somaxconn) where that is lower."""
_WITH_BACKLOG = ("ssl", "tcp", "tcp6", "unix")


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen at once. Raises SidecarError."""
    results: list[Any] = []
    try:
        serverFromString(reactor, _with_backlog(description)).listen(factory).addBoth(results.append)
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise SidecarError(f"cannot listen on {description}: {_unusable(description, error)}") from error
    if not results:
        raise SidecarError(f"cannot listen on {description}: the endpoint did not say whether it listens")
    result = results[0]
    if isinstance(result, TwistedFailure):
        raise SidecarError(f"cannot listen on {description}: {_why(result.value)}") from result.value
    port: IListeningPort = result
    return port


def listen_where_possible(
    reactor: Any, description: str, factory: IProtocolFactory, *, first: bool
) -> list[IListeningPort]:
    """The same; nothing, and a line in the log, for a `::1` that this host lacks, unless it is the `first`."""
    try:
        return [listen(reactor, description, factory)]
    except SidecarError as error:
        if first or not _lacks_ipv6(description, error):
            raise
    _log.warn("not listening on {address}: this host has no ::1", address=description)
    return []


def _lacks_ipv6(description: str, error: SidecarError) -> bool:
    cause = error.__cause__
    number = getattr(cause.socketError, "errno", None) if isinstance(cause, CannotListenError) else None
    return "interface=\\:\\:1" in description and number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _with_backlog(description: str) -> str:
    """With room for a burst of clients where nothing is said of it: Twisted's own is 50.

    Beyond it the kernel drops a client's first packet, which it repeats after a second.
    """
    kind = description.partition(":")[0]
    stated = ":backlog=" in description
    return f"{description}:backlog={BACKLOG}" if kind in _WITH_BACKLOG and not stated else description


def address(port: IListeningPort) -> str:
    """Where a port listens, for people."""
    host: Any = port.getHost()
    if hasattr(host, "port"):
        return f"{host.host}:{host.port}"
    name: bytes | str = getattr(host, "name", str(host))
    return os.fsdecode(name)


def _unusable(description: str, error: Exception) -> str:
    if isinstance(error, LookupError) and "systemd:" in description:
        return "systemd has passed no such socket; start it with `systemctl start matrix-sidecar.socket`"
    return str(error)


def _why(error: BaseException | None) -> str:
    """In the words of the operating system."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error)
