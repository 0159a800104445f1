"""The events of one turn reach the sockets that they happened to, whatever becomes of descriptors meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from sidecar.transport.own_reactor import OwnReactor
from sidecar.transport.poller import READ, WRITE, Poller


class Noted:
    """A socket that notes what it is told, and does something first."""

    def __init__(self, poller: Poller, ours: socket.socket, events: int = READ) -> None:
        self.poller = poller
        self.socket = ours
        self.told: list[str] = []
        self.act: Callable[[], None] = lambda: None
        poller.add(ours.fileno(), self, events)

    def do_read(self) -> None:
        self.told.append("read")
        self.act()

    def do_write(self) -> None:
        self.told.append("write")
        self.act()

    def do_fail(self) -> None:
        self.told.append("failed")

    def end(self) -> None:
        self.poller.remove(self.socket.fileno())
        self.socket.close()


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller(OwnReactor())
    yield made
    made.close()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


def pair(opened: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return opened.enter_context(ours), opened.enter_context(theirs)


def follow(poller: Poller, opened: ExitStack, number: int, events: int = READ) -> tuple[Noted, socket.socket]:
    """A new connection of which one end has this number, which must be free."""
    for _ in range(64):
        ends = pair(opened)
        for one, other in (ends, ends[::-1]):
            if one.fileno() == number:
                return Noted(poller, one, events), other
    raise AssertionError("somebody else took the number")


def test_a_new_socket_is_not_told_of_what_happened_to_the_old_one(poller: Poller, opened: ExitStack) -> None:
    """Two are ready in one turn; who is told first closes the other, and a new connection gets its number."""
    pairs = [pair(opened) for _ in range(2)]
    noted = [Noted(poller, ours) for ours, _ in pairs]
    for _, theirs in pairs:
        theirs.send(b"x")
    new: list[tuple[Noted, socket.socket]] = []

    def replace(other: Noted) -> None:
        number = other.socket.fileno()
        other.end()
        new.append(follow(poller, opened, number))

    noted[0].act = lambda: replace(noted[1])
    noted[1].act = lambda: replace(noted[0])
    poller.turn(0)
    assert sorted(one.told for one in noted) == [[], ["read"]]
    ((follower, its_other_end),) = new
    assert follower.told == []
    its_other_end.send(b"x")
    for one in noted:
        one.act = lambda: None
    poller.turn(0)
    assert follower.told == ["read"]


def test_a_new_socket_does_not_read_because_the_old_one_wrote(poller: Poller, opened: ExitStack) -> None:
    """Both events of one socket: telling the first closes it, and a new connection gets the number."""
    ours, theirs = pair(opened)
    noted = Noted(poller, ours, READ | WRITE)
    theirs.send(b"x")
    new: list[tuple[Noted, socket.socket]] = []

    def replace() -> None:
        number = noted.socket.fileno()
        noted.end()
        new.append(follow(poller, opened, number))

    noted.act = replace
    poller.turn(0)
    assert noted.told == ["write"]
    assert [one.told for one, _ in new] == [[]]


def test_what_stops_and_goes_on_in_one_turn_is_told_in_the_next(poller: Poller, opened: ExitStack) -> None:
    """Nothing is lost by leaving the rest of a turn out: the kernel tells again what is still so."""
    pairs = [pair(opened) for _ in range(2)]
    noted = [Noted(poller, ours) for ours, _ in pairs]
    for _, theirs in pairs:
        theirs.send(b"x")

    def touch(other: Noted) -> None:
        poller.remove(other.socket.fileno())
        poller.add(other.socket.fileno(), other, READ)

    noted[0].act = lambda: touch(noted[1])
    noted[1].act = lambda: touch(noted[0])
    poller.turn(0)
    assert sorted(one.told for one in noted) == [[], ["read"]]
    for one in noted:
        one.act = lambda: None
    poller.turn(0)
    assert sorted(one.told for one in noted) == [["read"], ["read", "read"]]
