"""One question to a worker, and those who wait for its answer.

Asked once more if a connection ends without an answer. Holds the token only as long as the question runs, and shows it
nowhere. What an answer means, and how long to wait for it, is up to the asker.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.errors import WireError
from sidecar.exchange.retries import QUESTION_ATTEMPTS
from sidecar.records.histogram import Histogram
from sidecar.upstream.pool import Refusal, WorkerPool
from sidecar.upstream.upstream import Upstream
from sidecar.wire.head import ResponseHead


class Asker(Protocol):
    """Who asks, and gets the result."""

    waits: Histogram
    """How long requests wait for answers."""

    def next_pool(self) -> WorkerPool | None:
        """The worker to ask; None if there is none."""

    def heard(self, question: Question, status: int, content: bytes) -> None:
        """The question has ended; `status` is 0 if it was not answered."""


class Waiting(Protocol):
    """Who waits for an answer, up to a deadline."""

    def caller_known(self, user: str | None) -> None:
        """The user's localpart; None if it is not known, or not in time."""


class Question:
    """`begin` asks, `end` gives up, and `tell` releases those who wait."""

    __slots__ = (
        *("_asker", "_attempts", "_content", "_left", "_pool", "_request", "_reusable", "_status", "_upstream"),
        *("_waiting", "ended", "late", "mark", "source", "waiting_octets"),
    )

    def __init__(self, asker: Asker, mark: bytes, source: str, request: bytes, limit: int, *, late: bool) -> None:
        """`source` is the client's address; `limit` is the largest answer that is read, in bytes.

        `late`: nobody may wait for it.
        """
        self.mark = mark
        self.source = source
        self.late = late
        """Nobody may wait for the answer any more."""
        self.ended = False
        self.waiting_octets = 0
        """Bytes of request bodies that wait for the answer."""
        self._asker = asker
        self._request = request
        self._left = limit
        self._attempts = QUESTION_ATTEMPTS
        self._status = 0
        self._reusable = False
        self._content: list[bytes] = []
        self._pool: WorkerPool | None = None
        self._upstream: Upstream | None = None
        self._waiting: dict[Waiting, None] = {}

    @property
    def waits(self) -> Histogram:
        """How long requests waited for this answer is counted there, too."""
        return self._asker.waits

    # Those who wait.

    def weigh(self, octets: int) -> None:
        """Count bytes of waiting request bodies; a negative number takes them off."""
        self.waiting_octets += octets

    def join(self, waiter: Waiting) -> None:
        """Call `waiter` when the answer is here."""
        self._waiting[waiter] = None

    def leave(self, waiter: Waiting) -> None:
        """`waiter` does not wait any more. The question goes on, because the client will return with the same token."""
        self._waiting.pop(waiter, None)

    def tell(self, user: str | None) -> int:
        """Release all who wait, and let nobody else wait; how many there were."""
        self.late = True
        told = 0
        while self._waiting:
            # One by one, because one of them may make another one leave.
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            told += 1
            waiter.caller_known(user)
        return told

    # The course of the question.

    def begin(self) -> None:
        """Ask the next worker; the question may have ended when this returns."""
        pool = self._asker.next_pool() if self._attempts else None
        if pool is None:
            self._finish()
            return
        self._attempts -= 1
        self._pool = pool
        lease = pool.lease(self)
        if isinstance(lease, Refusal):
            self._pool = None
            self._finish()
        elif lease is not None:
            self.leased(lease)

    def end(self) -> None:
        """Give up. The asker is notified, unless the question has ended before."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.leave(self)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.pool.discard(upstream)
        self._status = 0
        self._finish()

    def _finish(self) -> None:
        if not self.ended:
            self.ended = True
            self._request = b""
            self._asker.heard(self, self._status, b"".join(self._content))

    # Called by the pool.

    def leased(self, upstream: Upstream) -> None:
        self._pool = None
        self._upstream = upstream
        # Decoded, because the content is read here and not passed on.
        upstream.lend(self, b"GET", decoded=True)
        upstream.link.send(self._request)

    def worker_away(self) -> None:
        pool, self._pool = self._pool, None
        assert pool is not None
        pool.leave(self)
        self.begin()

    # Called by the worker's connection.

    def upstream_data(self, octets: bytes) -> None:
        upstream = self._upstream
        assert upstream is not None
        try:
            for event in upstream.reader.feed(octets):
                if isinstance(event, bytes):
                    self._left -= len(event)
                    self._content.append(event)
                elif isinstance(event, ResponseHead):
                    self._status = event.status if event.status >= 200 else 0
                    self._reusable = event.persistent
        except WireError:
            self.end()
            return
        if self._left < 0:
            self.end()
        elif self._status and upstream.reader.ended:
            self._answered(upstream)

    def _answered(self, upstream: Upstream) -> None:
        self._upstream = None
        if self._reusable and not upstream.reader.excess:
            upstream.pool.release(upstream)
        else:
            upstream.pool.discard(upstream)
        self._finish()

    def upstream_lost(self, *, clean: bool) -> None:
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        if self._status and clean and upstream.reader.until_close:
            self._finish()
        elif self._status:
            self._status = 0
            self._finish()
        else:
            self.begin()

    def upstream_clogged(self) -> None:
        """Ignored: the kernel takes a request of this size at once, unless the worker is stuck."""

    def upstream_flowing(self) -> None:
        """See `upstream_clogged`."""
