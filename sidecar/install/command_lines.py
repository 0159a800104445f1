"""Synapse processes that run here, and the configuration that their command lines name. Reads /proc, starts nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

_MODULE = re.compile(r"synapse\.app\.(\w+)")
_SCRIPTS = {"synapse_homeserver": "homeserver", "synapse_worker": "generic_worker"}
_OPTIONS = ("--config-path", "-c")
MAIN_APPS = ("homeserver",)
_PLUGIN = "matrix-sidecar"


@frozen
class SynapseProcess:
    """One process of Synapse. `config` are its configuration files and directories, in order, absolute."""

    pid: int
    app: str
    config: tuple[str, ...]
    elsewhere: bool = False
    """Its files are not those that are seen here: it runs in a container."""

    @property
    def is_main(self) -> bool:
        """Whether it was started as the main process."""
        return self.app in MAIN_APPS


def synapse_processes(root: str = "/") -> list[SynapseProcess]:
    """Those whose command line names a configuration, by process id. `root` is in front of every path looked at."""
    proc = Path(root, "proc")
    pids = sorted(int(entry.name) for entry in proc.glob("[0-9]*") if entry.name.isdecimal())
    return [found for pid in pids if (found := _process(proc / str(pid), pid, root)) is not None]


def _process(place: Path, pid: int, root: str) -> SynapseProcess | None:
    words = _words(place)
    app = app_of(words)
    if app is None:
        return None
    try:
        directory = os.readlink(place / "cwd")
    except OSError:
        directory = "/"
    named = tuple(os.path.normpath(os.path.join(directory, path)) for path in config_paths(words))
    return SynapseProcess(pid, app, named, _is_elsewhere(place, named, root)) if named else None


def sidecars() -> list[int]:
    """Process ids of running sidecars."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        words = _words(entry)
        if _PLUGIN in words and any(os.path.basename(word) == "twistd" for word in words[:2]):
            found.append(int(entry.name))
    return sorted(found)


def _words(place: Path) -> list[str]:
    """The command line of a process; none where it has gone, or is not for us to see."""
    try:
        return place.joinpath("cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def app_of(words: Sequence[str]) -> str | None:
    """The application that a command line starts, such as `homeserver`; None if it is none of Synapse's."""
    for number, word in enumerate(words):
        module = _MODULE.fullmatch(word)
        if module and number and words[number - 1] == "-m":
            return module[1]
        if number < 2 and os.path.basename(word) in _SCRIPTS:
            return _SCRIPTS[os.path.basename(word)]
    return None


def config_paths(words: Sequence[str]) -> Iterator[str]:
    """What `--config-path` and `-c` name, in every way in which argparse takes them."""
    for number, word in enumerate(words):
        if word in _OPTIONS:
            yield from words[number + 1 : number + 2]
        elif word.startswith("--config-path="):
            yield word.partition("=")[2]
        elif word.startswith("-c") and len(word) > 2:
            yield word[2:]


def _is_elsewhere(place: Path, config: Sequence[str], root: str) -> bool:
    """Whether the process sees other files under these names than we do."""
    for path in config:
        try:
            here = os.stat(os.path.join(root, path.lstrip("/")))
        except OSError:
            return True
        try:
            there = os.stat(place / "root" / path.lstrip("/"))
        except OSError:
            continue  # not for us to see
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            return True
    return False
