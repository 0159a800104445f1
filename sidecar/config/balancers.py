"""`balancers:`, as frozen values with their defaults: connections that are passed on as they are, to one of several.

Durations are seconds (`float`). What HAProxy has under another name is told with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from attrs import field, frozen

from sidecar.config import kinds
from sidecar.config.endpoint_strings import address_of, client_parts, entrance, is_foreign
from sidecar.config.kinds import Count, CountOrZero, Duration, DurationOrZero, Kind, RefusedError, choice, doc, shown
from sidecar.document import KeyPath
from sidecar.errors import Severity

BalancerFault = tuple[KeyPath, str, Severity]
_ERROR, _WARNING = Severity.ERROR, Severity.WARNING


def _read_question(value: Any, base: str) -> str:
    text = kinds.read_line(value, base)
    method, space, target = text.partition(" ")
    if not (space and target.startswith("/") and method.isascii() and method.isalpha() and method.isupper()):
        raise RefusedError(f"{shown(text)} is no method with a path; write for example `GET /health`")
    if not target.isascii() or " " in target:
        raise RefusedError(f"{shown(text)} holds more than a path; write for example `GET /health`")
    return text


HttpQuestion = Annotated[str, Kind("method and path", "OPTIONS /master", _read_question)]
Port = Annotated[int, kinds.whole(1, 65535, "8008", "port")]
Status = Annotated[int, kinds.whole(100, 599, "200", "status")]
Balance = Annotated[Literal["least_connections", "first"], choice("balance", ("least_connections", "first"))]
OnDown = Annotated[Literal["keep", "close"], choice("on_down", ("keep", "close"))]


@frozen(kw_only=True)
class ServerCheck:
    """`check:` of a balancer. How each server is checked: `tcp` (it connects), `none` (never), or these keys."""

    SHORT: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tcp": {}, "none": {"off": True}}
    """What can stand in place of the keys."""

    http: HttpQuestion | None = field(
        default=None,
        metadata=doc(
            "HTTP request that checks a server, such as `OPTIONS /master`. Absent: the server only has to "
            "accept a connection."
        ),
    )
    expect: tuple[Status, ...] = field(default=(), metadata=doc("Statuses that count as up. Absent: 200 to 399."))
    port: Port | None = field(
        default=None, metadata=doc("Port of the server to check. Absent: the port that gets the connections.")
    )
    agent: Port | None = field(
        default=None,
        metadata=doc(
            "Port of an agent on the server that is also asked, as with HAProxy's `agent-check`. It answers "
            "`up`, `down`, `drain`, `maint`, `ready`, `50%` or `maxconn:30`. An agent that does not answer "
            "changes nothing."
        ),
    )
    interval: Duration = field(default=2.0, metadata=doc("From the end of a check to the next (HAProxy: `inter`)."))
    fast_interval: Duration | None = field(
        default=None,
        metadata=doc("The same while a server is about to go up or down (HAProxy: `fastinter`). Absent: interval."),
    )
    down_interval: Duration | None = field(
        default=None, metadata=doc("The same while a server is down (HAProxy: `downinter`). Absent: interval.")
    )
    rise: Count = field(
        default=2, metadata=doc("Number of checks in a row that must succeed until a server is up again.")
    )
    fall: Count = field(default=3, metadata=doc("Number of checks in a row that must fail until a server is down."))
    timeout: Duration | None = field(
        default=None, metadata=doc("How long a check may take. Absent: the shorter of interval and `connect`.")
    )
    off: bool = field(default=False, metadata={})
    """`none` was written; no key."""


@frozen(kw_only=True)
class BalancedServer:
    """`servers.NAME:` of a balancer."""

    endpoint: kinds.ClientEndpoint = field(
        metadata=doc("Where the server listens: `tcp:HOST:PORT`, or `unix:` and a path.")
    )
    weight: kinds.Weight = field(
        default=1.0, metadata=doc("Its share of the connections, compared with the other servers. 0: it gets none.")
    )
    connections: Count | None = field(
        default=None,
        metadata=doc("Maximum number of connections to this server (HAProxy: `maxconn`). Absent: no limit."),
    )


@frozen(kw_only=True)
class Balancer:
    """`balancers.NAME:`. A TCP load balancer. It forwards each connection unchanged to one server."""

    listen: tuple[kinds.ServerEndpoint, ...] = field(
        metadata=doc(
            "A Twisted server endpoint string, or a list of them. A balancer does not end TLS: it forwards TLS "
            "connections unchanged."
        )
    )
    servers: Mapping[kinds.Name, BalancedServer] = field(metadata=doc("The servers that get the connections."))
    balance: Balance = field(
        default="least_connections",
        metadata=doc(
            "`least_connections`: the server with the fewest connections for its weight. Servers with equally "
            "many take turns (HAProxy: `leastconn`). `first`: the first server in the file that is not full."
        ),
    )
    check: ServerCheck = field(factory=ServerCheck, metadata=doc("How a server is checked."))
    on_down: OnDown = field(
        default="keep",
        metadata=doc(
            "What happens to the connections of a server that goes down. `close` is HAProxy's `on-marked-down "
            "shutdown-sessions`."
        ),
    )
    connections: Count = field(
        default=1_000,
        metadata=doc(
            "Maximum number of client connections (HAProxy: `maxconn` of a frontend). More wait in the kernel's queue."
        ),
    )
    connections_per_address: Count | None = field(
        default=None,
        metadata=doc(
            "Maximum number of client connections from one address, or from one IPv6 /64. More are closed. "
            "Absent: limits.connections_per_address."
        ),
    )
    waiting: CountOrZero = field(
        default=1_000,
        metadata=doc("Maximum number of clients that wait because every server is down or full. More are closed."),
    )
    wait: DurationOrZero = field(
        default=30.0,
        metadata=doc("How long a client waits for a server (HAProxy: `timeout queue`). Then its connection is closed."),
    )
    read_ahead: kinds.Size = field(
        default=16 * 1024, metadata=doc("Bytes that the balancer reads from a client before a server is chosen.")
    )
    connect: Duration = field(
        default=5.0, metadata=doc("Timeout of one attempt to connect to a server (HAProxy: `timeout connect`).")
    )
    retries: CountOrZero = field(
        default=3,
        metadata=doc(
            "Maximum number of further attempts to connect (HAProxy: `retries`, `option redispatch`). Each goes "
            "to a server that has not been tried. If there is none, it goes to the same server again after "
            "retry_pause."
        ),
    )
    retry_pause: Duration = field(
        default=1.0, metadata=doc("Pause before another attempt, after all servers have failed.")
    )
    idle: Duration = field(
        default=900.0,
        metadata=doc(
            "How long a connection may be silent (HAProxy: `timeout client`, `timeout server`). Then it is closed."
        ),
    )
    keepalive: DurationOrZero = field(
        default=60.0,
        metadata=doc(
            "After this long without a byte, the kernel checks whether the other end is still there, on both "
            "sides (HAProxy: `option tcpka`). 0: never."
        ),
    )
    drain: DurationOrZero = field(
        default=5.0,
        metadata=doc(
            "How long connections may stay open when the sidecar stops, after it has answered the last request. "
            "Then they are closed, because clients with a connection pool do not close theirs."
        ),
    )


def balancer_faults(balancers: Mapping[str, Balancer], taken: Mapping[str, str]) -> Iterator[BalancerFault]:
    """What no key alone shows to be wrong; `taken` has the endpoints of other listeners, by whose they are."""
    owners = dict(taken)
    own = {address for each in balancers.values() for text in each.listen if (address := address_of(text)) is not None}
    for name, balancer in balancers.items():
        path = ("balancers", name)
        if not balancer.servers:
            yield (
                (*path, "servers"),
                "there is no server; write for example `one: {endpoint: tcp:10.0.0.2:5432}`",
                _ERROR,
            )
        if not balancer.listen:
            yield (*path, "listen"), "the list is empty; write for example `tcp:5432:interface=127.0.0.1`", _ERROR
        for index, text in enumerate(balancer.listen):
            place = (*path, "listen", index) if len(balancer.listen) > 1 else (*path, "listen")
            yield from ((place, message, _ERROR) for message in _listen_faults(text))
            if text in owners and not text.startswith("tcp:0:"):  # any port that is free
                yield place, f"{owners[text]} listens there too; write another port", _ERROR
            owners[text] = f"balancers.{name}"
        for server, each in balancer.servers.items():
            if address_of(each.endpoint) in own:
                message = "a balancer listens there itself; give the address of the server"
                yield (*path, "servers", server, "endpoint"), message, _ERROR
        yield from (((*path, *key), message, severity) for key, message, severity in _check_faults(balancer))


def _listen_faults(text: str) -> Iterator[str]:
    door = entrance(text)
    if door.announced:
        yield "a balancer does not read the PROXY protocol; leave `haproxy:` out"
    elif door.tls is not None:
        yield "a balancer passes TLS on as it is and ends none; write `tcp:` and leave the key out"
    elif is_foreign(text):
        yield "a balancer listens on plain sockets only; write `tcp:`, `unix:` or `systemd:`"


def _check_faults(balancer: Balancer) -> Iterator[BalancerFault]:
    check = balancer.check
    if check.expect and check.http is None:
        yield (
            ("check", "expect"),
            "is about the answer to `http`, which is missing; write for example `http: GET /`",
            _ERROR,
        )
    for key in ("port", "agent"):
        local = [name for name, each in balancer.servers.items() if client_parts(each.endpoint)[0] == "unix"]
        if getattr(check, key) is not None and local:
            yield ("check", key), f"the server `{local[0]}` is a UNIX socket and has no ports; leave it out", _ERROR
    if check.off and balancer.on_down == "close":
        yield ("on_down",), "never happens, because `check: none` asks nobody; write `check: tcp`", _WARNING
