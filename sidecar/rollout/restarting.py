"""One restart after another: drain, wait, restart, wait until it answers, undrain. Stops at the first that fails.

What is drained is always undrained, however a restart ends. Blocks; prints nothing itself.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from attrs import define, field, frozen

from sidecar.config.rollout import Rollout
from sidecar.rollout.all_instances import Instances, JointFacts
from sidecar.rollout.order import RestartStep, Way, way_now
from sidecar.rollout.progress_file import ProgressFile
from sidecar.rollout.running import CommandError, run
from sidecar.top.operator_client import SilentSidecarError

_BETWEEN = 0.1
"""Seconds between two polls: nothing reports the end of a worker's last request."""


class Watcher(Protocol):
    """Shows the progress."""

    def doing(self, name: str, what: str) -> None:
        """This happens now."""

    def done(self, name: str, what: str) -> None:
        """This restart has succeeded."""


@frozen
class StoppedError(Exception):
    """A restart failed; the rollout goes no further."""

    name: str
    reason: str
    output: str = ""
    """The end of the command's output."""

    def __str__(self) -> str:
        return self.reason


class InterruptionError(Exception):
    """A signal ended the rollout."""


@define(eq=False)
class Restarting:
    """Restarts processes in a given order."""

    instances: Instances
    settings: Rollout
    watcher: Watcher
    file: ProgressFile
    interrupted: threading.Event = field(factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    still_drained: dict[str, str] = field(factory=dict)
    """Where the last drain could not be ended, and why."""

    def run(self, steps: Sequence[RestartStep]) -> None:
        """Raises StoppedError at the first that fails, and InterruptionError when it was interrupted."""
        for step in steps:
            self._heed()
            try:
                self._restart(step)
            except SilentSidecarError as error:
                raise StoppedError(step.name, str(error)) from error
            except CommandError as error:
                reason = f"`{shlex.join(step.member.command)}` {error.reason}"
                raise StoppedError(step.name, reason, error.output) from error
            self.file.finished(step.name)

    def _restart(self, step: RestartStep) -> None:
        began = self.clock()
        if step.way is Way.SILENT:
            self._run(step)
            self.watcher.done(step.name, f"restarted in {self.clock() - began:.1f} s")
            return
        before = self.instances.look()
        held = way_now(step.name, before.parts, before.takes) is Way.HELD
        with self._drained(step.name, before.drained_at(step.name)):
            left = self._wait_for_its_requests(step.name, self.settings.hold if held else self.settings.drain)
            ended = self.clock()
            self._run(step)
            started = self.clock()
            self._heed()
            self._wait_for_its_health(step.name, before.lives(step.name), started)
            answered = self.clock()
        if self.still_drained:
            raise StoppedError(step.name, "it was restarted, but its drain could not be ended")
        self.watcher.done(step.name, _told(ended - began, answered - ended, left, held=held))

    @contextmanager
    def _drained(self, name: str, before: Collection[str]) -> Iterator[None]:
        """The worker gets no new requests in here. Lifted again whatever happens, but not where it was `before`."""
        self.file.drained(name)
        try:
            self.instances.drain(name)
            yield
        finally:
            # True until the next line has ended, which another signal can prevent.
            self.still_drained = dict.fromkeys(self.instances.places, "Interrupted.")
            self.still_drained = self.instances.undrain(name, before)
            if not self.still_drained:
                self.file.drained("")

    def _wait_for_its_requests(self, name: str, patience: float) -> int:
        """How many still run after `patience` seconds."""
        until = self.clock() + patience
        while running := self.instances.look().running(name):
            self._heed()
            if self.clock() >= until:
                return running
            self.watcher.doing(name, f"{running} of its requests still {'runs' if running == 1 else 'run'}")
            self.interrupted.wait(_BETWEEN)
        return 0

    def _run(self, step: RestartStep) -> None:
        self.watcher.doing(step.name, "restarting")
        run(step.member.command, self.settings.command)

    def _wait_for_its_health(self, name: str, lives: Mapping[str, int], since: float) -> None:
        """Until every instance has had an answer from the process that was started."""
        self.watcher.doing(name, "waiting until it answers")
        while True:
            asked = self.clock()
            facts = self.instances.look()
            if all(self._is_back(facts, name, lives, asked - since)):
                return
            if asked - since > self.settings.health:
                raise StoppedError(name, _why_not(facts, name, lives, self.settings.health))
            self.instances.check(name)
            self.interrupted.wait(_BETWEEN)
            self._heed()

    def _is_back(self, facts: JointFacts, name: str, lives: Mapping[str, int], elapsed: float) -> Iterator[bool]:
        for place, worker in facts.of(name):
            same = lives.get(place) and worker.life == lives[place]
            yield bool(worker.healthy) and worker.heard is not None and worker.heard < elapsed and not same

    def _heed(self) -> None:
        if self.interrupted.is_set():
            raise InterruptionError


def _told(waited: float, restarted: float, left: int, *, held: bool) -> str:
    told = f"restarted in {restarted:.1f} s, {waited:.1f} s after it was drained"
    if held:
        told = f"restarted; its requests waited at most {waited + restarted:.1f} s"
    if left:
        told += f"; {left} still ran, and {'was' if left == 1 else 'were'} cut or sent again"
    return told


def _why_not(facts: JointFacts, name: str, lives: Mapping[str, int], patience: float) -> str:
    """Why it does not count as back."""
    for place, worker in facts.of(name):
        if not worker.healthy:
            return f"it does not answer {patience:g} s after its restart ({worker.reason or 'no answer yet'})"
        if lives.get(place) and worker.life == lives[place]:
            return (
                "the command has succeeded, but the process is the same as before: it still listens at the same "
                "socket. Does `rollout.restart` name the right unit?"
            )
    return f"it has not answered within {patience:g} s after its restart"
