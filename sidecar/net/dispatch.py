"""Finds a worker's connection for a request: at once, in line, at another candidate, or again.

Knows the pools and the order of candidates; knows nothing of what is in a request or a response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.exchange import Failure
from sidecar.net.course import WAITING, Course
from sidecar.net.pool import Refusal, WorkerPool

if TYPE_CHECKING:
    from sidecar.net.upstream import Upstream


class Dispatch(Course):
    """The part of a course in which a request gets its worker."""

    __slots__ = ()

    def lease(self) -> None:
        """Ask the first candidate that is not known to be away or draining; if all are, wait for one."""
        decision = self.decision
        assert decision is not None
        pools = self.gateway.pools
        candidates = decision.candidates
        if len(candidates) > 1:
            candidates = self.gateway.candidates(decision)
        names = candidates or decision.fallback
        if not names:
            self.fail(Failure.NO_WORKER)
            return
        chosen = pools[names[0]]
        if chosen.down or chosen.draining:
            chosen = self._best(*candidates, *decision.fallback)
        self.waiting_for = chosen
        lease = chosen.lease(self)
        if lease is None:
            if self.waiting_for is chosen:
                self.gateway.counters.waited += 1
                if self.deadline != "wait":
                    self.expect("wait", self.gateway.timeouts.wait)
        elif lease.__class__ is Refusal:
            self.waiting_for = None
            self.fail(Failure.QUEUE_FULL)
        else:
            self.waiting_for = None
            self.attach(lease)  # type: ignore[arg-type]

    def _best(self, *names: str) -> WorkerPool:
        """The first worker that takes requests; else the first that will when it is back; else the first."""
        pools = [self.gateway.pools[name] for name in names]
        taking = (pool for pool in pools if not (pool.down or pool.draining))
        return next(taking, None) or next((pool for pool in pools if not pool.draining), pools[0])

    def leased(self, upstream: Upstream) -> None:
        """A connection for which we waited in line."""
        self.waiting_for = None
        self.attach(upstream)
        self.go_on()

    def worker_away(self) -> None:
        """The worker for which we wait takes no requests: another candidate, if there is one, is better."""
        pool = self.waiting_for
        decision = self.decision
        assert pool is not None
        assert decision is not None
        if self._best(*decision.candidates, *decision.fallback) is pool:
            return
        pool.leave(self)
        self.waiting_for = None
        self._lease_and_go_on()

    def _lease_and_go_on(self) -> None:
        self.lease()
        if self.upstream is not None:
            self.go_on()

    def go_on(self) -> None:
        """A request that waited has a connection: send it, read the rest of it, and time what it waits for now."""
        exchange = self.exchange
        assert exchange is not None
        self.downstream.unhold(WAITING)
        if exchange.received:
            self.expect_answer()
        else:
            self.expect_body_anew()
        self.send_up()

    def attach(self, upstream: Upstream) -> None:
        exchange = self.exchange
        assert exchange is not None
        self.upstream = upstream
        self.worker = upstream.pool.name
        upstream.holder = self
        upstream.reader.next_message(exchange.method, decoded=not exchange.http11)
        self.gathered = exchange.start()
        if self.downstream.clogged:
            upstream.pause()

    def send_up(self) -> None:
        """Send what has gathered for the worker, in one piece."""
        octets = self.gathered
        if not octets:
            return
        self.gathered = b""
        upstream = self.upstream
        exchange = self.exchange
        if upstream is None or exchange is None:
            return
        self.gateway.counters.bytes_up += len(octets)
        if upstream.send(octets):
            exchange.sent = True

    def replay(self) -> None:
        counters = self.gateway.counters
        counters.replayed += 1
        counters.replaying += 1
        self.gathered = b""
        assert self.exchange is not None
        self.exchange.lease_lost()
        self._lease_and_go_on()
