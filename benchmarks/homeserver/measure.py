"""One measurement: a variant in front of a running homeserver, a load, what it cost and how long it took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from statistics import quantiles
from typing import Any

import aiohttp
import yaml
from attrs import frozen
from end_to_end.laboratory import Laboratory, running_synapse
from end_to_end.services import Services

from benchmarks.homeserver import costs
from benchmarks.homeserver.clients import PATIENCE, Crowd, Load, Outside, Seen
from benchmarks.homeserver.deployments import Deployment
from benchmarks.homeserver.population import Population, Size, populated
from benchmarks.homeserver.proxies import NGINX, Variant, running
from benchmarks.homeserver.remote import Ports, Remote, federating, remote

_LARGEST = 12
_QUIET_LOG = {
    "version": 1,
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.__stderr__"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "disable_existing_loggers": False,
}


@frozen
class Homeserver:
    """A deployment that runs."""

    deployment: Deployment
    laboratory: Laboratory
    ports: Ports
    remote: Remote | None = None

    @property
    def processes(self) -> Mapping[str, int]:
        """Those of Synapse."""
        return {f"of {name}": child.pid for name, child in self.laboratory.children.items()}

    @property
    def programs(self) -> Mapping[str, int]:
        """The processes whose time is counted, with all below them."""
        services = self.laboratory.services
        return {**self.processes, "postgres": services.pid("postgres"), "redis": services.pid("redis")}

    def told(self) -> costs.Told:
        """What Synapse says of itself now."""
        topology, layout = self.laboratory.topology, self.laboratory.layout
        return costs.scraped(layout.socket(process.name) for process in topology.processes)


@contextmanager
def homeserver(services: Services, deployment: Deployment, *, federates: bool) -> Iterator[Homeserver]:
    """Bring it up, with metrics and without a log of requests; with a second one where it `federates`."""
    log = services.root / "quiet.log.yaml"
    log.write_text(yaml.safe_dump(_QUIET_LOG))
    shared: dict[str, Any] = {"log_config": str(log), "worker_log_config": str(log)}
    ports = Ports.free()
    with ExitStack() as stack:
        other = stack.enter_context(remote(services, ports, shared)) if federates else None
        if other is not None:
            shared |= federating(ports.names[0], services.root)
        shared["enable_metrics"] = True
        laboratory = stack.enter_context(running_synapse(services, deployment.topology, shared))
        yield Homeserver(deployment, laboratory, ports, other)


def people_of(homeserver: Homeserver, size: Size, prefix: str) -> Population:
    """Make the users of this size, with a proxy for those who join from outside."""
    main, ports = homeserver.laboratory.layout.socket("main"), homeserver.ports
    with running(NGINX, homeserver.deployment, homeserver.laboratory, ports.plain):
        return asyncio.run(populated(size, main, prefix, homeserver.remote, ports.names[0]))


def measured(
    homeserver: Homeserver, variant: Variant, population: Population, load: Load, warm_up: float, seconds: float
) -> Mapping[str, float]:
    """The numbers of one round."""
    port = homeserver.ports.plain
    with running(variant, homeserver.deployment, homeserver.laboratory, port) as pid:
        return asyncio.run(_measured(homeserver, pid, population, load, warm_up, seconds))


async def _measured(
    homeserver: Homeserver, pid: int, population: Population, load: Load, warm_up: float, seconds: float
) -> Mapping[str, float]:
    programs = {**homeserver.programs, "proxy": pid}
    async with _session(homeserver) as session, _outside(homeserver, population) as outside:
        crowd = Crowd(session, population.people, population.rooms, load, outside)
        async with crowd.present():
            await crowd.paced(warm_up)
            await crowd.settled(10)
            told = await asyncio.to_thread(homeserver.told)
            crowd.begin()
            before = {name: costs.spent(pid) for name, pid in programs.items()}
            count = await crowd.paced(seconds)
            await crowd.settled(10)
            after = {name: costs.spent(pid) for name, pid in programs.items()}
            added = (await asyncio.to_thread(homeserver.told)).since(told)
    used = {name: (after[name] - before[name]) / count * 1000 for name in programs}
    used["synapse"] = sum(used[name] for name in homeserver.processes)
    return {**used, **_told(added, count), **times(crowd.seen), "missing": float(crowd.missing)}


def _session(homeserver: Homeserver) -> aiohttp.ClientSession:
    timeout, connector = aiohttp.ClientTimeout(total=PATIENCE), aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(f"http://127.0.0.1:{homeserver.ports.plain}", connector=connector, timeout=timeout)


@asynccontextmanager
async def _outside(homeserver: Homeserver, population: Population) -> AsyncIterator[Outside | None]:
    remote = homeserver.remote
    if remote is None:
        yield None
        return
    async with aiohttp.ClientSession("http://remote", connector=aiohttp.UnixConnector(str(remote.main))) as session:
        yield Outside(session, population.outsiders, population.rooms, remote.sign)


def _told(added: costs.Told, count: int) -> Mapping[str, float]:
    each = {
        f"{kind} of {name}": value / count * (1000 if kind in ("seconds", "background") else 1)
        for kind in ("misses", "requests", "seconds", "background")
        for name, value in list(added.of(kind).items())[:_LARGEST]
    }
    sums = {kind: sum(added.of(kind).values()) / count for kind in ("queries", "misses", "requests")}
    return {**sums, "hops": added.hops / count, **each}


def times(seen: Seen) -> Mapping[str, float]:
    """Percentiles in milliseconds, and what failed."""
    kinds = {"send": seen.sends, "arrival": seen.arrivals, **seen.others}
    found: dict[str, float] = {}
    for kind, values in kinds.items():
        if len(values) > 1:
            parts = quantiles(values, n=20, method="inclusive")
            found |= {f"{kind} p50": parts[9] * 1000, f"{kind} p95": parts[18] * 1000}
    found |= {f"failed {what}": float(count) for what, count in seen.failures.items()}
    return found
