"""Where Synapse's own processes tell their metrics: a list for Prometheus' `http_sd_configs`.

Found in Synapse's files (docs/metrics-howto.md): a listener of type `metrics`, or one of type `http` with the resource
`metrics`. Connects to nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TypedDict

from sidecar.synapse.listeners import SynapseListener
from sidecar.synapse.names import MASTER
from sidecar.synapse.processes import Process
from sidecar.synapse.topology import Topology

PATH = "/_synapse/metrics"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,64}\]", re.ASCII)


class TargetGroup(TypedDict):
    """One entry of the list (Prometheus, "HTTP SD format")."""

    targets: list[str]
    labels: dict[str, str]


def is_host(text: str) -> bool:
    """Whether this can stand before the port of a target: a name, an IPv4 address, or an IPv6 one in brackets."""
    return _HOST.fullmatch(text) is not None


def targets(topology: Topology, host: str | None = None) -> list[TargetGroup]:
    """A group for each process with metrics that can be reached by TCP, labelled as Synapse's documentation does.

    `job` is `master` or the kind of worker, `index` counts within a job, `instance` is the server's name; `worker` is
    the name by which our own metrics call the process. `host` is what Prometheus calls this host: it replaces loopback
    where a process listens on every address.
    """
    indices: Counter[str] = Counter()
    groups: list[TargetGroup] = []
    for process in sorted((*topology.processes, *topology.silent), key=lambda each: not each.is_main):
        job = MASTER if process.is_main else (process.app or "").rpartition(".")[2] or "generic_worker"
        indices[job] += 1
        listener = metrics_listener(process)
        if listener is None:
            continue
        labels = {
            "instance": topology.server_name or "localhost",
            "job": job,
            "index": str(indices[job]),
            "worker": process.name,
            "__metrics_path__": PATH,
        }
        if listener.tls:
            labels["__scheme__"] = "https"
        groups.append({"targets": [_address(listener, host)], "labels": labels})
    return groups


def metrics_listener(process: Process) -> SynapseListener | None:
    """The listener with the metrics of a process; a dedicated one first. None: it has none, or only a UNIX socket."""
    own: Iterable[SynapseListener] = (
        (process.listener, *process.others) if process.listener is not None else process.others
    )
    enabled = bool(process.config.get("enable_metrics"))
    suitable = [listener for listener in own if listener.port and _has_metrics(listener, process, enabled)]
    return min(suitable, key=lambda listener: listener.kind != "metrics", default=None)


def _has_metrics(listener: SynapseListener, process: Process, enabled: bool) -> bool:
    """A worker's resource does not ask for `enable_metrics` (app/generic_worker.py, _listen_http)."""
    if listener.kind == "metrics":
        return enabled
    return "metrics" in listener.resources and (enabled or not process.is_main)


def _address(listener: SynapseListener, host: str | None) -> str:
    name = host if host is not None and listener.everywhere else listener.host
    return f"[{name}]:{listener.port}" if ":" in name and not name.startswith("[") else f"{name}:{listener.port}"
