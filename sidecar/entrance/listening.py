"""Listens on the endpoint of a Twisted server endpoint string, and says in one sentence if it cannot.

Knows nothing of what is served there.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure as TwistedFailure

from sidecar.errors import SidecarError
from sidecar.observe.telemetry import logger

_log = logger("sidecar")

BACKLOG = 1024
"""Clients that may wait to be accepted; the kernel uses its own limit (net.core.somaxconn) if that is lower."""
_WITH_BACKLOG = ("ssl", "tcp", "tcp6", "unix")
_FIRST_PASSED = 3
"""Descriptor of the first socket that systemd passes (sd_listen_fds(3))."""
_BY_NAME = re.compile(r"systemd:(?:domain=)?(?:INET6?|UNIX):name=([^:]+)")


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen at once. Raises SidecarError."""
    try:
        return _listen(serverFromString(reactor, _with_backlog(description)), description, factory)
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise SidecarError(f"cannot listen on {description}: {_unusable(description, error)}") from error


def _listen(endpoint: IStreamServerEndpoint, description: str, factory: IProtocolFactory) -> IListeningPort:
    results: list[Any] = []
    endpoint.listen(factory).addBoth(results.append)
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
    """The same, on every socket that systemd has passed under a name.

    If this host has no `::1`, logs that and listens on nothing, unless it is the `first`. Raises SidecarError.
    """
    sockets = _passed(description)
    if len(sockets) > 1:
        endpoints = [AdoptedStreamServerEndpoint(reactor, *each) for each in sockets]
        return [_listen(endpoint, description, factory) for endpoint in endpoints]
    try:
        return [listen(reactor, description, factory)]
    except SidecarError as error:
        if first or not _lacks_ipv6(description, error):
            raise
    _log.warn("not listening on {address}: this host has no ::1", address=description)
    return []


def _passed(description: str) -> list[tuple[int, int]]:
    """Descriptor and family of each socket that systemd has passed under the name in a description.

    All `ListenStream=` of a unit share its `FileDescriptorName=`, whether for IPv4, IPv6 or a path. Twisted would
    listen on the last one only, and removes the names from `os.environ` when it is imported.
    """
    match = _BY_NAME.fullmatch(description)
    environment = _at_the_start() if match is not None else {}
    if match is None or environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    return [(number, _family(number)) for number, name in enumerate(names, _FIRST_PASSED) if name == match[1]]


def _at_the_start() -> dict[str, str]:
    """The environment with which this process was started (proc(5)); empty where that cannot be read."""
    try:
        octets = Path("/proc/self/environ").read_bytes()
    except OSError:
        return {}
    lines = octets.decode("utf-8", "surrogateescape").split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _family(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return copy.family


def _lacks_ipv6(description: str, error: SidecarError) -> bool:
    cause = error.__cause__
    number = getattr(cause.socketError, "errno", None) if isinstance(cause, CannotListenError) else None
    return "interface=\\:\\:1" in description and number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _with_backlog(description: str) -> str:
    """Adds a backlog for a burst of clients, if the string has none: Twisted's own is 50.

    If it is full, the kernel drops a client's first packet, which the client repeats after a second.
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
    """In the words of the operating system; if a port is taken, with the command that shows by whom."""
    port = None
    if isinstance(error, CannotListenError):
        port, error = error.port, error.socketError
    why = getattr(error, "strerror", None) or str(error)
    if isinstance(port, int) and getattr(error, "errno", None) == errno.EADDRINUSE:
        return f"{why}; `ss -ltnp 'sport = :{port}'` shows the program that listens there"
    return why
