"""Which workers and servers are drained, in a file, so that a restart does not end it. Needs no Twisted.

Knows nothing of what a drain is. What stands in the file is taken as somebody else's word: it is looked at before use.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from attrs import frozen

MOST = 1 << 20
"""Bytes of the file: far more than the names of all workers."""


@frozen
class Drained:
    """What is drained: names of workers, and of balancers with their servers."""

    workers: frozenset[str] = frozenset()
    servers: frozenset[tuple[str, str]] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """As they are told: a server is `BALANCER/SERVER`."""
        return self.workers | {"/".join(server) for server in self.servers}


def state_path(written: str, configuration: str, environment: Mapping[str, str]) -> str:
    """Where `operator.remember_drains` leads: seen from the state directory of the unit (systemd.exec(5),
    StateDirectory=), or from the directory of the `configuration` file where there is none."""
    directory = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return os.path.join(directory or os.path.dirname(configuration), written)


def read_drains(path: str) -> Drained:
    """What the file says; nothing where there is none. Raises OSError, or ValueError with the end of a sentence."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST + 1)
    except FileNotFoundError:
        return Drained()
    if len(text) > MOST:
        raise ValueError(f"it has more than {MOST} bytes")
    try:
        told: Any = json.loads(text)
        servers = [(server["balancer"], server["server"]) for server in told["servers"]]
        found = Drained(frozenset(told["workers"]), frozenset(servers))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError("it is not what a sidecar has written") from None
    if not all(isinstance(name, str) for name in (*found.workers, *(name for pair in servers for name in pair))):
        raise ValueError("it is not what a sidecar has written")
    return found


def write_drains(path: str, drained: Drained) -> None:
    """Write the file as a whole or not at all; it is on the disk when this returns. Raises OSError."""
    told = {
        "workers": sorted(drained.workers),
        "servers": [{"balancer": balancer, "server": server} for balancer, server in sorted(drained.servers)],
    }
    directory = os.path.dirname(path)
    number, new = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with open(number, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        _synchronize(directory or ".")
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def _synchronize(directory: str) -> None:
    """Have the names in a directory on the disk, too."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
