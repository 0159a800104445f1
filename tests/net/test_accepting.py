"""Who is let in, and when: by the number of connections and by the descriptors that are left."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from sidecar.entrance import accepting
from sidecar.entrance.accepting import PAUSE, Accepting
from sidecar.transport.poller import Poller

from .turns import reactor, spin, turns


class Door:
    """A port at which clients wait; it lets in as many as there is room for."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.inside = 0
        self.reading = True
        self.closed = False
        self.room: Callable[[int], int] = lambda _: 0

    def knock(self) -> None:
        let_in = min(self.waiting, self.room(self.fileno()))
        self.waiting -= let_in
        self.inside += let_in

    def fileno(self) -> int:
        return 0

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


class Scene:
    """A door with a crowd before it, and a number of descriptors that the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ceiling: int) -> None:
        self.left = 1000
        monkeypatch.setattr(accepting, "descriptors_left", lambda _any_open: self.left)
        self.clock = Clock()
        self.door = Door(50)
        self.accepting = Accepting(self.clock, lambda: self.door.inside, ceiling)
        self.accepting.guard(self.door)
        self.door.room = self.accepting.room

    def knock(self) -> int:
        """The poller finds that somebody waits; how many are inside then."""
        if self.door.reading:
            self.door.knock()
            self.accepting.changed()
        return self.door.inside


def test_as_many_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one more than the ceiling comes in, and the next one as soon as one leaves."""
    scene = Scene(monkeypatch, 20)
    assert scene.knock() == 20
    assert not scene.door.reading
    scene.door.inside -= 1
    scene.accepting.changed()
    assert scene.knock() == 20
    scene.accepting.use(30)
    scene.accepting.changed()
    assert scene.knock() == 30


def test_as_many_as_there_are_descriptors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody comes in while descriptors are short, which is looked at again by itself."""
    scene = Scene(monkeypatch, 1000)
    scene.left = 5
    assert scene.knock() == 5
    scene.left = 0
    assert scene.knock() == 5
    assert not scene.door.reading
    scene.clock.advance(PAUSE)
    assert not scene.door.reading
    scene.left = 1000
    scene.clock.advance(PAUSE)
    assert scene.knock() == 50
    assert not scene.clock.getDelayedCalls()


def test_both_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of one reason is not the end of the other; an event that had been found before changes nothing."""
    scene = Scene(monkeypatch, 20)
    scene.knock()
    scene.door.resume()
    scene.left = 0
    scene.door.knock()
    assert scene.door.inside == 20
    scene.door.inside = 10
    scene.accepting.changed()
    scene.door.knock()
    assert not scene.door.reading
    scene.accepting.use(10)
    scene.accepting.changed()
    scene.left = 1000
    scene.clock.advance(PAUSE)
    assert not scene.door.reading
    scene.accepting.use(11)
    scene.accepting.changed()
    assert scene.knock() == 11


def test_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at any more, and what is no plain socket is left to Twisted."""
    scene = Scene(monkeypatch, 20)
    something: Any = object()
    scene.accepting.open(something, something, lambda _accepted, _peer: None)
    scene.left = 0
    scene.knock()
    scene.accepting.stop()
    assert scene.door.closed
    assert not scene.clock.getDelayedCalls()
    scene.accepting.stop()


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_a_real_port(kind: str, tmp_path: Path) -> None:
    """Twisted listens and we accept: with the address of the client, no more than there is room for, until the end."""

    async def scenario() -> None:
        taken: list[tuple[socket.socket, str]] = []
        poller = Poller(reactor)
        room = 2
        gate = Accepting(reactor, lambda: len(taken), ceiling=room)

        def take(accepted: socket.socket, peer: str) -> None:
            taken.append((accepted, peer))
            gate.changed()

        where = {"tcp": ("127.0.0.1", 0), "tcp6": ("::1", 0), "unix": str(tmp_path / "a.sock")}[kind]
        if isinstance(where, str):
            port = reactor.listenUNIX(where, Factory())
        else:
            port = reactor.listenTCP(0, Factory(), interface=where[0])
            where = (where[0], port.getHost().port)
        gate.open(port, poller, take)
        family = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": socket.AF_UNIX}[kind]
        clients = [socket.socket(family) for _ in range(3)]
        for client in clients:
            client.connect(where)
        await turns(10)
        assert len(taken) == room
        assert {peer for _, peer in taken} == {"" if isinstance(where, str) else where[0]}
        gate.use(3)
        gate.changed()
        while len(taken) < 3:
            await turns(1)
        gate.stop()
        await port.stopListening()
        for client, (accepted, _) in zip(clients, taken, strict=True):
            client.close()
            accepted.close()
        await turns(2)
        poller.close()

    spin(scenario())
