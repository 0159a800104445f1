"""Who is let in, and when: by the number of connections and by the descriptors that are left."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.tcp import Port

from sidecar.net import accepting
from sidecar.net.accepting import PAUSE, Accepting


class Door(Port):
    """A port at which clients wait; it lets in as many as it is told to."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.inside = 0
        self.reading = True
        self.numberAccepts = 100

    def doRead(self) -> None:
        let_in = min(self.waiting, self.numberAccepts)
        self.waiting -= let_in
        self.inside += let_in
        self.numberAccepts = 100

    def fileno(self) -> int:
        return 0

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class Scene:
    """A door with a crowd before it, and a number of descriptors that the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ceiling: int) -> None:
        self.left = 1000
        monkeypatch.setattr(accepting, "descriptors_left", lambda _any_open: self.left)
        self.clock = Clock()
        self.door = Door(50)
        self.accepting = Accepting(self.clock, lambda: self.door.inside, ceiling)
        self.accepting.guard(self.door)

    def knock(self) -> int:
        """The reactor finds that somebody waits; how many are inside then."""
        if self.door.reading:
            self.door.doRead()
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
    scene.accepting.ceiling = 30
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
    scene.door.startReading()
    scene.left = 0
    scene.door.doRead()
    assert scene.door.inside == 20
    scene.door.inside = 10
    scene.accepting.changed()
    scene.door.doRead()
    assert not scene.door.reading
    scene.accepting.ceiling = 10
    scene.accepting.changed()
    scene.left = 1000
    scene.clock.advance(PAUSE)
    assert not scene.door.reading
    scene.accepting.ceiling = 11
    scene.accepting.changed()
    assert scene.knock() == 11


def test_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at any more, and what does not accept as Twisted's ports do is left alone."""
    scene = Scene(monkeypatch, 20)
    something: Any = object()
    scene.accepting.guard(something)
    scene.left = 0
    scene.knock()
    scene.accepting.stop()
    assert not scene.clock.getDelayedCalls()
    scene.accepting.stop()
