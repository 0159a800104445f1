"""The course of the exchanges on one client connection: what runs, what is awaited, and all the ways it can end.

Owns the deadline of the moment and the flow control between the two connections. What a request and a response are
made of is for the relay, which goes on from here; which worker answers is for the dispatch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.exchange import Exchange, Failure
from sidecar.net.measuring import Measuring
from sidecar.records.record import DONE
from sidecar.replies import failure_reply, refusal, status_of

if TYPE_CHECKING:
    from sidecar.net.admission import Gate, Who
    from sidecar.net.downstream import Downstream
    from sidecar.net.gateway import Gateway
    from sidecar.net.lessons import Lesson
    from sidecar.net.pool import WorkerPool
    from sidecar.net.question import Question
    from sidecar.net.selfcheck import Doubt
    from sidecar.net.splicing import Splice
    from sidecar.net.upstream import Upstream
    from sidecar.routing.decision import Decision

# Reasons not to read from a client, as bits.
CLOGGED_UPSTREAM = 1
PIPELINED = 2
WAITING = 4
ANSWERED = 8

# What it means that something did not happen in time, where somebody can be told.
_FAILURES = {
    "body": Failure.CLIENT_SLOW_BODY,
    "wait": Failure.NO_WORKER,
    "turn": Failure.NO_TURN,
    "answer": Failure.WORKER_SILENT,
    "upload": Failure.WORKER_STALLED,
    "answer body": Failure.ANSWER_CUT,
}


class Course(Measuring):
    """What is the same for every exchange, whatever is in it."""

    __slots__ = (
        *("body_began", "body_limit", "body_seen", "burden", "clogged", "deadline", "doubt", "expires", "gate"),
        *("gathered", "held", "lesson", "parked", "pumping", "repeated", "slot", "splice", "tunnelled"),
        *("upstream", "waiting_at", "waiting_for", "who"),
    )

    def __init__(self, downstream: Downstream, gateway: Gateway) -> None:
        super().__init__()
        self.downstream = downstream
        self.gateway = gateway
        self.exchange: Exchange | None = None
        self.upstream: Upstream | None = None
        self.waiting_for: WorkerPool | Question | None = None
        self.waiting_at: Gate | None = None
        self.gate: Gate | None = None
        """The entrance through which the request came in."""
        self.who: Who = ("", "")
        """As whose request it did."""
        self.parked = False  # it waits and is counted where it does
        self.held = 0  # bytes of body that are counted with it
        self.burden = False  # main does this for others
        self.doubt: Doubt | None = None
        """The answer that is held back at this moment (net/selfcheck.py)."""
        self.repeated = ""
        """The worker that did not know the endpoint, while main is asked; else empty."""
        self.lesson: Lesson | None = None
        """What is learnt from the answer of whose the token is."""
        self.decision: Decision | None = None
        self.client = ""
        self.body_limit = 0
        self.body_began = 0.0
        self.body_seen = 0
        self.splice: Splice | None = None
        self.clogged = False  # the worker takes less than it is sent
        self.pumping = False
        self.gathered = b""
        self.tunnelled = False
        """Octets pass in both directions without being looked at (RFC 9110 7.8)."""
        self.deadline = "idle"
        self.expires = float("inf")
        self.slot = 0
        gateway.deadlines.set(self, gateway.timeouts.idle)

    def expect(self, deadline: str, seconds: float) -> None:
        self.deadline = deadline
        self.gateway.deadlines.set(self, seconds)

    def deadline_passed(self) -> None:
        """What was expected did not happen in time."""
        deadline = self.deadline
        failure = _FAILURES.get(deadline)
        if deadline == "head":
            self.refuse(408, Failure.CLIENT_SLOW_HEAD)
        elif failure is not None:
            self.fail(failure)
        elif deadline == "held":
            self.answer_held()
        elif self.downstream.took_some():
            # A slow client, not one that has stalled.
            self.expect(deadline, self.gateway.timeouts.stall)
        elif deadline == "stall":
            self.fail(Failure.CLIENT_STALLED)
        else:
            # idle, linger, tunnel: there is nobody to tell.
            self.drop_upstream()
            if deadline == "idle":
                self.downstream.close()
            else:
                self.downstream.abort()

    def expect_body(self, octets: int) -> None:
        """So many more octets of a request body have come: more are due in time, and at `limits.request_rate`.

        The rate is that of the whole body, or of what came since the worker was last in the way.
        """
        gateway = self.gateway
        patience = gateway.timeouts.body
        now = gateway.deadlines.now()
        if not self.body_began:
            self.body_began = now
            self.body_seen = 0
        self.body_seen += octets
        rate = gateway.limits.request_rate
        latest = self.body_began + patience + self.body_seen / rate if rate else now + patience
        self.expect("body", max(0.0, min(patience, latest - now)))

    def expect_body_anew(self) -> None:
        """The body was held up by us or by the worker, for which the client is not to blame."""
        self.body_began = 0.0
        self.expect_body(0)

    def expect_answer(self) -> None:
        decision = self.decision
        assert decision is not None
        if decision.after:
            self.expect("held", decision.after)
        else:
            self.expect("answer", decision.answer or self.gateway.timeouts.answer)

    def end_exchange(self, status: int = 0, ending: str = DONE) -> None:
        """Every exchange, however it ends, passes here exactly once. `status` is what the client was told last."""
        self.end_splice()
        exchange = self.exchange
        if exchange is not None and exchange.replayed:
            self.gateway.counters.replaying -= 1
        if self.burden:
            self.burden = False
            self.gateway.counters.falling_back -= 1
        decision = self.decision
        if self.gateway.observed and exchange is not None and decision is not None:
            self.tell(exchange, decision, status, ending)
        self.exchange = None
        self.gateway = self.downstream.gateway
        self.decision = None
        self.tunnelled = False
        self.gathered = b""
        self.doubt = None
        self.repeated = self.request_id = ""
        if self.lesson is not None:
            self.lesson.learn()
            self.lesson = None
        gate = self.gate
        if gate is not None:
            # Last, because whoever comes in next may be on a connection that ends with this one.
            self.gate = None
            gate.out(self.who)

    def end_splice(self) -> None:
        if self.splice is not None:
            splice, self.splice = self.splice, None
            splice.end()

    def drop_upstream(self) -> None:
        """Give up the lease, or the place in line."""
        if self.waiting_for is not None:
            self.waiting_for.leave(self)
            self.part()
        elif self.waiting_at is not None:
            self.waiting_at.leave(self.who, self)
            self.part()
        self.end_splice()
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            self.unclog()
            upstream.pool.discard(upstream)

    def fail(self, failure: Failure) -> None:
        """End the exchange with a reply of ours, or with a visible cut."""
        exchange = self.exchange
        if exchange is None:
            self.downstream.abort()
            return
        outcome = exchange.fail(failure)
        federation = self.decision is not None and self.decision.federation
        page = None if self.decision is None else self.decision.sorry
        request_id = self.id
        self.gateway.counters.failed += 1
        self.drop_upstream()
        asking = exchange.preflight
        status = status_of(failure, federation=federation, preflight=asking) if outcome.reply else 0
        self.end_exchange(status, failure.name.lower())
        if outcome.reply:
            is_head = exchange.method == b"HEAD"
            reply = failure_reply(
                failure, head=is_head, federation=federation, preflight=asking, page=page, request_id=request_id
            )
            self.downstream.close_after(reply)
        else:
            self.downstream.abort()

    def refuse(self, status: int, failure: Failure) -> None:
        """Refuse what is no request yet."""
        self.gateway.counters.refused += 1
        self.tell_refused(status, failure.name.lower())
        self.downstream.close_after(refusal(status, failure.value.capitalize()))

    def half_closed(self) -> None:
        """The client has closed its side.

        In the middle of a request that is an incomplete message. Behind a complete one it cannot be told from a
        client that has left, and is taken for one, so that the worker's time is not spent on nobody; only an answer
        that has begun is sent to its end.
        """
        exchange = self.exchange
        if exchange is None:
            if self.downstream.reader.in_head:
                self.refuse(400, Failure.CLIENT_CUT)
            else:
                self.downstream.close()
        elif exchange.tunnel or (exchange.received and not exchange.passed):
            self.client_gone()
            self.downstream.close()
        elif not exchange.received and not exchange.cut:
            self.fail(Failure.CLIENT_CUT)
        else:
            exchange.close = True

    def drain(self) -> None:
        """The sidecar is stopping: end with the exchange that is running, or now if there is none."""
        if self.exchange is not None:
            self.exchange.close = True
        elif self.deadline == "idle":
            self.downstream.close()

    def client_vanished(self) -> None:
        """The client takes nothing any more: one that is not being read tells only so that it is gone."""
        self.downstream.abort()
        self.client_gone()

    def client_gone(self) -> None:
        """The client's connection is gone: so is the worker's, at once."""
        self.gateway.deadlines.clear(self)
        if self.exchange is not None:
            self.gateway.counters.client_gone += 1
            self.drop_upstream()
            self.end_exchange(ending=Failure.CLIENT_GONE.name.lower())

    # What the dispatch and the relay add, and their connections call.

    def leased(self, upstream: Upstream) -> None:
        raise NotImplementedError

    def part(self) -> None:
        raise NotImplementedError

    def worker_away(self) -> None:
        raise NotImplementedError

    def admitted(self) -> None:
        raise NotImplementedError

    def caller_known(self, user: str | None) -> None:
        raise NotImplementedError

    def answer_held(self) -> None:
        raise NotImplementedError

    def upstream_data(self, octets: bytes) -> None:
        raise NotImplementedError

    def upstream_lost(self, *, clean: bool) -> None:
        raise NotImplementedError

    def request_end(self) -> None:
        raise NotImplementedError

    def finish(self, upstream: Upstream | None) -> None:
        raise NotImplementedError

    # Flow control.

    def client_clogged(self) -> None:
        if self.upstream is not None:
            self.upstream.pause()
        if self.exchange is not None:
            self.expect("stall", self.gateway.timeouts.stall)

    def client_flowing(self) -> None:
        if self.upstream is not None:
            self.upstream.resume()
        exchange = self.exchange
        if self.tunnelled:
            self.expect("tunnel", self.gateway.timeouts.tunnel)
        elif exchange is not None and exchange.passed:
            self.expect("answer body", self.gateway.timeouts.answer_body)

    def upstream_clogged(self) -> None:
        self.clogged = True
        self.downstream.hold(CLOGGED_UPSTREAM)
        exchange = self.exchange
        if exchange is not None and not exchange.passed:
            self.expect("upload", self.gateway.timeouts.stall)

    def upstream_flowing(self) -> None:
        self.unclog()
        exchange = self.exchange
        if exchange is not None and not exchange.passed:
            if exchange.received:
                self.expect_answer()
            else:
                self.expect_body_anew()

    def unclog(self) -> None:
        if self.clogged:
            self.clogged = False
            self.downstream.unhold(CLOGGED_UPSTREAM)
