"""One request and its answer on their way through the sidecar: its state, and what happens next.

Applies decisions to connections; others make them: the exchange (what is sent on and kept), `sidecar.relay.choosing`
(which worker), `sidecar.exchange.retries` (what is sent again). There is one passage for each request.

    [COALESCE] ─▶ RESOLVE ─▶ ADMIT ─▶ LEASE ─▶ SEND ─▶ AWAIT ─▶ [JUDGE] ─▶ RELAY ─▶ DONE
                                        ▲         └──────┴──────────┘│         └─▶ TUNNEL ─▶ DONE
                                        └── sent again, or to main ──┘
"""

from __future__ import annotations

from sidecar.callers.question import Question
from sidecar.callers.whoami import Whoami
from sidecar.errors import WireError
from sidecar.exchange.changing import Changing
from sidecar.exchange.exchange import KEEP, Exchange
from sidecar.exchange.failures import Failure
from sidecar.exchange.replies import refusal
from sidecar.exchange.retries import AGAIN, after_a_cut
from sidecar.observe.telemetry import logger
from sidecar.records.record import DONE, Record
from sidecar.records.request_id import trace_of
from sidecar.relay.admission import ADMITTED, Admission, Gate, Who, who
from sidecar.relay.answer_relay import AnswerRelay
from sidecar.relay.awaited import ANSWER, ANSWER_BODY, Awaited
from sidecar.relay.choosing import best, choose
from sidecar.relay.client import ANSWERED, PIPELINED, WAITING, WORKER_CLOGGED, Client
from sidecar.relay.gateway import Gateway
from sidecar.relay.lessons import Lesson, lesson_of
from sidecar.relay.own_replies import reply_to_failure, routed_reply
from sidecar.relay.pace import BodyPace
from sidecar.relay.selfcheck import DOUBTFUL
from sidecar.relay.states import ADMIT, AWAIT, COALESCE, ENDED, LEASE, RELAY, RESOLVE, SEND, TUNNEL, State
from sidecar.relay.ticket import Ticket
from sidecar.routing.decide import is_long_poll
from sidecar.routing.keys import token_of
from sidecar.synapse.token_owner import answers_whoami
from sidecar.transport.splicing import WORTH_IT, Splice, begin_splice
from sidecar.upstream.pool import WorkerPool
from sidecar.upstream.upstream import Upstream
from sidecar.wire.framing import CHUNKED, REQUEST_ID, TRACEPARENT
from sidecar.wire.head import RequestHead

_GRACE = 1.0
"""Seconds added to the deadline of a wait that normally ends by itself."""

_log = logger("sidecar.relay")


class Passage:
    """One request on its way, with its answer."""

    __slots__ = (
        *("address", "answer", "began", "bytes_down", "bytes_up", "client", "connect", "decision", "exchange"),
        *("falling_back", "first_byte", "gate", "gateway", "lesson", "moved", "outbox", "pace", "queue", "request_id"),
        *("splice", "state", "ticket", "trace", "upstream", "who", "worker", "worker_clogged"),
    )

    address: str
    """The client's address, as a chain of trusted proxies states it."""
    request_id: str
    """Empty until somebody is given it."""
    trace: str
    """The trace that the request names; empty if none."""
    ticket: Ticket | None
    """Counts the request while it waits."""
    gate: Gate | None
    """The gate that admitted it."""
    who: Who
    """What the gate counts it under; set only with `gate`."""
    upstream: Upstream | None
    worker: str
    """The worker that it went to last."""
    moved: bool
    """It went to another worker than the first one of its key."""
    falling_back: bool
    """Main does this in place of other workers."""
    answer: AnswerRelay | None
    """Relays what a worker answers, unless that comes as a whole."""
    lesson: Lesson | None
    """What the answer may say about whose the token is."""
    outbox: bytes
    """Bytes for the worker that are sent at the end of this turn."""
    pace: BodyPace | None
    """The rate of the request body."""
    worker_clogged: bool
    """The worker takes less than it is sent."""
    splice: Splice | None
    first_byte: float
    queue: float
    connect: float
    """These three are in seconds; see `Record`."""

    def __init__(self, client: Client, gateway: Gateway, head: RequestHead) -> None:
        self.client = client
        self.gateway = gateway
        gateway.counters.requests += 1
        address, scheme, forwarded = gateway.forwarded.client(client.peer, client.scheme, head.fields)
        self.address = address
        self.decision = decision = gateway.decide(head.method, head.origin, head.fields, address, scheme)
        self.began = gateway.deadlines.now() if gateway.observed else 0.0
        self.request_id = ""
        self.trace = trace_of(head.fields.values_of(TRACEPARENT)) if TRACEPARENT in head.fields.special else ""
        ids = gateway.request_ids
        if ids is None or (ids.quiet and REQUEST_ID not in head.fields.special):
            raw = head.passed_on(forwarded)
        else:
            self.request_id, raw = ids.settle(head, forwarded, trusted=gateway.forwarded.vouches(client.peer))
        limits = gateway.limits
        self.exchange = Exchange(
            head,
            raw,
            decision.replayable,
            gateway.draining,
            limits.replay_body,
            limits.replays_each,
        )
        self.state = RESOLVE
        self.ticket = self.gate = self.upstream = self.answer = self.lesson = self.pace = self.splice = None
        self.worker = ""
        self.moved = self.falling_back = self.worker_clogged = False
        self.outbox = b""
        self.bytes_up = self.bytes_down = 0
        self.first_byte = self.queue = self.connect = 0.0

    def begin(self, head: RequestHead) -> None:
        """Refuse or answer the request, or let it in."""
        gateway, decision = self.gateway, self.decision
        if decision.action != "forward":
            if head.length or not decision.after:
                # No body is kept while an answer is delayed.
                self._answer()
            else:
                self.client.expect(Awaited.HELD, decision.after)
            return
        if head.length and head.length > self._body_limit():
            self.fail(Failure.BODY_TOO_LARGE)
        elif len(self.exchange.raw_head) > gateway.limits.request_head:
            self.fail(Failure.HEAD_TOO_LARGE)
        else:
            if decision.coalesce and self._hold_back(head):
                return
            if gateway.plain:
                self._enter()
            else:
                self._prepare(head)
            if self.upstream is None:
                return
            if self.exchange.received:
                self.client.expect(ANSWER, decision.settings.answer or gateway.timeouts.answer)
            else:
                self._expect_progress()

    def _body_limit(self) -> int:
        """Bytes that the body may have."""
        return self.decision.body_limit or self.gateway.limits.request_body

    # What the client sends.

    def body(self, octets: bytes) -> None:
        """A part of the request's body."""
        exchange = self.exchange
        if exchange.length == CHUNKED and self.client.reader.content > self._body_limit():
            self.fail(Failure.BODY_TOO_LARGE)
            return
        ticket = self.ticket
        up = exchange.receive_body(octets)
        if up:
            self.outbox += up
        elif ticket is not None and not ticket.hold(len(octets)):
            self.client.hold(WAITING)
        if ticket is None and not exchange.passed:
            self._expect_body(len(octets))

    def request_ended(self) -> None:
        """All of the request is here."""
        exchange = self.exchange
        if exchange.received:
            return
        exchange.receive_end()
        if self.state is SEND:
            self.state = AWAIT
        if self.ticket is None and not exchange.passed:
            self._expect_answer()

    def send(self) -> None:
        """Send what has gathered for the worker, in one piece."""
        octets, upstream = self.outbox, self.upstream
        if not octets:
            return
        self.outbox = b""
        if upstream is not None:
            self.gateway.counters.bytes_up += len(octets)
            self.bytes_up += len(octets)
            if upstream.link.send(octets):
                self.exchange.mark_sent()

    def invalid(self, status: int, error: WireError) -> None:
        """The client broke a rule of HTTP; nothing more of what it sends is interpreted."""
        if self.exchange.passed:
            self.fail(Failure.CLIENT_CUT)
        else:
            self._drop_upstream()
            self._end(status, "malformed")
            self.client.close_after(refusal(status, str(error)))

    def half_closed(self) -> bool:
        """The client has closed its side; whether it counts as gone.

        In the middle of a request, the message is incomplete. After a complete one, it cannot be told from a client
        that has left, and a worker's time should not be wasted; only an answer that has begun is sent to its end.
        """
        exchange = self.exchange
        if exchange.tunnel or (exchange.received and not exchange.passed):
            return True
        if not exchange.received and not exchange.cut:
            self.fail(Failure.CLIENT_CUT)
        else:
            exchange.close_afterwards()
        return False

    def client_gone(self) -> None:
        """The client's connection is gone: end the worker's, too."""
        self.gateway.counters.client_gone += 1
        self._drop_upstream()
        self._end(0, Failure.CLIENT_GONE.ending)

    def last(self) -> None:
        """The client's connection is to end with this exchange."""
        self.exchange.close_afterwards()

    # Deadlines.

    def overdue(self, awaited: Awaited) -> None:
        """What was awaited did not happen in time."""
        if awaited.failure is not None:
            self.fail(awaited.failure)
        elif awaited is Awaited.HELD:
            self._answer()
            self.client.go_on()
        elif awaited is Awaited.CALLER:
            assert self.ticket is not None
            assert isinstance(self.ticket.place, Question)
            self.ticket.place.leave(self)
            self.caller_known(None)
        else:
            # An idle tunnel: no reply is possible.
            self._drop_upstream()
            self.client.abort()

    def _expect_answer(self) -> None:
        self.client.expect(ANSWER, self.decision.settings.answer or self.gateway.timeouts.answer)

    def _expect_body(self, octets: int) -> None:
        """Bytes of the body have come; the next ones are due in time, and at `limits.request_rate`."""
        gateway = self.gateway
        now = gateway.deadlines.now()
        if self.pace is None:
            self.pace = BodyPace(now)
        patience = self.pace.patience(octets, now, gateway.timeouts.body, gateway.limits.request_rate)
        self.client.expect(Awaited.BODY, patience)

    def _expect_progress(self) -> None:
        """Expect the answer, or the rest of a body. We or the worker held that up, so the client gets its full time."""
        if self.exchange.received:
            self._expect_answer()
        else:
            self.pace = None
            self._expect_body(0)

    # COALESCE: wait for a moment, so that the answer has more.

    def _hold_back(self, head: RequestHead) -> bool:
        """Let a long poll of a burst wait; False if it is none, or if too many bytes wait already."""
        gateway, exchange, decision = self.gateway, self.exchange, self.decision
        query = head.origin.partition(b"?")[2]
        token = token_of(query, head.fields) if is_long_poll(head.method, query) else None
        if not token:
            return False
        # With the key, because a bridge syncs for many users with one token.
        client, workers = hash((token, decision.key)), len(decision.sharing or decision.candidates)
        seconds = gateway.held_back.wanted(client, decision.coalesce, workers)
        if not seconds:
            return False
        ticket = Ticket(gateway.held_back, gateway, in_line=False)
        if not ticket.count(exchange.waiting_bytes, has_body=bool(exchange.length)):
            return False
        self.ticket = ticket
        self.state = COALESCE
        gateway.counters.coalesced += 1
        gateway.held_back.hold(self, head, seconds)
        self.client.expect(Awaited.COALESCED, seconds + _GRACE)
        return True

    def held_long_enough(self, head: RequestHead) -> None:
        """Go on, unless the request has ended."""
        ticket = self.ticket
        if self.state is COALESCE and ticket is not None:
            self.ticket = None
            ticket.give_back()
            self.state = RESOLVE
            # If nothing has to be prepared, this only enters.
            self._prepare(head)
            self._go_on()

    # RESOLVE: who is the caller?

    def _prepare(self, head: RequestHead) -> None:
        """Apply changes and look up the user, if configured, and let the request in."""
        gateway, exchange, changes = self.gateway, self.exchange, self.decision.changes
        if changes is not None:
            most = gateway.limits.request_head
            exchange.change(Changing(changes, head), most)
            if len(exchange.raw_head) > most:
                self.fail(Failure.HEAD_TOO_LARGE)
                return
        if gateway.whoami is None:
            self._enter()
        else:
            self._resolve(head, gateway.whoami)

    def _resolve(self, head: RequestHead, whoami: Whoami) -> None:
        """Let the request in, now or when its caller is known."""
        decision = self.decision
        if decision.opaque or decision.caller_at > 0 or head.method == b"POST":
            self.lesson = lesson_of(whoami, head, decision)
        if not (decision.opaque and len(decision.candidates) > 1 and self._asks(head, whoami)):
            self._enter()

    def _asks(self, head: RequestHead, whoami: Whoami) -> bool:
        """Decide by the user if it is known; True if the request waits for that."""
        path, _, query = head.origin.partition(b"?")
        token = token_of(query, head.fields)
        assert token
        _, _, forwarded = self.gateway.forwarded.client(self.client.peer, self.client.scheme, head.fields)
        found = whoami.find(token, self.address, head.fields, forwarded, ask=not answers_whoami(path))
        if isinstance(found, Question):
            if self._count(Ticket(found, self.gateway)):
                found.join(self)
                self.client.expect(Awaited.CALLER, whoami.settings.deadline + _GRACE)
                return True
        elif found is not None:
            self._decide_for(found)
        return False

    def _decide_for(self, user: str) -> None:
        assert self.decision.of_user is not None
        self.decision = self.decision.of_user(user)

    def caller_known(self, user: str | None) -> None:
        """The user is known, or None: then the token stays the key."""
        self._stop_waiting()
        if user is not None:
            self._decide_for(user)
        self._enter()
        self._go_on()

    # ADMIT: a turn at the gate of the pool.

    def _enter(self) -> None:
        """Go on if the pool has room; else wait for a turn."""
        decision = self.decision
        gate = self.gateway.gates.get(decision.pool)
        if gate is not None:
            self.state = ADMIT
            # Without a key, the address is the key, even that of a proxy that does not name its client.
            place = self.gateway.forwarded.place(self.address)
            self.who = caller = who(place, decision.kind, decision.key or place or self.address)
            verdict = gate.enter(caller, self)
            if verdict is not ADMITTED:
                if verdict is Admission.SHED:
                    self._shed()
                elif self._count(Ticket(gate, self.gateway)):
                    self.client.expect(Awaited.TURN, self._patience())
                else:
                    gate.leave(caller, self)
                    self._shed()
                return
            self.gate = gate
        self._lease()

    def admitted(self) -> None:
        """The turn has come."""
        assert self.ticket is not None
        assert isinstance(self.ticket.place, Gate)
        self.gate = self.ticket.place
        self._stop_waiting()
        self._lease()
        self._go_on()

    def _shed(self) -> None:
        self.gateway.counters.shed += 1
        self.fail(Failure.QUEUE_FULL)

    def _patience(self) -> float:
        """Seconds that the request may wait in line."""
        decision, timeouts = self.decision, self.gateway.timeouts
        if decision.settings.wait is not None:
            return decision.settings.wait
        return timeouts.wait_federation if decision.federation else timeouts.wait

    def _count(self, ticket: Ticket, *, bounded: bool = True) -> bool:
        """Wait with `ticket`; False if too much waits already."""
        exchange = self.exchange
        self.ticket = ticket
        if ticket.count(exchange.waiting_bytes, has_body=bool(exchange.length), bounded=bounded):
            entrance = self.gateway.gates.get(self.decision.pool)
            if entrance is not None and ticket.place is not entrance:
                # The gate itself counts those who wait for it.
                ticket.tell(entrance.count_asking if self.gate is None else entrance.count_in_line)
            return True
        self.ticket = None
        return False

    def _stop_waiting(self) -> Ticket:
        ticket, self.ticket = self.ticket, None
        assert ticket is not None
        self.queue += ticket.give_back()
        return ticket

    # LEASE: a connection to a worker.

    def _lease(self) -> None:
        """Ask the first candidate that takes requests; if none does, wait for one."""
        gateway, decision = self.gateway, self.decision
        candidates = decision.candidates
        if len(candidates) == 1 or (candidates and not (decision.key is None or decision.settings.bounded)):
            first = gateway.pools[candidates[0]]
            if first.taking and not self.falling_back:
                # The common case, inlined: the worker is up and has an idle connection.
                self.state = LEASE
                upstream = first.take()
                if upstream is None:
                    self._wait_for(first)
                else:
                    self._attach(upstream, first.name)
                return
        pool = choose(gateway, decision, self.address, falling_back=self.falling_back)
        if pool is None:
            self.fail(Failure.NO_WORKER)
        else:
            self._lease_from(pool)

    def _lease_from(self, pool: WorkerPool) -> None:
        """Take a connection of one worker, or wait for it."""
        self.state = LEASE
        if (pool.name == self.gateway.main and pool.name not in self.decision.candidates) is not self.falling_back:
            # Main takes over, or another worker takes it back.
            self.falling_back = not self.falling_back
            self.gateway.counters.falling_back += 1 if self.falling_back else -1
        upstream = pool.take()
        if upstream is not None:
            self._attach(upstream, pool.name)
        else:
            self._wait_for(pool)

    def _wait_for(self, pool: WorkerPool) -> None:
        """No connection of this worker is idle."""
        ticket = self.ticket = Ticket(pool, self.gateway)
        if pool.queue(self) is not None:
            self.ticket = None
            self._shed()
        elif self.ticket is ticket:
            # Only now: `queue` may have given it a connection, or moved it.
            self._wait_in_line(pool, ticket)

    def _wait_in_line(self, pool: WorkerPool, ticket: Ticket) -> None:
        # A request that waits for a connection being made is not in line yet.
        if not self._count(ticket, bounded=pool.waiting > pool.connecting):
            pool.leave(self)
            self._shed()
            return
        self.gateway.counters.waited += 1
        self.client.expect(Awaited.WAIT, self._patience())

    def leased(self, upstream: Upstream) -> None:
        """A connection that the request waited for."""
        ticket = self._stop_waiting()
        if upstream.made >= ticket.since:
            # It was made while this request waited.
            self.connect = min(upstream.took, self.queue)
        self._attach(upstream, upstream.pool.name)
        self._go_on()

    def worker_away(self) -> None:
        """The worker takes no requests any more: go to another candidate, if there is one."""
        assert self.ticket is not None
        pool = self.ticket.place
        assert isinstance(pool, WorkerPool)
        decision = self.decision
        found = best(self.gateway, decision, decision.candidates, self.address, falling_back=self.falling_back)
        if found is pool:
            return
        pool.leave(self)
        self._stop_waiting()
        self._lease()
        self._go_on()

    def _attach(self, upstream: Upstream, name: str) -> None:
        exchange, decision = self.exchange, self.decision
        self.upstream = upstream
        self.worker = name
        upstream.lend(self, exchange.method, decoded=not exchange.http11)
        self.outbox = exchange.start()
        self.state = AWAIT if exchange.received else SEND
        candidates = decision.candidates
        if not candidates or name != candidates[0]:
            # Not the first candidate: the key moves, or nobody in the pool can take it.
            counters = self.gateway.counters
            if name not in candidates:
                counters.fallen_back += 1
            if not decision.keyless:
                self.moved = True
                counters.moved += 1
        if self.client.clogged:
            upstream.link.pause()

    def _go_on(self) -> None:
        """Send a request that has waited, if it has a connection now, and read the rest of it."""
        if self.upstream is not None:
            self.client.unhold(WAITING)
            self._expect_progress()
            self.send()

    def _drop_upstream(self) -> None:
        """Give up the lease, or the place in line."""
        ticket = self.ticket
        if ticket is not None:
            place = ticket.place
            if isinstance(place, Gate):
                place.leave(self.who, self)
            elif isinstance(place, WorkerPool | Question):
                place.leave(self)
            self._stop_waiting()
        self._end_splice()
        if self.answer is not None:
            self.answer.end_coding()
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            self._unclog()
            upstream.pool.discard(upstream)

    # AWAIT, JUDGE, RELAY: what the worker answers.

    def upstream_data(self, octets: bytes) -> None:
        """Bytes of the answer."""
        exchange, upstream = self.exchange, self.upstream
        assert upstream is not None
        if self.state is AWAIT and self.lesson is None and self.answer is None and not upstream.link.unsent:
            head = upstream.reader.whole(octets)
            if head is not None and head.status not in DOUBTFUL:
                down = exchange.pass_whole(head, octets)
                if down:
                    # The common case: the whole answer in one piece.
                    self._relay_whole(upstream, down)
                    return
        self._relay(exchange, upstream, octets)

    def _relay_whole(self, upstream: Upstream, down: bytes) -> None:
        """Send a whole answer and end the passage; the same as `_relay` and `_finish`, in fewer steps."""
        client, gateway = self.client, self.gateway
        if gateway.observed:
            self.first_byte = gateway.deadlines.now() - self.began
        upstream.reader.take_whole()
        size = len(down)
        gateway.counters.bytes_down += size
        self.bytes_down = size
        if not client.link.send(down):
            client.vanish()
            return
        self.upstream = None
        if self.worker_clogged:
            self._unclog()
        upstream.pool.release(upstream)
        self._end()
        client.go_on()

    def _relay(self, exchange: Exchange, upstream: Upstream, octets: bytes) -> None:
        """Relay what has come of an answer."""
        if not exchange.begun:
            exchange.begin_answer()
            if self.gateway.observed:
                self.first_byte = self.gateway.deadlines.now() - self.began
        if self.state is TUNNEL:
            self.client.link.send(octets)
            self.client.expect(Awaited.TUNNEL, self.gateway.timeouts.tunnel)
            return
        answer = self.answer
        if answer is None:
            answer = self.answer = AnswerRelay(self.gateway, exchange, self.decision, self.lesson)
        try:
            down, ended = answer.read(upstream, octets)
        except WireError as error:
            _log.warn("worker {worker} sent an invalid answer: {error}", worker=upstream.pool.name, error=str(error))
            self.fail(Failure.ANSWER_CUT if exchange.passed else Failure.WORKER_INVALID)
            return
        if answer.doubt is not None:
            down = self._judge(answer, down, upstream, ended=ended)
            if not down:
                return
        if exchange.passed and self.state is not RELAY:
            self._answer_begins(upstream)
        if down and not self._send_down(down):
            return
        if ended:
            self._finish(upstream)
        elif exchange.passed:
            self._answer_goes_on(upstream)

    def _judge(self, answer: AnswerRelay, down: list[bytes], upstream: Upstream, *, ended: bool) -> list[bytes]:
        """What the client gets now of an answer that is held back: nothing, or all that there is of it."""
        self.state = State.JUDGE
        doubt = answer.judge(down, ended=ended)
        if doubt is None:
            # For the client, the answer has not begun.
            self.client.expect(ANSWER, self.gateway.timeouts.answer_body)
            return []
        main = answer.elsewhere(doubt, upstream, falling_back=self.falling_back)
        if main is None:
            return [answer.head(doubt.head, upstream), *doubt.pieces]
        self.upstream = None
        if ended and doubt.head.persistent and self.exchange.http11 and not upstream.reader.excess:
            upstream.pool.release(upstream)
        else:
            upstream.pool.discard(upstream)
        self.exchange.begin_anew()
        self._lease_from(main)
        self._go_on()
        return []

    def _answer_begins(self, upstream: Upstream) -> None:
        """The client gets the head of the final answer."""
        self.state = RELAY
        if self.exchange.cut:
            # The rest of the request is not wanted: do not read it, and do not let a failed write end the connection.
            self._end_splice()
            upstream.link.abandon_writes()
            self.outbox = b""
            self.client.hold(ANSWERED)

    def _answer_goes_on(self, upstream: Upstream) -> None:
        """More of an answer is to come."""
        if self.exchange.tunnel:
            self._begin_tunnel(upstream)
        elif not self.client.clogged:
            self.client.expect(ANSWER_BODY, self.gateway.timeouts.answer_body)
            if upstream.reader.body_left > WORTH_IT and self.exchange.coder is None:
                self._splice_down(upstream)

    def _send_down(self, pieces: list[bytes]) -> bool:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.gateway.counters.bytes_down += len(data)
        self.bytes_down += len(data)
        if self.client.link.send(data):
            return True
        self.client.vanish()
        return False

    def upstream_lost(self, *, clean: bool) -> None:
        """The worker's connection has ended, cleanly or not."""
        exchange, upstream = self.exchange, self.upstream
        assert upstream is not None
        self._end_splice()
        self.upstream = None
        self._unclog()
        if exchange.tunnel:
            self._end()
            self.client.close_after(b"")
        elif clean and exchange.passed and upstream.reader.until_close:
            self._finish(None)
        elif exchange.passed:
            self.fail(Failure.ANSWER_CUT)
        else:
            self._cut_off(upstream)

    def _cut_off(self, upstream: Upstream) -> None:
        """The worker has ended the connection without an answer.

        Synapse acts on a request only when it has read all of it, and a UNIX socket is reset only if the other end has
        not read everything. So a request whose connection was reset was not acted on (docs/http.md has the experiment).
        """
        exchange, counters = self.exchange, self.gateway.counters
        unexecuted = upstream.link.was_reset and upstream.pool.reset_means_unread
        upstream.pool.note_cut()
        verdict = after_a_cut(exchange, unexecuted=unexecuted, budget=counters.replaying < self.gateway.limits.replays)
        if verdict is not AGAIN or (self.answer is not None and self.answer.doubt is not None):
            self.fail(Failure.WORKER_CUT)
            return
        counters.replayed += 1
        if not exchange.replayed:
            counters.replaying += 1
        self.outbox = b""
        exchange.lease_lost()
        self._lease()
        self._go_on()

    def step_aside(self) -> bool:
        """Move to another worker, because this one is drained; whether that was possible.

        Only while all of the request is kept and nothing of an answer has come. The caller knows that the request may
        be sent again while the first worker still has it.
        """
        upstream, exchange = self.upstream, self.exchange
        if upstream is None or self.state is not AWAIT or exchange.begun or not exchange.whole:
            return False
        decision = self.decision
        there = best(self.gateway, decision, decision.candidates, self.address, falling_back=self.falling_back)
        if there.draining and there.waiting * 2 >= there.limits.waiting:
            # No other worker takes it, and the queue has no room for all.
            return False
        self.upstream = None
        self._unclog()
        self.outbox = b""
        upstream.pool.discard(upstream)
        exchange.withdraw()
        self._lease()
        self._go_on()
        return True

    # TUNNEL.

    def _begin_tunnel(self, upstream: Upstream) -> None:
        self.state = TUNNEL
        self.client.expect(Awaited.TUNNEL, self.gateway.timeouts.tunnel)
        self.client.unhold(PIPELINED)
        ahead = self.client.reader.take_buffered()
        if ahead:
            upstream.link.send(ahead)

    def tunnel_up(self, octets: bytes) -> None:
        """The client has sent these bytes into a tunnel."""
        if self.upstream is not None:
            self.upstream.link.send(octets)
            self.client.expect(Awaited.TUNNEL, self.gateway.timeouts.tunnel)

    # Large bodies, which the kernel moves.

    def splice_up(self) -> None:
        """Let the kernel move the rest of the request body, if it can."""
        upstream = self.upstream
        if upstream is None or self.splice is not None or self.exchange.begun or self.worker_clogged:
            # A worker that has closed may have answered before: read that first.
            return
        octets = self.client.reader.body_left
        self.splice = begin_splice(self.client.link, upstream.link, octets, self._moved_up, self.upstream_clogged)
        if self.splice is not None:
            self.exchange.bypass()

    def _moved_up(self, octets: int) -> None:
        self.gateway.counters.bytes_up += octets
        self.bytes_up += octets
        if self.client.reader.skip(octets):
            self._end_splice()
            self.request_ended()
        elif not self.worker_clogged:
            self._expect_body(octets)

    def _splice_down(self, upstream: Upstream) -> None:
        """The same for the rest of a response body."""
        if self.splice is None:
            octets = upstream.reader.body_left
            self.splice = begin_splice(upstream.link, self.client.link, octets, self._moved_down, self.client.vanish)

    def _moved_down(self, octets: int) -> None:
        upstream = self.upstream
        assert upstream is not None
        self.gateway.counters.bytes_down += octets
        self.bytes_down += octets
        if upstream.reader.skip(octets):
            self._end_splice()
            self._finish(upstream)
        elif not self.client.clogged:
            self.client.expect(ANSWER_BODY, self.gateway.timeouts.answer_body)

    def _end_splice(self) -> None:
        if self.splice is not None:
            splice, self.splice = self.splice, None
            splice.end()

    # Flow control.

    def client_clogged(self) -> None:
        """The client takes less than it is sent."""
        if self.upstream is not None:
            self.upstream.link.pause()
        self.client.expect(Awaited.STALL, self.gateway.timeouts.stall)

    def client_flowing(self) -> None:
        """It has taken all that waited."""
        if self.upstream is not None:
            self.upstream.link.resume()
        if self.state is TUNNEL:
            self.client.expect(Awaited.TUNNEL, self.gateway.timeouts.tunnel)
        elif self.exchange.passed:
            self.client.expect(ANSWER_BODY, self.gateway.timeouts.answer_body)

    def upstream_clogged(self) -> None:
        """The worker takes less than it is sent."""
        self.worker_clogged = True
        self.client.hold(WORKER_CLOGGED)
        if not self.exchange.passed:
            self.client.expect(Awaited.UPLOAD, self.gateway.timeouts.stall)

    def upstream_flowing(self) -> None:
        """It has taken all that waited."""
        self._unclog()
        if not self.exchange.passed:
            self._expect_progress()

    def _unclog(self) -> None:
        if self.worker_clogged:
            self.worker_clogged = False
            self.client.unhold(WORKER_CLOGGED)

    # DONE.

    def _answer(self) -> None:
        """Refuse, respond or redirect as the routes say. The connection lives on if the request is complete."""
        decision, exchange, counters = self.decision, self.exchange, self.gateway.counters
        close = exchange.close or exchange.length != 0
        ending: str = decision.action
        request_id = self._id() if ending == "refuse" else ""
        if ending == "refuse" and decision.pool:
            # No worker serves this. Refusals by access, by a route or by the request itself have no pool.
            counters.failed += 1
            ending = Failure.NO_WORKER.ending
        elif ending == "refuse":
            counters.refused += 1
        status, octets = routed_reply(decision, exchange, close=close, request_id=request_id)
        self._end(status, ending)
        if close:
            self.client.close_after(octets)
        else:
            self.client.link.send(octets)

    def _finish(self, upstream: Upstream | None) -> None:
        """The response is complete."""
        outcome = self.exchange.finish()
        if upstream is not None:
            self.upstream = None
            if self.worker_clogged:
                self._unclog()
            # An exchange whose request had not been sent completely is never reused (`Exchange.cut`).
            if outcome.reuse_upstream and not upstream.reader.excess:
                upstream.pool.release(upstream)
            else:
                upstream.pool.discard(upstream)
        self._end()
        if outcome.client is KEEP:
            self.client.go_on()
        else:
            self.client.close_after(b"")

    def fail(self, failure: Failure) -> None:
        """End the exchange with a reply of ours, or by cutting the connection."""
        outcome = self.exchange.fail(failure)
        self.gateway.counters.failed += 1
        self._drop_upstream()
        if not outcome.reply:
            self._end(0, failure.ending)
            self.client.abort()
            return
        status, reply = reply_to_failure(failure, self.decision, self.exchange, self._id())
        self._end(status, failure.ending)
        self.client.close_after(reply)

    def _id(self) -> str:
        """The request id, made when it is first needed; empty if requests have no ids."""
        ids = self.gateway.request_ids
        if not self.request_id and ids is not None:
            self.request_id = ids.make()
        return self.request_id

    def _end(self, status: int = 0, ending: str = DONE) -> None:
        """Every exchange ends here, exactly once. `status` is that of our own reply."""
        if self.splice is not None:
            self._end_splice()
        self.state = ENDED
        counters = self.gateway.counters
        if self.exchange.replayed:
            counters.replaying -= 1
        if self.falling_back:
            self.falling_back = False
            counters.falling_back -= 1
        if self.gateway.observed:
            self._note(status, ending)
        self.client.passage_ended()
        if self.lesson is not None:
            self.lesson.learn()
        gate = self.gate
        if gate is not None:
            # Last, because the next request that is admitted may be on this connection.
            self.gate = None
            gate.out(self.who)

    def _note(self, status: int, ending: str) -> None:
        decision, exchange = self.decision, self.exchange
        response = exchange.response
        # By position, and only here: naming twenty values costs as much as writing the log line.
        record = Record(
            self.address,
            exchange.method,
            decision.endpoint,
            status if response is None else response.status,
            self.began,
            self.gateway.deadlines.now(),
            ending,
            self.request_id,
            decision.kind,
            decision.key,
            decision.pool,
            self.worker,
            self.bytes_up,
            self.bytes_down,
            self.queue,
            self.connect,
            self.first_byte,
            exchange.attempts,
            self.moved,
            exchange.uncompressed,
            self.trace,
        )
        self.gateway.notes.take(record)
