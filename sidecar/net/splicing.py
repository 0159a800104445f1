"""Large bodies of known length go from one socket to another inside the kernel (splice(2)), without being copied here.

Only octets that need no look pass this way: the middle of a body with Content-Length. Heads, chunks and the ends of
messages never do. Where the kernel cannot, the ordinary path goes on. Knows no HTTP; the relay says how many octets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from sidecar.net.link import Link
from sidecar.net.transport import TwistedLink

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

    While it runs it stands in for the source's `doRead` and, when the target is full, for the target's `doWrite`.
    `end` gives both back; what is in the pipe then is lost, so that it is called early only to give up.
    """

    __slots__ = ("_blocked", "_broken", "_in_pipe", "_left", "_moved", "_pipe", "_source", "_target")

    def __init__(
        self,
        source: TwistedLink,
        target: TwistedLink,
        octets: int,
        pipe: Pipe,
        moved: Callable[[int], None],
        broken: Callable[[], None],
    ) -> None:
        """Move the next `octets` that `source` receives.

        `moved` is told of those that `target` has taken, `broken` that it takes none any more.
        """
        self._source = source
        self._target = target
        self._left = octets
        self._pipe: Pipe | None = pipe
        self._in_pipe = 0
        self._blocked = False
        self._moved = moved
        self._broken = broken
        source.divert(self._receive)
        target.take(self)

    @property
    def unsent(self) -> int:
        """Bytes that have been taken from the source but not by the target."""
        return self._in_pipe

    def end(self) -> None:
        """Give the sockets back to their protocols."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._target.take(None)
            self._unblock()
            self._source.read_directly()
            pipe.give_back(empty=not self._in_pipe)

    def _receive(self) -> BaseException | None:
        """What the reactor calls when there is something to read from the source."""
        for _ in range(MOST_ROUNDS):
            pipe = self._pipe
            if pipe is None or self._in_pipe or not self._source.reading:
                return None
            try:
                taken = os.splice(self._source.descriptor, pipe.write_end, min(self._left, PIPE_SIZE), flags=_FLAGS)
            except BlockingIOError:
                return None
            except OSError:
                return CONNECTION_LOST
            if not taken:
                return CONNECTION_DONE
            self._left -= taken
            self._in_pipe = taken
            self._pour(pipe)
        return None

    def _pour(self, pipe: Pipe) -> None:
        """Empty the pipe into the target, as far as it takes it."""
        before = self._in_pipe
        broken = False
        try:
            while self._in_pipe:
                self._in_pipe -= os.splice(pipe.read_end, self._target.descriptor, self._in_pipe, flags=_FLAGS)
        except BlockingIOError:
            self._block()
        except OSError:
            broken = True
        if before != self._in_pipe:
            self._moved(before - self._in_pipe)
        if broken:
            self._broken()

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            transport: Any = self._target.transport
            transport.doWrite = self._send
            transport.startWriting()
            self._target.handler.filled()

    def _unblock(self) -> None:
        if self._blocked:
            self._blocked = False
            transport: Any = self._target.transport
            transport.stopWriting()
            del transport.doWrite

    def _send(self) -> None:
        """What the reactor calls when the target takes something again."""
        pipe = self._pipe
        if pipe is None:
            return
        self._pour(pipe)
        if self._pipe is not None and not self._in_pipe and self._blocked:
            self._unblock()
            self._target.handler.drained()


def begin_splice(
    source: Link,
    target: Link,
    octets: int,
    moved: Callable[[int], None],
    broken: Callable[[], None],
) -> Splice | None:
    """As `Splice`, if both are plain sockets, nothing is on its way to `target`, and a pipe can be had; else None."""
    if not (isinstance(source, TwistedLink) and isinstance(target, TwistedLink)):
        return None
    if not (source.direct and target.direct) or target.unsent:
        return None
    pipe = Pipe.take()
    return None if pipe is None else Splice(source, target, octets, pipe, moved, broken)
