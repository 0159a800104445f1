"""Moves large bodies of known length from one socket to another inside the kernel (splice(2)), without copying.

Only for the middle of a body with Content-Length; never for heads, chunks and the ends of messages. If the kernel
cannot do it, the ordinary path is used. Knows no HTTP; the caller says how many bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable

from sidecar.transport.link import Link
from sidecar.transport.transport import SocketLink

WORTH_IT = 256 * 1024
"""Bytes of a body that must be left; for less, the setup costs more than copying."""
PIPE_SIZE = 256 * 1024
"""The size of a pipe in bytes."""
MOST_PIPES = 64
"""Bodies that are spliced at once, of all connections together; more are copied."""
MOST_ROUNDS = 4
"""How often a pipe is filled in one turn, before other connections get their turn."""

_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE if hasattr(os, "splice") else 0


class Pipe:
    """A pipe to splice through; counted, and used again when it is empty."""

    __slots__ = ("read_end", "write_end")

    _free: list[Pipe] = []  # noqa: RUF012
    _open: int = 0

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            # An unprivileged user has a quota; then the default of 64 KiB is used.
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    @classmethod
    def take(cls) -> Pipe | None:
        """An empty pipe; None if there are too many, or none can be made."""
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
        """Keep it for another body if it is empty, else close it."""
        if empty:
            self._free.append(self)
        else:
            os.close(self.read_end)
            os.close(self.write_end)
            Pipe._open -= 1


class Splice:
    """The rest of one body on its way from `source` to `target`.

    `end` gives both back to their handlers. What is in the pipe is lost then, so ending early means giving up.
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
        """Move the next `octets` bytes that `source` receives.

        `moved` is called with how many `target` has taken, `broken` if it takes no more, `dry` if the source has
        nothing now and the pipe is empty.
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
        """Bytes in the pipe."""
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
        """The target takes bytes again."""
        pipe = self._pipe
        if pipe is None:
            return
        self._pour(pipe)
        if self._pipe is not None and not self._in_pipe and self._blocked:
            self._blocked = False
            self._target.has_room()

    def _pour(self, pipe: Pipe) -> None:
        """Move what is in the pipe to the target, as far as it takes it."""
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
    """A Splice, if both are plain sockets, nothing waits to be sent to `target`, and there is a pipe; else None."""
    if not (isinstance(source, SocketLink) and isinstance(target, SocketLink)) or target.unsent:
        return None
    if not (source.open and target.open):
        return None
    pipe = Pipe.take()
    return None if pipe is None else Splice(source, target, octets, pipe, moved, broken, dry)
