"""Plain sockets as links: reading, writing, back-pressure, half-close, ends, and splicing.

Sends at once if nothing waits to be sent, which saves a poll for each message. Knows no protocols, and of Twisted only
that the poller is in its reactor.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from errno import ECONNRESET
from fcntl import ioctl
from select import POLLIN, poll
from termios import TIOCOUTQ
from typing import Protocol

from sidecar.transport.link import Handler, UnderWay
from sidecar.transport.poller import READ, WRITE, Poller

READ_SIZE = 65536
"""Bytes read at a time."""
MOST_READS = 4
"""How often a socket is read in one turn while it has more, before other sockets get their turn."""
MOST_UNSENT = 65536
"""Bytes that may wait for the kernel before `filled` is called."""
SEND_SIZE = 128 * 1024
"""Bytes written at a time."""

_INT = struct.Struct("i")
_RESET = struct.pack("ii", 1, 0)


class Bypass(Protocol):
    """Moves bytes from one link to another without their handlers (transport/splicing.py)."""

    @property
    def unsent(self) -> int:
        """Bytes that it has taken from one link and not given to the other."""

    def take(self) -> None:
        """The source can be read."""

    def give(self) -> None:
        """The target takes bytes again."""


class SocketLink:
    """A connection on a plain socket."""

    __slots__ = (
        *("_buffer", "_closing", "_drains", "_ending", "_events", "_filled", "_look", "_more", "_more_size", "_offset"),
        *("_poller", "_quiet", "half_closeable", "handler", "inward", "open", "outward", "paused", "peer", "socket"),
        "was_reset",
    )

    secure = False

    def __init__(self, poller: Poller, connected: socket.socket, peer: str, *, half_closeable: bool) -> None:
        """`peer`: the address of the other end, empty if it has none. `half_closeable`: each direction is closed
        separately."""
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self.peer = peer
        self.half_closeable = half_closeable
        self.handler: Handler
        self.open = True
        self.paused = False
        self.was_reset = False
        self.inward: Bypass | None = None
        """Takes what we receive, instead of the handler."""
        self.outward: Bypass | None = None
        """Sends here, instead of the handler."""
        self._poller = poller
        self._events = 0
        self._buffer = b""
        self._offset = 0
        self._more: list[bytes] | None = None
        self._more_size = 0
        self._filled = False
        self._quiet = False
        self._closing = False
        self._ending = False
        self._drains = False
        self._look: poll | None = None

    def begin(self, handler: Handler) -> None:
        """Set the handler, and call its `connected`."""
        self.handler = handler
        self._listen(READ)
        handler.connected(self)

    def hand_over(self, handler: Handler, peer: str | None = None) -> None:
        """Replace the handler; `peer`, if given, replaces the address of the other end."""
        if peer is not None:
            self.peer = peer
        self.handler = handler
        handler.connected(self)

    # Called by the handler.

    def send(self, octets: bytes) -> bool:
        if self._buffer or self.outward is not None:
            self._keep(octets)
            return True
        try:
            sent = self.socket.send(octets)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The socket is broken or closed.
            return False
        if sent != len(octets):
            self._keep(octets[sent:])
        return True

    def pause(self) -> None:
        if not self.paused:
            self.paused = True
            self._unlisten(READ)

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if not self._closing:
                self._listen(READ)

    def end_writing(self) -> None:
        self._ending = True
        self._end_when_sent()

    def close(self) -> None:
        if self.open and not self._closing:
            self._closing = self._quiet = True
            self._unlisten(READ)
            self._end_when_sent()

    def abort(self) -> None:
        if self.open:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._lose(clean=False)

    def quiet(self) -> None:
        self._quiet = True

    def abandon_writes(self) -> None:
        # Otherwise a failed write that nobody needs any more would end a connection that still has an answer to read.
        self._forget()
        self._unlisten(WRITE)

    @property
    def closing(self) -> bool:
        return self._closing

    def idle(self) -> bool:
        if not self.open:
            return False
        look = self._look
        if look is None:
            # `recv` would nearly always raise an exception, which costs three times as much.
            look = self._look = poll()
            look.register(self.socket, POLLIN)
        return not look.poll(0)

    @property
    def unsent(self) -> int:
        if self.outward is not None:
            return len(self._buffer) - self._offset + self._more_size + self.outward.unsent
        return len(self._buffer) - self._offset + self._more_size if self._buffer else 0

    @property
    def under_way(self) -> UnderWay:
        unsent = self.unsent
        return (unsent, 0) if unsent else (0, in_kernel(self.descriptor))

    # Called by a bypass.

    @property
    def descriptor(self) -> int:
        """The number of the socket; -1 when it is closed."""
        return self.socket.fileno()

    @property
    def reading(self) -> bool:
        """Reading is allowed: the link is open, not paused and not closing."""
        return self.open and not (self.paused or self._closing)

    def divert(self, bypass: Bypass | None) -> None:
        """Give what is received to `bypass`; None: to the handler again."""
        self.inward = bypass

    def accept(self, bypass: Bypass | None) -> None:
        """Let `bypass` send here; None: the handler again."""
        self.outward = bypass
        if bypass is None and not self._buffer:
            self._unlisten(WRITE)

    def await_room(self) -> None:
        """The kernel takes no more of a bypass: call it when that changes, and call `filled` now."""
        self._listen(WRITE)
        self.handler.filled()

    def has_room(self) -> None:
        """The kernel has taken all of it."""
        self._unlisten(WRITE)
        self.handler.drained()

    def input_ended(self) -> None:
        """The other end sends no more."""
        if self.half_closeable:
            self._unlisten(READ)
            self.handler.half_closed()
        else:
            self._lose(clean=True)

    def input_failed(self, error: OSError) -> None:
        """Reading has failed: the link ends."""
        self.was_reset = error.errno == ECONNRESET
        self._lose(clean=False)

    # Called by the poller.

    def do_read(self, more: int = MOST_READS - 1) -> None:
        """Read once, and up to `more` times again while there is more and the handler takes it."""
        if self.inward is not None:
            self.inward.take()
            return
        try:
            octets = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.input_failed(error)
            return
        if not octets:
            self.input_ended()
            return
        self.handler.received(octets)
        if len(octets) == READ_SIZE and more and self.reading:
            self.do_read(more - 1)

    def do_write(self) -> None:
        if not self._buffer:
            if self.outward is not None:
                self.outward.give()
            else:
                self._sent()
            return
        end = self._offset + SEND_SIZE
        try:
            self._offset += self.socket.send(memoryview(self._buffer)[self._offset : end])
        except BlockingIOError:
            return
        except OSError:
            self._lose(clean=False)
            return
        if self._offset == len(self._buffer):
            self._buffer = b"" if self._more is None else b"".join(self._more)
            self._offset = self._more_size = 0
            self._more = None
            if not self._buffer:
                self._sent()

    def do_fail(self) -> None:
        self.abort()

    # State changes.

    def _keep(self, octets: bytes) -> None:
        """Queue these for the kernel."""
        if not self.open or not octets:
            return
        if not self._buffer:
            self._buffer = octets
            self._listen(WRITE)
        else:
            if self._more is None:
                self._more = []
            self._more.append(octets)
            self._more_size += len(octets)
        if not self._quiet and len(self._buffer) - self._offset + self._more_size > MOST_UNSENT:
            self._filled = True
            self.handler.filled()

    def _sent(self) -> None:
        """Everything was sent."""
        self._unlisten(WRITE)
        if self._closing:
            self._lose(clean=True)
        elif self._ending:
            self._ending = False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            self.handler.writing_ended()
        elif self._filled:
            self._filled = False
            if not self._quiet:
                self.handler.drained()

    def _end_when_sent(self) -> None:
        if not (self._buffer or self.outward is not None):
            self._poller.soon(self._end)

    def _end(self) -> None:
        if self.open and not self._buffer:
            self._sent()

    def _forget(self) -> None:
        self._buffer = b""
        self._offset = self._more_size = 0
        self._more = None

    def _listen(self, event: int) -> None:
        before = self._events
        if self.open and not before & event:
            self._events = before | event
            if before:
                self._poller.change(self.socket.fileno(), self._events)
            else:
                self._poller.add(self.socket.fileno(), self, event)

    def _unlisten(self, event: int) -> None:
        if self._events & event:
            self._events &= ~event
            if self._events:
                self._poller.change(self.socket.fileno(), self._events)
            else:
                self._poller.remove(self.socket.fileno())

    def _lose(self, *, clean: bool) -> None:
        """Close the socket now, and call `lost` after the code that runs now."""
        if not self.open:
            return
        self.open = False
        self._unlisten(READ | WRITE)
        self._forget()
        self._look = None
        self.socket.close()
        handler = self.handler
        self._poller.soon(lambda: handler.lost(clean=clean))


def in_kernel(descriptor: int) -> int:
    """How many bytes in the kernel the other end has not acknowledged: a reset would lose them."""
    if descriptor < 0:
        return 0
    count: int = _INT.unpack(ioctl(descriptor, TIOCOUTQ, _INT.pack(0)))[0]
    return count
