"""The file that remembers how far a rollout has come, so that a later one can go on, or clean up.

Its lock lets only one rollout run at a time. Knows nothing of what is restarted.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from attrs import define, field, frozen

_VERSION = 1
_MOST = 1 << 20
"""Bytes of the file that are read."""


class StateFileError(Exception):
    """The file cannot be used; the text says why."""


@frozen(kw_only=True)
class Unfinished:
    """What an earlier rollout has left."""

    names: tuple[str, ...]
    """All that it was to restart, in order."""
    done: tuple[str, ...]
    drained: str = ""
    """Who was drained when it was killed."""
    configuration: str = ""
    """The file that it was started with; empty if the state file does not say."""

    @property
    def left(self) -> tuple[str, ...]:
        """Who was not restarted."""
        return tuple(name for name in self.names if name not in self.done)


@define
class ProgressFile:
    """A context: locked while a rollout runs."""

    path: str
    configuration: str
    """The configuration file that the rollout was started with."""
    _file: TextIO = field(init=False)
    _names: tuple[str, ...] = field(default=(), init=False)
    _done: list[str] = field(factory=list, init=False)
    _drained: str = field(default="", init=False)

    def __enter__(self) -> ProgressFile:
        """Raises StateFileError."""
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "r+", encoding="utf-8", opener=_private_or_new)
        except OSError as error:
            raise StateFileError(
                f"{self.path} cannot be written: {error.strerror}. Run this as root, or name another file in "
                "`rollout.state`"
            ) from error
        try:
            _lock(self._file, fcntl.LOCK_EX)
        except StateFileError:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def unfinished(self) -> Unfinished | None:
        """What an earlier rollout has left; None where it was finished, or there was none."""
        return _read(self._file)

    def begin(self, names: Sequence[str], done: Sequence[str] = ()) -> None:
        """A rollout of these begins; some are done already."""
        self._names, self._done, self._drained = tuple(names), list(done), ""
        self._write()

    def drained(self, name: str) -> None:
        """This one is drained now; empty: none is."""
        self._drained = name
        self._write()

    def finished(self, name: str) -> None:
        """This one has been restarted."""
        self._done.append(name)
        self._write()

    def end(self) -> None:
        """All are done: there is nothing to remember."""
        self._file.truncate(0)

    def _write(self) -> None:
        told: dict[str, Any] = {
            "version": _VERSION,
            "configuration": self.configuration,
            "names": self._names,
            "done": self._done,
            "drained": self._drained,
        }
        # Written over the old state in one piece, and cut afterwards: whoever is killed in between leaves one of both.
        line = f"{json.dumps(told)}\n".encode()
        os.pwrite(self._file.fileno(), line, 0)
        os.ftruncate(self._file.fileno(), len(line))


def read_unfinished(path: str) -> Unfinished | None:
    """As `ProgressFile.unfinished`, without creating or changing the file. Raises StateFileError."""
    try:
        with open(path, encoding="utf-8", opener=_private) as file:
            _lock(file, fcntl.LOCK_SH)
            return _read(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFileError(
            f"{path} cannot be read: {error.strerror}. Run this as root, or name another file in `rollout.state`"
        ) from error


def _lock(file: TextIO, kind: int) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        raise StateFileError(f"another rollout is running: it holds {file.name}") from error


def _read(file: TextIO) -> Unfinished | None:
    file.seek(0)
    try:
        content = json.loads(file.readline(_MOST) or "null")
    except ValueError:
        return None
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return None
    return Unfinished(
        names=_texts(content.get("names")),
        done=_texts(content.get("done")),
        drained=_text(content.get("drained")),
        configuration=_text(content.get("configuration")),
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _private_or_new(path: str, flags: int) -> int:
    return _private(path, flags | os.O_CREAT)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
