"""Tells at once when a socket appears in its directory, so that nobody has to look for it every few milliseconds.

A help, and no more than that: where a directory cannot be watched, or is deleted itself, whoever waits goes on looking
now and then. Knows no workers; a path and whom to call is all.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from os.path import basename, dirname, isdir
from typing import Any

from attrs import define, field
from twisted.python.filepath import FilePath

from sidecar.observe.telemetry import logger

_log = logger("sidecar.watching")

Appeared = Callable[[], None]


@define(eq=False)
class _Directory:
    """One directory. Twisted gives up the whole descriptor when what it watches is deleted, so each has its own."""

    notify: Any
    """An `INotify`."""
    wanted: dict[bytes, list[Appeared]] = field(factory=dict)


class SocketWatch:
    """The directories of the sockets that are waited for. `close` ends it."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._inotify: Any = None
        self._why = ""
        try:
            # Here, because it looks for the C library by starting a program: that takes a moment, if it is allowed.
            self._inotify = import_module("twisted.internet.inotify")
        except Exception as error:
            self._why = str(error)
        self._directories: dict[str, _Directory] = {}
        self._told = False

    def watch(self, path: str, appeared: Appeared) -> None:
        """Call `appeared` whenever something happens to a file at `path`; asked for again, nothing is doubled.

        Without effect where the directory cannot be watched now; asking again later may help.
        """
        parent = dirname(path) or "."
        directory = self._directories.get(parent) or self._begin(parent)
        if directory is not None:
            calls = directory.wanted.setdefault(basename(path).encode(), [])
            if appeared not in calls:
                calls.append(appeared)

    def ignore(self, path: str, appeared: Appeared) -> None:
        """Call it no more."""
        parent = dirname(path) or "."
        directory = self._directories.get(parent)
        if directory is None:
            return
        name = basename(path).encode()
        calls = directory.wanted.get(name, [])
        if appeared in calls:
            calls.remove(appeared)
        if not calls:
            directory.wanted.pop(name, None)
        if not directory.wanted:
            self._end(parent)

    def close(self) -> None:
        """Watch nothing any more."""
        for parent in tuple(self._directories):
            self._end(parent)

    def _begin(self, parent: str) -> _Directory | None:
        if not isdir(parent):
            return None
        inotify = self._inotify
        if inotify is None:
            self._say(parent, self._why)
            return None
        try:
            notify = inotify.INotify(self._reactor)
            # A socket is made, renamed to its place, or given other permissions.
            appears = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_ATTRIB
            notify.watch(FilePath(parent), appears, callbacks=[lambda _, path, mask: self._seen(parent, path, mask)])
        except Exception as error:
            self._say(parent, str(error))
            return None
        notify.startReading()
        directory = self._directories[parent] = _Directory(notify)
        return directory

    def _end(self, parent: str) -> None:
        self._directories.pop(parent).notify.loseConnection()

    def _seen(self, parent: str, path: FilePath[bytes], mask: int) -> None:
        directory = self._directories.get(parent)
        if directory is None:
            return
        if mask & self._inotify.IN_DELETE_SELF:
            # Twisted closes the descriptor now; whoever still waits asks again.
            del self._directories[parent]
            return
        for call in tuple(directory.wanted.get(path.basename(), ())):
            call()

    def _say(self, parent: str, error: str) -> None:
        if not self._told:
            self._told = True
            _log.info(
                "directory {parent} cannot be watched ({error}); sockets in it are looked for twice a second",
                parent=parent,
                error=error,
            )
