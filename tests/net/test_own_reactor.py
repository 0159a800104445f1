"""The reactor of a process of its own: all that Twisted does goes on beside our sockets, and the other way round."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as of_the_tests
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

from sidecar.app.service import use_monotonic_clock
from sidecar.transport.own_reactor import OwnReactor, the_reactor
from sidecar.transport.poller import READ, Poller

from .turns import logged_failures

PATIENCE = 30


class Told:
    """A socket of ours, with what is to happen when something comes."""

    def __init__(self, poller: Poller, connected: socket.socket, answer: Any) -> None:
        self.socket = connected
        self.answer = answer
        self.poller = poller
        poller.add(connected.fileno(), self, READ)

    def do_read(self) -> None:
        self.answer(self.socket.recv(1000))

    def do_write(self) -> None:
        raise AssertionError("nobody waits to write")

    def do_fail(self) -> None:
        self.poller.remove(self.socket.fileno())
        self.socket.close()


@pytest.fixture
def reactor() -> Iterator[OwnReactor]:
    """One that is stopped if nothing happens."""
    made = OwnReactor()
    use_monotonic_clock(made)
    late = made.callLater(PATIENCE, made.crash)
    yield made
    assert late.active(), "nothing has happened"


def run(reactor: OwnReactor) -> None:
    reactor.run(installSignalHandlers=False)


def test_everybody_gets_a_turn(reactor: OwnReactor) -> None:
    """Two sockets of ours are never idle; a timer, a thread and connections of Twisted's come between."""
    poller = Poller(reactor)
    ends = socket.socketpair()
    for one in ends:
        Told(poller, one, one.send)
    ends[0].send(b"x")
    missing = {"timer", "thread", "served", "answered"}

    def happened(what: str) -> None:
        missing.discard(what)
        if not missing:
            reactor.stop()

    class Greeting(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"hello" * 100_000)

        def dataReceived(self, data: bytes) -> None:
            happened("served")
            self.transport.loseConnection()

    class Answer(Protocol):
        left = 500_000

        def dataReceived(self, data: bytes) -> None:
            self.left -= len(data)
            if not self.left:
                happened("answered")
                self.transport.write(b"thanks")

    def connect(port: Any) -> None:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        endpoint.connect(Factory.forProtocol(Answer))

    def begin() -> None:
        reactor.callLater(0.01, happened, "timer")
        pool: Any = reactor.getThreadPool()
        deferToThreadPool(reactor, pool, int, 1).addCallback(lambda _: happened("thread"))
        TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Greeting)).addCallback(connect)

    reactor.callWhenRunning(begin)
    run(reactor)
    poller.close()
    assert not missing


def test_a_stop_that_a_socket_of_ours_asks_for(reactor: OwnReactor) -> None:
    """It is heeded in that turn, and not when something else happens."""
    poller = Poller(reactor)
    near, far = socket.socketpair()
    Told(poller, near, lambda _: reactor.stop())
    reactor.callWhenRunning(lambda: far.send(b"x"))
    run(reactor)
    poller.close()
    far.close()


def test_a_timer_that_a_socket_of_ours_sets(reactor: OwnReactor) -> None:
    """It is waited for as long as it says, although nothing else happens."""
    poller = Poller(reactor)
    near, far = socket.socketpair()
    Told(poller, near, lambda _: reactor.callLater(0.001, reactor.stop))
    reactor.callWhenRunning(lambda: far.send(b"x"))
    run(reactor)
    poller.close()
    far.close()


def test_without_sockets_of_ours(reactor: OwnReactor) -> None:
    """Before there is a poller, and after it has been closed, it is Twisted's own."""
    seen = []
    poller = Poller(reactor)

    def close() -> None:
        poller.close()
        seen.append("closed")
        reactor.callFromThread(reactor.callLater, 0.001, reactor.stop)

    reactor.callWhenRunning(close)
    run(reactor)
    assert seen == ["closed"]


def test_a_socket_of_ours_ends_the_poller(reactor: OwnReactor) -> None:
    """In the middle of a turn, as the last connection of a stop does; nobody waits there any more."""
    poller = Poller(reactor)
    near, far = socket.socketpair()

    def end(_: bytes) -> None:
        poller.close()
        reactor.callLater(0.001, reactor.stop)

    Told(poller, near, end)
    reactor.callWhenRunning(lambda: far.send(b"x"))
    with logged_failures() as failures:
        run(reactor)
    far.close()
    assert failures == []


def test_one_poller_is_at_home(reactor: OwnReactor) -> None:
    """Another one is a descriptor among others, as in any reactor; both are told of their sockets."""
    pollers = [Poller(reactor), Poller(reactor)]
    pairs = [socket.socketpair() for _ in pollers]
    waiting = {0, 1}
    readers: list[Any] = []

    def came(number: int) -> None:
        waiting.discard(number)
        if not waiting:
            readers.extend(reactor.getReaders())
            reactor.stop()

    for number, (poller, (near, _)) in enumerate(zip(pollers, pairs, strict=True)):
        Told(poller, near, lambda _, number=number: came(number))
    reactor.callWhenRunning(lambda: [far.send(b"x") for _, far in pairs])
    run(reactor)
    assert not waiting
    assert [poller in readers for poller in pollers] == [False, True]
    for poller in pollers:
        poller.close()
    for _, far in pairs:
        far.close()


class Descriptor:
    """What Twisted can wait for; it counts how often it is told."""

    def __init__(self, of: Any) -> None:
        self.of = of
        self.reads = self.writes = 0

    def fileno(self) -> int:
        number: int = self.of.fileno()
        return number

    def logPrefix(self) -> str:
        return "a test"

    def doRead(self) -> None:
        self.reads += 1

    def doWrite(self) -> None:
        self.writes += 1

    def connectionLost(self, reason: Any) -> None:
        raise AssertionError("it is not lost")


def test_what_twisted_does_not_want_any_more(reactor: OwnReactor) -> None:
    """Reading and writing are asked for apart, any number of times; whoever takes a number over is alone."""
    poller = Poller(reactor)
    near, far = socket.socketpair()
    one = Descriptor(near)
    reactor.addReader(one)  # type: ignore[arg-type]
    reactor.addWriter(one)  # type: ignore[arg-type]
    reactor.addWriter(one)  # type: ignore[arg-type]
    reactor.iterate()
    assert (one.reads, one.writes) == (0, 1)
    reactor.removeWriter(one)  # type: ignore[arg-type]
    reactor.removeWriter(one)  # type: ignore[arg-type]
    far.send(b"x")
    reactor.iterate()
    assert (one.reads, one.writes) == (1, 1)
    reactor.removeReader(one)  # type: ignore[arg-type]
    near.close()
    again, _ = pair = socket.socketpair()
    other = Descriptor(again)
    reactor.addWriter(other)  # type: ignore[arg-type]
    reactor.iterate()
    assert (one.reads, other.reads, other.writes) == (1, 0, 1)
    reactor.removeAll()
    poller.close()
    for each in (far, *pair):
        each.close()


def test_a_file(reactor: OwnReactor, tmp_path: Path) -> None:
    """Twisted reads files, of which epoll knows nothing, with every turn."""
    poller = Poller(reactor)
    with (tmp_path / "file").open("w+") as file:
        one = Descriptor(file)
        one.doRead = lambda: reactor.stop()  # type: ignore[method-assign]
        reactor.addReader(one)  # type: ignore[arg-type]
        run(reactor)
        reactor.removeReader(one)  # type: ignore[arg-type]
    poller.close()


def test_a_process_that_has_a_reactor_keeps_it() -> None:
    assert the_reactor() is of_the_tests
    assert sys.modules["twisted.internet.reactor"] is of_the_tests
