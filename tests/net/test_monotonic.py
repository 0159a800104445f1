"""Timers that no step of the wall clock moves, in a reactor that follows it."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IReactorUNIX

from sidecar.transport import monotonic
from sidecar.transport.monotonic import KernelTimer, MonotonicClock, MonotonicReactor

from .turns import logged_failures, reactor, staged, turns

HOUR = 3600.0


class Clockwork:
    """A clock in the reactor of the tests, and what it called, in order."""

    def __init__(self, _directory: Any) -> None:
        self.clock = MonotonicClock(reactor)
        self.called: list[Any] = []

    def later(self, delay: float, name: Any) -> Any:
        return self.clock.callLater(delay, self.called.append, name)

    async def after(self, delay: float) -> None:
        """Wait until the clock has called what is due by then."""
        passed: Deferred[None] = Deferred()
        self.clock.callLater(delay, passed.callback, None)
        await passed

    async def strike(self) -> None:
        self.clock.close()


@staged(Clockwork)
async def test_calls_in_order(scene: Clockwork) -> None:
    """Each is called once, in the order of time, not before its time, and is active until then."""
    first = scene.clock.seconds()
    late, early = scene.later(0.04, "late"), scene.later(0.02, "early")
    assert set(scene.clock.getDelayedCalls()) == {late, early}
    await scene.after(0.05)
    assert scene.called == ["early", "late"]
    assert scene.clock.seconds() - first >= 0.05
    assert not late.active()
    assert not scene.clock.getDelayedCalls()


@staged(Clockwork)
async def test_calls_that_change(scene: Clockwork) -> None:
    """A call can be taken back, be it by one that is due with it, put off, and called for earlier."""
    scene.later(0.01, "gone").cancel()
    put_off, hurried = scene.later(0.01, "put off"), scene.later(HOUR, "hurried")
    put_off.reset(0.03)
    hurried.reset(0.02)
    scene.clock.callLater(0, lambda: victim.cancel())
    victim = scene.later(0, "victim")
    await scene.after(0.05)
    assert scene.called == ["hurried", "put off"]


def test_a_call_that_fails() -> None:
    """It is logged, and the others are called."""
    scene = Clockwork(None)
    scene.clock.callLater(0, lambda: 1 // 0)
    scene.later(0, "next")
    with logged_failures() as failures:
        scene.clock.doRead()
    scene.clock.close()
    assert failures[0].check(ZeroDivisionError)
    assert scene.called == ["next"]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_wall_clock(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way the reactor's clock jumps, a deadline passes when its time has come, and not before."""

    @staged(Clockwork)
    async def scenario(scene: Clockwork) -> None:
        scene.later(0.05, "due")
        distant = scene.later(60.0, "distant")
        seconds = reactor.seconds
        monkeypatch.setattr(reactor, "seconds", lambda: seconds() + step)
        await scene.after(0.0)
        assert scene.called == []
        await scene.after(0.05)
        assert scene.called == ["due"]
        distant.cancel()
        monkeypatch.undo()

    scenario(None)


@staged(Clockwork)
async def test_after_its_end(scene: Clockwork) -> None:
    """What is due is called still, and nothing later; its descriptor, which may be another's, is not touched."""
    call = scene.later(HOUR, "never")
    scene.later(0, "due")
    scene.clock.close()
    call.cancel()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    scene.later(0.001, "never")
    await turns()
    os.close(descriptor)
    assert scene.called == ["due"]
    scene.clock = MonotonicClock(reactor)


@staged(Clockwork)
async def test_the_reactor_but_for_time(scene: Clockwork) -> None:
    """Everything that is not time is the reactor's that runs."""
    own = MonotonicReactor(reactor)
    try:
        assert own.addReader == reactor.addReader
        assert own.seconds is scene.clock.seconds
        assert IReactorUNIX.providedBy(own)
        assert IReactorTime.providedBy(own)
        assert own.callLater(HOUR, scene.called.append, 1) in own.getDelayedCalls()
        with pytest.raises(AttributeError):
            own.nonsense  # noqa: B018
    finally:
        own.close()


def test_a_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says becomes an OSError in its words."""
    monkeypatch.setattr(monotonic, "_CLOCK_MONOTONIC", 12345)
    with pytest.raises(OSError, match="Invalid argument"):
        KernelTimer()
