"""Listeners of a Synapse process: what each one serves, and which one takes our requests.

Source: Synapse config/server.py (parse_listener_def), app/homeserver.py and app/generic_worker.py (_listen_http).
Knows nothing of the process around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from sidecar.document import KeyPath
from sidecar.errors import Problem, nearest_name
from sidecar.synapse.files import Merged
from sidecar.synapse.names import RESOURCES

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_DEFAULT_ADDRESSES = ("::", "0.0.0.0")  # noqa: S104
_KINDS = ("http", "metrics", "manhole")
_WORTH = {"client": 64, "federation": 32, "media": 16, "keys": 4, "openid": 4, "consent": 4, "static": 1}
"""How much it matters to reach a resource, when a process spreads them over several listeners."""
_BROUGHT = {"federation": ("keys", "openid"), "client": ("static",)}
_LONGEST_SOCKET_PATH = 107
"""Octets in `sockaddr_un.sun_path`, without the final NUL (unix(7))."""


@frozen(kw_only=True)
class SynapseListener:
    """One entry of `listeners` or `worker_listeners`. Either `socket` is set, or `host` and `port`."""

    path: KeyPath
    kind: str
    resources: frozenset[str] = frozenset()
    socket: str | None = None
    host: str = ""
    port: int = 0
    everywhere: bool = False
    """It listens on every address of the host."""
    tls: bool = False
    x_forwarded: bool = False
    request_id_header: str | None = None

    @property
    def usable(self) -> bool:
        """Whether requests from outside can be forwarded to it."""
        return self.kind == "http" and not self.tls and not self.resources.isdisjoint(_WORTH)

    @property
    def endpoint(self) -> str:
        """The client endpoint string by which it is reached."""
        return f"unix:{escape(self.socket)}" if self.socket else f"tcp:{escape(self.host)}:{self.port}"

    @property
    def place(self) -> str:
        """Where it listens, for people."""
        return self.socket or f"port {self.port}"


def escape(value: str) -> str:
    """Write a value so that its colons and equal signs do not divide a Twisted endpoint string."""
    return re.sub(r"([\\:=])", r"\\\1", value)


def choose(listeners: Sequence[SynapseListener]) -> SynapseListener | None:
    """The listener that covers the most; among equals a UNIX socket, then one without `replication`, then the first."""

    def rank(listener: SynapseListener) -> tuple[int, bool, bool]:
        brought = {more for name in listener.resources for more in (name, *_BROUGHT.get(name, ()))}
        worth = sum(_WORTH.get(name, 0) for name in brought)
        return worth, listener.socket is not None, "replication" not in listener.resources

    return max((listener for listener in listeners if listener.usable), key=rank, default=None)


def read_listeners(config: Merged, key: str, problems: list[Problem], *, media: bool) -> tuple[SynapseListener, ...]:
    """The listeners under `key`; what is wrong with one of them goes to `problems`, and it is left out.

    `media`: whether the media repository is enabled in the process.
    """
    entries = config.get(key)
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        problems.append(config.problem((key,), "must be a list, each item beginning with `- `"))
        return ()
    found = [_read_listener(config, (key, index), entry, problems, media) for index, entry in enumerate(entries)]
    return tuple(listener for listener in found if listener is not None)


def legacy_listeners(config: Merged, problems: list[Problem]) -> tuple[SynapseListener, ...] | None:
    """The listeners of main that `bind_port` stands for, which replace the others; None where it is absent."""
    port = config.get("bind_port")
    if not port:
        return None
    problems.append(config.warning(("bind_port",), "is obsolete and replaces all of `listeners`; write those instead"))
    if not _is_port(port):
        return ()
    plain = config.get("unsecure_port") if "unsecure_port" in config.values else port - 400
    host = config.get("bind_host")
    secure = SynapseListener(
        path=("bind_port",),
        kind="http",
        resources=frozenset(("client", "federation")),
        host=_reached([host if isinstance(host, str) else ""]),
        port=port,
        everywhere=not host,
        tls=True,
    )
    return (secure, evolve(secure, port=plain, tls=False)) if _is_port(plain) else (secure,)


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def _read_listener(
    config: Merged, path: KeyPath, entry: Any, problems: list[Problem], media: bool
) -> SynapseListener | None:
    faults = list(_listener_faults(entry))
    problems.extend(config.problem((*path, *where), message) for where, message in faults)
    if faults:
        return None
    socket = entry.get("path")
    if entry["type"] == "http":
        groups = _read_names(config, path, entry.get("resources") or [], problems)
        resources, hidden = _mounted(groups, media)
        problems.extend(config.problem((*path, "resources"), _hidden(*names)) for names in hidden)
    else:
        resources = frozenset()
    header = entry.get("request_id_header")
    return SynapseListener(
        path=path,
        kind=entry["type"],
        resources=resources,
        socket=socket,
        host="" if socket else _reached(_addresses(entry)),
        port=0 if socket else entry["port"],
        everywhere=not socket and not _WILDCARDS.keys().isdisjoint(_addresses(entry)),
        tls=bool(entry.get("tls")) and not socket,
        x_forwarded=bool(entry.get("x_forwarded", bool(socket))),
        request_id_header=header if isinstance(header, str) else None,
    )


def _listener_faults(entry: Any) -> Iterator[tuple[KeyPath, str]]:
    """What makes Synapse refuse to start (parse_listener_def), or keeps anybody from reaching the listener."""
    if not isinstance(entry, dict):
        yield (), "must be a mapping with `type`, `path` or `port`, and `resources`"
        return
    kind, port, socket = entry.get("type"), entry.get("port"), entry.get("path")
    if kind == "replication":
        yield ("type",), "listeners of this type are gone since Synapse 1.88; use Redis, and `http` with `replication`"
    elif kind not in _KINDS:
        yield ("type",), "must be `http`, `metrics` or `manhole`"
    if port and socket:
        yield (), "has both `port` and `path`; a listener has one of them"
    elif socket is None:
        if not _is_port(port):
            yield ("port",), "needs either `path`, a UNIX socket, or `port`, a number from 1 to 65535"
    elif not isinstance(socket, str) or not socket or "\0" in socket:
        yield ("path",), "must be the path of a UNIX socket"
    elif len(socket.encode()) > _LONGEST_SOCKET_PATH:
        yield ("path",), f"is longer than {_LONGEST_SOCKET_PATH} bytes, the limit of the kernel; shorten it"
    elif kind in _KINDS and kind != "http":
        yield ("path",), "only listeners of type `http` can be UNIX sockets; give `port` instead"


def _addresses(entry: Mapping[str, Any]) -> list[str]:
    several = entry.get("bind_addresses") or []
    addresses = [part for part in (several if isinstance(several, list) else [several]) if isinstance(part, str)]
    if isinstance(entry.get("bind_address"), str):
        addresses.append(entry["bind_address"])
    return addresses or list(_DEFAULT_ADDRESSES)


def _reached(addresses: Sequence[str]) -> str:
    """The address by which a process on this host is reached that listens on `addresses`."""
    for loopback in ("127.0.0.1", "", "0.0.0.0", "localhost", "::1", "::"):  # noqa: S104
        if loopback in addresses:
            return _WILDCARDS.get(loopback, loopback)
    return addresses[0]


def _read_names(config: Merged, path: KeyPath, entries: Any, problems: list[Problem]) -> list[list[str]]:
    """The known names of each entry of `resources`."""
    if not isinstance(entries, list):
        problems.append(config.problem((*path, "resources"), "must be a list of `names: […]`"))
        return []
    groups: list[list[str]] = []
    for index, entry in enumerate(entries):
        where = (*path, "resources", index)
        names = entry.get("names", []) if isinstance(entry, dict) else None
        if not isinstance(names, list):
            problems.append(config.problem(where, "must be a mapping such as `names: [client, federation]`"))
            continue
        problems.extend(config.problem((*where, "names"), message) for message in _unknown(names))
        groups.append([name for name in names if isinstance(name, str) and name in RESOURCES])
    return groups


def _unknown(names: Sequence[Any]) -> Iterator[str]:
    for name in names:
        if not isinstance(name, str) or name not in RESOURCES:
            near = nearest_name(str(name), sorted(RESOURCES))
            hint = f"did you mean `{near}`?" if near else f"known are {', '.join(sorted(RESOURCES))}"
            yield f"`{str(name)[:40]}` is no listener resource, and Synapse refuses to start; {hint}"


def _hidden(name: str, by: str) -> str:
    return f"`{by}` below replaces `{name}` above; write both names in one list: `names: [{name}, {by}]`"


def _mounted(groups: Sequence[Sequence[str]], media: bool) -> tuple[frozenset[str], list[tuple[str, str]]]:
    """The resources that answer, and those that a later one hides: (hidden, by).

    `media` and `openid` alone mount small trees at the paths of `client` and `federation`. Only within one list of
    names does Synapse see that the larger tree is there already.
    """
    small = {"openid": ("federation",), "media": ("client", "federation") if media else ()}
    owner: dict[str, str] = {}
    for names in groups:
        for name in names:
            prefixes = [prefix for prefix in small.get(name, ()) if prefix not in names]
            owner.update(dict.fromkeys(prefixes if name in small else (name,), name))
    hidden = [(prefix, by) for prefix, by in owner.items() if by != prefix and any(prefix in names for names in groups)]
    served = {name for names in groups for name in names} - {name for name, _ in hidden}
    return frozenset(served), hidden
