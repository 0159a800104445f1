"""A configuration of ours that is being made from a foreign one, and the text of it. Knows neither proxy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import yaml
from attrs import define, field, frozen

from sidecar.importing.asked import Position
from sidecar.importing.prefixes import NO_PREFIXES, Prefixes
from sidecar.importing.roles import ProxiedProcess

_GENERAL = ("client", "rooms", "federation", "media")


@frozen(kw_only=True)
class DraftPool:
    """An entry of `pools`."""

    name: str
    workers: tuple[str, ...]
    affinity: str | None = None
    prefixes: Prefixes = NO_PREFIXES

    def entry(self) -> dict[str, Any]:
        """What stands below its name."""
        strip, add = self.prefixes
        stated = {"affinity": self.affinity, "strip_prefix": strip or None, "add_prefix": add or None}
        return {"workers": list(self.workers), **{key: value for key, value in stated.items() if value is not None}}


@frozen(kw_only=True)
class OwnRoute:
    """What a line of the foreign file does with the requests that it matches, in the order in which lines are tried.

    It is a route, or `why_not` says why there can be none. Where `upstream` is Synapse's, the endpoint table knows it.
    """

    place: Position
    conditions: Mapping[str, Any] = field(factory=dict)
    """`host`, `method`, `path`, `source`, as they stand in the file."""
    outcome: Mapping[str, Any] = field(factory=dict)
    """`redirect`, `respond` or `refuse`; empty where `upstream` says it."""
    upstream: str = ""
    prefixes: Prefixes = NO_PREFIXES
    """What `upstream` gets in place of the beginning of the path."""
    why_not: str = ""
    remark: str = ""
    """What else is to be said of it."""
    port: int | None = None
    """Where it holds."""
    is_filter: bool = False
    """It keeps something away from what is behind."""


@define(kw_only=True)
class Draft:
    """Sections of `sidecar.yaml`, in the order in which they are written."""

    listen: list[str] = field(factory=list)
    synapse: Mapping[str, Sequence[str]] = field(factory=dict)
    """`config` and `workers`, where Synapse's own files are known."""
    unsaid: frozenset[str] = frozenset()
    """Workers of which Synapse's files say everything."""
    workers: list[ProxiedProcess] = field(factory=list)
    idle: list[ProxiedProcess] = field(factory=list)
    """Those that get nothing, which are written as comments."""
    pools: list[DraftPool] = field(factory=list)
    routes: list[dict[str, Any]] = field(factory=list)
    balancers: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    admin: list[str] = field(factory=list)
    trust: list[str] = field(factory=list)
    limits: dict[str, Any] = field(factory=dict)
    timeouts: dict[str, Any] = field(factory=dict)
    compress: dict[str, Any] = field(factory=dict)
    """Its keys, as far as the file says them."""
    compresses: bool = False
    """The file says so."""

    def take_installation(
        self, admin: Iterable[str], paths: Mapping[str, Sequence[str]], unsaid: Iterable[str]
    ) -> None:
        """Add what is known of Synapse: from where its admin API is used, its files, and workers that they describe."""
        self.admin = list(admin)
        self.synapse = paths
        self.unsaid = frozenset(unsaid)

    def compress_answers(self) -> None:
        """The foreign file compresses."""
        self.compresses = True

    def listeners(self) -> list[str]:
        """Where it listens: where the proxy does, but for places that are a worker's."""
        taken = {_port(process.server.address) for process in (*self.workers, *self.idle)}
        # A socket for all addresses of IPv6 takes those of IPv4 as well, and leaves no room for another.
        wanted = [each for each in self.listen if f"{each}:interface=\\:\\:" not in self.listen]
        return [each for each in wanted if _port(each) not in taken] or [_free(self.workers)]

    def pool(self, workers: Iterable[str], affinity: str | None, prefixes: Prefixes) -> str | None:
        """A pool that is there and has these workers; the one for everything that clients ask before others."""
        wanted = (set(workers), affinity, prefixes)
        names = [each.name for each in self.pools if (set(each.workers), each.affinity, each.prefixes) == wanted]
        return min(names, key=lambda name: _GENERAL.index(name) if name in _GENERAL else len(_GENERAL), default=None)

    def text(self, origin: str) -> str:
        """The file. `origin` says what it was made from, in one line."""
        return "\n".join(_lines(self, origin))


def _lines(draft: Draft, origin: str) -> Iterator[str]:
    yield f"# matrix-sidecar, made from {origin}."
    yield "# `matrix-sidecar check -c FILE` reports mistakes in this file. `matrix-sidecar routes` shows the routes."
    yield from ("", "listen:", *(f"  - {_flow(each)}" for each in draft.listeners()))
    yield from _section("synapse", [(key, list(paths)) for key, paths in draft.synapse.items()])
    yield from _workers(draft)
    yield from _section("pools", [(pool.name, pool.entry()) for pool in draft.pools])
    if draft.routes:
        yield from ("", "routes:", *(f"  - {_flow(route)}" for route in draft.routes))
    yield from _section("balancers", [(name, dict(each)) for name, each in draft.balancers.items()])
    for name, value in (("access", {"admin": draft.admin}), ("forwarded", {"trust": draft.trust})):
        yield from _section(name, [(key, each) for key, each in value.items() if each])
    if draft.compresses:
        yield from ("", f"compress: {_flow(draft.compress)}")
    yield from _section("limits", list(draft.limits.items()))
    yield from _section("timeouts", list(draft.timeouts.items()))
    yield ""


_UNSAID = "# Not in Synapse's files: other addresses, and programs other than Synapse."
_CONCLUDED = (
    "# `serves` and `writes` are guesses, from the requests that each worker gets. Compare them with",
    "# `worker_listeners` and `stream_writers`, or pass Synapse's own files: --synapse-config, --synapse-workers.",
)


def _workers(draft: Draft) -> Iterator[str]:
    said = [process for process in draft.workers if process.name not in draft.unsaid]
    if said or draft.idle:
        yield from ("", *([_UNSAID] if draft.synapse else _CONCLUDED), "workers:")
    yield from (f"  {process.name}: {_flow(_worker(process))}" for process in said)
    if draft.idle:
        yield "# No request goes to these:"
        yield from (f"  # {process.name}: {_flow(_worker(process))}" for process in draft.idle)


def _port(endpoint: str) -> str:
    """The port of an endpoint string, or the path of a socket."""
    match = re.match(r"tcp:(\d+)(?::|$)", endpoint) or re.match(r"tcp:.*:(\d+)$", endpoint)
    return match[1] if match is not None else endpoint


def _free(workers: Iterable[ProxiedProcess]) -> str:
    """A port of loopback that no worker has."""
    taken = {_port(process.server.address) for process in workers}
    port = next(port for port in count(8008) if str(port) not in taken)
    return f"tcp:{port}:interface=127.0.0.1"


def _worker(process: ProxiedProcess) -> dict[str, Any]:
    told: dict[str, Any] = {"endpoint": process.server.address}
    if not process.is_main and not process.told:
        told["serves"] = sorted(process.serves)
    if process.writes and not process.told:
        told["writes"] = list(process.writes)
    return told | ({} if process.server.weight == 1 else {"weight": process.server.weight})


def _section(name: str, entries: Sequence[tuple[str, Any]]) -> Iterator[str]:
    if entries:
        yield from ("", f"{name}:", *(f"  {key}: {_flow(value)}" for key, value in entries))


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    # `${` would begin a variable of the environment.
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n").replace("${", "$${")
