"""Real reverse proxies in front of the sidecar, with the lines that `init` prints, or with those that people write."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from front_files import program, running, write_whole

from .children import Child
from .laboratory import free_port

START_LIMIT = 20.0


@contextmanager
def running_front(kind: str, lines: str, directory: Path) -> Iterator[int]:
    """The proxy with these lines where `init` says that they belong; its port on 127.0.0.1. It dies with the test."""
    port = free_port()
    file = write_whole(kind, lines, port, directory)
    environment = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    command = [program(kind) or kind, *running(kind, file)]
    child = Child(kind, command, directory / f"{kind}.log", directory=directory, environment=environment)
    try:
        child.wait_until(lambda: _accepts(port), START_LIMIT)
        yield port
    finally:
        Child.stop_all([child])


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
