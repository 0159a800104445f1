"""Finds a worker's connection for a request: at once, in line, at another candidate, or again.

Knows the pools, their entrances and the order of candidates; knows nothing of what is in a request or a response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from sidecar.exchange import Failure
from sidecar.net.admission import ADMITTED, Verdict, who
from sidecar.net.course import WAITING
from sidecar.net.pool import Refusal, WorkerPool
from sidecar.net.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.net.upstream import Upstream


class Dispatch(Waiting):
    """The part of a course in which a request gets its worker."""

    __slots__ = ()

    # The entrance to the pool.

    def enter(self) -> None:
        """Go in if the pool serves fewer requests than it may; else wait for a turn."""
        decision = self.decision
        assert decision is not None
        gate = self.gateway.gates.get(decision.pool)
        if gate is not None:
            # Without a key, the address is one: that of a proxy that does not say for whom it speaks, too.
            place = self.gateway.forwarded.place(self.client)
            self.who = caller = who(place, decision.kind, decision.key or place or self.client)
            verdict = gate.enter(caller, self)
            if verdict is not ADMITTED:
                if verdict is Verdict.SHED:
                    self.shed()
                elif self.join(gate):
                    self.expect("turn", self.patience())
                else:
                    gate.leave(caller, self)
                    self.shed()
                return
            self.gate = gate
        self.lease()

    def admitted(self) -> None:
        """The turn has come."""
        assert self.waiting_at is not None
        self.gate = self.waiting_at
        self.part()
        self.lease_and_go_on()

    def shed(self) -> None:
        self.gateway.counters.shed += 1
        self.fail(Failure.QUEUE_FULL)

    def patience(self) -> float:
        """Seconds that the request may wait in line."""
        decision, timeouts = self.decision, self.gateway.timeouts
        assert decision is not None
        if decision.wait is not None:
            return decision.wait
        return timeouts.wait_federation if decision.federation else timeouts.wait

    # The worker.

    def lease(self) -> None:
        """Ask the first candidate that takes requests; if none does, wait for one."""
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
        if not chosen.taking:
            chosen = self._best(candidates, decision.fallback)
        self.lease_from(chosen)

    def lease_from(self, chosen: WorkerPool) -> None:
        """Ask for a connection of one worker, or wait for it."""
        decision = self.decision
        assert decision is not None
        if (chosen.name == self.gateway.main and chosen.name not in decision.candidates) is not self.burden:
            self._shift_burden()
        self.waiting_for = chosen
        lease = chosen.lease(self)
        if lease is None:
            if self.waiting_for is chosen:
                # Only now: in the meantime it may have gone elsewhere.
                self._wait_in_line(chosen)
        elif lease.__class__ is Refusal:
            self.waiting_for = None
            self.shed()
        else:
            self.waiting_for = None
            self.attach(lease)  # type: ignore[arg-type]

    def _wait_in_line(self, chosen: WorkerPool) -> None:
        # Who waits for a connection that is being made is not in line yet.
        if not self.join(chosen, bounded=chosen.waiting > chosen.connecting):
            chosen.leave(self)
            self.waiting_for = None
            self.shed()
            return
        self.gateway.counters.waited += 1
        if self.deadline != "wait":
            self.expect("wait", self.patience())

    def _best(self, candidates: Iterable[str], fallback: Iterable[str]) -> WorkerPool:
        """The first worker that takes requests, among others only within a budget; else the first that will."""
        pools = self.gateway.pools
        own = [pools[name] for name in candidates]
        lot = self._lot()
        for pool in own:
            if pool.taking or pool.admits(lot):
                return pool
        for pool in own:
            if pool.health.up and not pool.draining:
                return pool
        others = [pools[name] for name in fallback]
        free = [pool for pool in others if not pool.draining and self._within_budget(pool)]
        for pool in free:
            if pool.health.up:
                return pool
        return next((pool for pool in (*own, *free) if not pool.draining), (*own, *others)[0])

    def _lot(self) -> float:
        """A number in [0, 1) that is always the same for a key, so that a key moves to a worker once."""
        assert self.decision is not None
        return crc32((self.decision.key or self.client).encode("utf-8", "surrogatepass")) / 2**32

    def _within_budget(self, pool: WorkerPool) -> bool:
        """Main does what others leave undone only for so many at once."""
        gateway = self.gateway
        return self.burden or pool.name != gateway.main or gateway.counters.falling_back < gateway.limits.fallback

    def _shift_burden(self) -> None:
        """From now on main does this for others, or somebody else does it."""
        self.burden = not self.burden
        self.gateway.counters.falling_back += 1 if self.burden else -1

    def leased(self, upstream: Upstream) -> None:
        """A connection for which we waited in line."""
        self.part()
        if upstream.made >= self.waiting_since:
            # It was made for who is in line, not for a request of before.
            self.connect = min(upstream.took, self.queue)
        self.attach(upstream)
        self.go_on()

    def worker_away(self) -> None:
        """The worker for which we wait takes no requests: another candidate, if there is one, is better."""
        pool = self.waiting_for
        decision = self.decision
        assert isinstance(pool, WorkerPool)
        assert decision is not None
        if self._best(decision.candidates, decision.fallback) is pool:
            return
        pool.leave(self)
        self.part()
        self.lease_and_go_on()

    def lease_and_go_on(self) -> None:
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
        exchange, decision = self.exchange, self.decision
        assert exchange is not None
        assert decision is not None
        self.upstream = upstream
        self.worker = name = upstream.pool.name
        upstream.holder = self
        upstream.reader.next_message(exchange.method, decoded=not exchange.http11)
        self.gathered = exchange.start()
        if not decision.candidates or name != decision.candidates[0]:
            self._count_move(name)
        if self.downstream.clogged:
            upstream.pause()

    def _count_move(self, name: str) -> None:
        """It is not the first candidate: that is a move of a key, or work that nobody in the pool can do now."""
        decision, counters = self.decision, self.gateway.counters
        assert decision is not None
        if name not in decision.candidates:
            counters.fallen_back += 1
        if not decision.keyless:
            self.moved = True
            counters.moved += 1

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
        self.bytes_up += len(octets)
        if upstream.send(octets):
            exchange.sent = True

    def cut_off(self, upstream: Upstream) -> None:
        """The worker has ended the connection without an answer.

        Synapse acts on a request when it has read all of it, and a UNIX socket is reset only by an end that has not
        read everything; so a request whose connection was reset was not acted on (docs/http.md has the experiment).
        """
        exchange, pool = self.exchange, upstream.pool
        assert exchange is not None
        unexecuted = upstream.was_reset and pool.health.synapse and pool.socket_path is not None
        pool.cuts += 1
        pool.health.doubt()
        within = exchange.replayed or self.gateway.counters.replaying < self.gateway.limits.replays
        if self.doubt is None and within and exchange.may_replay(unexecuted=unexecuted):
            self.replay()
        else:
            self.fail(Failure.WORKER_CUT)

    def replay(self) -> None:
        counters = self.gateway.counters
        exchange = self.exchange
        assert exchange is not None
        counters.replayed += 1
        if not exchange.replayed:
            counters.replaying += 1
        self.gathered = b""
        exchange.lease_lost()
        self.lease_and_go_on()
