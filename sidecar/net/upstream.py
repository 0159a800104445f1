"""A connection to a worker: octets in both directions, and whether it can be used again.

Reports to the relay that holds its lease, or to its pool while it is idle. Knows no routes and no clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from sidecar.net.transport import DirectProtocol
from sidecar.wire.reader import ResponseReader

if TYPE_CHECKING:
    from sidecar.net.pool import WorkerPool


class LeaseHolder(Protocol):
    """What an upstream connection needs of the relay that holds its lease."""

    def upstream_data(self, octets: bytes) -> None: ...

    def upstream_lost(self, *, clean: bool) -> None: ...

    def upstream_clogged(self) -> None: ...

    def upstream_flowing(self) -> None: ...


@implementer(IPushProducer)
class Upstream(DirectProtocol):
    """One connection to one worker. Its own producer towards itself, so that it learns when it is clogged."""

    holder: LeaseHolder | None = None
    reader: ResponseReader
    old: bool = False
    """It was idle at the last sweep of its pool."""
    open: bool = False
    paused: bool = False

    def __init__(self, pool: WorkerPool, reader: ResponseReader, generation: int, began: float) -> None:
        """`began`: when it was begun to be made, in seconds of the clock of `pool`."""
        self.pool = pool
        self.reader = reader
        self.generation = generation
        """Which socket of the worker this is a connection to; it changes when the worker starts anew."""
        self.made = pool.deadlines.now()
        """When it was there."""
        self.took = self.made - began

    def connectionMade(self) -> None:
        self.open = True
        self.go_direct()
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self.pool.connect_times.add(self.took)
        self.pool.connected(self)

    def dataReceived(self, data: bytes) -> None:
        holder = self.holder
        if holder is None:
            # Nobody asked: whatever it is, it must not become the next one's answer.
            self.pool.discard(self)
        else:
            holder.upstream_data(data)

    def connectionLost(self, reason: TwistedFailure = connectionDone) -> None:
        self.open = False
        holder = self.holder
        self.pool.forget(self)
        if holder is not None:
            self.holder = None
            holder.upstream_lost(clean=reason.check(ConnectionDone) is not None)

    # What the relay asks for.

    @property
    def reading(self) -> bool:
        return self.open and not self.paused

    def pause(self) -> None:
        if not self.paused and self.open:
            self.paused = True
            transport: Any = self.transport
            transport.pauseProducing()

    def resume(self) -> None:
        if self.paused and self.open:
            self.paused = False
            transport: Any = self.transport
            transport.resumeProducing()

    def abort(self) -> None:
        """Close at once; the worker sees that nobody wants its answer. Never a half-close, which Synapse mistakes."""
        self.holder = None
        if self.open:
            self.open = False
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.abortConnection()

    # IPushProducer: our own transport tells how full it is.

    def pauseProducing(self) -> None:
        if self.holder is not None:
            self.holder.upstream_clogged()

    def resumeProducing(self) -> None:
        if self.holder is not None:
            self.holder.upstream_flowing()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` says so too."""
