"""Requests whose token does not name their user: placed by what is known or asked for, never later than said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from routing.plans import Headers, plan_of

from sidecar.callers.whoami import Whoami, askable, continued, neighbourhood
from sidecar.config.schema import Tokens, Worker
from sidecar.relay.admission import GateLimits
from sidecar.relay.lessons import Overheard, Proof
from sidecar.routing.decide import decide, decider
from sidecar.routing.hashing import ranked
from sidecar.synapse.token_owner import TARGET, told_by_login
from sidecar.wire.head import ResponseHead
from sidecar.wire.reader import END, ResponseEvent

from .peers import Peer, Stage, crash
from .turns import staged, turns

NAMES = ("w1", "w2", "w3")
PLAN = plan_of(
    {name: Worker(endpoint=f"unix:/run/{name}.sock") for name in ("main", *NAMES)}, tokens=Tokens(resolve="always")
)
JOINED = b"/_matrix/client/v3/joined_rooms"
FILTER = b"/_matrix/client/v3/user/%40alice%3Aexample.org/filter"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ALICE = json.dumps({"user_id": "@alice:example.org", "is_guest": False}).encode()
REFUSED = json.dumps({"errcode": "M_UNKNOWN_TOKEN", "error": "Token is not active"}).encode()
LOGIN = json.dumps({"user_id": "@alice:example.org", "access_token": "mct_new", "expires_in_ms": 60_000}).encode()


def home(user: str) -> str:
    return ranked(dict.fromkeys(NAMES, 1.0), user)[0]


def request(token: bytes = b"mat_1", target: bytes = JOINED, method: bytes = b"GET", *lines: bytes) -> bytes:
    fields = b"".join(line + b"\r\n" for line in (b"Host: x", b"Authorization: Bearer " + token, *lines))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, fields)


def answer(content: bytes, status: bytes = b"200 OK", *lines: bytes) -> bytes:
    """As Synapse sends its JSON."""
    fields = b"".join(line + b"\r\n" for line in (b"Transfer-Encoding: chunked", *lines))
    return b"HTTP/1.1 %b\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (status, fields, len(content), content)


class Town(Stage):
    """A stage whose workers are asked for users."""

    def __init__(self, directory: Path, **tokens: object) -> None:
        kept = {
            name: tokens.pop(name) for name in ("away", "connections", "gates", "limits", "waiting") if name in tokens
        }
        super().__init__(directory, workers=("main", *NAMES), decide=decider(PLAN), **kept)  # type: ignore[arg-type]
        self.tokens = Tokens(resolve="always", **tokens)  # type: ignore[arg-type]
        self.gateway.ask(continued(None, askable(PLAN), self.tokens, self.pools, self.clock, self.gateway.counters))

    @property
    def whoami(self) -> Whoami:
        assert self.gateway.whoami is not None
        return self.gateway.whoami

    async def head(self, *, whoami: bool) -> tuple[str, Peer, bytes]:
        """The next head that has arrived at any worker, and is a question or is none."""
        while True:
            for name, worker in self.workers.items():
                for peer in worker.accepted:
                    if b"\r\n\r\n" in peer.received and (TARGET in peer.received) is whoami:
                        return name, peer, await peer.head()
            await turns(1)

    async def question(self) -> tuple[Peer, bytes]:
        """The connection on which a worker is asked whose a token is, and the question."""
        _, peer, head = await self.head(whoami=True)
        return peer, head

    async def arrives(self) -> str:
        """The worker at which a request has arrived that is no question; it is answered."""
        name, peer, _ = await self.head(whoami=False)
        peer.send(OK)
        return name

    @property
    def connections(self) -> int:
        """How many there were to workers."""
        return sum(len(worker.accepted) for worker in self.workers.values())

    def mark(self, token: bytes = b"mat_1") -> bytes:
        return self.whoami.owners.mark(token)

    def teach(self, token: bytes = b"mat_1", user: str = "alice") -> None:
        """Let the user of a token be known."""
        self.whoami.owners.learn(self.mark(token), user, self.clock.seconds())

    async def strike(self) -> None:
        self.whoami.close()
        assert not self.whoami.asking
        await super().strike()


def by_token(token: bytes = b"mat_1") -> str:
    """Where a request goes as long as nobody knows whose the token is."""
    fields = Headers([(b"authorization", b"Bearer " + token)])
    return decide(b"GET", JOINED, fields, "127.0.0.1", PLAN).candidates[0]


@staged(Town)
async def test_a_request_waits_until_its_user_is_known(stage: Town) -> None:
    """It is asked for in the client's name, and the request goes where a token that names the user would go."""
    lines = (b"User-Agent: a phone", b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https")
    client = await stage.client(request(b"mat_1", JOINED, b"GET", *lines))
    worker, head = await stage.question()
    assert head == (
        b"GET /_matrix/client/v3/account/whoami HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mat_1\r\n"
        b"User-Agent: a phone\r\nAccept: application/json\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    )
    assert stage.connections == 1
    worker.send(answer(ALICE))
    assert await stage.arrives() == home("alice")
    await client.gets(OK)
    assert (stage.counters.tokens_asked, stage.counters.tokens_known) == (1, 0)
    assert not any(pool.leased for pool in stage.pools.values())


@staged(Town, gates={"client": GateLimits(concurrency=1, per_key=1, waiting=9)})
async def test_who_waits_for_its_user_waits_in_its_pool(stage: Town) -> None:
    """The pool counts it as waiting from the first moment on, and as running when a worker has it."""
    gate = stage.gateway.gates["client"]
    client = await stage.client(request(b"mat_1", JOINED, b"GET"))
    worker, _ = await stage.question()
    assert (gate.asking, gate.served, gate.parked) == (1, 0, 1)
    worker.send(answer(ALICE))
    _, peer, _ = await stage.head(whoami=False)
    assert (gate.asking, gate.served, gate.parked) == (0, 1, 0)
    peer.send(OK)
    await client.gets(OK)
    assert (gate.asking, gate.served, gate.parked) == (0, 0, 0)


@staged(Town)
async def test_a_user_that_is_known_is_not_asked_for(stage: Town) -> None:
    """The next request with the token, and one with a token that names the user, meet."""
    stage.teach()
    client = await stage.client(request())
    assert await stage.arrives() == home("alice")
    await client.gets(OK)
    client.send(request(b"syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"))
    assert await stage.arrives() == home("alice")
    await client.gets(OK)
    assert (stage.counters.tokens_asked, stage.counters.tokens_known) == (0, 1)


@staged(Town)
async def test_a_token_is_asked_for_once_at_a_time(stage: Town) -> None:
    """However many requests wait for it; each token has a question of its own, and workers are asked in turn."""
    clients = [await stage.client(request()) for _ in range(4)]
    first, _ = await stage.question()
    await stage.client(request(b"mat_2"))
    await stage.question()
    assert stage.whoami.asking == 2
    assert [len(stage.workers[name].accepted) for name in NAMES].count(1) == 2
    first.send(answer(ALICE))
    assert {await stage.arrives() for _ in clients} == {home("alice")}
    for client in clients:
        await client.gets(OK)
    assert stage.counters.tokens_asked == 2


@staged(Town, deadline=2.0, patience=5.0)
async def test_nobody_waits_longer_than_the_deadline(stage: Town) -> None:
    """Then the token is the key; the answer is still good for the next request."""
    client = await stage.client(request())
    worker, _ = await stage.question()
    await stage.pass_time(1.9)
    assert stage.connections == 1
    await stage.pass_time(0.1)
    assert await stage.arrives() == by_token()
    await client.gets(OK)
    assert stage.counters.tokens_late == 1
    # Whoever comes now does not wait for the same question again.
    client.send(request())
    assert await stage.arrives() == by_token()
    await client.gets(OK)
    worker.send(answer(ALICE))
    await turns()
    client.send(request())
    assert await stage.arrives() == home("alice")
    await client.gets(OK)
    assert (stage.counters.tokens_asked, stage.counters.tokens_late) == (1, 1)


@staged(Town, deadline=0.0, patience=5.0)
async def test_with_a_deadline_of_zero_nobody_waits_at_all(stage: Town) -> None:
    """What is learnt counts for the next request."""
    client = await stage.client(request())
    assert await stage.arrives() == by_token()
    await client.gets(OK)
    worker, _ = await stage.question()
    worker.send(answer(ALICE))
    await turns()
    assert stage.whoami.knows(stage.mark())
    assert stage.counters.tokens_late == 0


@staged(Town, deadline=1.0, patience=3.0)
async def test_a_question_without_an_answer_is_given_up(stage: Town) -> None:
    """Its connection is closed, and the token is not asked for again at once."""
    client = await stage.client(request())
    worker, _ = await stage.question()
    await stage.pass_time(1.0)
    await stage.arrives()
    await client.gets(OK)
    await stage.pass_time(2.0)
    await worker.vanishes()
    assert stage.whoami.asking == 0
    assert stage.counters.tokens_failed == 1
    assert not any(pool.leased for pool in stage.pools.values())
    client.send(request())
    await stage.arrives()
    assert stage.counters.tokens_asked == 1


@staged(Town, deadline=5.0)
async def test_the_deadline_holds_even_if_a_question_forgets_it(stage: Town) -> None:
    """The course of the request has one of its own behind it."""
    client = await stage.client(request())
    await stage.question()
    for call in stage.whoami._calls.values():
        call.cancel()
    await stage.pass_time(7.0)
    assert await stage.arrives() == by_token()
    await client.gets(OK)


@staged(Town, refused=10.0)
async def test_a_refusal_is_remembered_for_a_while(stage: Town) -> None:
    """The request goes on, Synapse answers it 401 itself, and no further question is asked until later."""
    client = await stage.client(request())
    worker, _ = await stage.question()
    worker.send(answer(REFUSED, b"401 Unauthorized"))
    for _ in range(2):
        assert await stage.arrives() == by_token()
        await client.gets(OK)
        client.send(request())
    assert await stage.arrives() == by_token()
    await client.gets(OK)
    assert (stage.counters.tokens_asked, stage.counters.tokens_refused) == (1, 1)
    await stage.pass_time(10.0)
    client.send(request())
    await stage.question()
    assert stage.counters.tokens_asked == 2


@staged(Town)
async def test_who_sends_unknown_tokens_is_not_asked_for_any_more(stage: Town) -> None:
    """Random tokens do not double the load; others, at other addresses, are served as before."""
    for number in range(6):
        client = await stage.client(request(b"guess_%d" % number))
        worker, _ = await stage.question()
        worker.send(answer(REFUSED, b"401 Unauthorized"))
        await stage.arrives()
        await client.gets(OK)
    assert stage.counters.tokens_refused == 6
    await stage.client(request(b"guess_7"))
    await stage.arrives()
    assert (stage.counters.tokens_asked, stage.counters.tokens_unasked) == (6, 1)
    await stage.client(request(b"mat_1", JOINED, b"GET", b"X-Forwarded-For: 192.0.2.9"))
    await stage.question()
    assert stage.counters.tokens_asked == 7


@staged(Town, asking=2)
async def test_questions_at_once_are_bounded(stage: Town) -> None:
    """Beyond the bound requests are placed by their tokens at once."""
    for number in range(3):
        await stage.client(request(b"mat_%d" % number))
        await turns()
    assert await stage.arrives() == by_token(b"mat_2")
    assert stage.whoami.asking == 2
    assert (stage.counters.tokens_asked, stage.counters.tokens_unasked) == (2, 1)


@staged(Town, lifetime=100.0, stale=100.0)
async def test_a_user_is_believed_while_it_is_asked_for_again(stage: Town) -> None:
    """Nobody waits for that; a refusal ends it."""
    stage.teach()
    await stage.pass_time(100.0)
    client = await stage.client(request())
    assert await stage.arrives() == home("alice")
    await client.gets(OK)
    assert (stage.counters.tokens_known, stage.counters.tokens_late) == (1, 0)
    worker, _ = await stage.question()
    worker.send(answer(REFUSED, b"401 Unauthorized"))
    await turns()
    assert stage.whoami.owners.look(stage.mark(), stage.clock.seconds()) == (None, False)


@staged(Town)
async def test_a_client_that_leaves_does_not_wait_any_more(stage: Town) -> None:
    """Its question goes on, for it may come back."""
    client = await stage.client(request())
    worker, _ = await stage.question()
    client.reset()
    await client.vanishes()
    await stage.empties()
    assert stage.counters.client_gone == 1
    worker.send(answer(ALICE))
    await turns()
    assert stage.whoami.knows(stage.mark())
    assert stage.connections == 1


@staged(Town, limits={"pipelined": 1000})
async def test_a_body_waits_with_its_request_within_bounds(stage: Town) -> None:
    """No more of it is read than anywhere else, and all of it arrives."""
    size = 3_000_000
    target = b"/_matrix/client/v3/keys/query"
    client = await stage.client(request(b"mat_1", target, b"POST", b"Content-Length: %d" % size) + b"b" * 100)
    worker, _ = await stage.question()
    client.send(b"b" * (size - 100))
    await turns(20)
    inside = await stage.inside(client)
    assert inside.passage is not None
    assert inside.passage.exchange.waiting_bytes <= 1000 + 2 * 65536
    worker.send(answer(ALICE))
    name, at_home, _ = await stage.head(whoami=False)
    assert name == home("alice")
    await at_home.gets(b"b" * size)
    at_home.send(OK)
    await client.gets(OK)


@staged(Town)
async def test_a_request_that_is_complete_before_its_user_is_known(stage: Town) -> None:
    """And the next one, pipelined behind it, is served after it."""
    body = request(b"mat_1", b"/_matrix/client/v3/keys/query", b"POST", b"Content-Length: 2") + b"{}"
    client = await stage.client(body + request())
    worker, _ = await stage.question()
    worker.send(answer(ALICE))
    name, at_home, head = await stage.head(whoami=False)
    assert (name, head[:4]) == (home("alice"), b"POST")
    await at_home.gets(b"{}")
    at_home.send(OK)
    await client.gets(OK)
    assert await stage.arrives() == home("alice")
    await client.gets(OK)


@staged(Town)
async def test_a_connection_that_ends_without_an_answer_is_not_the_end(stage: Town) -> None:
    """Another worker is asked; after the second time nobody is."""
    client = await stage.client(request())
    for _ in range(2):
        worker, _ = await stage.question()
        crash(worker)
        await worker.vanishes()
    assert await stage.arrives() == by_token()
    await client.gets(OK)
    assert (stage.counters.tokens_failed, stage.whoami.asking) == (1, 0)


@pytest.mark.parametrize(
    ("octets", "closes", "known"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ALICE) + ALICE, False, True),
        (answer(ALICE, b"200 OK", b"Connection: close"), True, True),
        (b"HTTP/1.0 200 OK\r\n\r\n" + ALICE, True, True),
        (b"HTTP/1.1 102 Processing\r\n\r\n" + answer(ALICE), False, True),
        (answer(ALICE) + b"more", False, True),
        (answer(ALICE, b"500 Internal Server Error"), False, False),
        (answer(b"{}"), False, False),
        (answer(b" " * 9000 + ALICE), False, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + ALICE[:10], True, False),
        (b"HTTP/9.9 what\r\n\r\n", False, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, False),
    ],
)
def test_any_answer_ends_the_question(tmp_path: Path, octets: bytes, closes: bool, known: bool) -> None:
    """In whatever framing it comes, complete or not, large or not."""

    @staged(Town)
    async def play(stage: Town) -> None:
        client = await stage.client(request())
        worker, _ = await stage.question()
        worker.send(octets)
        if closes:
            worker.close()
        assert await stage.arrives() == (home("alice") if known else by_token())
        await client.gets(OK)
        assert stage.whoami.asking == 0
        assert stage.whoami.knows(stage.mark()) is known
        assert stage.counters.tokens_failed == (not known)
        assert not any(pool.leased for pool in stage.pools.values())

    play(tmp_path)


@staged(Town, away=("w1", "w2", "w3"))
async def test_where_nobody_can_be_asked_the_request_does_not_wait_for_it(stage: Town) -> None:
    """All workers are down: the question ends with the last of them, and main serves the request."""
    client = await stage.client(request())
    assert await stage.arrives() == "main"
    await client.gets(OK)
    client.send(request(b"mat_2"))
    assert await stage.arrives() == "main"
    await client.gets(OK)
    assert stage.whoami.asking == 0
    assert stage.counters.tokens_failed == 2


@staged(Town, connections=0, waiting=0)
async def test_a_question_waits_in_no_line_that_is_full(stage: Town) -> None:
    """It ends at once, and the request has its own refusal."""
    client = await stage.client(request())
    assert (await client.head()).startswith(b"HTTP/1.1 429 ")
    assert (stage.counters.tokens_failed, stage.whoami.asking) == (1, 0)


@staged(Town, connections=0, deadline=1.0, patience=2.0)
async def test_a_question_waits_in_line_no_longer_than_it_lives(stage: Town) -> None:
    """And goes to another worker where the first one takes no requests any more."""
    await stage.client(request())
    await turns()
    (first,) = (pool for pool in stage.pools.values() if pool.waiting)
    first.drain()
    (second,) = (pool for pool in stage.pools.values() if pool.waiting)
    assert second is not first
    first.undrain()
    await stage.pass_time(1.0)
    assert sum(pool.waiting for pool in stage.pools.values()) == 2
    await stage.pass_time(1.0)
    assert [pool.name for pool in stage.pools.values() if pool.waiting] == [by_token()]
    assert (stage.counters.tokens_failed, stage.counters.tokens_late) == (1, 1)


@staged(Town, limits={"waiting_total": 1})
async def test_where_too_much_waits_already_a_request_does_not_wait_for_its_user(stage: Town) -> None:
    """It goes on by its token; what waits for a question counts as waiting."""
    for name in (b"YQ", b"Yg", b"Yw", b"ZA", b"ZQ"):
        # So that there is an idle connection to each, and nobody waits for one.
        client = await stage.client(request(b"syt_%b_abcdefghijklmnopqrst_0abcde" % name))
        await stage.arrives()
        await client.gets(OK)
    assert all(stage.pools[name].idle for name in NAMES)
    await stage.client(request(b"mat_1"))
    await stage.question()
    assert stage.counters.parked == 1
    # One that does not go to the workers of which the idle connections are used for questions.
    token = next(token for token in map(b"mat_%d".__mod__, range(2, 99)) if by_token(token) == NAMES[0])
    client = await stage.client(request(token))
    assert await stage.arrives() == NAMES[0]
    await client.gets(OK)
    assert stage.whoami.asking == 2


@staged(Town, deadline=1.0, patience=2.0)
async def test_where_questions_fail_requests_do_not_wait(stage: Town) -> None:
    """After several in a row nothing is asked for a moment, then without anybody waiting; an answer ends it."""
    for number in range(6):
        await stage.client(request(b"mat_%d" % number))
        await stage.question()
    await stage.pass_time(2.0)
    assert (stage.counters.tokens_failed, stage.counters.tokens_late) == (6, 6)
    assert {await stage.arrives() for _ in range(6)} == {by_token(b"mat_%d" % number) for number in range(6)}
    await stage.client(request(b"mat_7"))
    assert await stage.arrives() == by_token(b"mat_7")
    assert (stage.counters.tokens_asked, stage.counters.tokens_unasked) == (6, 1)
    await stage.pass_time(1.0)
    await stage.client(request(b"mat_8"))
    assert await stage.arrives() == by_token(b"mat_8")
    worker, _ = await stage.question()
    worker.send(answer(ALICE))
    await turns()
    assert stage.counters.tokens_late == 6
    await stage.client(request(b"mat_9"))
    worker, _ = await stage.question()
    await turns()
    worker.send(answer(ALICE))
    assert await stage.arrives() == home("alice")


@staged(Town)
async def test_other_requests_ask_nothing(stage: Town) -> None:
    """Those that name their user, or nobody, or go where only one worker can serve them, or by room."""
    for octets in (
        request(b"syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"),
        b"GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\n\r\n",
        request(b"mat_1", b"/_matrix/client/v3/pushers"),
        request(b"mat_1", b"/_matrix/client/v3/rooms/!a:b/messages"),
        request(b"mat_1", FILTER + b"/1"),
        request(b"mat_1", JOINED, b"OPTIONS"),
    ):
        client = await stage.client(octets)
        await stage.arrives()
        await client.gets(OK)
    await stage.client(request(b"mat_2", b"/_matrix/client/v3/account/whoami"))
    await stage.question()
    assert stage.counters.tokens_asked == 0
    assert stage.counters.tokens_unasked == 0


@staged(Town)
async def test_a_token_in_the_query_is_asked_for_as_well(stage: Town) -> None:
    """Decoded, and only if it fits into a field line."""
    await stage.client(b"GET " + JOINED + b"?access_token=mat%5F1 HTTP/1.1\r\nHost: x\r\n\r\n")
    _, head = await stage.question()
    assert b"\r\nAuthorization: Bearer mat_1\r\n" in head
    await stage.client(b"GET " + JOINED + b"?access_token=a%0D%0AX:y HTTP/1.1\r\nHost: x\r\n\r\n")
    await stage.arrives()
    assert (stage.counters.tokens_asked, stage.counters.tokens_unasked) == (1, 1)


# What answers teach in passing.


@staged(Town)
async def test_a_request_that_names_its_user_teaches_by_its_success(stage: Town) -> None:
    """It goes to that user's worker without a question, and so does the next one, which names nobody."""
    client = await stage.client(request(b"mat_1", FILTER, b"POST", b"Content-Length: 2") + b"{}")
    name, worker, _ = await stage.head(whoami=False)
    assert name == home("alice")
    await worker.gets(b"{}")
    worker.send(OK)
    await client.gets(OK)
    assert stage.counters.tokens_learned == 1
    client.send(request())
    assert await stage.arrives() == home("alice")
    await client.gets(OK)
    assert (stage.counters.tokens_asked, stage.counters.tokens_known) == (0, 1)


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (request(b"mat_1", FILTER + b"/1"), b"403 Forbidden"),
        (request(b"mat_1", FILTER + b"/1"), b"404 Not Found"),
        (request(b"mat_1", FILTER + b"/1"), b"500 Internal Server Error"),
        (request(b"mat_1", FILTER, b"OPTIONS"), b"204 No Content"),
        (request(b"mat_1", FILTER + b"/1?user_id=%40ghost%3Aexample.org"), b"200 OK"),
        (request(b"mat_1", b"/_matrix/client/v3/profile/@alice:example.org/displayname", b"PUT"), b"200 OK"),
        (request(b"mat_1", b"/_matrix/client/v3/presence/@alice:example.org/status"), b"200 OK"),
        (request(b"mat_1", b"/_matrix/client/v3/user/alice/filter/1"), b"200 OK"),
        (b"GET " + FILTER + b"/1 HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
    ],
)
def test_what_proves_nothing_teaches_nothing(tmp_path: Path, octets: bytes, status: bytes) -> None:
    """A failure, a preflight, somebody who acts for another, an administrator, who looks at another, or nobody."""

    @staged(Town, asking=0)
    async def play(stage: Town) -> None:
        client = await stage.client(octets)
        _, worker, _ = await stage.head(whoami=False)
        worker.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
        await client.head()
        assert stage.counters.tokens_learned == 0
        assert len(stage.whoami.owners) == 0

    play(tmp_path)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("path", [b"/_matrix/client/v3/login", b"/_matrix/client/r0/register"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_login_teaches_its_token(tmp_path: Path, version: bytes, path: bytes, chunked: bool) -> None:
    """As long as it is valid. The answer passes as it came, in pieces or whole."""

    @staged(Town)
    async def play(stage: Town) -> None:
        client = await stage.client(b"POST %b HTTP/%b\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % (path, version))
        _, worker, _ = await stage.head(whoami=False)
        octets = answer(LOGIN) if chunked else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LOGIN) + LOGIN
        for start in range(0, len(octets), 40):
            worker.send(octets[start : start + 40])
            await turns(1)
        if version == b"1.1":
            await client.gets(octets)
        else:
            await client.head()
            await client.gets(LOGIN)
        owners, now = stage.whoami.owners, stage.clock.seconds()
        assert owners.look(stage.mark(b"mct_new"), now + 59) == ("alice", False)
        assert owners.look(stage.mark(b"mct_new"), now + 60) == (None, True)
        assert stage.counters.tokens_learned == 1

    play(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"x" * 9000, LOGIN[:-1], LOGIN.replace(b"mct_new", b"syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"), b"{}"],
)
def test_other_answers_to_a_login_teach_nothing(tmp_path: Path, content: bytes) -> None:
    """Too large a one, none at all, and one whose token names its user itself."""

    @staged(Town)
    async def play(stage: Town) -> None:
        octets = b"POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        client = await stage.client(octets)
        _, worker, _ = await stage.head(whoami=False)
        worker.send(answer(content))
        await client.gets(answer(content))
        assert len(stage.whoami.owners) == 0

    play(tmp_path)


@staged(Town)
async def test_a_client_that_asks_itself_teaches_us(stage: Town) -> None:
    """Its own whoami is not preceded by one of ours."""
    client = await stage.client(request(b"mat_1", b"/_matrix/client/v3/account/whoami"))
    worker, _ = await stage.question()
    worker.send(answer(ALICE))
    await client.gets(answer(ALICE))
    assert stage.whoami.knows(stage.mark())
    assert stage.counters.tokens_asked == 0


def overheard(*events: ResponseEvent) -> Overheard:
    heard = Overheard(None, None, told_by_login, decoded=False, limit=200)  # type: ignore[arg-type]
    heard.hear(events)
    heard.learn()
    return heard


def test_chunks_that_are_none_teach_nothing() -> None:
    """They cannot come from our own reader; nothing depends on it."""
    overheard(ResponseHead(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"POST"), b"zz\r\n", END)


def test_an_answer_that_breaks_off_teaches_nothing() -> None:
    """Neither does one that was never there."""
    overheard(ResponseHead(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", b"POST"), LOGIN)
    overheard()


@staged(Town)
async def test_of_two_answers_the_last_one_counts(stage: Town) -> None:
    """As where a request was sent again."""
    first = ResponseHead(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n", b"POST")
    second = ResponseHead(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LOGIN), b"POST")
    heard = Overheard(stage.whoami, None, told_by_login, decoded=False, limit=200)
    heard.hear([first, b"{}", second, LOGIN, END])
    heard.learn()
    assert stage.whoami.knows(stage.mark(b"mct_new"))
    proof = Proof(stage.whoami, stage.mark(), "alice")
    proof.hear([second, first])
    proof.learn()
    assert not stage.whoami.knows(stage.mark())


# Reload, stop, secrets.


@staged(Town)
async def test_a_reload_keeps_what_is_known(stage: Town) -> None:
    """With other bounds; without resolving everything is forgotten, and questions end."""
    stage.teach(b"mat_1")
    stage.teach(b"mat_2")
    client = await stage.client(request(b"mat_3"))
    await stage.question()
    whoami = stage.whoami
    tokens = Tokens(resolve="always", remembered=1, lifetime=5.0)
    after = continued(whoami, askable(PLAN), tokens, stage.pools, stage.clock, stage.counters)
    assert after is whoami
    assert (len(whoami.owners), whoami.owners.lifetime) == (1, 5.0)
    assert continued(whoami, None, tokens, stage.pools, stage.clock, stage.counters) is None
    assert (len(whoami.owners), whoami.asking) == (0, 0)
    assert await stage.arrives() == by_token(b"mat_3")
    await client.gets(OK)


def test_nobody_is_asked_where_nobody_may_be() -> None:
    """Neither where it is switched off, nor where whoami goes to nobody."""
    workers = {name: Worker(endpoint=f"unix:/run/{name}.sock") for name in ("main", *NAMES)}
    assert askable(plan_of(workers)) is None
    assert askable(plan_of(workers, tokens=Tokens(resolve="never"))) is None
    found = askable(PLAN)
    assert found is not None
    assert set(found.workers) == set(NAMES)


@staged(Town)
async def test_no_token_is_shown(stage: Town) -> None:
    """Not by what waits for an answer, nor by what remembers it."""
    token = b"mat_SecretSecretSecretSecretSecret_123456"
    client = await stage.client(request(token))
    worker, _ = await stage.question()
    inside = await stage.inside(client)
    shown = [repr(part) for part in (stage.whoami, stage.gateway, inside.passage, *stage.whoami._asking.values())]
    worker.send(answer(ALICE))
    await turns(20)
    shown += [repr(stage.whoami), repr(stage.whoami.owners._facts)]
    assert not any("Secret" in text for text in shown)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
    ],
)
def test_neighbours(one: str, other: str, same: bool) -> None:
    """An IPv6 client has a whole network of addresses."""
    assert (neighbourhood(one) == neighbourhood(other)) is same
