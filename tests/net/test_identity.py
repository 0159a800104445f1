"""The whole edge on fakes, under any splits, pauses and faults: nothing is changed, nothing reaches somebody else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import ip_network
from itertools import cycle

import h11
from attrs import define, field, frozen
from fakes import FakeEndpoint, FakeTransport
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from sidecar.config.schema import Limits, Timeouts
from sidecar.relay.gateway import Gateway
from sidecar.relay.session import Listener, Session
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.twisted_link import HalfCloseableLink
from sidecar.upstream.health import Health, HealthLimits
from sidecar.upstream.pool import PoolLimits, WorkerPool
from sidecar.wire.forwarded import ForwardedPolicy
from sidecar.wire.reader import ReaderLimits

from .peers import forward


@frozen
class Content:
    """A body and how it is framed."""

    size: int
    framing: str
    """`length`, `chunks`, or, for answers, `close`."""

    def octets(self, name: bytes) -> bytes:
        return hashlib.shake_128(name).digest(self.size)

    def message(self, start: bytes, name: bytes) -> bytes:
        content = self.octets(name)
        if self.framing == "length":
            return start + b"Content-Length: %d\r\n\r\n" % len(content) + content
        if self.framing == "close":
            return start + b"\r\n" + content
        step = max(1, self.size // 3)
        pieces = [content[at : at + step] for at in range(0, self.size, step)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@frozen
class Story:
    """One request, its answer, and what goes wrong with it."""

    method: bytes
    request: Content
    answer: Content
    fault: str
    """`drop` (once), `cut`, `excess`, `closing`, or nothing."""


sizes = st.one_of(st.integers(0, 20), st.integers(0, 5000), st.sampled_from([65536, 150_000]))
stories = st.builds(
    Story,
    method=st.sampled_from([b"PUT", b"POST"]),
    request=st.builds(Content, sizes, st.sampled_from(["length", "chunks"])),
    answer=st.builds(Content, sizes, st.sampled_from(["length", "chunks", "close"])),
    fault=st.sampled_from(["", "", "", "drop", "cut", "excess", "closing"]),
)
calm = st.builds(
    Story,
    method=st.just(b"POST"),
    request=st.builds(Content, sizes, st.sampled_from(["length", "chunks"])),
    answer=st.builds(Content, sizes, st.sampled_from(["length", "chunks"])),
    fault=st.just(""),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["client sends", "client end turns", "worker turns", "worker sends", "accept", "refuse", "time"]
        ),
        st.one_of(st.integers(1, 40), st.integers(1, 100_000)),
    ),
    max_size=60,
)


@define(eq=False)
class Worker:
    """A connection of a worker: parses with h11 what it is sent, and answers as the stories say."""

    transport: FakeTransport
    world: World
    parser: h11.Connection = field(factory=lambda: h11.Connection(h11.SERVER))
    seen: int = 0
    number: int = -1
    body: bytearray = field(factory=bytearray)
    out: bytearray = field(factory=bytearray)
    end: str = ""
    """How it ends after what it has to say: `clean` or `reset`."""

    def listen(self) -> None:
        """Take what came."""
        data = bytes(self.transport.taken[self.seen :])
        self.seen += len(data)
        if data:
            self.parser.receive_data(data)
        while True:
            event = self.parser.next_event()
            if isinstance(event, h11.Request):
                assert not self.out, "a request before the answer to the one before was read"
                self.number = int(event.target[1:])
                self.body.clear()
            elif isinstance(event, h11.Data):
                self.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._answer(self.world.stories[self.number])
                rest, _ = self.parser.trailing_data
                assert not rest, "a second request before the answer to the first"
                self.parser = h11.Connection(h11.SERVER)
                return
            else:
                return

    def _answer(self, story: Story) -> None:
        name = b"%d" % self.number
        assert self.body == story.request.octets(b"request " + name), "the request was changed"
        attempts = self.world.attempts
        attempts[self.number] = attempts.get(self.number, 0) + 1
        assert attempts[self.number] == 1 or story.fault == "drop", "asked twice without need"
        if story.fault == "drop" and attempts[self.number] == 1:
            self.end = "clean"
            return
        closing = b"Connection: close\r\n" if story.fault == "closing" else b""
        message = story.answer.message(b"HTTP/1.1 200 OK\r\nId: %b\r\n%b" % (name, closing), b"answer " + name)
        if story.fault == "cut":
            message = message[: len(message) * 2 // 3]
            self.end = "reset"
        elif story.fault == "excess" and story.answer.framing != "close":
            message += b"HTTP/1.1 200 OK\r\nId: 99\r\nContent-Length: 4\r\n\r\nevil"
        if story.answer.framing == "close" or closing:
            self.end = self.end or "clean"
        self.out += message

    def speak(self, most: int) -> None:
        """Send some of what there is to say."""
        self.transport.deliver(bytes(self.out[:most]))
        del self.out[:most]
        if self.end and not self.out:
            self.transport.hang_up(clean=self.end == "clean")
            self.end = ""


class World:
    """A client that pipelines its requests, the edge, and a worker."""

    def __init__(self, stories: list[Story]) -> None:
        self.stories = stories
        self.attempts: dict[int, int] = {}
        self.clock = Clock()
        self.clock.advance(1000)
        self.endpoint = FakeEndpoint()
        deadlines = Deadlines(self.clock)
        self.pool = WorkerPool(
            name="main",
            endpoint=self.endpoint,
            socket_path=None,
            limits=PoolLimits(),
            reader_limits=ReaderLimits(),
            clock=self.clock,
            deadlines=deadlines,
            health=Health(
                name="main", ask=lambda: succeed(False), clock=self.clock, limits=HealthLimits(interval=0, slow_start=0)
            ),
        )
        self.pool.health.start()
        gateway = Gateway(
            decide=forward(),
            pools={"main": self.pool},
            forwarded=ForwardedPolicy([ip_network("127.0.0.0/8")], None),
            limits=Limits(pipelined=1000),
            timeouts=Timeouts(),
            deadlines=deadlines,
        )
        self.listener = Listener(gateway)
        self.client = FakeTransport()
        self.client.connect(HalfCloseableLink(Session(self.listener)))
        (self.session,) = self.listener.connections
        self.workers: list[Worker] = []
        self.unsent = b"".join(
            story.request.message(b"%b /%d HTTP/1.1\r\nHost: x\r\n" % (story.method, number), b"request %d" % number)
            for number, story in enumerate(stories)
        )

    def step(self, what: str, amount: int) -> None:
        if what == "client sends":
            self.client.deliver(self.unsent[:amount])
            self.unsent = self.unsent[amount:]
        elif what == "client end turns":
            self.client.turn(read=amount, room=amount)
        elif what == "worker turns":
            for worker in self.workers:
                worker.transport.turn(read=amount, room=amount)
                if worker.transport.connected:
                    worker.listen()
        elif what == "worker sends":
            for worker in self.workers:
                worker.speak(amount)
        elif what == "accept" and self.endpoint.attempts:
            self.workers.append(Worker(self.endpoint.accept(), self))
        elif what == "refuse" and self.endpoint.attempts:
            self.endpoint.refuse(ConnectionRefusedError(111, "refused"))
        elif what == "time":
            self.clock.advance(0.3)

    def finish(self) -> None:
        """Go on without pauses until nothing happens any more."""
        everything = ("client sends", "client end turns", "accept", "worker turns", "worker sends", "worker turns")
        quiet = 0
        for what in cycle((*everything, "time")):
            before = self._state()
            self.step(what, 1 << 20)
            quiet = quiet + 1 if self._state() == before else 0
            if quiet > 40:
                return

    def _state(self) -> tuple[object, ...]:
        progress = [(len(one.transport.taken), len(one.out), one.transport.connected) for one in self.workers]
        return (len(self.client.taken), len(self.unsent), self.client.connected, [*self.session.passages], progress)

    def responses(self) -> Iterator[tuple[int, h11.Response | None, bytes, bool]]:
        """What the client understands, by h11: for each request the head, the content, and whether it is complete."""
        rest = bytes(self.client.taken)
        ended = self.client.write_closed
        for number, story in enumerate(self.stories):
            parser = h11.Connection(h11.CLIENT)
            parser.send(h11.Request(method=story.method, target="/", headers=[("Host", "x")]))
            parser.send(h11.EndOfMessage())
            if rest:
                parser.receive_data(rest)
            head, content, complete = None, b"", False
            told = False
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    content += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    complete = True
                    break
                elif event is h11.NEED_DATA and ended and head is not None and not told:
                    told = True
                    parser.receive_data(b"")
                else:
                    break
            rest, _ = parser.trailing_data
            yield number, head, content, complete
            if not complete or parser.their_state is h11.MUST_CLOSE or told:
                break
        assert rest == b"" or not complete, "octets behind the last answer"


def play(stories: list[Story], steps: list[tuple[str, int]]) -> World:
    world = World(stories)
    for what, amount in steps:
        world.step(what, amount)
    world.finish()
    return world


@settings(deadline=None)
@given(st.lists(stories, min_size=1, max_size=4), steps)
def test_nothing_leaks_between_exchanges(stories: list[Story], steps: list[tuple[str, int]]) -> None:
    """Each answer reaches its own request, whole or visibly not, whatever goes wrong with it or its neighbours (P6)."""
    world = play(stories, steps)
    for number, head, content, complete in world.responses():
        expected = stories[number].answer.octets(b"answer %d" % number)
        if head is None:
            assert not world.client.connected or world.client.aborting, "neither answered nor ended"
        elif head.status_code == 200:
            assert dict(head.headers)[b"id"] == b"%d" % number
            assert expected.startswith(content)
            if complete:
                assert content == expected
                assert stories[number].fault != "cut"
            else:
                assert not world.client.connected
                assert not world.client.write_closed
        else:
            assert head.status_code in (502, 503)
            assert complete
            assert stories[number].fault in ("drop", "cut")
    assert world.pool.leased == 0


@settings(deadline=None)
@given(st.lists(calm, min_size=1, max_size=3), steps)
def test_identity_end_to_end(stories: list[Story], steps: list[tuple[str, int]]) -> None:
    """Under any splits and pauses, every request and every answer arrives as it was sent, on one connection (P10)."""
    world = play(stories, [step for step in steps if step[0] != "refuse"])
    answered = list(world.responses())
    assert [(number, complete) for number, _, _, complete in answered] == [(n, True) for n in range(len(stories))]
    for number, _, content, _ in answered:
        assert content == stories[number].answer.octets(b"answer %d" % number)
    assert world.client.connected
    assert len(world.workers) == 1
    assert world.pool.idle == 1
