"""From what a foreign configuration does with every endpoint to pools and routes that do the same, but for its faults.

Where most of a pool's endpoints go is the pool; what goes elsewhere, and can be served there, becomes a route; what
cannot, what is only left on main, and what depends on a user's words becomes nothing. Knows neither proxy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

from attrs import define, field

from sidecar.importing.asked import Position, Proxy, ProxyEntrance
from sidecar.importing.draft import Draft, DraftPool, OwnRoute
from sidecar.importing.ordering import Ordering, Settled, Spelled, takes_all
from sidecar.importing.outcomes import outcome_of
from sidecar.importing.prefixes import NO_PREFIXES, Prefixes
from sidecar.importing.roles import Answered, Roles
from sidecar.routing.pools import BUILT_IN, CLIENT, EVENTS, SYNC
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.names import MAIN

INITIAL = "initial_sync"
FEDERATION = "federation"
_WRITTEN = (SYNC, INITIAL, CLIENT, "rooms", FEDERATION, "federation_send", "user_directory", "sso")
_SOFT = ("account_data", "presence", "push_rules", "device_lists", "thread_subscriptions")
_BY_SOURCE = re.compile(r"\$(?:binary_)?remote_addr|ip_hash|\bsrc\b|balance source")
_WEIGHT = 1000
"""Of a vote that no number of others outvotes."""
_ODD = re.compile(r"[^A-Za-z0-9_.:@+-]+")

Path = tuple[str, ...]


def pool_of(answered: Answered) -> str:
    """The built-in pool that the endpoint belongs to."""
    row = answered.probe.row
    if answered.probe.initial and row.group == SYNC:
        return INITIAL
    return "rooms" if row.stream == EVENTS else row.group


@define(eq=False)
class Conversion:
    """Makes a draft. `plain` are the answers to one request for each endpoint, `own` the lines for anything else."""

    proxy: Proxy
    roles: Roles
    plain: Sequence[Answered]
    shaky: frozenset[int]
    """Identities of probes that go elsewhere when a room in them is of another version."""
    own: Sequence[OwnRoute]
    home: ProxyEntrance
    """Where clients find the homeserver."""
    draft: Draft = field(factory=Draft)
    settled: list[Settled] = field(factory=list)
    """What became of each line, when all are converted."""

    def convert(self) -> Draft:
        draft = self.draft
        majorities = self._majorities()
        alone = all(process.is_main or not process.serves for process in self.roles.processes.values())
        for name in (*_WRITTEN, *_SOFT) if not alone else ():
            if name in majorities and self._is_needed(name, majorities):
                draft.pools.append(self._pool(name, majorities[name]))
        exceptions = list(self._exceptions(majorities))
        ordering = Ordering(self._is_synapse, self._own_pool, self._spelled, draft.routes)
        ordering.take_elsewhere(self._at_other_ports())
        ordering.take(self._at_first_ports())
        ordering.take_rest(self._at_other_ports())
        self.settled = ordering.settled
        self._insert(exceptions)
        self._sort_workers()
        return draft

    def _sort_workers(self) -> None:
        """Main first; those that get nothing apart."""
        busy = {name for pool in self.draft.pools for name in pool.workers} | {MAIN}
        busy |= {name for each in self.plain for name in self.roles.members.get(each.pool, ())}
        busy |= {name for writers in self.roles.writers.values() for name in writers}
        for process in sorted(self.roles.processes.values(), key=lambda process: not process.is_main):
            (self.draft.workers if process.name in busy else self.draft.idle).append(process)

    def _majorities(self) -> dict[str, str]:
        """The upstream of most endpoints of each pool, of those that it can serve."""
        votes: dict[str, Counter[str]] = {}
        for each in self.plain:
            row = each.probe.row
            if each.pool and not row.hard and self.roles.serves(each.pool, row):
                votes.setdefault(pool_of(each), Counter())[each.pool] += self._weight(each)
        return {name: counter.most_common(1)[0][0] for name, counter in votes.items() if name != MAIN}

    def _weight(self, each: Answered) -> int:
        """Of a vote. A spelling of `/sync` that is sent to workers says more than those that were forgotten."""
        row = each.probe.row
        if row.path[-1] == "sync" and each.pool != self.roles.main:
            return 10 * _WEIGHT
        return _WEIGHT if _is_typical(row) else 1

    def _is_needed(self, name: str, majorities: Mapping[str, str]) -> bool:
        """Whether the pool would not be the same if it were left out."""
        members = self.roles.members[majorities[name]]
        if name == INITIAL:
            return members != self.roles.members.get(majorities.get(SYNC, ""), ())
        if name in _SOFT:
            client = self.roles.members.get(majorities.get(CLIENT, ""), ())
            return name not in self.roles.writers and members != client
        return True

    def _pool(self, name: str, upstream: str) -> DraftPool:
        known = self.proxy.upstreams[upstream]
        by_source = name == "federation_send" and bool(_BY_SOURCE.search(known.balance))
        return DraftPool(name=name, workers=self.roles.members[upstream], affinity="source" if by_source else None)

    def _pool_name(self, upstream: str, prefixes: Prefixes = NO_PREFIXES) -> str:
        """The pool of an upstream, which is made if there is none yet."""
        workers = self.roles.members[upstream]
        if workers == (MAIN,):
            return MAIN
        foreign = any(self.roles.processes[name].foreign for name in workers)
        affinity = "source" if foreign and _BY_SOURCE.search(self.proxy.upstreams[upstream].balance) else None
        known = self.draft.pool(workers, affinity, prefixes)
        if known is None:
            known = self._free_name(_ODD.sub("_", upstream).strip("_.:@+-") or "pool")
            self.draft.pools.append(DraftPool(name=known, workers=workers, affinity=affinity, prefixes=prefixes))
        return known

    def _free_name(self, wanted: str) -> str:
        """As an upstream is called; with a number where a pool is called so that changes paths otherwise."""
        stem = f"{wanted}_pool" if wanted in BUILT_IN else wanted
        taken = {pool.name for pool in self.draft.pools}
        numbered = (f"{stem}_{number}" for number in count(2))
        return next(name for name in chain([stem], numbered) if name not in taken)

    def _is_synapse(self, upstream: str) -> bool:
        names = self.roles.members.get(upstream, ())
        return bool(names) and not all(self.roles.processes[name].foreign for name in names)

    def _own_pool(self, upstream: str, prefixes: Prefixes) -> str:
        return self._pool_name(upstream, prefixes) if self.roles.members.get(upstream) else ""

    def _spelled(self, place: Position) -> list[Spelled]:
        """What a line does with endpoints of Synapse that are not Synapse's to answer there."""
        found: list[Spelled] = []
        for each in self.plain:
            if each.verdict.place == place and each.probe.path[-1] != "**" and not each.closed:
                outcome = outcome_of(each.verdict, each.asked)
                if each.pool and not self._is_synapse(each.pool):
                    name = self._own_pool(each.pool, each.verdict.prefixes or NO_PREFIXES)
                    outcome = {"pool": name} if name else {}
                if outcome:
                    found.append(Spelled({"method": [each.probe.method], "path": _text(each.probe.path)}, outcome))
        return _joined(found)

    def _first_ports(self) -> set[int | None]:
        """The homeserver's, and the first one of the other scheme."""
        other = [each.port for each in self.proxy.entrances if each.tls is not self.home.tls]
        plain = [80] if 80 in other else other[:1]
        return {None, self.home.port, *(plain if self.home.tls else other[:1])}

    def _at_first_ports(self) -> list[OwnRoute]:
        return [each for each in self.own if each.port in self._first_ports()]

    def _at_other_ports(self) -> list[OwnRoute]:
        return [each for each in self.own if each.port not in self._first_ports()]

    def _hosted(self) -> Iterator[Mapping[str, Any]]:
        """What the file says of one name, and not of others."""
        yield from (each.conditions for each in self.own if "host" in each.conditions)

    def _insert(self, exceptions: Sequence[dict[str, Any]]) -> None:
        """Where a worker outside its pool serves an endpoint: in front of what would take that from it."""
        hosts = next((each["host"] for each in self._hosted() if self.home.host in each["host"]), None)
        if hosts is not None:
            exceptions = [{"host": hosts, **each} for each in exceptions]
        whole = ("/_matrix/client/v3/x", "/_matrix/federation/v1/x")
        at = next(
            (
                number
                for number, route in enumerate(self.draft.routes)
                if any(takes_all({"path": route.get("path")}, {"path": path}) for path in whole)
                and ("host" not in route or self.home.host in route["host"])
                and route.get("scheme") != "http"
            ),
            len(self.draft.routes),
        )
        self.draft.routes[at:at] = exceptions

    def _exceptions(self, majorities: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Routes for endpoints that a worker outside their pool gets and can serve."""
        wanted: dict[tuple[Path, tuple[str, ...]], dict[Path, set[str]]] = {}
        upstreams: dict[tuple[str, ...], str] = {}
        for each in self.plain:
            if self._is_exception(each, majorities):
                workers = self.roles.members[each.pool]
                upstreams[workers] = each.pool
                wanted.setdefault((each.probe.row.path, workers), {}).setdefault(each.probe.path, set()).add(
                    each.probe.method
                )
        methods: dict[Path, set[str]] = {}
        for each in self.plain:
            methods.setdefault(each.probe.path, set()).add(each.probe.method)
        for (shape, workers), paths in wanted.items():
            pool = self._pool_name(upstreams[workers])
            for path in self._together(shape, paths, methods):
                first = next(each for each in paths if _fits(path, each))
                only = {} if paths[first] == methods[first] else {"method": sorted(paths[first])}
                yield {**only, "path": _text(path), "pool": pool}

    def _is_exception(self, each: Answered, majorities: Mapping[str, str]) -> bool:
        row = each.probe.row
        if not each.pool or each.pool == self.roles.main or row.path[-1] == "sync" or row.stream in self.roles.writers:
            return False
        if id(each.probe) in self.shaky and row.affinity != "room":
            return False
        usual = self.roles.members.get(majorities.get(pool_of(each), ""), ())
        return set(self.roles.members[each.pool]) != set(usual) and self.roles.serves(each.pool, row)

    def _together(
        self, shape: Path, paths: Mapping[Path, set[str]], methods: Mapping[Path, set[str]]
    ) -> Iterable[Path]:
        """One pattern for all spellings of a path where that takes nothing else along; else each by itself."""
        joined = tuple("{version}" if "|" in segment else segment for segment in shape)
        alike = len({frozenset(each) for each in paths.values()}) == 1
        if len(paths) > 1 and alike and all(path in paths for path in methods if _fits(joined, path)):
            return [joined]
        return list(paths)


def _is_typical(row: Endpoint) -> bool:
    """Whether the pool is that of such endpoints, however many others of its kind go elsewhere.

    Rooms of other servers' requests may have workers of their own. Files that know `/sync` alone leave on main what
    else belongs to it: events, sliding sync.
    """
    return (row.group == FEDERATION and row.affinity != "room") or row.path[-1] == "sync"


def _fits(pattern: Path, path: Path) -> bool:
    return len(pattern) == len(path) and all(
        one == other or one[:1] == "{" for one, other in zip(pattern, path, strict=True)
    )


def _text(path: Path) -> str:
    """A divided path as a route has it."""
    return "/" + "/".join(f"{{{segment.strip('{+}')}}}" if segment[:1] == "{" else segment for segment in path)


def _joined(found: Sequence[Spelled]) -> list[Spelled]:
    """Methods of one path together."""
    together: dict[str, Spelled] = {}
    for each in found:
        key = repr((each.conditions["path"], each.outcome))
        methods = together[key].conditions["method"] if key in together else []
        conditions = {"method": sorted({*methods, *each.conditions["method"]}), "path": each.conditions["path"]}
        together[key] = Spelled(conditions, each.outcome)
    return list(together.values())
