"""Long polls that wait for a moment before they go to their worker: which ones, for how long, and what ends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from routing.plans import plan_of
from twisted.internet.defer import Deferred

from sidecar.config.schema import Pool, Worker
from sidecar.relay.held_back import BURST, CROWD, LONGEST, Bursts, HeldBack
from sidecar.routing.decide import decider
from sidecar.routing.workers import Facts
from sidecar.transport.deadlines import Deadlines
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import ReaderLimits, RequestReader

from .peers import FORWARDED, Peer, Stage
from .turns import reactor, spin, staged

SYNC = b"/_matrix/client/v3/sync?since=s1&timeout=30000"
SLIDING = b"/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos=1&timeout=30000"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HELD = 0.1


class House(Stage):
    """One main process, whose syncs are held back as they are by default, or as `pools` says."""

    def __init__(self, directory: Path, pools: dict[str, Pool] | None = None, **others: object) -> None:
        workers = {"main": Worker(endpoint="unix:/run/main.sock")}
        decide = decider(plan_of(workers, facts=Facts(appservices={"bridge": "bridge"}), pools=pools or {}))
        super().__init__(directory, decide=decide, **others)  # type: ignore[arg-type]

    async def begin_burst(self, octets: bytes = b"") -> tuple[Peer, Peer]:
        """A client whose sync has just been answered, and the worker's connection on which it was."""
        octets = octets or request()
        client = await self.client(octets)
        worker = await self.worker.connection()
        await worker.gets(passed_on(octets))
        worker.send(OK)
        await client.gets(OK)
        return client, worker


def request(target: bytes = SYNC, method: bytes = b"GET", body: bytes = b"", token: bytes = b"a") -> bytes:
    length = (b"Content-Length: %d" % len(body),) if body else ()
    fields = b"".join(line + b"\r\n" for line in (b"Host: x", b"Authorization: Bearer " + token, *length))
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, fields, body)


def passed_on(octets: bytes) -> bytes:
    head, _, body = octets.partition(b"\r\n\r\n")
    return head + b"\r\n" + FORWARDED + b"\r\n" + body


def arrived(stage: Stage) -> bytes:
    """All that the worker has got so far."""
    return b"".join(bytes(peer.received) for peer in stage.worker.accepted)


@staged(House)
async def test_the_first_of_a_burst_goes_at_once_and_the_next_ones_wait(stage: House) -> None:
    client, worker = await stage.begin_burst()
    for number in (1, 2):
        octets = request(SYNC + b"&n=%d" % number)
        client.send(octets)
        await stage.pass_time(HELD - 0.01)
        assert arrived(stage) == b""
        assert (stage.counters.coalesced, stage.counters.parked, stage.gateway.line.count) == (number, 0, 0)
        await stage.pass_time(0.02)
        await worker.gets(passed_on(octets))
        worker.send(OK)
        await client.gets(OK)
    assert sum(stage.gateway.held_back.waits.counts) == 2


@staged(House)
async def test_a_client_for_which_nothing_happened_does_not_wait(stage: House) -> None:
    client, worker = await stage.begin_burst()
    await stage.pass_time(BURST * HELD)
    client.send(request())
    await worker.gets(passed_on(request()))
    assert stage.counters.coalesced == 0


@staged(House)
async def test_another_device_of_the_user_has_bursts_of_its_own(stage: House) -> None:
    """On whatever connection: a proxy in front may share one among many clients."""
    client, worker = await stage.begin_burst()
    other = request(token=b"b")
    client.send(other)
    await worker.gets(passed_on(other))
    worker.send(OK)
    await client.gets(OK)
    again = await stage.client(request())
    await stage.pass_time(HELD - 0.01)
    assert arrived(stage) == b""
    await stage.pass_time(0.02)
    await worker.gets(passed_on(request()))
    worker.send(OK)
    await again.gets(OK)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"/_matrix/client/v3/sync?since=s1&timeout=0"),
        (b"GET", b"/_matrix/client/v3/sync?since=s1&timeout=000"),
        (b"GET", b"/_matrix/client/v3/sync?since=s1"),
        (b"GET", b"/_matrix/client/v3/sync?since=s1&time%6fut=0"),
        (b"GET", b"/_matrix/client/v3/sync?timeout=30000"),
        (b"GET", SYNC + b"&full_state=true"),
        (b"OPTIONS", SYNC),
        (b"GET", b"/_matrix/client/v3/rooms/!a:x/messages?timeout=30000"),
    ],
)
def test_what_does_not_wait_for_news_goes_at_once(method: bytes, target: bytes, tmp_path: Path) -> None:
    @staged(House)
    async def scenario(stage: House) -> None:
        client, worker = await stage.begin_burst()
        octets = request(target, method)
        client.send(octets)
        await worker.gets(passed_on(octets))
        assert stage.counters.coalesced == 0

    scenario(tmp_path)


@staged(House)
async def test_without_a_token_nobody_knows_whose_burst_it_is(stage: House) -> None:
    octets = request().replace(b"Authorization: Bearer a\r\n", b"")
    client, worker = await stage.begin_burst(octets)
    client.send(octets)
    await worker.gets(passed_on(octets))


@staged(House)
async def test_a_sliding_sync_waits_with_its_body(stage: House) -> None:
    octets = request(SLIDING, b"POST", b'{"lists":{}}')
    client, worker = await stage.begin_burst(octets)
    client.send(octets[:-5])
    await stage.pass_time(HELD / 2)
    assert stage.gateway.held_back.waiting_octets == len(b'{"lists":{}}') - 5
    client.send(octets[-5:])
    await stage.pass_time(HELD)
    await worker.gets(passed_on(octets))
    assert stage.gateway.held_back.waiting_octets == 0


@staged(House, limits={"waiting_bytes": 1})
async def test_a_body_for_which_there_is_no_room_is_not_held_back(stage: House) -> None:
    octets = request(SLIDING, b"POST", b"{}")
    client, worker = await stage.begin_burst(octets)
    stage.gateway.held_back.weigh(1)
    client.send(octets)
    await worker.gets(passed_on(octets))


@staged(House)
async def test_a_client_that_leaves_meanwhile_is_forgotten(stage: House) -> None:
    client, _ = await stage.begin_burst()
    client.send(request())
    await stage.pass_time(HELD / 2)
    client.close()
    await stage.empties()
    await stage.pass_time(HELD)
    assert arrived(stage) == b""
    assert stage.counters.client_gone == 1


@staged(House)
async def test_many_go_on_in_their_order_and_no_timer_is_left(stage: House) -> None:
    client, worker = await stage.begin_burst(request(token=b"0"))
    clients = [client, await stage.client(), await stage.client()]
    for number, client in enumerate(clients[1:], 1):
        client.send(request(token=b"%d" % number))
        await worker.gets(passed_on(request(token=b"%d" % number)))
        worker.send(OK)
        await client.gets(OK)
    for number, client in enumerate(clients):
        client.send(request(token=b"%d" % number))
        await stage.pass_time(0.005)
    before = len(stage.clock.getDelayedCalls())
    await stage.pass_time(HELD)
    heads = [await peer.head() for peer in stage.worker.accepted]
    assert sorted(head.partition(b"Bearer ")[2][:1] for head in heads) == [b"0", b"1", b"2"]
    assert len(stage.clock.getDelayedCalls()) < before


@staged(House)
async def test_then_it_waits_for_a_worker_that_is_down_like_any_other(stage: House) -> None:
    client, worker = await stage.begin_burst()
    await stage.worker.stop()
    worker.close()
    client.send(request())
    await stage.pass_time(HELD)
    assert stage.counters.parked == 1
    stage.worker.start()
    stage.pool.health.appeared()
    again = await stage.worker.connection()
    await again.gets(passed_on(request()))
    again.send(OK)
    await client.gets(OK)


@staged(House, pools={"sync": Pool(coalesce=0.0)})
async def test_it_can_be_switched_off_for_both_kinds_of_sync(stage: House) -> None:
    client, worker = await stage.begin_burst()
    for octets in (request(), request(SLIDING, b"POST", b"{}"), request(SLIDING, b"POST", b"{}")):
        client.send(octets)
        await worker.gets(passed_on(octets))
        worker.send(OK)
        await client.gets(OK)
    assert stage.counters.coalesced == 0


@staged(House, pools={"sync": Pool(coalesce=0.0), "sliding_sync": Pool(coalesce=1.0)})
async def test_each_pool_can_have_its_own(stage: House) -> None:
    octets = request(SLIDING, b"POST", b"{}")
    client, worker = await stage.begin_burst(octets)
    client.send(octets)
    await stage.pass_time(0.9)
    assert arrived(stage) == b""
    await stage.pass_time(0.2)
    await worker.gets(passed_on(octets))


def test_polls_that_take_longer_than_the_gaps_between_them_all_go_on() -> None:
    """Time passes while they do, on a real reactor, which refuses timers for a time that is over."""
    deadlines, head = Deadlines(reactor), RequestReader(ReaderLimits()).whole(request())
    assert head is not None
    held, gone = HeldBack(deadlines), list[int]()
    done: Deferred[None] = Deferred()

    class Slow:
        def __init__(self, number: int) -> None:
            self.number = number

        def held_long_enough(self, head: RequestHead) -> None:
            end = deadlines.now() + 0.01
            while deadlines.now() < end:
                pass
            gone.append(self.number)
            if self.number == 7:
                done.callback(None)
            if self.number == 3:
                raise ValueError("one that fails")

    async def scenario() -> None:
        for number in range(8):
            held.hold(Slow(number), head, 0.02)
            begin = deadlines.now()
            while deadlines.now() < begin + 0.003:
                pass
        await done

    with pytest.raises(AssertionError, match="one that fails"):
        spin(scenario())
    assert gone == list(range(8))


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3, allow_nan=False)), max_size=60))
def test_bursts_are_what_a_model_that_forgets_nothing_says(arrivals: list[tuple[int, float]]) -> None:
    """And it remembers no more than came in three windows."""
    bursts, last, now, times = Bursts(1.0), dict[int, float](), 100.0, list[float]()
    for client, later in arrivals:
        now += later
        expected = 1.0 if client in last and now - last[client] < BURST else 0.0
        assert bursts.note(client, 1, now) == expected
        last[client] = now
        times.append(now)
        assert len(bursts) <= sum(now - each <= 3.0 * LONGEST * BURST for each in times)


@pytest.mark.parametrize("workers", [1, 2, 5])
@given(st.integers(0, 40 * CROWD), st.integers(0, int(LONGEST * BURST * 64) - 1))
@example(2 * CROWD - 2, 160)
@example(2 * CROWD - 1, 160)
@example(LONGEST * CROWD, 479)
def test_the_more_clients_come_to_a_worker_the_longer_each_waits(workers: int, others: int, ticks: int) -> None:
    bursts, pause = Bursts(1.0), ticks / 64
    bursts.note(-1, workers, 100.0)
    for client in range(others):
        bursts.note(client, workers, 100.0)
    times = min(LONGEST, max(1, (others + 1) // (CROWD * workers)))
    assert bursts.note(-1, workers, 100.0 + pause) == (times if pause < BURST * times else 0.0)


def test_a_crowd_that_has_gone_makes_nobody_wait() -> None:
    bursts = Bursts(1.0)
    for client in range(10 * CROWD):
        bursts.note(client, 1, 100.0)
    assert bursts.note(0, 1, 100.1) == LONGEST
    assert bursts.note(0, 1, 100.0 + 2 * LONGEST * BURST) == 0.0
    assert bursts.note(0, 1, 100.1 + 2 * LONGEST * BURST) == 1.0


@staged(House)
async def test_in_a_large_room_each_client_waits_longer(stage: House) -> None:
    everybody = [request(token=b"%d" % number) for number in range(2 * CROWD)]
    client, worker = await stage.begin_burst()
    for octets in everybody:
        client.send(octets)
        await worker.gets(passed_on(octets))
        worker.send(OK)
        await client.gets(OK)
    client.send(octets)
    await stage.pass_time(2 * HELD - 0.01)
    assert arrived(stage) == b""
    await stage.pass_time(0.02)
    await worker.gets(passed_on(octets))


@staged(House)
async def test_a_bridge_has_bursts_for_each_of_its_users(stage: House) -> None:
    """It syncs for all of them with one token."""
    client, worker = await stage.begin_burst(request(SYNC + b"&user_id=@one:x", token=b"bridge"))
    octets = request(SYNC + b"&user_id=@two:x", token=b"bridge")
    client.send(octets)
    await worker.gets(passed_on(octets))
    assert stage.counters.coalesced == 0
