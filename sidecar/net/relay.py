"""Carries out exchanges: the only place where decisions about messages meet connections.

One relay belongs to one client connection and runs its exchanges one after another. It knows no configuration file and
no route.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sidecar.errors import WireError
from sidecar.exchange import KEEP, Exchange, Failure
from sidecar.net.course import ANSWERED, PIPELINED, WAITING
from sidecar.net.passing import Passing
from sidecar.net.selfcheck import DOUBTFUL, Doubt
from sidecar.net.splicing import WORTH_IT
from sidecar.replies import STATUS_OF_FAULT, authored, refusal
from sidecar.telemetry import logger
from sidecar.wire.framing import CHUNKED, REQUEST_ID
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import END, RequestEvent

if TYPE_CHECKING:
    from sidecar.net.upstream import Upstream
    from sidecar.routing.decision import Decision

_log = logger("sidecar.relay")


class Relay(Passing):
    """Runs the exchanges of one client connection."""

    __slots__ = ()

    def head_begun(self) -> None:
        """A request has begun but its head, or its body, is not complete. The deadline of a head is a total."""
        if self.exchange is None and self.deadline != "head" and self.downstream.reader.in_head:
            self.expect("head", self.gateway.timeouts.head)

    def requests(self, events: Sequence[RequestEvent]) -> None:
        """What a client's octets meant. All events belong to one request: the reader stops at its end."""
        for event in events:
            if event is END:
                self.request_end()
            elif event.__class__ is bytes:
                self._request_body(event)
            else:
                self._begin(event)  # type: ignore[arg-type]
            if self.exchange is None:
                # It was refused or has ended; what follows belongs to nobody, or to the next request.
                break
        self.send_up()
        if self.exchange is None:
            self._pump()
        elif self.downstream.reader.body_left > WORTH_IT:
            self.splice_up()

    def _pump(self) -> None:
        """Go on with requests that were read ahead. A loop, because a reply of ours ends an exchange at once."""
        if self.pumping:
            return
        downstream = self.downstream
        reader = downstream.reader
        if not reader.buffered and reader.ended and downstream.open and self.deadline != "linger":
            # Nothing was read ahead: what nearly always happens.
            reader.next_message()
            self.expect("idle", self.gateway.timeouts.idle)
            return
        self.pumping = True
        try:
            while self.exchange is None and downstream.open and downstream.reader.ended and self.deadline != "linger":
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
            self.pumping = False

    def _begin(self, head: RequestHead) -> None:
        gateway = self.gateway
        downstream = self.downstream
        gateway.counters.requests += 1
        client, scheme, forwarded = gateway.forwarded.client(downstream.peer, downstream.scheme, head.fields)
        self.client = client
        self.decision = decision = gateway.decide(head.method, head.origin, head.fields, client, scheme=scheme)
        if gateway.observed:
            self.begin_measuring()
        ids = gateway.request_ids
        if ids is None or (ids.quiet and REQUEST_ID not in head.fields.special):
            raw = head.passed_on(forwarded)
        else:
            raw = self.named(head, forwarded, ids)
        self.exchange = exchange = Exchange(
            head,
            raw,
            decision.replayable,
            gateway.draining,
            replay_limit=gateway.limits.replay_body,
            replays=gateway.limits.replays_each,
        )
        if decision.action != "forward":
            if head.length or not decision.after:
                # A body is not kept for the time in which an answer is held back.
                self._answer(decision, exchange)
            return
        limit = decision.body_limit or gateway.limits.request_body
        if head.length > limit:
            self.fail(Failure.BODY_TOO_LARGE)
        elif len(raw) > gateway.limits.request_head:
            self.fail(Failure.HEAD_TOO_LARGE)
        else:
            self.body_limit = limit
            if gateway.whoami is None:
                self.enter()
            else:
                self.place(head, forwarded, gateway.whoami)
            if head.length and self.upstream is not None:
                # Its body is expected from now on, even if not an octet of it came with the head.
                self.expect_body_anew()

    def _request_body(self, octets: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        if self.downstream.reader.content > self.body_limit and exchange.length == CHUNKED:
            self.fail(Failure.BODY_TOO_LARGE)
            return
        up = exchange.receive_body(octets)
        if up:
            self.gathered += up
        elif self.parked and not self.hold_octets(len(octets)):
            self.downstream.hold(WAITING)
        if not (self.parked or exchange.passed):
            self.expect_body(len(octets))

    def request_end(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.received = True
        if not (self.parked or exchange.passed):
            self.expect_answer()

    def _answer(self, decision: Decision, exchange: Exchange) -> None:
        """Refuse, respond or redirect as the routes say. The connection lives on if the request is complete."""
        status = decision.status or 403
        close = exchange.close or exchange.length != 0
        is_head = exchange.method == b"HEAD"
        if decision.action == "refuse":
            self.gateway.counters.refused += 1
            octets = refusal(status, decision.reason, close=close, head=is_head, request_id=self.id)
        else:
            octets = authored(status, decision.headers, decision.body, close=close, head=is_head)
        self.end_exchange(status, decision.action)
        if close:
            self.downstream.close_after(octets)
        else:
            self.downstream.send(octets)

    def answer_held(self) -> None:
        """The time is over for which an answer of ours was held back."""
        assert self.decision is not None
        assert self.exchange is not None
        self._answer(self.decision, self.exchange)
        self._pump()

    def request_invalid(self, error: WireError) -> None:
        """What the client sent is no request that we serve; nothing after it is interpreted."""
        self.gateway.counters.refused += 1
        exchange, status = self.exchange, STATUS_OF_FAULT[error.fault]
        if exchange is None:
            self.tell_refused(status, "malformed")
        elif exchange.passed:
            self.fail(Failure.CLIENT_CUT)
            return
        else:
            self.drop_upstream()
            self.end_exchange(status, "malformed")
        self.downstream.close_after(refusal(status, str(error)))

    def upstream_data(self, octets: bytes) -> None:
        exchange = self.exchange
        upstream = self.upstream
        assert exchange is not None
        assert upstream is not None
        if not exchange.begun:
            self.answer_begins(exchange)
        if exchange.tunnel:
            self.downstream.send(octets)
            self.expect("tunnel", self.gateway.timeouts.tunnel)
            return
        ended = False
        down: list[bytes] = []
        try:
            events = upstream.reader.feed(octets)
            if self.lesson is not None:
                self.lesson.hear(events)
            for event in events:
                if event.__class__ is bytes:
                    down.append(event)
                elif event is END:
                    ended = True
                elif event.__class__ is ResponseHead:
                    if event.status in DOUBTFUL and self.doubts(event):
                        continue
                    down.append(self._response_head(exchange, upstream, event))
        except WireError as error:
            _log.warn("worker {worker} sent an invalid answer: {error}", worker=upstream.pool.name, error=str(error))
            self.fail(Failure.ANSWER_CUT if exchange.passed else Failure.WORKER_INVALID)
            return
        if self.doubt is not None:
            down = self._judge(self.doubt, down, ended=ended)
            if self.upstream is not upstream:
                return
        if down and not self._send_down(down):
            return
        if ended:
            self.finish(upstream)
        elif exchange.passed:
            self._goes_on(exchange, upstream)

    def _goes_on(self, exchange: Exchange, upstream: Upstream) -> None:
        """More of an answer is to come."""
        if exchange.tunnel:
            self.begin_tunnel(upstream)
        elif not self.downstream.clogged:
            self.expect("answer body", self.gateway.timeouts.answer_body)
            if upstream.reader.body_left > WORTH_IT:
                self.splice_down(upstream)

    def _send_down(self, pieces: list[bytes]) -> bool:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.gateway.counters.bytes_down += len(data)
        self.bytes_down += len(data)
        if self.downstream.send(data):
            return True
        self.client_vanished()
        return False

    def _judge(self, doubt: Doubt, down: list[bytes], *, ended: bool) -> list[bytes]:
        """What the client gets now of an answer that was held back: nothing, or all that there is of it."""
        exchange, upstream = self.exchange, self.upstream
        assert exchange is not None
        assert upstream is not None
        doubt.pieces += down
        if not (ended or doubt.decided):
            # To the client it has not begun.
            self.expect("answer", self.gateway.timeouts.answer_body)
            return []
        self.doubt = None
        if self.is_elsewhere(doubt, ended=ended):
            return []
        return [self._response_head(exchange, upstream, doubt.head), *doubt.pieces]

    def _response_head(self, exchange: Exchange, upstream: Upstream, head: ResponseHead) -> bytes:
        if head.status < 200 and head.interim:
            return exchange.pass_interim(head, self.gateway.limits.interim_responses)
        if self.repeated:
            # Main knows what the worker did not.
            self.misrouted(self.repeated)
            self.repeated = ""
        octets = exchange.pass_final(head, request_sent=not upstream.unsent)
        if exchange.cut:
            # The rest of the request is not wanted: neither read it nor let its writing end the connection.
            self.end_splice()
            upstream.abandon_writes()
            self.gathered = b""
            self.downstream.hold(ANSWERED)
        return octets

    def finish(self, upstream: Upstream | None) -> None:
        """The response is complete."""
        exchange = self.exchange
        assert exchange is not None
        outcome = exchange.finish()
        if upstream is not None:
            self.upstream = None
            if self.clogged:
                self.unclog()
            # An exchange whose request had not been sent completely is never reused (`Exchange.cut`).
            if outcome.reuse_upstream and not upstream.reader.excess:
                upstream.pool.release(upstream)
            else:
                upstream.pool.discard(upstream)
        self.end_exchange()
        if outcome.downstream is KEEP:
            self._pump()
        else:
            self.downstream.close_after(b"")

    def upstream_lost(self, *, clean: bool) -> None:
        """The worker's connection has ended, in good order or not."""
        upstream = self.upstream
        assert upstream is not None
        self.end_splice()
        self.upstream = None
        self.unclog()
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.tunnel:
            self.end_exchange()
            self.downstream.close_after(b"")
        elif clean and exchange.passed and upstream.reader.until_close:
            self.finish(upstream=None)
        elif exchange.passed:
            self.fail(Failure.ANSWER_CUT)
        else:
            self.cut_off(upstream)

    def begin_tunnel(self, upstream: Upstream) -> None:
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
