"""A request as another proxy sees it, and what that proxy does with it. Values; they know neither proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from attrs import field, frozen

from sidecar.importing.prefixes import Prefixes

Action = Literal["forward", "redirect", "respond", "refuse", "files", "unclear"]


@frozen(kw_only=True)
class Asked:
    """A request. Text stands for octets (latin-1); names of fields are in lower case."""

    method: str
    target: str
    fields: Mapping[str, str] = field(factory=dict, repr=False)
    source: str = "192.0.2.1"
    port: int | None = None
    """Where it arrives; None: where most of the rules are."""
    tls: bool = False
    """It comes over https."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def host(self) -> str:
        """In lower case, without port."""
        host = self.fields.get("host", "").lower()
        name, colon, port = host.rpartition(":")
        return name if colon and not port.strip("0123456789") else host


@frozen
class ProxyEntrance:
    """A name and a port under which a proxy is asked."""

    host: str
    port: int | None = None
    tls: bool = False
    named: bool = True
    """False: the host stands for every name that the configuration does not have."""

    def asked(self, method: str, target: str, source: str = "192.0.2.1") -> Asked:
        """A request that comes in here."""
        return Asked(
            method=method, target=target, fields={"host": self.host}, source=source, port=self.port, tls=self.tls
        )

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host if self.named else '*'}{port}"


OTHER_HOST = "other.invalid"
"""A name that no configuration has."""
NOBODYS = "/nobodys"
"""A path that no endpoint of Synapse has."""


@frozen
class Position:
    """Where something stands: a line of a configuration file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@frozen(kw_only=True)
class ProxyVerdict:
    """What a proxy does with a request."""

    action: Action
    pool: str = ""
    """The upstream or backend, or an address."""
    key: str | None = None
    """What is kept on one server of the pool, with the kind of it; None: nothing is."""
    status: int | None = None
    location: str = ""
    body: str = ""
    headers: Mapping[str, str] = field(factory=dict)
    """Of an answer of the proxy's own."""
    rewrites: str = ""
    """What it puts in place of the path, where it does."""
    prefixes: Prefixes | None = None
    """The same, where only the beginning of the path is another."""
    place: Position | None = None
    """The line that decided: of a location, of a `use_backend`."""
    doubts: tuple[str, ...] = ()
    """What on the way here could not be worked out."""


@frozen
class Server:
    """A server of a pool. `address` is a Twisted client endpoint string, empty where it cannot be told."""

    name: str
    address: str
    place: Position
    weight: float = 1.0
    backup: bool = False
    fault: str = ""
    """Why the sidecar cannot use it as it stands, and what to do; empty where it can."""


@frozen
class ProxyPool:
    """A pool as the proxy has it. `balance` is said in the proxy's own words."""

    name: str
    servers: tuple[Server, ...]
    balance: str = ""
    place: Position | None = None


class Proxy(Protocol):
    """A configuration that was read: what is asked of it by everything else here."""

    @property
    def upstreams(self) -> Mapping[str, ProxyPool]:
        """Every pool that a request may go to, by name."""

    @property
    def entrances(self) -> Sequence[ProxyEntrance]:
        """Every name and port that it answers for, and for each port any other name."""

    def verdict(self, asked: Asked) -> ProxyVerdict:
        """What becomes of a request. Never raises."""
