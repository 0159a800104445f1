"""Turns the global reactor from within a test until something has happened, and fails what it would only log."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

reactor: Any = _reactor
LIMIT = 90.0
"""Seconds after which a scenario that does not get on has failed."""


def port_of(listening: IListeningPort) -> int:
    """Where on loopback it listens."""
    address: Any = listening.getHost()
    return int(address.port)


async def turns(count: int = 5) -> None:
    """Let everything that is ready happen."""
    for _ in range(count):
        happened: Deferred[None] = Deferred()
        reactor.callLater(0, happened.callback, None)
        await happened


def observe(note: Callable[[LogEvent], object]) -> Callable[[], None]:
    """Tell `note` of each event that is logged, until the function that comes back is called."""

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        note(event)

    globalLogPublisher.addObserver(observer)
    return partial(globalLogPublisher.removeObserver, observer)


@contextmanager
def observed(note: Callable[[LogEvent], object]) -> Iterator[None]:
    """The same for as long as the context lasts."""
    end = observe(note)
    try:
        yield
    finally:
        end()


@contextmanager
def logged_failures() -> Iterator[list[Failure]]:
    """The failures that are logged within, be they handled by Twisted or by us."""
    failures: list[Failure] = []

    def note(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    with observed(note):
        yield failures


def spin(work: Coroutine[Deferred[Any], Any, Any], limit: float = LIMIT) -> Any:
    """Turn the reactor until `work` is done, and return its result; raises what it raised, or was logged meanwhile."""
    results: list[Any] = []
    deferred = Deferred.fromCoroutine(work)
    deferred.addBoth(results.append)
    end = time.monotonic() + limit
    with logged_failures() as failures:
        while not results:
            reactor.runUntilCurrent()
            if results:
                break
            left = end - time.monotonic()
            if left <= 0:
                deferred.cancel()
                pytest.fail(f"nothing more happened within {limit:g} s")
            soon = reactor.timeout()
            reactor.doIteration(left if soon is None else min(soon, left))
    if isinstance(results[0], Failure):
        results[0].raiseException()
    assert not failures, "\n".join(failure.getTraceback() for failure in failures)
    return results[0]


Play = Callable[..., Awaitable[None]]


def staged(stage: Callable[..., Any], **settings: Any) -> Callable[[Play], Callable[..., None]]:
    """Make a test of a coroutine whose first parameter is a stage, set up in a fresh directory and taken down after."""

    def decorate(play: Play) -> Callable[..., None]:
        def test(tmp_path: Path, **others: Any) -> None:
            async def whole() -> None:
                scene = stage(tmp_path, **settings)
                try:
                    await play(scene, **others)
                finally:
                    await scene.strike()

            spin(whole())

        parameters = list(inspect.signature(play).parameters.values())[1:]
        first = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        test.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        test.__name__ = play.__name__
        test.__doc__ = play.__doc__
        test.__module__ = play.__module__
        return test

    return decorate
