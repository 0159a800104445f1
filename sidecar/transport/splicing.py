"""Large bodies of known length go from one socket to another inside the kernel (splice(2)), without being copied here.

Only octets that need no look pass this way: the middle of a body with Content-Length. Heads, chunks and the ends of
messages never do. Where the kernel cannot, the ordinary path goes on. Knows no HTTP; whoever begins it says how many
octets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable

from sidecar.transport.link import Link
from sidecar.transport.transport import SocketLink

WORTH_IT = 256 * 1024
"""Bytes that must be left of a body; below, setting up costs more than copying."""
PIPE_SIZE = 256 * 1024
"""Bytes that can be under way between two sockets."""
MOST_PIPES = 64
"""Bodies that take this way at once, of all connections together; more take the ordinary one."""
MOST_ROUNDS = 4
"""Pipefuls moved in one turn; then other connections get theirs."""

_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE if hasattr(os, "splice") else 0


class Pipe:
    """A pipe to splice through; counted, and used again when it is empty."""

    __slots__ = ("read_end", "write_end")

    _free: list[Pipe] = []  # noqa: RUF012
    _open: int = 0

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            # An unprivileged user has a quota; the default of 64 KiB will do.
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    @classmethod
    def take(cls) -> Pipe | None:
        """An empty pipe; None where there are enough, or none can be had."""
        if cls._free:
            return cls._free.pop()
        if not _FLAGS or cls._open >= MOST_PIPES:
            return None
        try:
            pipe = cls()
        except OSError:
            return None
        cls._open += 1
        return pipe

    def give_back(self, *, empty: bool) -> None:
        """Keep it for another body, or close it with what is in it."""
        if empty:
            self._free.append(self)
        else:
            os.close(self.read_end)
            os.close(self.write_end)
            Pipe._open -= 1


class Splice:
    """The rest of one body on its way from `source` to `target`.

    `end` gives both back to their handlers; what is in the pipe then is lost, so that it is called early only to give
    up.
    """

    __slots__ = ("_blocked", "_broken", "_dry", "_in_pipe", "_left", "_moved", "_pipe", "_source", "_target")

    def __init__(
        self,
        source: SocketLink,
        target: SocketLink,
        octets: int,
        pipe: Pipe,
        moved: Callable[[int], None],
        broken: Callable[[], None],
        dry: Callable[[], None] = lambda: None,
    ) -> None:
        """Move the next `octets` that `source` receives.

        `moved` is told of those that `target` has taken, `broken` that it takes none any more, `dry` that the source
        has no more at this moment and nothing is in the pipe.
        """
        self._source = source
        self._target = target
        self._left = octets
        self._pipe: Pipe | None = pipe
        self._in_pipe = 0
        self._blocked = False
        self._moved = moved
        self._broken = broken
        self._dry = dry
        source.divert(self)
        target.accept(self)

    @property
    def unsent(self) -> int:
        """Bytes that have been taken from the source but not by the target."""
        return self._in_pipe

    def end(self) -> None:
        """Give the links back to their handlers."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._source.divert(None)
            self._target.accept(None)
            pipe.give_back(empty=not self._in_pipe)

    def take(self) -> None:
        """The source can be read."""
        source = self._source
        for _ in range(MOST_ROUNDS):
            pipe = self._pipe
            if pipe is None or self._in_pipe or not source.reading:
                return
            try:
                taken = os.splice(source.descriptor, pipe.write_end, min(self._left, PIPE_SIZE), flags=_FLAGS)
            except BlockingIOError:
                self._dry()
                return
            except OSError as error:
                source.input_failed(error)
                return
            if not taken:
                source.input_ended()
                return
            self._left -= taken
            self._in_pipe = taken
            self._pour(pipe)

    def give(self) -> None:
        """The target takes something again."""
        pipe = self._pipe
        if pipe is None:
            return
        self._pour(pipe)
        if self._pipe is not None and not self._in_pipe and self._blocked:
            self._blocked = False
            self._target.has_room()

    def _pour(self, pipe: Pipe) -> None:
        """Empty the pipe into the target, as far as it takes it."""
        before = self._in_pipe
        broken = False
        try:
            while self._in_pipe:
                self._in_pipe -= os.splice(pipe.read_end, self._target.descriptor, self._in_pipe, flags=_FLAGS)
        except BlockingIOError:
            if not self._blocked:
                self._blocked = True
                self._target.await_room()
        except OSError:
            broken = True
        if before != self._in_pipe:
            self._moved(before - self._in_pipe)
        if broken:
            self._broken()


def begin_splice(
    source: Link,
    target: Link,
    octets: int,
    moved: Callable[[int], None],
    broken: Callable[[], None],
    dry: Callable[[], None] = lambda: None,
) -> Splice | None:
    """As `Splice`, if both are plain sockets, nothing is on its way to `target`, and a pipe can be had; else None."""
    if not (isinstance(source, SocketLink) and isinstance(target, SocketLink)) or target.unsent:
        return None
    if not (source.open and target.open):
        return None
    pipe = Pipe.take()
    return None if pipe is None else Splice(source, target, octets, pipe, moved, broken, dry)
