"""Carries out exchanges: the only place where decisions about messages meet connections.

One relay belongs to one client connection and runs its exchanges one after another. It owns the flow control
between the two connections and the deadline of the moment. It knows no configuration file and no route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from sidecar.errors import WireError
from sidecar.exchange import Downstream as DownstreamEnd
from sidecar.exchange import Exchange, Failure, Outcome
from sidecar.net.pool import Refusal, WorkerPool
from sidecar.net.splicing import WORTH_IT, Pipe, Splice
from sidecar.replies import STATUS_OF_FAILURE, STATUS_OF_FAULT, refusal, response
from sidecar.wire.framing import CHUNKED
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import END, RequestEvent

if TYPE_CHECKING:
    from sidecar.net.downstream import Downstream
    from sidecar.net.gateway import Gateway
    from sidecar.net.upstream import Upstream
    from sidecar.routing.decision import Decision

# See net/downstream.py.
CLOGGED_UPSTREAM, PIPELINED, WAITING, ANSWERED = 1, 2, 4, 8

_log = Logger(namespace="sidecar.relay")


class Relay:
    """Runs the exchanges of one client connection."""

    __slots__ = (
        *("_body_limit", "_clogged", "_deadline", "_pumping", "_splice", "_up", "client", "decision", "downstream"),
        *("exchange", "expires", "gateway", "slot", "tunnelled", "upstream", "waiting_for", "__weakref__"),
    )

    def __init__(self, downstream: Downstream, gateway: Gateway) -> None:
        self.downstream = downstream
        self.gateway = gateway
        self.exchange: Exchange | None = None
        self.upstream: Upstream | None = None
        self.waiting_for: WorkerPool | None = None
        self.decision: Decision | None = None
        self.client = ""
        self._body_limit = 0
        self._splice: Splice | None = None
        self._clogged = False  # the worker takes less than it is sent
        self._pumping = False
        self._up = b""
        self.tunnelled = False
        """Octets pass in both directions without being looked at (RFC 9110 7.8)."""
        self._deadline = "idle"
        self.expires = float("inf")
        self.slot = 0
        gateway.deadlines.set(self, gateway.timeouts.idle)

    # Deadlines. There is one at a time: the one of what is being waited for.

    def expect(self, deadline: str, seconds: float) -> None:
        self._deadline = deadline
        self.gateway.deadlines.set(self, seconds)

    def deadline_passed(self) -> None:
        """What was expected did not happen in time."""
        deadline = self._deadline
        if deadline == "head":
            self._refuse(408, Failure.CLIENT_SLOW_HEAD.value)
        elif deadline == "body":
            self._fail(Failure.CLIENT_SLOW_BODY)
        elif deadline == "wait":
            self._fail(Failure.NO_WORKER)
        elif deadline == "answer":
            self._fail(Failure.WORKER_SILENT)
        elif deadline == "upload":
            self._fail(Failure.WORKER_STALLED)
        elif deadline == "answer body":
            self._fail(Failure.ANSWER_CUT)
        elif self.downstream.took_some():
            # A slow client, not one that has stalled.
            self.expect(deadline, self.gateway.timeouts.stall)
        elif deadline == "stall":
            self._fail(Failure.CLIENT_STALLED)
        else:
            # idle, linger, tunnel: there is nobody to tell.
            self._drop_upstream()
            if deadline == "idle":
                self.downstream.close()
            else:
                self.downstream.abort()

    def head_begun(self) -> None:
        """A request has begun but its head, or its body, is not complete. The deadline of a head is a total."""
        if self.exchange is None and self._deadline != "head" and self.downstream.reader.in_head:
            self.expect("head", self.gateway.timeouts.head)

    # The request.

    def requests(self, events: list[RequestEvent]) -> None:
        """What a client's octets meant. All events belong to one request: the reader stops at its end."""
        for event in events:
            if event is END:
                self._request_end()
            elif event.__class__ is bytes:
                self._request_body(event)
            else:
                self._begin(event)  # type: ignore[arg-type]
            if self.exchange is None:
                # It was refused or has ended; what follows belongs to nobody, or to the next request.
                break
        self._send_up()
        if self.exchange is None:
            self._pump()
        elif self.downstream.reader.body_left > WORTH_IT:
            self._splice_up()

    def _pump(self) -> None:
        """Go on with requests that were read ahead. A loop, because a reply of ours ends an exchange at once."""
        if self._pumping:
            return
        self._pumping = True
        downstream = self.downstream
        try:
            while self.exchange is None and downstream.open and downstream.reader.ended and self._deadline != "linger":
                try:
                    events = downstream.reader.next_message()
                except WireError as error:
                    self.request_invalid(error)
                    return
                downstream.unhold(PIPELINED)
                self.expect("idle", self.gateway.timeouts.idle)
                if events:
                    self.requests(events)
                else:
                    if downstream.reader.buffered:
                        self.head_begun()
                    return
        finally:
            self._pumping = False

    def _begin(self, head: RequestHead) -> None:
        gateway = self.gateway
        downstream = self.downstream
        gateway.counters.requests += 1
        self.client, forwarded = gateway.forwarded.client(downstream.peer, downstream.scheme, head.fields)
        self.decision = decision = gateway.decide(head.method, head.origin, head.fields, self.client)
        raw = head.passed_on(forwarded)
        self.exchange = exchange = Exchange(head, raw, decision.replayable, gateway.draining)
        if decision.action != "forward":
            self._answer(decision, exchange)
            return
        limit = decision.body_limit or gateway.limits.request_body
        if head.length > limit:
            self._fail(Failure.BODY_TOO_LARGE)
        elif len(raw) > gateway.limits.request_head:
            self._fail(Failure.HEAD_TOO_LARGE)
        else:
            self._body_limit = limit
            self._lease()
            if head.length and self.upstream is not None:
                # Its body is expected from now on, even if not an octet of it came with the head.
                self.expect("body", gateway.timeouts.body)

    def _request_body(self, octets: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        if self.downstream.reader.content > self._body_limit and exchange.length == CHUNKED:
            self._fail(Failure.BODY_TOO_LARGE)
            return
        up = exchange.receive_body(octets)
        if up:
            self._up += up
        elif exchange.waiting_bytes > self.gateway.limits.pipelined:
            self.downstream.hold(WAITING)
        if self.waiting_for is None and not exchange.passed:
            self.expect("body", self.gateway.timeouts.body)

    def _request_end(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.received = True
        if self.waiting_for is None and not exchange.passed:
            self._expect_answer()

    def _expect_answer(self) -> None:
        decision = self.decision
        assert decision is not None
        self.expect("answer", decision.answer or self.gateway.timeouts.answer)

    def _send_up(self) -> None:
        """Send what has gathered for the worker, in one piece."""
        octets = self._up
        if not octets:
            return
        self._up = b""
        upstream = self.upstream
        exchange = self.exchange
        if upstream is None or exchange is None:
            return
        self.gateway.counters.bytes_up += len(octets)
        if upstream.send(octets):
            exchange.sent = True

    # The worker's connection.

    def _lease(self) -> None:
        """Ask the first candidate that is not known to be away; if all are, wait for the first."""
        decision = self.decision
        assert decision is not None
        pools = self.gateway.pools
        candidates = self.gateway.candidates(decision)
        names = candidates or decision.fallback
        if not names:
            self._fail(Failure.NO_WORKER)
            return
        chosen = pools[names[0]]
        if chosen.down:
            for name in (*candidates, *decision.fallback):
                if not pools[name].down:
                    chosen = pools[name]
                    break
        self.waiting_for = chosen
        lease = chosen.lease(self)
        if lease is None:
            if self.waiting_for is chosen:
                self.gateway.counters.waited += 1
                if self._deadline != "wait":
                    self.expect("wait", self.gateway.timeouts.wait)
        elif isinstance(lease, Refusal):
            self.waiting_for = None
            self._fail(Failure.QUEUE_FULL)
        else:
            self.waiting_for = None
            self._attach(lease)

    def leased(self, upstream: Upstream) -> None:
        """A connection for which we waited in line."""
        self.waiting_for = None
        self._attach(upstream)
        self._go_on()

    def worker_away(self) -> None:
        """The worker for which we wait cannot be reached: another candidate, if there is one, is better."""
        pool = self.waiting_for
        decision = self.decision
        assert pool is not None
        assert decision is not None
        if all(self.gateway.pools[name].down for name in (*decision.candidates, *decision.fallback)):
            return
        pool.leave(self)
        self.waiting_for = None
        self._lease_and_go_on()

    def _lease_and_go_on(self) -> None:
        self._lease()
        if self.upstream is not None:
            self._go_on()

    def _go_on(self) -> None:
        """A request that waited has a connection: send it, read the rest of it, and time what it waits for now."""
        exchange = self.exchange
        assert exchange is not None
        self.downstream.unhold(WAITING)
        if exchange.received:
            self._expect_answer()
        else:
            self.expect("body", self.gateway.timeouts.body)
        self._send_up()

    def _attach(self, upstream: Upstream) -> None:
        exchange = self.exchange
        assert exchange is not None
        self.upstream = upstream
        upstream.holder = self
        upstream.reader.next_message(exchange.method, decoded=not exchange.http11)
        self._up = exchange.start()
        if self.downstream.clogged:
            upstream.pause()

    def upstream_lost(self, *, clean: bool) -> None:
        """The worker's connection has ended, in good order or not."""
        upstream = self.upstream
        assert upstream is not None
        self._end_splice()
        self.upstream = None
        self._unclog()
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.tunnel:
            self._end_exchange()
            self.downstream.close_after(b"")
        elif clean and exchange.passed and upstream.reader.until_close:
            self._finish(upstream=None)
        elif exchange.passed:
            self._fail(Failure.ANSWER_CUT)
        elif exchange.may_replay:
            self._replay()
        else:
            self._fail(Failure.WORKER_CUT)

    def _replay(self) -> None:
        self.gateway.counters.replayed += 1
        self._up = b""
        assert self.exchange is not None
        self.exchange.lease_lost()
        self._lease_and_go_on()

    # The response.

    def upstream_data(self, octets: bytes) -> None:
        exchange = self.exchange
        upstream = self.upstream
        assert exchange is not None
        assert upstream is not None
        exchange.begun = True
        if exchange.tunnel:
            self.downstream.send(octets)
            self.expect("tunnel", self.gateway.timeouts.tunnel)
            return
        ended = False
        down: list[bytes] = []
        try:
            for event in upstream.reader.feed(octets):
                if event.__class__ is bytes:
                    down.append(event)
                elif event is END:
                    ended = True
                elif event.__class__ is ResponseHead:
                    down.append(self._response_head(exchange, upstream, event))
        except WireError as error:
            _log.warn("worker {worker} sent an invalid answer: {error}", worker=upstream.pool.name, error=str(error))
            self._fail(Failure.ANSWER_CUT if exchange.passed else Failure.WORKER_INVALID)
            return
        if down:
            data = down[0] if len(down) == 1 else b"".join(down)
            self.gateway.counters.bytes_down += len(data)
            if not self.downstream.send(data):
                self._client_vanished()
                return
        if ended:
            self._finish(upstream)
        elif exchange.passed:
            if exchange.tunnel:
                self._begin_tunnel(upstream)
            elif not self.downstream.clogged:
                self.expect("answer body", self.gateway.timeouts.answer_body)
                if upstream.reader.body_left > WORTH_IT:
                    self._splice_down(upstream)

    def _response_head(self, exchange: Exchange, upstream: Upstream, head: ResponseHead) -> bytes:
        if head.status < 200 and head.interim:
            return exchange.pass_interim(head, self.gateway.limits.interim_responses)
        octets = exchange.pass_final(head, request_sent=not upstream.unsent)
        if exchange.cut:
            # The rest of the request is not wanted: neither read it nor let its writing end the connection.
            self._end_splice()
            upstream.abandon_writes()
            self._up = b""
            self.downstream.hold(ANSWERED)
        return octets

    def _finish(self, upstream: Upstream | None) -> None:
        """The response is complete."""
        exchange = self.exchange
        assert exchange is not None
        outcome = exchange.finish()
        if upstream is not None:
            self.upstream = None
            if self._clogged:
                self._unclog()
            # An exchange whose request had not been sent completely is never reused (`Exchange.cut`).
            if outcome.reuse_upstream and not upstream.reader.excess:
                upstream.pool.release(upstream)
            else:
                upstream.pool.discard(upstream)
        self._end_exchange()
        if outcome.downstream is DownstreamEnd.KEEP:
            self._pump()
        else:
            self.downstream.close_after(b"")

    def _end_exchange(self) -> None:
        """Every exchange, however it ends, passes here exactly once."""
        self._end_splice()
        self.exchange = None
        self.decision = None
        self.tunnelled = False
        self._up = b""

    # Large bodies (net/splicing.py).

    def _splice_up(self) -> None:
        """Let the rest of the request body go past us, if both ends are plain sockets and nothing is in the way."""
        exchange, upstream, downstream = self.exchange, self.upstream, self.downstream
        if exchange is None or upstream is None or self._splice is not None or exchange.begun or self._clogged:
            return
        if upstream.direct and downstream.direct and not upstream.unsent:
            pipe = Pipe.take()
            if pipe is not None:
                exchange.bypass()
                octets = downstream.reader.body_left
                # A worker that has closed may have answered before: what it sent is read first, and then its end.
                self._splice = Splice(downstream, upstream, octets, pipe, self._moved_up, self.upstream_clogged)

    def _moved_up(self, octets: int) -> None:
        self.gateway.counters.bytes_up += octets
        if self.downstream.reader.skip(octets):
            self._end_splice()
            self._request_end()
        elif not self._clogged:
            self.expect("body", self.gateway.timeouts.body)

    def _splice_down(self, upstream: Upstream) -> None:
        """The same for the rest of a response body."""
        downstream = self.downstream
        if self._splice is None and upstream.direct and downstream.direct and not downstream.unsent:
            pipe = Pipe.take()
            if pipe is not None:
                octets = upstream.reader.body_left
                self._splice = Splice(upstream, downstream, octets, pipe, self._moved_down, self._client_vanished)

    def _moved_down(self, octets: int) -> None:
        upstream = self.upstream
        assert upstream is not None
        self.gateway.counters.bytes_down += octets
        if upstream.reader.skip(octets):
            self._end_splice()
            self._finish(upstream)
        elif not self.downstream.clogged:
            self.expect("answer body", self.gateway.timeouts.answer_body)

    def _end_splice(self) -> None:
        if self._splice is not None:
            splice, self._splice = self._splice, None
            splice.end()

    # Replies of our own.

    def _answer(self, decision: Decision, exchange: Exchange) -> None:
        """Refuse, respond or redirect as the routes say. The connection lives on if the request is complete."""
        status = decision.status or 403
        close = exchange.close or exchange.length != 0
        is_head = exchange.method == b"HEAD"
        if decision.action == "refuse":
            self.gateway.counters.refused += 1
            octets = refusal(status, decision.reason, close=close, head=is_head)
        else:
            octets = response(status, decision.headers, decision.body, close=close, head=is_head)
        self._end_exchange()
        if close:
            self.downstream.close_after(octets)
        else:
            self.downstream.send(octets)

    def request_invalid(self, error: WireError) -> None:
        """What the client sent is no request that we serve; nothing after it is interpreted."""
        self.gateway.counters.refused += 1
        exchange = self.exchange
        if exchange is not None:
            if exchange.passed:
                self._fail(Failure.CLIENT_CUT)
                return
            self._drop_upstream()
            self._end_exchange()
        self.downstream.close_after(refusal(STATUS_OF_FAULT[error.fault], str(error)))

    def _refuse(self, status: int, error: str) -> None:
        self.gateway.counters.refused += 1
        self.downstream.close_after(refusal(status, error))

    def _fail(self, failure: Failure) -> None:
        """End the exchange with a reply of ours, or with a visible cut."""
        exchange = self.exchange
        if exchange is None:
            self.downstream.abort()
            return
        outcome: Outcome = exchange.fail(failure)
        self.gateway.counters.failed += 1
        self._drop_upstream()
        self._end_exchange()
        if outcome.reply:
            status = STATUS_OF_FAILURE[failure]
            self.downstream.close_after(
                refusal(
                    status,
                    failure.value.capitalize(),
                    head=exchange.method == b"HEAD",
                    retry_after=2 if status == 503 else None,
                )
            )
        else:
            self.downstream.abort()

    # The client goes.

    def half_closed(self) -> None:
        """The client has closed its side.

        In the middle of a request that is an incomplete message. Behind a complete one it cannot be told from a
        client that has left, and is taken for one, so that the worker's time is not spent on nobody; only an answer
        that has begun is sent to its end.
        """
        exchange = self.exchange
        if exchange is None:
            if self.downstream.reader.in_head:
                self._refuse(400, Failure.CLIENT_CUT.value.capitalize())
            else:
                self.downstream.close()
        elif exchange.tunnel or (exchange.received and not exchange.passed):
            self.client_gone()
            self.downstream.close()
        elif not exchange.received and not exchange.cut:
            self._fail(Failure.CLIENT_CUT)
        else:
            exchange.close = True

    def drain(self) -> None:
        """The sidecar is stopping: end with the exchange that is running, or now if there is none."""
        if self.exchange is not None:
            self.exchange.close = True
        elif self._deadline == "idle":
            self.downstream.close()

    def _client_vanished(self) -> None:
        """The client takes nothing any more: one that is not being read tells only so that it is gone."""
        self.downstream.abort()
        self.client_gone()

    def client_gone(self) -> None:
        """The client's connection is gone: so is the worker's, at once."""
        self.gateway.deadlines.clear(self)
        if self.exchange is not None:
            self.gateway.counters.client_gone += 1
            self._drop_upstream()
            self._end_exchange()

    def _drop_upstream(self) -> None:
        """Give up the lease, or the place in line."""
        if self.waiting_for is not None:
            self.waiting_for.leave(self)
            self.waiting_for = None
        self._end_splice()
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            self._unclog()
            upstream.pool.discard(upstream)

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
        self._clogged = True
        self.downstream.hold(CLOGGED_UPSTREAM)
        exchange = self.exchange
        if exchange is not None and not exchange.passed:
            self.expect("upload", self.gateway.timeouts.stall)

    def upstream_flowing(self) -> None:
        self._unclog()
        exchange = self.exchange
        if exchange is not None and not exchange.passed:
            if exchange.received:
                self._expect_answer()
            else:
                self.expect("body", self.gateway.timeouts.body)

    def _unclog(self) -> None:
        if self._clogged:
            self._clogged = False
            self.downstream.unhold(CLOGGED_UPSTREAM)

    # A tunnel (RFC 9110 7.8).

    def _begin_tunnel(self, upstream: Upstream) -> None:
        self.tunnelled = True
        self.expect("tunnel", self.gateway.timeouts.tunnel)
        self.downstream.unhold(PIPELINED)
        ahead = self.downstream.reader.take_buffered()
        if ahead:
            upstream.send(ahead)

    def tunnel_up(self, octets: bytes) -> None:
        if self.upstream is not None:
            self.upstream.send(octets)
            self.expect("tunnel", self.gateway.timeouts.tunnel)
