"""What becomes of requests while their worker is down, stuck, overrun or back; on real sockets, and a clock by hand."""

from __future__ import annotations

import json

import pytest

from sidecar.config.schema import Pool
from sidecar.relay.admission import GateLimits
from sidecar.relay.choosing import best
from sidecar.routing.decision import Decision
from sidecar.upstream.health import HealthLimits, WorkerState

from .peers import FORWARDED, Peer, Stage, forward
from .turns import staged, turns

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
GET_UP = b"GET /a HTTP/1.1\r\nHost: x\r\n" + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WARM = HealthLimits(interval=0, slow_start=10.0)


def post(size: int = 3) -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"b" * size


async def reply(client: Peer) -> tuple[int, dict[str, object], bytes]:
    """Status, JSON and head of a reply of ours."""
    head, _, content = (await client.end()).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(content), head


def federation(*candidates: str, **others: object) -> object:
    return forward(*candidates, federation=True, **others)


# In line for a worker that is down.


@staged(Stage, away=("main",), timeouts={"wait": 5})
async def test_a_worker_that_does_not_come_back(stage: Stage) -> None:
    """A request waits so long and is then answered 503 with Retry-After, and nothing of it is left."""
    client = await stage.client(post())
    await stage.pass_time(4.5)
    assert not client.ended
    assert (stage.gateway.line.count, stage.gateway.line.octets, stage.pool.waiting_octets) == (1, 3, 3)
    await stage.pass_time(1)
    status, told, head = await reply(client)
    assert (status, told["errcode"]) == (503, "M_UNKNOWN")
    assert b"\r\nRetry-After: 2\r\n" in head
    assert (stage.gateway.line.count, stage.gateway.line.octets, stage.pool.waiting_octets) == (0, 0, 0)
    assert stage.counters.parked == 0


@staged(Stage, away=("main",), decide=federation(), timeouts={"wait": 5, "wait_federation": 45})
async def test_other_servers_wait_longer(stage: Stage) -> None:
    """A server that fails with us leaves us alone for ten minutes, so its requests wait as long as it does itself."""
    client = await stage.client(GET)
    await stage.pass_time(44)
    assert not client.ended
    stage.worker.start()
    await stage.pass_time(1)
    worker = await stage.worker.connection()
    await worker.gets(GET_UP)
    worker.send(OK)
    await client.gets(OK)


@staged(Stage, away=("main",), decide=forward(settings=Pool(wait=2.0)), timeouts={"wait": 30})
async def test_a_pool_with_its_own_patience(stage: Stage) -> None:
    """`pools.NAME.wait` holds for its requests."""
    client = await stage.client(GET)
    await stage.pass_time(2.5)
    assert (await reply(client))[0] == 503


@staged(Stage, away=("main",), limits={"waiting_total": 1})
async def test_all_lines_together_are_bounded(stage: Stage) -> None:
    """One more is told 429 with retry_after_ms, and the others go on waiting."""
    first = await stage.client(GET)
    while not stage.pool.down:
        await turns(1)
    second = await stage.client(GET)
    status, told, head = await reply(second)
    assert (status, told["errcode"], told["retry_after_ms"]) == (429, "M_LIMIT_EXCEEDED", 2000)
    assert b"\r\nRetry-After: 2\r\n" in head
    assert stage.counters.shed == 1
    assert not first.ended
    assert stage.pool.waiting == 1


@staged(Stage, away=("main",), decide=federation(), limits={"waiting_total": 1})
async def test_other_servers_are_never_told_that_they_ask_too_much(stage: Stage) -> None:
    """A 429 counts as a failure there, like any other; 503 is what it is."""
    await stage.client(GET)
    while not stage.pool.down:
        await turns(1)
    status, told, _ = await reply(await stage.client(GET))
    assert (status, told["errcode"]) == (503, "M_UNKNOWN")


@staged(Stage, away=("main",), limits={"waiting_bytes": 1000})
async def test_bytes_in_line_are_bounded(stage: Stage) -> None:
    """When so many bytes wait for a worker no more of a body is read, and no other request with a body is taken."""
    first = await stage.client(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"a" * 1000)
    while stage.pool.waiting_octets < 1000:
        await turns(1)
    first.send(b"a" * 499_000)
    await turns(20)
    assert stage.pool.waiting_octets == stage.gateway.line.octets <= 66_536
    status, _, _ = await reply(await stage.client(post()))
    assert status == 429
    without = await stage.client(GET)
    stage.worker.start()
    await stage.pass_time(1)
    arrived: dict[bytes, Peer] = {}
    for _ in range(2):
        worker = await stage.worker.connection()
        arrived[(await worker.head())[:3]] = worker
    await arrived[b"PUT"].gets(b"a" * 500_000)
    for worker in arrived.values():
        worker.send(OK)
    for client in (first, without):
        await client.gets(OK)
    assert (stage.pool.waiting_octets, stage.gateway.line.octets) == (0, 0)


@staged(Stage, away=("main",))
async def test_a_client_that_leaves_the_line(stage: Stage) -> None:
    """Its place is free at once, and its bytes are not counted any more."""
    client = await stage.client(post())
    while not stage.pool.waiting_octets:
        await turns(1)
    client.reset()
    await stage.empties()
    assert (stage.pool.waiting, stage.pool.waiting_octets, stage.gateway.line.count) == (0, 0, 0)


@staged(Stage)
async def test_a_worker_that_breaks_off_gets_nothing_before_it_has_answered(stage: Stage) -> None:
    """Whoever ends a connection without an answer may be about to end itself; what comes meanwhile waits, too."""
    client, worker = await stage.exchange(GET)
    await stage.worker.stop()
    worker.close()
    while stage.pool.health.state is not WorkerState.DOWN:
        await turns(1)
    other = await stage.client(GET)
    while stage.pool.waiting < 2:
        await turns(1)
    stage.worker.start()
    await stage.pass_time(1)
    for _ in range(2):
        worker = await stage.worker.connection()
        await worker.gets(GET_UP)
        worker.send(OK)
    await client.gets(OK)
    await other.gets(OK)
    assert stage.counters.replayed == 1


@pytest.mark.parametrize(
    ("synapse", "reset", "sent_again"), [(True, True, True), (True, False, False), (False, True, False)]
)
@staged(Stage)
async def test_a_post_is_sent_again_where_it_was_not_acted_on(
    stage: Stage, synapse: bool, reset: bool, sent_again: bool
) -> None:
    """That is known from a reset, of Synapse on a UNIX socket; in all other cases its client is told."""
    stage.pool.health.synapse = synapse
    client = await stage.client(post())
    worker = await stage.worker.connection()
    if reset:
        # What has not been read makes it a reset.
        worker.pause()
    else:
        await worker.head()
    while not stage.pool.leased or not (await stage.inside(client)).passage.exchange.sent:
        await turns(1)
    worker.reset()
    if sent_again:
        second = await stage.worker.connection()
        await second.head()
        await second.gets(b"bbb")
        second.send(OK)
        await client.gets(OK)
    else:
        assert (await reply(client))[0] == 502


# Elsewhere.

FALLBACK = forward("sync1", fallback=("main",))


@staged(
    Stage, workers=("main", "sync1"), away=("sync1",), decide=FALLBACK, limits={"fallback": 1}, timeouts={"wait": 60}
)
async def test_main_does_not_do_everything_for_others(stage: Stage) -> None:
    """So many requests main takes over; more wait until it has done one, or the worker is back."""
    first = await stage.client(GET)
    main = await stage.workers["main"].connection()
    await main.gets(GET_UP)
    second, third = await stage.client(GET), await stage.client(GET)
    while stage.pools["sync1"].waiting < 2:
        await turns(1)
    assert (stage.counters.falling_back, stage.counters.fallen_back) == (1, 1)
    main.send(OK)
    await first.gets(OK)
    assert stage.counters.falling_back == 0
    await stage.pass_time(1)
    await main.gets(GET_UP)
    stage.workers["sync1"].start()
    await stage.pass_time(1)
    sync = await stage.workers["sync1"].connection()
    await sync.gets(GET_UP)
    for worker in (main, sync):
        worker.send(OK)
    for client in (second, third):
        await client.gets(OK)
    assert stage.counters.falling_back == 0


@staged(Stage, workers=("a", "b"), decide=forward("a", "b", key="k", kind="user"))
async def test_a_stuck_worker_is_passed_by(stage: Stage) -> None:
    """What it has it keeps; new requests go to the next candidate, and come back when it answers."""
    client, worker = await stage.exchange(GET)
    stage.pools["a"].health._to(WorkerState.STUCK, "it is slow")
    other = await stage.client(GET)
    second = await stage.workers["b"].connection()
    await second.gets(GET_UP)
    second.send(OK)
    await other.gets(OK)
    assert stage.counters.moved == 1
    worker.send(OK)
    await client.gets(OK)


def keyed(key: str) -> Decision:
    return Decision(action="forward", endpoint="any", pool="any", candidates=("a", "b"), kind="user", key=key)


@staged(Stage, workers=("a", "b"), health=WARM, decide=lambda _, target, *__: keyed(target.decode()))
async def test_slow_start_moves_keys_bit_by_bit(stage: Stage) -> None:
    """A worker that is back gets a part of its keys that grows, the same ones each time, and in the end all."""
    health = stage.pools["a"].health
    health._to(WorkerState.DOWN, "gone")
    health._to(WorkerState.UP, "")
    keys = [f"/{number}" for number in range(200)]
    before: set[str] = set()
    for seconds in (0.0, 2.5, 2.5, 2.5, 2.6):
        stage.clock.advance(seconds)
        taken = set()
        for key in keys:
            found = best(stage.gateway, keyed(key), ("a", "b"), "192.0.2.1", falling_back=False)
            if found is stage.pools["a"]:
                taken.add(key)
        assert before <= taken
        assert abs(len(taken) / len(keys) - health.share) < 0.15
        before = taken
    assert len(before) == len(keys)


@staged(Stage, workers=("a",), health=WARM)
async def test_slow_start_of_the_only_worker(stage: Stage) -> None:
    """Where nobody else can do it, it is done at once."""
    health = stage.pool.health
    health._to(WorkerState.DOWN, "gone")
    health._to(WorkerState.UP, "")
    assert not stage.pool.taking
    client, worker = await stage.exchange(GET)
    worker.send(OK)
    await client.gets(OK)


# The entrance of a pool.

NARROW = {"any": GateLimits(concurrency=1, per_key=1, waiting=1)}


@staged(Stage, gates=NARROW)
async def test_turns(stage: Stage) -> None:
    """Beyond what a pool serves at once a request waits for its turn, and beyond that it is shed."""
    first, worker = await stage.exchange(GET)
    second = await stage.client(post())
    gate = stage.gateway.gates["any"]
    while not gate.waiting:
        await turns(1)
    assert (gate.waiting_octets, stage.counters.parked) == (3, 1)
    status, told, _ = await reply(await stage.client(GET))
    assert (status, told["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    worker.send(OK)
    await first.gets(OK)
    await worker.head()
    await worker.gets(b"bbb")
    worker.send(OK)
    await second.gets(OK)
    assert (gate.running, gate.waiting, gate.waiting_octets, stage.counters.parked) == (0, 0, 0, 0)


@staged(Stage, away=("main",), gates={"any": GateLimits(concurrency=2, per_key=2, waiting=9)})
async def test_who_waits_is_not_running(stage: Stage) -> None:
    """A worker has what runs; the rest waits, in line for the worker or at the entrance of the pool."""
    gate = stage.gateway.gates["any"]
    clients = [await stage.client(GET) for _ in range(3)]
    while not (gate.in_line == 2 and gate.waiting == 1):
        await turns(1)
    assert (gate.served, gate.parked, stage.counters.parked) == (0, 3, 3)
    clients.pop().reset()
    while gate.waiting:
        await turns(1)
    clients.append(await stage.client(GET))
    while not gate.waiting:
        await turns(1)
    stage.worker.start()
    await stage.pass_time(1)
    workers = [await stage.worker.connection() for _ in range(2)]
    for worker in workers:
        await worker.gets(GET_UP)
    assert (gate.served, gate.parked, stage.counters.parked) == (2, 1, 1)
    workers[0].send(OK)
    await workers[0].gets(GET_UP)
    assert (gate.served, gate.parked, stage.counters.parked) == (2, 0, 0)
    for worker in workers:
        worker.send(OK)
    for client in clients:
        await client.gets(OK)
    assert (gate.served, gate.parked, gate.running) == (0, 0, 0)


@staged(Stage, away=("main",), gates={"any": GateLimits(concurrency=2, per_key=2, waiting=9)}, timeouts={"wait": 5})
async def test_who_gives_up_in_line_is_not_counted(stage: Stage) -> None:
    """Neither a client that leaves the line of a worker nor one that is answered 503 stays in the count."""
    gate = stage.gateway.gates["any"]
    first, second = [await stage.client(GET) for _ in range(2)]
    while gate.in_line < 2:
        await turns(1)
    first.reset()
    while gate.in_line > 1:
        await turns(1)
    await stage.pass_time(6)
    assert (await reply(second))[0] == 503
    assert (gate.served, gate.parked, gate.running) == (0, 0, 0)


@staged(Stage, gates=NARROW, timeouts={"wait": 3})
async def test_a_turn_that_does_not_come(stage: Stage) -> None:
    """After `timeouts.wait` the client is told to come again later."""
    _first, _worker = await stage.exchange(GET)
    second = await stage.client(GET)
    await stage.pass_time(3.5)
    assert (await reply(second))[0] == 429
    assert stage.gateway.gates["any"].waiting == 0


@staged(Stage, gates=NARROW)
async def test_who_gives_up_its_turn(stage: Stage) -> None:
    """A client that leaves makes room at the entrance, and one that is inside lets the next one in."""
    first, worker = await stage.exchange(GET)
    second = await stage.client(GET)
    gate = stage.gateway.gates["any"]
    while not gate.waiting:
        await turns(1)
    second.reset()
    while gate.waiting:
        await turns(1)
    third = await stage.client(GET)
    while not gate.waiting:
        await turns(1)
    first.reset()
    await worker.vanishes()
    other = await stage.worker.connection()
    await other.gets(GET_UP)
    other.send(OK)
    await third.gets(OK)
    assert gate.running == 0


@staged(Stage, gates=NARROW, limits={"waiting_total": 0})
async def test_no_line_at_the_entrance(stage: Stage) -> None:
    """The bound of all lines together holds there, too."""
    _first, _worker = await stage.exchange(GET)
    assert (await reply(await stage.client(GET)))[0] == 429
    assert stage.gateway.gates["any"].waiting == 0


@staged(
    Stage,
    gates={"any": GateLimits(concurrency=2, per_key=1, waiting=9)},
    trust="192.0.2.0/24",
)
async def test_one_address_does_not_take_a_whole_pool(stage: Stage) -> None:
    """The second request of one address waits although there is room, and another one's does not."""
    _first, _worker = await stage.exchange(GET)
    await stage.client(GET)
    gate = stage.gateway.gates["any"]
    while not gate.waiting:
        await turns(1)
    other = await stage.client(GET, source="127.0.0.2")
    worker = await stage.worker.connection()
    await worker.gets(GET_UP.replace(b"127.0.0.1\r\n", b"127.0.0.2\r\nX-Forwarded-Proto: http\r\n"))
    worker.send(OK)
    await other.gets(OK)
    assert gate.waiting == 1


def by_token(*_: object, **__: object) -> Decision:
    """A user whom nobody has heard of, with each request."""
    by_token.asked += 1  # type: ignore[attr-defined]
    return Decision(
        action="forward",
        endpoint="sync",
        pool="sync",
        kind="user",
        key=f"user{by_token.asked}",  # type: ignore[attr-defined]
        candidates=("main",),
    )


by_token.asked = 0  # type: ignore[attr-defined]
FOUR = GateLimits(concurrency=4, per_key=2, per_place=3, waiting=1000, waiting_per_place=750)


@staged(Stage, gates={"sync": FOUR}, decide=by_token, trust="192.0.2.0/24")
async def test_sixty_forged_tokens(stage: Stage) -> None:
    """One address that claims to be sixty users fills its part of a pool; another address is served at once."""
    for _ in range(60):
        await stage.client(GET)
    gate = stage.gateway.gates["sync"]
    while gate.waiting < 57:
        await turns(1)
    assert gate.running == 3
    other = await stage.client(GET, source="127.0.0.2")
    while len(stage.worker.accepted) < 4:
        await turns(1)
    worker = stage.worker.accepted[-1]
    await worker.gets(GET_UP.replace(b"127.0.0.1\r\n", b"127.0.0.2\r\nX-Forwarded-Proto: http\r\n"))
    worker.send(OK)
    await other.gets(OK)
    assert gate.waiting == 57


@staged(Stage, gates={"sync": FOUR}, decide=by_token)
async def test_an_address_that_speaks_for_many(stage: Stage) -> None:
    """A trusted proxy that does not say who its clients are has no share as one of them."""
    for _ in range(5):
        await stage.client(GET)
    gate = stage.gateway.gates["sync"]
    while not gate.waiting:
        await turns(1)
    assert gate.running == 4
