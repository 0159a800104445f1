"""One request and its response: what is sent, what is sent again, what the client gets, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.errors import Fault, WireError
from sidecar.exchange.exchange import Exchange, Fate, Outcome
from sidecar.exchange.failures import Failure
from sidecar.exchange.retries import AGAIN, IDEMPOTENT, after_a_cut
from sidecar.wire.head import RequestHead, ResponseHead

KEEP, LINGER, ABORT = Fate.KEEP, Fate.LINGER, Fate.ABORT
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def request(start: bytes = b"GET /x HTTP/1.1", *lines: bytes) -> RequestHead:
    return RequestHead(b"\r\n".join([start, b"Host: h", *lines, b"\r\n"]))


def exchange(start: bytes = b"GET /x HTTP/1.1", *lines: bytes, **options: Any) -> Exchange:
    head = request(start, *lines)
    return Exchange(head, head.passed_on(b""), **options)


def answer(raw: bytes = FINAL, method: bytes = b"GET") -> ResponseHead:
    return ResponseHead(raw, method)


def again(one: Exchange) -> bool:
    """It is sent again if its worker is lost now."""
    return after_a_cut(one) is AGAIN


def sent(one: Exchange) -> Exchange:
    """The request of `one` is complete and on its way."""
    one.receive_end()
    one.start()
    one.mark_sent()
    return one


REQUESTS: dict[str, Any] = {
    "start": st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD"]),
    "version": st.sampled_from([b" /x HTTP/1.1", b" /x HTTP/1.1", b" /x HTTP/1.0"]),
    "close": st.booleans(),
    "replayable": st.sampled_from([None, True, False]),
    "draining": st.booleans(),
    "limit": st.sampled_from([0, 8, 30]),
}


class Life(RuleBasedStateMachine):
    """P5: everything that can happen to an exchange, in any order that connections allow.

    The model is the request as the client sent it, and for each attempt the octets that a worker got.
    """

    most_interim = 3

    @initialize(**REQUESTS)
    def begin(
        self, start: bytes, version: bytes, close: bool, replayable: bool | None, draining: bool, limit: int
    ) -> None:
        self.head = request(start + version, *([b"Connection: close"] if close else []))
        self.raw_head = self.head.passed_on(b"X-Forwarded-For: 1.2.3.4\r\n")
        self.exchange = Exchange(self.head, self.raw_head, replayable, draining, replay_limit=limit)
        self.limit = limit
        self.safe = start in IDEMPOTENT if replayable is None else replayable
        self.draining = draining
        self.body = b""
        self.attempts: list[bytes] = []
        self.leased = False
        self.written = False
        self.answered = False
        self.interims = 0
        self.response: ResponseHead | None = None
        self.early = False
        self.ends: list[Outcome] = []

    def running(self) -> bool:
        return not self.ends

    def uploading(self) -> bool:
        return not self.ends and not self.exchange.received

    def waiting(self) -> bool:
        return not self.ends and not self.leased

    def asked(self) -> bool:
        return not self.ends and self.leased and self.response is None

    def answering(self) -> bool:
        return not self.ends and self.response is not None

    # The client.

    @precondition(uploading)
    @rule(octets=st.binary(min_size=1, max_size=20))
    def body_arrives(self, octets: bytes) -> None:
        self.body += octets
        up = self.exchange.receive_body(octets)
        if self.leased:
            self.attempts[-1] += up
            assert up == (b"" if self.early else octets)
        else:
            assert up == b""

    @precondition(uploading)
    @rule()
    def request_ends(self) -> None:
        self.exchange.receive_end()

    @precondition(running)
    @rule(failure=st.sampled_from([Failure.CLIENT_GONE, Failure.CLIENT_STALLED]))
    def client_leaves(self, failure: Failure) -> None:
        self.end(self.exchange.fail(failure))
        assert self.ends == [Outcome(ABORT, False, failure)]

    @precondition(lambda self: not self.ends and self.response is None)
    @rule(
        failure=st.sampled_from(
            [Failure.NO_WORKER, Failure.WORKER_SILENT, Failure.CLIENT_SLOW_BODY, Failure.BODY_TOO_LARGE]
        )
    )
    def patience_ends(self, failure: Failure) -> None:
        self.end(self.exchange.fail(failure))
        assert self.ends == [Outcome(LINGER, False, failure, reply=True)]
        assert failure.status

    # The worker.

    @precondition(waiting)
    @rule()
    def lease(self) -> None:
        self.leased = True
        self.attempts.append(self.exchange.start())

    @precondition(asked)
    @rule()
    def octets_leave(self) -> None:
        self.written = True
        self.exchange.mark_sent()

    @precondition(asked)
    @rule()
    def worker_is_lost(self) -> None:
        allowed = (
            not self.answered
            and len(self.attempts) == 1
            and len(self.body) <= self.limit
            and (self.safe or not self.written)
        )
        assert again(self.exchange) is allowed
        if allowed:
            self.exchange.lease_lost()
            self.leased = False
        else:
            self.end(self.exchange.fail(Failure.WORKER_CUT))
            assert self.ends == [Outcome(LINGER, False, Failure.WORKER_CUT, reply=True)]

    @precondition(asked)
    @rule()
    def interim_response(self) -> None:
        self.answered = True
        self.exchange.begin_answer()
        self.interims += 1
        if self.interims > self.most_interim:
            with pytest.raises(WireError):
                self.exchange.pass_interim(answer(EARLY_HINTS), self.most_interim)
            self.end(self.exchange.fail(Failure.WORKER_INVALID))
        else:
            passed = self.exchange.pass_interim(answer(EARLY_HINTS), self.most_interim)
            assert passed == (EARLY_HINTS if self.head.http11 else b"")

    @precondition(asked)
    @rule(
        framing=st.sampled_from([b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b""]),
        persistent=st.booleans(),
        unsent=st.booleans(),
    )
    def final_response(self, framing: bytes, persistent: bool, unsent: bool) -> None:
        self.answered = True
        self.exchange.begin_answer()
        line = b"" if persistent else b"Connection: close\r\n"
        self.response = answer(b"HTTP/1.1 200 OK\r\n" + framing + line + b"\r\n", self.head.method)
        self.early = unsent or not self.exchange.received
        passed = self.exchange.pass_final(self.response, request_sent=not unsent)
        assert self.exchange.cut is self.early
        assert (b"Connection: close\r\n" in passed) is self.exchange.close
        assert not (b"Transfer-Encoding" in passed and not self.head.http11)

    @precondition(asked)
    @rule()
    def switches_unasked(self) -> None:
        self.answered = True
        self.exchange.begin_answer()
        with pytest.raises(WireError):
            self.exchange.pass_final(answer(SWITCHED), request_sent=True)
        assert not self.exchange.passed
        self.end(self.exchange.fail(Failure.WORKER_INVALID))

    @precondition(answering)
    @rule()
    def response_ends(self) -> None:
        assert self.response is not None
        self.end(self.exchange.finish())
        (outcome,) = self.ends
        reusable = self.response.persistent and not self.early and self.head.http11
        lasting = self.head.persistent and not self.draining and not self.early and self.response.length != -2
        assert outcome == Outcome(KEEP if lasting else LINGER, reusable)

    @precondition(answering)
    @rule()
    def response_breaks_off(self) -> None:
        self.end(self.exchange.fail(Failure.ANSWER_CUT))
        assert self.ends == [Outcome(ABORT, False, Failure.ANSWER_CUT)]

    def end(self, outcome: Outcome) -> None:
        self.ends.append(outcome)

    @precondition(lambda self: bool(self.ends))
    @rule(**REQUESTS)
    def next_request(self, **options: Any) -> None:
        assert len(self.ends) == 1
        self.begin(**options)

    # What holds at any time.

    @invariant()
    def every_attempt_is_the_request(self) -> None:
        """The first as well as the second: the same head and the body, without a gap, from its first octet."""
        whole = self.raw_head + self.body
        assert all(whole.startswith(attempt) for attempt in self.attempts)
        if self.leased and not self.early:
            assert self.attempts[-1] == whole

    @invariant()
    def nothing_is_sent_three_times(self) -> None:
        assert len(self.attempts) <= 2
        assert self.exchange.attempts == len(self.attempts)

    @invariant()
    def no_octet_of_an_answer_precedes_a_replay(self) -> None:
        if self.answered or len(self.attempts) == 2:
            assert not again(self.exchange)

    @invariant()
    def memory_is_bounded(self) -> None:
        """While octets leave, no more is kept than a replay may need; while they wait, those that wait say so."""
        kept = sum(map(len, self.exchange._body or []))
        assert self.exchange.waiting_bytes == (0 if self.leased else len(self.body))
        assert kept <= (self.limit if self.leased else len(self.body))

    def teardown(self) -> None:
        assert len(getattr(self, "ends", ())) <= 1


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=20)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"POST", b"PATCH", b"get", b"XYZ"])
def test_only_idempotent_methods_are_sent_twice(method: bytes) -> None:
    """R-62: RFC 9110 9.2.2 says which; the endpoint table may know of more."""
    safe = method in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE")
    assert again(sent(exchange(method + b" /x HTTP/1.1"))) is safe
    assert again(sent(exchange(method + b" /x HTTP/1.1", replayable=True)))


def test_what_never_left_may_be_sent_elsewhere() -> None:
    """R-61: any method, as long as nothing was written."""
    one = exchange(b"POST /x HTTP/1.1")
    one.receive_end()
    one.start()
    assert again(one)


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("line", [b"", b"Connection: keep-alive\r\n"])
def test_a_whole_answer_is_what_its_pieces_would_be(line: bytes) -> None:
    """And leaves the same behind, whether its head passes as it came or has a line less."""
    raw = b"HTTP/1.1 200 OK\r\n" + line + b"Content-Length: 3\r\n\r\n"
    quick, slow = sent(exchange()), sent(exchange())
    slow.begin_answer()
    assert slow.pass_final(answer(raw), request_sent=True) + b"abc" == WHOLE
    assert quick.pass_whole(answer(raw), raw + b"abc") == WHOLE
    assert (quick.begun, quick.passed) == (slow.begun, slow.passed) == (True, True)
    assert not again(quick)
    assert quick.finish() == slow.finish() == Outcome(KEEP, True)


@pytest.mark.parametrize(("size", "whole"), [(6, True), (7, False)])
def test_what_could_be_given_to_somebody_else(size: int, whole: bool) -> None:
    """A request that has come to its end, and is kept up to its limit."""
    one = exchange(b"PUT /x HTTP/1.1", b"Content-Length: %d" % size, replay_limit=6)
    one.receive_body(b"x" * size)
    assert not one.whole
    one.receive_end()
    assert (one.kept, one.whole) == (whole, whole)


def test_what_is_not_passed_as_a_whole() -> None:
    """Where a request is not here as a whole, has begun to be answered, or is the last of either connection."""
    head = answer(WHOLE.partition(b"abc")[0])
    coming = exchange(b"PUT /x HTTP/1.1", b"Content-Length: 1")
    coming.start()
    begun, last, ended, old = (
        sent(exchange()),
        sent(exchange(b"GET /x HTTP/1.1", b"Connection: close")),
        sent(exchange()),
        sent(exchange(b"GET /x HTTP/1.0")),
    )
    begun.begin_answer()
    ended.close_afterwards()
    for one in (coming, begun, last, ended, old):
        assert one.pass_whole(head, WHOLE) == b""
        assert (one.passed, one.response) == (False, None)
    closing = answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n")
    one = sent(exchange())
    assert one.pass_whole(closing, WHOLE) == b""
    assert (one.begun, one.passed) == (False, False)


def test_a_replay_is_not_replayed() -> None:
    """R-65: once."""
    one = sent(exchange())
    first = one.raw_head
    one.lease_lost()
    assert one.start() == first
    assert not again(one)


def test_no_replay_after_an_octet_of_an_answer() -> None:
    """R-64: even before its head is complete."""
    one = sent(exchange())
    one.begin_answer()
    assert not again(one)


def test_a_body_that_grew_while_a_replay_waited_is_sent_whole() -> None:
    """R-66: octets that arrive between two leases are part of the second attempt, whatever the limit."""
    one = exchange(b"PUT /x HTTP/1.1", b"Content-Length: 12", replay_limit=6)
    one.start()
    one.mark_sent()
    assert one.receive_body(b"abcd") == b"abcd"
    one.lease_lost()
    assert one.receive_body(b"efgh") == b""
    assert one.waiting_bytes == 8
    assert one.start().endswith(b"\r\n\r\nabcdefgh")
    assert one.receive_body(b"ijkl") == b"ijkl"
    assert not again(one)


@pytest.mark.parametrize(("size", "replayed"), [(6, True), (7, False)])
@pytest.mark.parametrize("waits", [True, False])
def test_a_body_beyond_the_limit_ends_the_hope_of_a_replay(size: int, replayed: bool, waits: bool) -> None:
    """R-62: only what is kept whole can be sent again, whether it waited for the lease or came after it."""
    one = exchange(b"PUT /x HTTP/1.1", b"Content-Length: 20", replay_limit=6)
    if not waits:
        one.start()
    for _ in range(size):
        one.receive_body(b"x")
    if waits:
        one.start()
    one.mark_sent()
    assert again(one) is replayed
    assert one.receive_body(b"y") == b"y"


def test_a_body_that_goes_past_cannot_be_sent_again() -> None:
    """R-62: what was never seen is not kept."""
    one = exchange(b"PUT /x HTTP/1.1", b"Content-Length: 20")
    one.start()
    one.receive_body(b"abc")
    one.bypass()
    assert not again(one)
    assert one.receive_body(b"d") == b"d"


def test_an_early_answer_ends_both_connections() -> None:
    """R-39, R-54, R-68: it is relayed with Connection: close, and the rest of the request goes nowhere."""
    one = exchange(b"POST /x HTTP/1.1", b"Content-Length: 50")
    one.start()
    assert one.pass_final(answer(), request_sent=True) == FINAL[:-2] + b"Connection: close\r\n\r\n"
    assert one.receive_body(b"more") == b""
    assert one.finish() == Outcome(LINGER, False)


def test_an_answer_before_the_last_octet_left_is_early() -> None:
    """R-54: received is not sent."""
    one = sent(exchange(b"POST /x HTTP/1.1"))
    one.pass_final(answer(), request_sent=False)
    assert (one.cut, one.finish()) == (True, Outcome(LINGER, False))


@pytest.mark.parametrize(
    ("start", "line", "raw", "outcome"),
    [
        (b"GET /x HTTP/1.1", b"X: y", FINAL, Outcome(KEEP, True)),
        (b"GET /x HTTP/1.1", b"Connection: close", FINAL, Outcome(LINGER, True)),
        (b"GET /x HTTP/1.1", b"X: y", FINAL[:-2] + b"Connection: close\r\n\r\n", Outcome(KEEP, False)),
        (b"GET /x HTTP/1.1", b"X: y", b"HTTP/1.1 200 OK\r\n\r\n", Outcome(LINGER, False)),
        (b"GET /x HTTP/1.1", b"X: y", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Outcome(KEEP, False)),
        (b"GET /x HTTP/1.0", b"X: y", FINAL, Outcome(LINGER, False)),
        (b"GET /x HTTP/1.0", b"Connection: keep-alive", FINAL, Outcome(LINGER, False)),
    ],
)
def test_each_connection_lives_on_only_if_both_sides_allow_it(
    start: bytes, line: bytes, raw: bytes, outcome: Outcome
) -> None:
    """R-41, R-50, R-51; DESIGN 3: the connection behind a request of HTTP/1.0 is not reused."""
    one = sent(exchange(start, line))
    passed = one.pass_final(answer(raw), request_sent=True)
    assert one.finish() == outcome
    assert (b"Connection: close\r\n" in passed) is (outcome.client is LINGER)


def test_draining_ends_the_connection_with_the_answer() -> None:
    """F-18: announced in the answer that is on its way."""
    one = sent(exchange(close=True))
    assert b"Connection: close\r\n" in one.pass_final(answer(), request_sent=True)
    assert one.finish() == Outcome(LINGER, True)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_client_of_http_1_0_sees_no_transfer_coding(method: bytes) -> None:
    """R-41: not even in an answer without content (RFC 9112 6.1)."""
    one = sent(exchange(method + b" /x HTTP/1.0"))
    passed = one.pass_final(
        answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n", method), request_sent=True
    )
    assert passed == b"HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\n"


def test_interim_responses_are_relayed_up_to_their_number() -> None:
    """R-40: to clients of HTTP/1.1 only, and not without end."""
    one = sent(exchange())
    assert [one.pass_interim(answer(EARLY_HINTS), 2) for _ in range(2)] == [EARLY_HINTS] * 2
    with pytest.raises(WireError) as refusal:
        one.pass_interim(answer(EARLY_HINTS), 2)
    assert refusal.value.fault is Fault.SYNTAX
    assert sent(exchange(b"GET /x HTTP/1.0")).pass_interim(answer(EARLY_HINTS), 2) == b""


UPGRADE = (b"Connection: Upgrade", b"Upgrade: foo, websocket")


def test_a_tunnel_opens_behind_a_101_that_was_asked_for() -> None:
    """R-36, R-56: and neither connection carries another message."""
    one = sent(exchange(b"GET /x HTTP/1.1", *UPGRADE))
    assert one.pass_final(answer(SWITCHED), request_sent=True) == SWITCHED
    assert one.tunnel
    assert not one.finish().reuse_upstream


@pytest.mark.parametrize(
    ("start", "lines", "received", "raw"),
    [
        (b"GET /x HTTP/1.1", (), True, SWITCHED),
        (b"GET /x HTTP/1.0", UPGRADE, True, SWITCHED),
        (b"GET /x HTTP/1.1", (b"Connection: Upgrade", b"Upgrade: h2c"), True, SWITCHED),
        (b"POST /x HTTP/1.1", (*UPGRADE, b"Content-Length: 5"), False, SWITCHED),
        (b"GET /x HTTP/1.1", UPGRADE, True, SWITCHED.replace(b"websocket", b"bar")),
    ],
)
def test_no_tunnel_opens_otherwise(start: bytes, lines: tuple[bytes, ...], received: bool, raw: bytes) -> None:
    """R-37: a 101 that nobody asked for is a fault of the worker, and nothing of it passes."""
    one = exchange(start, *lines)
    one.start()
    if received:
        one.receive_end()
    with pytest.raises(WireError):
        one.pass_final(answer(raw), request_sent=True)
    assert not one.tunnel
    assert one.fail(Failure.WORKER_INVALID) == Outcome(LINGER, False, Failure.WORKER_INVALID, reply=True)


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure.status])
def test_a_failure_is_told_before_an_answer_and_shown_after(failure: Failure) -> None:
    """R-46: what was begun is cut so that nobody takes it for complete."""
    one = sent(exchange())
    assert one.fail(failure) == Outcome(LINGER, False, failure, reply=True)
    one.pass_final(answer(), request_sent=True)
    assert one.fail(failure) == Outcome(ABORT, False, failure)


@pytest.mark.parametrize(
    ("start", "lines", "preflight"),
    [
        (b"OPTIONS /x HTTP/1.1", [b"Access-Control-Request-Method: PUT"], True),
        (b"OPTIONS /x HTTP/1.1", [b"X: y"], False),
        (b"GET /x HTTP/1.1", [b"Access-Control-Request-Method: PUT"], False),
    ],
)
def test_a_preflight_is_known_by_its_method_and_its_field(start: bytes, lines: list[bytes], preflight: bool) -> None:
    """Fetch, CORS-preflight request: one of the two is not enough."""
    assert exchange(start, *lines).preflight is preflight
