"""What Synapse's files say that cannot all be true, or that leaves requests without anybody to answer them.

Each check is a function from the topology to problems. An error says that Synapse refuses to start or that requests
fail; a warning, that something works but hardly as meant. Nothing here changes the topology.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sidecar.document import KeyPath
from sidecar.errors import Problem, Severity
from sidecar.synapse.files import Merged
from sidecar.synapse.listeners import SynapseListener
from sidecar.synapse.names import MAIN, WRITER_NEEDS
from sidecar.synapse.processes import MAIN_APP, MEDIA_APP, Process
from sidecar.synapse.topology import Topology

_EXPLICIT = "sidecar.yaml"
_FAILS = {
    "typing": "typing notifications (PUT …/typing/…)",
    "to_device": "messages between devices (PUT …/sendToDevice/…), and with them encryption,",
    "receipts": "read receipts (POST …/receipt/… and …/read_markers)",
    "push_rules": "changes of push rules (PUT and DELETE …/pushrules/…)",
    "thread_subscriptions": "changes of thread subscriptions",
    "quarantined_media_changes": "quarantining media (the admin API)",
}
_APP_NEEDS = {
    "synapse.app.client_reader": "client",
    "synapse.app.event_creator": "client",
    "synapse.app.federation_reader": "federation",
    "synapse.app.frontend_proxy": "client",
    MEDIA_APP: "media",
    "synapse.app.synchrotron": "client",
    "synapse.app.user_dir": "client",
}
"""What the legacy classes of workers were for; all run the same code today."""
_OPENID = ("federation", "openid")
"""Resources that bring the endpoint at which others verify a user."""
_REMOVED = {
    "worker_replication_port": "Synapse refuses it since 1.88; remove it and use Redis",
    "worker_replication_host": "Synapse refuses it since 1.88; write `main` into `instance_map` instead",
    "worker_replication_http_port": "Synapse refuses it since 1.88; write `main` into `instance_map` instead",
    "worker_replication_http_tls": "Synapse refuses it since 1.88; write `main` into `instance_map` instead",
}


def contradictions(topology: Topology) -> Iterator[Problem]:
    """All that is found by the checks below."""
    for check in _CHECKS:
        yield from check(topology)


def faults_of_processes(topology: Topology) -> Iterator[Problem]:
    """What is wrong with each process by itself, whatever the others are."""
    for check in _OF_EACH_PROCESS:
        yield from check(topology)


def _all(topology: Topology) -> tuple[Process, ...]:
    return (*topology.processes, *topology.silent)


def _workers(topology: Topology) -> Iterator[Process]:
    """Those of which all is known."""
    return (process for process in _all(topology) if process.file and not (process.is_main or process.fault))


def _shared(topology: Topology) -> Merged:
    return next((process.config for process in _all(topology) if process.is_main), Merged())


def _worker_among_shared(topology: Topology) -> Iterator[Problem]:
    """What names a worker stands in a file that every process reads."""
    config = _shared(topology)
    for key in ("worker_app", "worker_name"):
        if config.get(key) is not None and config.get("worker_app") != MAIN_APP:
            message = (
                "this file describes one worker, but `synapse.config` names it as a file for all processes; name it "
                "in `synapse.workers` of sidecar.yaml instead"
            )
            yield config.problem((key,), message)
            return


def _no_main(topology: Topology) -> Iterator[Problem]:
    if not topology.known or any(process.is_main and "client" in process.serves for process in topology.processes):
        return
    message = (
        "the main process has no reachable listener with the resource `client`, and only main serves many requests; "
        "add one with `path`, or set `workers.main.endpoint` in sidecar.yaml"
    )
    yield _shared(topology).problem(("listeners",), message)


def _writers(topology: Topology) -> Iterator[Problem]:
    config = _shared(topology)
    known = {process.name: process for process in _all(topology)}
    stated, located = config.get("stream_writers"), config.get("instance_map")
    for stream in stated if isinstance(stated, dict) else ():
        path = ("stream_writers", stream)
        for name in topology.writers.get(stream, ()):
            if name != MAIN and name not in (located if isinstance(located, dict) else ()):
                yield config.problem(path, _absent(name, known))
            elif name not in (MAIN, *known):
                message = f"no worker file describes `{name}`; name its file in `synapse.workers`"
                yield config.problem(path, message, _severity(stream in WRITER_NEEDS))
            if name in known and not _is_answered(stream, known[name]):
                yield config.problem(path, _unanswered(stream, name))


def _absent(name: str, known: Iterable[str]) -> str:
    there = "" if name in known else ", and no worker file describes it"
    return (
        f"`{name}` is missing from `instance_map`{there}; Synapse refuses to start: add its replication listener there"
    )


def _is_answered(stream: str, process: Process) -> bool:
    """Whether the requests that only a writer of `stream` can answer reach this one."""
    needed = WRITER_NEEDS.get(stream)
    return process.is_main or needed is None or bool(process.endpoint and needed in process.serves)


def _unanswered(stream: str, name: str) -> str:
    return (
        f"only `{name}` can answer {_FAILS[stream]} but it has no reachable listener with the resource "
        f"`{WRITER_NEEDS[stream]}`, so all of them fail with status 500; add one"
    )


def _instance_map(topology: Topology) -> Iterator[Problem]:
    for process in _workers(topology):
        located = process.config.get("instance_map")
        if not isinstance(located, dict) or MAIN not in located:
            message = "lacks `main`, the replication listener of the main process, and workers refuse to start; add it"
            yield process.config.problem(("instance_map",), message)
            return


def _differing(topology: Topology) -> Iterator[Problem]:
    shared = _shared(topology)
    for process in _workers(topology):
        for key in ("stream_writers", "server_name"):
            if process.config.get(key) != shared.get(key):
                message = "differs from what the main process reads; write it once, in a file that all processes read"
                yield process.config.problem((key,), message)


def _media(topology: Topology) -> Iterator[Problem]:
    if not topology.known:
        return
    shared = _shared(topology)
    serving = [process for process in topology.processes if _serves_media(process)]
    if not serving:
        message = (
            "no process serves media: every upload and download gets 404, unless another program serves media; give a "
            "worker `enable_media_repo: true` and a listener with the resource `media`"
        )
        yield shared.warning(("enable_media_repo",), message)
    jobs = shared.get("media_instance_running_background_jobs")
    names = " and ".join(process.name for process in serving)
    if jobs is None and len(serving) > 1:
        message = f"{names} all run the background jobs of the media repository; choose one of them with this key"
        yield shared.problem(("media_instance_running_background_jobs",), message)
    elif jobs is not None and serving and not any(process.background for process in serving):
        message = f"`{str(jobs)[:40]}` serves no media, so no process runs the background jobs; name one of {names}"
        yield shared.problem(("media_instance_running_background_jobs",), message)


def _serves_media(process: Process) -> bool:
    resources = ("client", "federation", "media") if process.is_main else ("media",)
    return process.media and not process.serves.isdisjoint(resources)


def _media_disabled(topology: Topology) -> Iterator[Problem]:
    for process in _all(topology):
        listener = process.listener
        if listener is None or process.media or "media" not in listener.resources:
            continue
        if process.is_main:
            alone = listener.resources.isdisjoint(("client", "federation"))
            message = (
                "the resource `media` contradicts `enable_media_repo: false`; Synapse ignores or refuses it: remove it"
            )
            yield process.config.problem(listener.path, message, _severity(alone))
        else:
            message = "Synapse ignores the resource `media` here; write `enable_media_repo: true` into this file"
            yield process.config.problem(listener.path, message)


def _federation(topology: Topology) -> Iterator[Problem]:
    if not topology.known or any("federation" in process.serves for process in topology.processes):
        return
    message = "no process serves the resource `federation`: other servers cannot reach this one; add it if they should"
    yield _shared(topology).warning(("listeners",), message)


def _openid(topology: Topology) -> Iterator[Problem]:
    main = next((process for process in topology.processes if process.is_main), None)
    if not topology.known or main is None or main.listener is None or not main.serves.isdisjoint(_OPENID):
        return
    if any(not process.serves.isdisjoint(_OPENID) for process in topology.processes):
        message = (
            "lacks `openid`: workers mount /_matrix/federation/v1/openid/userinfo but answer 500, so widgets, Element "
            "Call and Jitsi cannot verify users; add the resource `openid` to this listener of the main process"
        )
        yield main.config.warning((*main.listener.path, "resources"), message)


def _apps(topology: Topology) -> Iterator[Problem]:
    for process in topology.processes:
        needed = _APP_NEEDS.get(process.app or "")
        if needed and process.listener and needed not in process.serves:
            message = (
                f"the process is a `{(process.app or '').rpartition('.')[2]}`, but its listener lacks the resource "
                f"`{needed}`: it answers such requests with 404; add `{needed}`"
            )
            yield process.config.problem(process.listener.path, message, _severity(process.app == MEDIA_APP))


def _severity(is_error: bool) -> Severity:
    return Severity.ERROR if is_error else Severity.WARNING


def _public(topology: Topology) -> Iterator[Problem]:
    for process, listener in _chosen(topology):
        if "replication" in listener.resources:
            who = "every host that reaches this one" if listener.everywhere else "whoever else reaches the listener"
            message = (
                f"the listener for requests also has the resource `replication`; the sidecar never forwards to it, but "
                f"{who} can use it: give replication its own listener"
            )
            yield process.config.warning((*listener.path, "resources"), message)


def _forwarded(topology: Topology) -> Iterator[Problem]:
    for process, listener in _chosen(topology):
        if listener.x_forwarded:
            continue
        path: KeyPath = (*listener.path, "x_forwarded")
        if listener.socket:
            yield process.config.problem(path, "is false on a UNIX socket: login and registration fail; remove it")
        else:
            message = "is not set, so every client seems to have the sidecar's address; write `x_forwarded: true`"
            yield process.config.warning(path, message)


def _sockets(topology: Topology) -> Iterator[Problem]:
    for process, listener in _chosen(topology):
        socket = listener.socket
        if socket is None:
            continue
        path: KeyPath = (*listener.path, "path")
        if not os.path.isabs(socket):
            message = "is a relative path, and only Synapse knows its directory; write an absolute path"
            yield process.config.problem(path, message)
        elif not os.path.isdir(os.path.dirname(socket)):
            directory = os.path.dirname(socket)
            message = f"the sidecar finds no directory {directory}; is Synapse down, or is the socket elsewhere?"
            yield process.config.warning(path, message)


def _modes(topology: Topology) -> Iterator[Problem]:
    for process, listener in _chosen(topology):
        mode = _entry(process.config, listener.path).get("mode")
        if isinstance(mode, int) and f"{mode}" in ("600", "660", "666", "700", "770", "777"):
            message = f"YAML reads this as a decimal number; write `0{mode}`"
            yield process.config.problem((*listener.path, "mode"), message)


def _entry(config: Merged, path: KeyPath) -> dict[str, Any]:
    value: Any = config.values
    for part in path:
        value = value[part]
    return value if isinstance(value, dict) else {}


def _addresses(topology: Topology) -> Iterator[Problem]:
    """Two processes that would listen at one address."""
    taken: dict[str, str] = {}
    for process, listener in _chosen(topology):
        other = taken.setdefault(process.endpoint, process.name)
        if other != process.name:
            message = (
                f"`{other}` listens at {listener.place} too; if one of them runs on another host, set its address in "
                f"`workers.{process.name}.endpoint` of sidecar.yaml"
            )
            yield process.config.problem(listener.path, message)


def _left_out(topology: Topology) -> Iterator[Problem]:
    """Resources that only another listener of the same process has; a process has one endpoint."""
    for process, listener in _chosen(topology):
        for other in process.others:
            missed = sorted(other.resources - listener.resources - {"health", "metrics", "replication"})
            if other.kind == "http" and missed:
                message = (
                    f"{other.place} serves {', '.join(missed)}, but requests go to {listener.place}, which does not: "
                    "put all resources for requests into one listener"
                )
                yield process.config.warning(other.path, message)


def _tls(topology: Topology) -> Iterator[Problem]:
    for process in topology.silent:
        for listener in process.others:
            if listener.tls and listener.kind == "http":
                message = "speaks TLS, which the sidecar does not speak to workers; give the process a UNIX socket"
                yield process.config.problem(listener.path, message)


def _legacy(topology: Topology) -> Iterator[Problem]:
    for process in _all(topology):
        for key, message in _REMOVED.items():
            if process.config.get(key) and (not process.is_main or key == "worker_replication_port"):
                yield process.config.problem((key,), message)
        if process.config.get("worker_main_http_uri") is not None:
            yield process.config.warning(("worker_main_http_uri",), "has been unused since Synapse 1.73; remove it")
        experimental = process.config.get("experimental_features")
        if isinstance(experimental, dict) and "msc3861" in experimental:
            message = "was removed in Synapse 1.157; write `matrix_authentication_service` instead"
            yield process.config.warning(("experimental_features", "msc3861"), message)


def _chosen(topology: Topology) -> Iterator[tuple[Process, SynapseListener]]:
    return ((process, process.listener) for process in topology.processes if process.listener)


_OF_EACH_PROCESS: tuple[Callable[[Topology], Iterator[Problem]], ...] = (
    _media_disabled,
    _apps,
    _public,
    _forwarded,
    _sockets,
    _modes,
    _left_out,
    _tls,
    _legacy,
)
_CHECKS: tuple[Callable[[Topology], Iterator[Problem]], ...] = (
    _worker_among_shared,
    _no_main,
    _writers,
    _instance_map,
    _differing,
    _media,
    _federation,
    _openid,
    *_OF_EACH_PROCESS,
    _addresses,
)
