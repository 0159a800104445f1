"""Where Synapse's configuration is: named by its running processes, or in one of the places where packages put it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import evolve, frozen

from sidecar.document import read_document
from sidecar.install.command_lines import SynapseProcess, synapse_processes

PLACES = ("/etc/matrix-synapse", "/etc/synapse", "/data", "/conf")
"""Debian and its relatives; Fedora, Arch and NixOS; Synapse's container image; the same image with workers."""
_OF_WORKERS = ("workers", "workers.d")
_WORKER_KEYS = frozenset(("worker_app", "worker_name", "worker_listeners"))


@frozen
class Source:
    """One Synapse's configuration, as `synapse.config` and `synapse.workers` name it. Paths are seen from the root."""

    config: tuple[str, ...]
    workers: tuple[str, ...]
    how: str
    """Where this is known from, for people."""
    notes: tuple[str, ...] = ()
    """What an operator has to know about it."""


def sources(root: str = "/", environment: Mapping[str, str] | None = None) -> list[Source]:
    """All that can be found, the surest first; each configuration once."""
    found: dict[str, Source] = {}
    for source in (*_running(root), *_installed(root, environment or {})):
        found.setdefault(source.config[0], source)
    return list(found.values())


def unseen(root: str = "/") -> list[SynapseProcess]:
    """Processes that run in containers, whose files cannot be read from here."""
    return [process for process in synapse_processes(root) if process.elsewhere]


def stated(root: str, config: Sequence[str], workers: Sequence[str]) -> Source:
    """What the operator named; `conf.d` and a directory of workers beside a single file are found by themselves."""
    if len(config) == 1 and not workers and os.path.isfile(under(root, config[0])):
        beside = _in_place(root, os.path.dirname(config[0]) or "/", os.path.basename(config[0]))
        return evolve(beside, how="named by you")
    return _sorted_out(root, tuple(config), tuple(workers), "named by you")


# Running processes.


def _running(root: str) -> Iterator[Source]:
    processes = [process for process in synapse_processes(root) if not process.elsewhere]
    mains = [process for process in processes if process.is_main]
    for main in mains:
        own = [process for process in processes if not process.is_main and _belongs(process, main.config, mains)]
        workers = f" and {len(own)} {'worker' if len(own) == 1 else 'workers'}" if own else ""
        yield _of_processes(root, main.config, own, f"named by the running process {main.pid}{workers}")
    if not mains and processes:
        shared = _common([process.config for process in processes])
        if shared:
            yield _of_processes(root, shared, processes, f"named by {len(processes)} running workers")


def _belongs(worker: SynapseProcess, config: Sequence[str], mains: Iterable[SynapseProcess]) -> bool:
    """Whether a worker reads this configuration, and none that would have more in common with its own."""
    fits = [main.config for main in mains if worker.config[: len(main.config)] == main.config]
    if fits:
        return max(fits, key=len) == config
    return worker.config[0] == config[0]


def _common(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What all of them begin with; the last of each is a worker's own."""
    shared = []
    for alike in zip(*(each[:-1] for each in lists), strict=False):
        if len(set(alike)) > 1:
            break
        shared.append(alike[0])
    return tuple(shared)


def _of_processes(root: str, config: tuple[str, ...], own: Sequence[SynapseProcess], how: str) -> Source:
    files = tuple(dict.fromkeys(path for process in own for path in process.config if path not in config))
    if not files:
        return _sorted_out(root, config, _directories(root, config), how)
    directories = {os.path.dirname(file) for file in files}
    if len(directories) != 1:
        return Source(config, files, how)
    directory = directories.pop()
    others = sorted(set(_yaml_files(root, directory)) - {*files, *config})
    if others:
        told = ", ".join(map(os.path.basename, others))
        note = (
            f"{directory} also holds {told}, which no running process reads; add the files that will run to "
            "`synapse.workers`"
        )
        return Source(config, files, how, (note,))
    return _sorted_out(root, config, (directory,), how)


# Places.


def _installed(root: str, environment: Mapping[str, str]) -> Iterator[Source]:
    named = environment.get("SYNAPSE_CONFIG_PATH")
    directory = environment.get("SYNAPSE_CONFIG_DIR")
    if named and os.path.isfile(under(root, named)):
        yield _in_place(root, os.path.dirname(named) or "/", os.path.basename(named))
    for place in (*([directory] if directory else ()), *PLACES):
        if os.path.isfile(under(root, place, "homeserver.yaml")):
            yield _in_place(root, place, "homeserver.yaml")


def _in_place(root: str, place: str, file: str) -> Source:
    config = [os.path.join(place, file)]
    if os.path.isdir(under(root, place, "conf.d")):
        config.append(os.path.join(place, "conf.d"))
    return _sorted_out(root, tuple(config), _directories(root, config), f"found in {place}")


def _directories(root: str, config: Sequence[str]) -> tuple[str, ...]:
    """Directories of workers beside the shared files, and where Synapse's image with workers has them."""
    beside = [os.path.join(os.path.dirname(path), name) for path in config for name in _OF_WORKERS]
    known = (*beside, *(["/conf/workers"] if config[0].startswith("/data/") else ()))
    return tuple(dict.fromkeys(path for path in known if os.path.isdir(under(root, path)) and path not in config))


def _sorted_out(root: str, config: tuple[str, ...], workers: tuple[str, ...], how: str) -> Source:
    """Files among the workers' that describe none are shared by all, as `shared.yaml` is in Synapse's image."""
    strays = [file for directory in workers for file in _yaml_files(root, directory) if _is_stray(under(root, file))]
    more = tuple(file for file in strays if file not in config and os.path.dirname(file) not in config)
    return Source((*config, *more), workers, how)


def _is_stray(file: str) -> bool:
    value = read_document(file).value
    return isinstance(value, dict) and _WORKER_KEYS.isdisjoint(value)


def _yaml_files(root: str, directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(under(root, directory)))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".yaml")]


def under(root: str, *parts: str) -> str:
    """A path as it is reached from outside of the root."""
    path = os.path.join(*parts)
    return str(Path(root, path.lstrip("/")))
