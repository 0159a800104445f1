"""What the processes behind a foreign configuration are by Synapse's own files: nothing has to be concluded.

A server is a process if it is at its address; on other hosts, where files say `localhost` and proxies a name, if no
other process has its port.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.importing.asked import Proxy, Server
from sidecar.importing.roles import ProxiedProcess, Roles
from sidecar.synapse.names import MAIN
from sidecar.synapse.processes import Process
from sidecar.synapse.topology import Topology

_HERE = frozenset(("localhost", "127.0.0.1", r"\:\:1", "0.0.0.0", r"\:\:", ""))  # noqa: S104
_MEDIA = "media"


def told_roles(proxy: Proxy, topology: Topology, concluded: Roles) -> Roles:
    """The roles of a topology; what is at none of its addresses is no process of Synapse, and keeps its name."""
    found = {
        server.address: process
        for upstream in proxy.upstreams.values()
        for server in upstream.servers
        if (process := _at(server.address, topology)) is not None
    }
    names = _names(concluded, found)
    processes: dict[str, ProxiedProcess] = {}
    members: dict[str, tuple[str, ...]] = {}
    for upstream in proxy.upstreams.values():
        servers = [server for server in upstream.servers if server.address]
        members[upstream.name] = tuple(dict.fromkeys(names[server.address] for server in servers))
        for server in servers:
            name = names[server.address]
            processes[name] = _process(name, server, found.get(server.address))
    writers = {stream: names for stream, names in topology.writers.items() if names != (MAIN,)}
    main = next((upstream for upstream, inside in members.items() if MAIN in inside), "")
    return Roles(main=main, processes=processes, members=members, writers=writers)


def _names(concluded: Roles, found: Mapping[str, Process]) -> dict[str, str]:
    """The name of each server by its address; Synapse's own names come first."""
    names = {address: process.name for address, process in found.items()}
    for process in concluded.processes.values():
        address = process.server.address
        if address not in names:
            name = process.name if process.name not in (*names.values(), MAIN) else f"other_{len(names)}"
            names[address] = name
    return names


def _process(name: str, server: Server, process: Process | None) -> ProxiedProcess:
    if process is None:
        return ProxiedProcess(name=name, server=server, serves=frozenset(), foreign=True)
    # Synapse ignores the resource `media` of a process whose media repository is disabled.
    serves = process.serves if process.media else process.serves - {_MEDIA}
    return ProxiedProcess(
        name=name, server=server, serves=serves, writes=tuple(sorted(process.writes)), media=process.media, told=True
    )


def _at(address: str, topology: Topology) -> Process | None:
    exact = [process for process in topology.processes if process.endpoint == address]
    if exact or not address.startswith("tcp:"):
        return exact[0] if exact else None
    host, port = _divided(address)
    alike = [process for process in topology.processes if _divided(process.endpoint)[1] == port != ""]
    here = [process for process in alike if {_divided(process.endpoint)[0], host} <= _HERE]
    candidates = here or (alike if host not in _HERE else [])
    return candidates[0] if len(candidates) == 1 else None


def _divided(endpoint: str) -> tuple[str, str]:
    """Host and port; both empty for a path."""
    host, _, port = endpoint.removeprefix("tcp:").rpartition(":")
    return (host, port) if endpoint.startswith("tcp:") else ("", "")


def addressed(process: ProxiedProcess, topology: Topology) -> bool:
    """Whether Synapse's files give the process the address that the proxy has for it."""
    return any(each.name == process.name and each.endpoint == process.server.address for each in topology.processes)
