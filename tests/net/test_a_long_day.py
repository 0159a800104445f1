"""Twenty-four simulated hours of rolling faults, on fakes and a clock by hand.

Workers restart, crash, stall, fill their backlogs and break off, in whatever order Hypothesis thinks of; clients poll,
send, create and give up. Whatever happens: every request ends exactly once, no counter drifts, no lease and no place in
a line is left behind, and when the faults are over everything is answered again.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from heapq import heappop, heappush
from ipaddress import ip_network
from typing import Any

from attrs import define, field, frozen
from fakes import FakeEndpoint, FakeTransport
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error as connecting
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sidecar.config.schema import Limits, Timeouts
from sidecar.records.notes import Notes
from sidecar.relay.admission import Gate, GateLimits
from sidecar.relay.gateway import Gateway
from sidecar.relay.passage import Passage
from sidecar.relay.session import Listener, Session
from sidecar.relay.states import State
from sidecar.routing.decision import Decision
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.twisted_link import HalfCloseableLink
from sidecar.upstream.connecting import describe
from sidecar.upstream.health import Health, HealthLimits, NoAnswerError
from sidecar.upstream.pool import PoolLimits, WorkerPool
from sidecar.wire.forwarded import ForwardedPolicy
from sidecar.wire.reader import ReaderLimits

DAY = 24 * 3600.0
LEAST, MOST = 0.05, 5.0
"""Seconds between two turns of everything while anything happens; more where nothing does."""
WORKERS = ("main", "a", "b", "writer")
KINDS = ("restart", "crash", "stall", "backlog", "breaks off", "drain")


@frozen
class Fault:
    """What goes wrong with one worker, when, and for how long; seconds."""

    worker: str
    kind: str
    begin: float
    length: float


@frozen
class Habit:
    """What one client asks for, again and again."""

    kind: str
    """`poll` (held for 30 s), `send` (PUT), `create` (POST), `typing` (only the writer's), `federation`."""
    pause: float
    """Seconds between an answer and the next request."""
    patience: float
    """Seconds after which the client gives up and connects anew."""


TARGETS = {
    "poll": b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n",
    "send": b"PUT /send HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    "create": b"POST /create HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    "typing": b"PUT /typing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    "federation": b"GET /federation HTTP/1.1\r\nHost: x\r\n\r\n",
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def decide(_method: bytes, target: bytes, _fields: object, peer: str, *_others: object) -> Decision:
    """Polls and federation by two workers with main behind them; typing by its writer alone."""
    name = target[1:].decode()
    if name == "typing":
        return Decision("forward", name, "typing", "user", peer, ("writer",), ())
    own = ("a", "b") if peer[-1] in "02468" else ("b", "a")
    federation = name == "federation"
    return Decision("forward", name, "client", "user", peer, own, ("main",), federation=federation)


@define(eq=False)
class Worker:
    """A worker as one would like it, but for what its faults do."""

    name: str
    day: Day
    endpoint: FakeEndpoint = field(factory=FakeEndpoint)
    connections: list[FakeTransport] = field(factory=list)
    seen: dict[FakeTransport, int] = field(factory=dict)
    due: dict[FakeTransport, float] = field(factory=dict)
    """When the answer on a connection is sent."""
    faults: list[str] = field(factory=list)
    executed: Counter[str] = field(factory=Counter)

    @property
    def away(self) -> bool:
        return "restart" in self.faults or "crash" in self.faults

    @property
    def stalled(self) -> bool:
        return "stall" in self.faults

    def health(self) -> Deferred[bool]:
        """What it says at /health; a stalled one says nothing, and is asked for five seconds."""
        result: Deferred[bool] = Deferred()

        def answer() -> None:
            if result.called:
                return
            if self.away:
                result.errback(Failure(connecting.ConnectionRefusedError(errno.ECONNREFUSED, "refused")))
            elif self.stalled or "backlog" in self.faults:
                result.errback(Failure(NoAnswerError("it does not answer")))
            else:
                result.callback(True)

        self.day.clock.callLater(5.0 if self.stalled else 0.01, answer)
        return result

    def begins(self, kind: str) -> None:
        self.faults.append(kind)
        if kind in ("restart", "crash"):
            for transport in self.connections:
                transport.hang_up(clean=kind == "restart")
            self.due.clear()
        elif kind == "drain":
            self.day.pools[self.name].drain()

    def ends(self, kind: str) -> None:
        self.faults.remove(kind)
        if kind == "drain" and "drain" not in self.faults:
            self.day.pools[self.name].undrain()

    def turn(self) -> None:
        """Take connections and requests, and send the answers that are due."""
        while self.endpoint.attempts:
            if self.away:
                self.endpoint.refuse(connecting.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
            elif "backlog" in self.faults:
                self.endpoint.refuse(connecting.ConnectError())
                break
            else:
                transport = self.endpoint.accept()
                self.connections.append(transport)
                self.seen[transport] = 0
        for transport in tuple(self.connections):
            transport.turn()
            if not transport.connected:
                self.connections.remove(transport)
                self.due.pop(transport, None)
                continue
            if not self.stalled:
                self._serve(transport)

    def _serve(self, transport: FakeTransport) -> None:
        now = self.day.clock.seconds()
        new = bytes(transport.taken[self.seen[transport] :])
        if b"\r\n\r\n" in new and (b"Content-Length" not in new or new.endswith(b"body")):
            self.seen[transport] = len(transport.taken)
            target = new.split(b" ")[1][1:].decode()
            self.executed[target] += 1
            if "breaks off" in self.faults:
                transport.hang_up(clean=True)
                return
            self.due[transport] = now + (30.0 if target == "poll" else 0.2)
        if self.due.get(transport, DAY * 99) <= now:
            del self.due[transport]
            transport.deliver(OK)
            transport.turn()


@define(eq=False)
class Client:
    """Asks, waits for the answer, and asks again."""

    habit: Habit
    day: Day
    address: str
    transport: FakeTransport | None = None
    asked: float = 0.0
    next: float = 0.0
    answered: int = 0
    statuses: Counter[int] = field(factory=Counter)

    def turn(self) -> None:
        now = self.day.clock.seconds()
        transport = self.transport
        if transport is None:
            if now >= self.next and self.day.open:
                self._connect(now)
            return
        transport.turn()
        taken = bytes(transport.taken)
        if self.asked and b"\r\n\r\n" in taken:
            self.statuses[int(taken.split(b" ")[1])] += 1
            self._done(now)
        elif not transport.connected or transport.write_closed:
            if self.asked:
                self.statuses[0] += 1
            self._done(now, again=True)
        elif self.asked and now - self.asked > self.habit.patience:
            self.statuses[-1] += 1
            transport.hang_up(clean=False)
            transport.turn()
            self._done(now, again=True)
        elif not self.asked and now >= self.next and self.day.open:
            self._ask(now)

    def _connect(self, now: float) -> None:
        self.transport = FakeTransport(self.address)
        self.transport.connect(HalfCloseableLink(Session(self.day.listener)))
        self._ask(now)

    def _ask(self, now: float) -> None:
        assert self.transport is not None
        self.asked = now
        self.day.asked += 1
        self.transport.deliver(TARGETS[self.habit.kind])
        self.transport.turn()

    def _done(self, now: float, *, again: bool = False) -> None:
        assert self.transport is not None
        closing = again or b"Connection: close" in self.transport.taken
        self.asked = 0.0
        self.next = now + self.habit.pause
        self.transport.taken.clear()
        if closing:
            self.transport.hang_up()
            for _ in range(4):
                self.transport.turn()
            self.day.closing.append(self.transport)
            self.transport = None


class Everything:
    """An access log that leaves nothing out."""

    def __init__(self, records: list[Any]) -> None:
        self._records = records

    def tell(self, records: list[Any], moment: float) -> None:
        self._records += records


class Day:
    """Everything, and the time."""

    def __init__(self, faults: list[Fault], habits: list[Habit]) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.begin = self.clock.seconds()
        self.open = True
        self.asked = 0
        self.closing: list[FakeTransport] = []
        self.records: list[Any] = []
        self.workers = {name: Worker(name, self) for name in WORKERS}
        deadlines = Deadlines(self.clock)
        self.pools = {name: self._pool(worker, deadlines) for name, worker in self.workers.items()}
        self.gateway = Gateway(
            decide=decide,
            pools=self.pools,
            forwarded=ForwardedPolicy([ip_network("192.0.2.0/24")], None),
            limits=Limits(fallback=2, waiting=4, waiting_total=8, request_rate=0),
            timeouts=Timeouts(answer=120.0),
            deadlines=deadlines,
            gates={
                "client": Gate(GateLimits(concurrency=5, per_key=2, per_place=4, waiting=3, waiting_per_place=2)),
                "typing": Gate(GateLimits(concurrency=2, per_key=2, waiting=3)),
            },
            notes=Notes(deadlines.now, deadlines.set, log=Everything(self.records)),  # type: ignore[arg-type]
        )
        self.listener = Listener(self.gateway)
        self.clients = [Client(habit, self, f"127.0.0.{number}") for number, habit in enumerate(habits, start=10)]
        self.agenda: list[tuple[float, int, str, str]] = []
        for number, fault in enumerate(faults):
            heappush(self.agenda, (self.begin + fault.begin, number, "begins", f"{fault.worker} {fault.kind}"))
            end = self.begin + fault.begin + fault.length
            heappush(self.agenda, (end, number, "ends", f"{fault.worker} {fault.kind}"))
        for pool in self.pools.values():
            pool.health.start()

    def _pool(self, worker: Worker, deadlines: Deadlines) -> WorkerPool:
        return WorkerPool(
            name=worker.name,
            endpoint=worker.endpoint,
            socket_path=None,
            limits=PoolLimits(connections=6, idle=3, connecting=2, waiting=4),
            reader_limits=ReaderLimits(),
            clock=self.clock,
            deadlines=deadlines,
            health=Health(
                name=worker.name, ask=worker.health, clock=self.clock, limits=HealthLimits(), describe=describe
            ),
        )

    # Time.

    def live(self, seconds: float) -> None:
        """Let so much time pass, in large steps where nothing can happen."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            now = self.clock.seconds()
            while self.agenda and self.agenda[0][0] <= now:
                _, _, what, whom = heappop(self.agenda)
                name, _, kind = whom.partition(" ")
                getattr(self.workers[name], what)(kind)
            self.turn()
            self.check()
            self.clock.advance(min(self._until_something_happens(now), max(LEAST, end - now)))

    @property
    def busy(self) -> bool:
        return bool(self.gateway.line.count) or any(client.asked for client in self.clients)

    def _until_something_happens(self, now: float) -> float:
        """Seconds; deadlines of exchanges are looked at as often as that makes it."""
        moments = [now + (MOST if self.busy else 600.0)]
        moments += [moment for worker in self.workers.values() for moment in worker.due.values() if not worker.stalled]
        moments += [client.asked + client.habit.patience for client in self.clients if client.asked]
        moments += [client.next for client in self.clients if self.open and not client.asked]
        moments += [moment for moment, *_ in self.agenda[:1]]
        moments += [call.getTime() for call in self.clock.calls if call.func.__name__ != "_turn"]
        return max(LEAST, min(moments) - now)

    def turn(self) -> None:
        for _ in range(3):
            for client in self.clients:
                client.turn()
            for worker in self.workers.values():
                worker.turn()
        self.closing = [transport for transport in self.closing if transport.connected]
        for transport in self.closing:
            transport.turn()

    # What holds.

    def passages(self) -> list[Passage]:
        """The requests that run."""
        return [each for connection in self.listener.connections for each in connection.passages]

    def check(self) -> None:
        """The counters agree with what is there."""
        running = self.passages()
        gateway = self.gateway
        counters = gateway.counters
        parked = [passage for passage in running if passage.ticket is not None]
        tickets = [passage.ticket for passage in running if passage.ticket is not None]
        assert all(ticket.counted for ticket in tickets)
        assert gateway.line.count == counters.parked == len(tickets)
        assert gateway.line.octets == sum(ticket.held for ticket in tickets)
        gateway.notes.tell()
        assert counters.requests == len(self.records) + len(running), "a request has ended twice, or not at all"
        assert counters.replaying == sum(passage.exchange.replayed for passage in running)
        assert counters.falling_back == sum(passage.falling_back for passage in running) <= gateway.limits.fallback
        waiting = (State.RESOLVE, State.ADMIT, State.LEASE)
        assert [passage for passage in running if passage.state in waiting] == parked
        assert not [passage for passage in running if passage.state is State.DONE]
        for name, gate in gateway.gates.items():
            inside = [passage for passage in running if passage.gate is gate]
            assert gate.running == len(inside) <= gate.limits.concurrency, name
            assert gate.waiting == sum(ticket.place is gate for ticket in tickets) <= gate.limits.waiting
            of_pool = [passage for passage in running if passage.decision.pool == name]
            assert gate.served == sum(passage.upstream is not None for passage in of_pool), name
            assert gate.parked == sum(passage.upstream is None for passage in of_pool), name
        for name, pool in self.pools.items():
            held = [each for each in running if each.upstream is not None and each.upstream.pool is pool]
            assert pool.leased == len(held), name
            assert pool.waiting == sum(ticket.place is pool for ticket in tickets)
            assert pool.waiting <= pool.limits.waiting + pool.limits.connecting
            assert pool.leased + pool.idle + pool.connecting <= pool.limits.connections
            assert pool.waiting_octets == sum(ticket.held for ticket in tickets if ticket.place is pool)


faults = st.builds(
    Fault,
    worker=st.sampled_from(WORKERS),
    kind=st.sampled_from(KINDS),
    begin=st.floats(0, DAY - 3600),
    length=st.one_of(st.floats(0.1, 5.0), st.floats(5.0, 60.0), st.floats(60.0, 1800.0)),
)
habits = st.builds(
    Habit,
    kind=st.sampled_from(tuple(TARGETS)),
    pause=st.sampled_from([60.0, 300.0, 1800.0]),
    patience=st.sampled_from([3.0, 90.0, 300.0]),
)


def around(day: random.Random, fault: Fault) -> list[Fault]:
    """A fault rarely comes alone: some more within the next minute."""
    return [
        Fault(day.choice(WORKERS), day.choice(KINDS), fault.begin + day.uniform(0, 60), day.uniform(0.1, 40))
        for _ in range(day.randrange(3))
    ]


@settings(max_examples=3, deadline=None)
@given(
    st.lists(faults, min_size=20, max_size=50),
    st.lists(habits, min_size=4, max_size=9),
    st.randoms(use_true_random=False),
)
def test_a_day_of_faults(rolling: list[Fault], clients: list[Habit], chance: random.Random) -> None:
    """24 hours of it; then an hour in which everything is well again, and nothing of the day is left."""
    day = Day([*rolling, *(more for fault in rolling for more in around(chance, fault))], clients)
    for _ in range(24):
        day.live(3600)
    while day.agenda:
        day.live(600)
    day.live(400)
    for client in day.clients:
        client.statuses.clear()
    day.live(3600)
    for client in day.clients:
        impatient = client.habit.kind == "poll" and client.habit.patience < 31
        assert set(client.statuses) <= ({-1} if impatient else {200, 429}), (client.habit, client.statuses)
    day.open = False
    day.live(900)
    day.gateway.notes.tell()
    assert day.asked == day.gateway.counters.requests == len(day.records)
    assert not day.passages()
    assert not day.listener.connections
    for gate in day.gateway.gates.values():
        assert (gate.running, gate.waiting, gate.by_key) == (0, 0, {})
    for pool in day.pools.values():
        assert (pool.leased, pool.waiting, pool.connecting, pool.idle) == (0, 0, 0, 0)
        assert pool.health.up
        pool.retire()
    assert not day.clock.getDelayedCalls()
