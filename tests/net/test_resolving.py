"""Names whose resolver answers late, differently, or not at all; in threads that really block."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import DNSLookupError
from twisted.internet.task import deferLater

from sidecar.transport.link import Link
from sidecar.transport.poller import Poller
from sidecar.upstream.connecting import TcpEndpoint
from sidecar.upstream.resolving import NameLimits, Names, resolved, turned

from .turns import reactor, spin, turns

LIMITS = NameLimits(patience=0.02, hold=30.0, interval=0.02, lookups=2)


class Resolver:
    """Says of each name what the test says, when it says so."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = addresses
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked = 0
        self.names: Counter[str] = Counter()

    def __call__(self, name: str) -> tuple[str, ...]:
        self.asked += 1
        self.names[name] += 1
        self.go_on.wait()
        if name not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return tuple(self.addresses[name].split())


class Told:
    """What somebody was told who wanted to know."""

    def __init__(self, names: Names, name: str = "a") -> None:
        self.addresses: list[tuple[str, ...]] = []
        self.errors: list[BaseException] = []
        names.find(name, lambda found: self.addresses.append(tuple(found)), self.errors.append)

    async def come(self) -> tuple[str, ...] | BaseException:
        while not (self.addresses or self.errors):
            await turns(1)
        return self.addresses[0] if self.addresses else self.errors[0]


class Quiet:
    """A handler that keeps its link."""

    def __init__(self, links: list[Link]) -> None:
        self._links = links

    def connected(self, link: Link) -> None:
        self._links.append(link)

    def received(self, octets: bytes) -> None: ...

    def half_closed(self) -> None: ...

    def writing_ended(self) -> None: ...

    def shaken(self) -> None: ...

    def lost(self, *, clean: bool) -> None: ...

    def filled(self) -> None: ...

    def drained(self) -> None: ...


@contextmanager
def names(resolver: Resolver, limits: NameLimits = LIMITS) -> Iterator[Names]:
    found = Names(reactor, limits, resolver)
    try:
        yield found
    finally:
        resolver.go_on.set()
        found.close()


def test_the_systems_resolver() -> None:
    """What is no name costs nothing, and what is unknown is told in words."""
    assert resolved("127.0.0.1") == ("127.0.0.1",)
    assert set(resolved("localhost")) <= {"127.0.0.1", "::1"}

    async def play() -> None:
        with names(Resolver()) as found:
            error = await Told(found, "no.such.host").come()
            assert isinstance(error, DNSLookupError)
            assert "no.such.host: Name or service not known" in str(error)

    spin(play())


def test_who_asks_together_shares_the_answer() -> None:
    async def play() -> None:
        resolver = Resolver(a="10.0.0.1")
        with names(resolver) as found:
            several = [Told(found) for _ in range(5)]
            assert [await each.come() for each in several] == [("10.0.0.1",)] * 5
            assert resolver.asked == 1
            await Told(found).come()
            assert resolver.asked == 2

    spin(play())


def test_a_resolver_that_is_slow_holds_up_nobody() -> None:
    """What it said last holds; where it has said nothing, the attempt fails; and the reactor turns meanwhile."""

    async def play() -> None:
        resolver = Resolver(a="10.0.0.1")
        with names(resolver) as found:
            await Told(found).come()
            resolver.go_on.clear()
            assert await Told(found).come() == ("10.0.0.1",)
            at_once = Told(found)
            assert at_once.addresses == [("10.0.0.1",)]
            error = await Told(found, "b").come()
            assert "b: the resolver has not answered for 0.02 s" in str(error)
            # More names than threads wait for one that ends.
            waiting = [Told(found, name) for name in ("c", "d")]
            resolver.addresses |= {"c": "10.0.0.3", "d": "10.0.0.4"}
            for each in waiting:
                await each.come()
            assert resolver.asked == 3

    spin(play())


@pytest.mark.parametrize("hold", [30.0, 0.0])
def test_a_name_that_vanishes_is_held(hold: float) -> None:
    async def play() -> None:
        resolver = Resolver(a="10.0.0.1")
        with names(resolver, NameLimits(hold=hold)) as found:
            await Told(found).come()
            del resolver.addresses["a"]
            answer = await Told(found).come()
            assert (answer == ("10.0.0.1",)) is bool(hold)
            assert isinstance(answer, DNSLookupError) is not bool(hold)

    spin(play())


def test_followers_are_told_of_addresses_that_are_gone() -> None:
    """Not of one that is new; and not any more when they ignore it."""

    async def play() -> None:
        resolver, moves = Resolver(a="10.0.0.1 10.0.0.2"), []
        with names(resolver) as found:

            def moved() -> None:
                moves.append(resolver.addresses["a"])

            found.follow("a", moved)
            while resolver.asked < 2:
                await turns(1)
            resolver.addresses["a"] = "10.0.0.1 10.0.0.2 10.0.0.3"
            asked = resolver.asked
            while resolver.asked < asked + 3:
                await turns(1)
            assert moves == []
            resolver.addresses["a"] = "10.0.0.3"
            while not moves:
                await turns(1)
            found.ignore("a", moved)
            resolver.addresses["a"] = "10.0.0.4"
            await Told(found).come()
            assert moves == ["10.0.0.3"]

    spin(play())


def test_only_names_that_are_followed_are_asked_for_again() -> None:
    """And none whose answer has not come yet."""

    async def play() -> None:
        resolver = Resolver(a="10.0.0.1", b="10.0.0.2", c="10.0.0.3")
        with names(resolver) as found:
            assert await Told(found, "b").come() == ("10.0.0.2",)
            found.follow("a", lambda: None)
            while resolver.names["a"] < 3:
                await turns(1)
            assert resolver.names["b"] == 1
            resolver.go_on.clear()
            while resolver.names["a"] < 4:
                await turns(1)
            await deferLater(reactor, 3 * LIMITS.interval)
            # The second thread is free for another name, so nothing more of `a` was in the queue.
            Told(found, "c")
            while not resolver.names["c"]:
                await turns(1)
            assert resolver.names["a"] == 4

    spin(play())


def test_an_address_that_does_not_answer_is_passed_over() -> None:
    """The next one gets the connection, in what is left of the time."""

    async def play() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            poller = Poller(reactor)
            for addresses in ("127.0.0.2 127.0.0.1", "::1 127.0.0.1", "2001:db8::1 127.0.0.1"):
                with names(Resolver(a=addresses)) as found:
                    endpoint = TcpEndpoint(poller, found, "a", server.getsockname()[1], 1.0)
                    failures: list[BaseException] = []
                    links: list[Link] = []
                    endpoint.connect(partial(Quiet, links), failures.append)
                    while not (links or failures):
                        await turns(1)
                    assert [link.peer for link in links] == ["127.0.0.1"]
                    links[0].abort()
                    await turns(2)
            poller.close()

    spin(play())


ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "::2"]), unique=True)


@given(ADDRESSES, st.integers(0, 20))
def test_turns(addresses: Sequence[str], turn: int) -> None:
    """All of them, once; those of the family that the system prefers in front, each of these at its turn."""
    found = turned(addresses, turn)
    assert sorted(found) == sorted(addresses)
    if addresses:
        same = [each for each in addresses if (":" in each) is (":" in addresses[0])]
        assert set(found[: len(same)]) == set(same)
        assert {turned(addresses, number)[0] for number in range(len(same))} == set(same)
