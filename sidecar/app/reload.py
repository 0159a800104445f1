"""Reads the configuration again while the sidecar runs, and serves by it if that makes less of nothing.

Part of the service layer: it may know everything. A new fault anywhere in the files changes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from sidecar import __version__
from sidecar.app.sd_notify import reloading, tell
from sidecar.app.service import SidecarService
from sidecar.app.work import work_of
from sidecar.config.schema import Settings
from sidecar.entrance.listening import address
from sidecar.entrance.tls import Face, Secrets
from sidecar.errors import ConfigError, Problem, Severity, SidecarError
from sidecar.loading.altered import changes
from sidecar.loading.deployment import Deployment
from sidecar.loading.overriding import adjusted_deployment, carried
from sidecar.loading.refusal import reasons_of, refusals
from sidecar.metrics.status import View
from sidecar.observe.telemetry import logger
from sidecar.plurals import counted
from sidecar.routing.maintenance import Maintenance
from sidecar.routing.overrides import Adjustable

_log = logger("sidecar")

TURN = 0.0005
"""Seconds that the thread which reads keeps the interpreter from requests; Python's own 5 ms are felt."""

MOST_TOLD = 50
"""Sentences that are kept of one reload; `matrix-sidecar check` prints all."""

LISTENERS = ("listen", "admin")
"""Keys that hold until the process starts anew."""


@frozen
class ReloadOutcome:
    """How the last reload ended, for people."""

    accepted: bool
    sentences: tuple[str, ...]
    """What changed, and what could not; or the faults for which nothing changed."""


def refused(problems: Sequence[Problem]) -> ReloadOutcome:
    """Nothing has changed because of these."""
    told = [str(problem) for problem in problems[:MOST_TOLD]]
    if len(problems) > MOST_TOLD:
        told.append(f"{len(problems) - MOST_TOLD} more; `matrix-sidecar check` prints all of them")
    return ReloadOutcome(False, tuple(told))


@define(eq=False)
class Reload(Service):
    """Holds the deployment in force, and replaces it."""

    sidecar: SidecarService
    deployment: Deployment
    read: Callable[..., Deployment]
    """`read_deployment` with its arguments, but for `version`."""
    reactor: Any
    outcome: ReloadOutcome | None = None
    """None: nothing was read since the start."""
    maintenance: Maintenance | None = field(default=None, init=False)
    """While the mode is on."""
    after: list[Callable[[], object]] = field(factory=list)
    """All are called when another deployment is in force."""
    announce: Callable[[str], None] = tell
    """Tells whoever started the process how far a reload is."""
    record: Callable[[bool, Sequence[str], int], None] = lambda *_: None
    """Keeps how a reload ended for whoever asked for it; `began` is when reading did (CLOCK_MONOTONIC, nanoseconds)."""
    _started: float = field(init=False)
    _read_at: float = field(factory=time.time, init=False)
    """When what is in force was read, since 1970."""
    _reading: bool = field(default=False, init=False)
    _again: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self.reactor.seconds()

    def look(self) -> View:
        """What runs at this moment."""
        outcome = self.outcome
        return View(
            version=__version__,
            uptime=self.reactor.seconds() - self._started,
            gateway=self.sidecar.gateway,
            plan=self.deployment.plan,
            overrides=self.deployment.overrides,
            maintenance=self.maintenance,
            worker_connections=self.deployment.settings.limits.worker_connections,
            release=self.deployment.table.release,
            listening=[address(port) for port in self.sidecar.ports],
            in_flight=self.sidecar.in_flight,
            ceiling=self.sidecar.ceiling,
            written=self.sidecar.logbook.written(),
            read_at=self._read_at,
            leaving=self.sidecar.leaving,
            fleet=self.sidecar.fleet,
            problems=self.deployment.problems,
            reloaded=None if outcome is None else outcome.accepted,
            sentences=() if outcome is None else outcome.sentences,
        )

    def summary(self) -> str:
        """What runs, and whether it is what the files say, in one line."""
        workers = len(self.deployment.plan.workers) - 1
        told = f"serving {counted(workers, 'worker')}, Synapse {self.deployment.table.release}"
        if self.outcome is not None and not self.outcome.accepted:
            told += f"; reload refused: {self.outcome.sentences[0]}"
        return " ".join(told.split())

    def use(self, deployment: Deployment) -> None:
        """Serve by `deployment` from now on."""
        self.deployment = deployment
        self.sidecar.use(work_of(deployment, self.maintenance))
        tallies = self.sidecar.gateway.notes.told()
        if tallies is not None:
            tallies.keep(deployment.plan.pools, deployment.plan.workers)
        if not self._reading:
            self.announce(f"STATUS={self.summary()}")
        for tell_of_it in self.after:
            tell_of_it()

    def adjust(self, name: str, what: Adjustable, value: float | None, by: str) -> None:
        """Give a worker another weight or maximum from now on; None: that of the file. Raises RefusedValueError."""
        found = adjusted_deployment(self.deployment, name, what, value, by)
        if found.overrides != self.deployment.overrides:
            self.use(found)

    def maintain(self, maintenance: Maintenance | None) -> None:
        """Answer clients by this from now on; None: serve them again. Holds through reloads."""
        self.maintenance = maintenance
        self.use(self.deployment)

    def reload(self) -> None:
        """Begin to read everything again; once more at the end if asked meanwhile. Nothing while the sidecar stops."""
        if not self.running:
            _log.info("a reload was asked for, but the sidecar is stopping")
        elif self._reading:
            self._again = True
        else:
            Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        self._reading = self._again = True
        self.announce(reloading())
        while self._again:
            self._again = False
            began = time.monotonic_ns()
            self.outcome = await self._attempt()
            self._log_outcome(self.outcome)
            self.record(self.outcome.accepted, self.outcome.sentences, began)
        self._reading = False
        self.announce(f"READY=1\nSTATUS={self.summary()}")

    def _log_outcome(self, outcome: ReloadOutcome) -> None:
        what = "; ".join(outcome.sentences)
        self.sidecar.events.note("reload" if outcome.accepted else "refused", "", what)
        if outcome.accepted:
            _log.info("reloaded: {what}", what=what)
            return
        for sentence in outcome.sentences:
            _log.error("not reloaded, nothing has changed: {sentence}", sentence=sentence)

    async def _attempt(self) -> ReloadOutcome:
        # In a thread: a large configuration takes longer to read than a request may wait.
        pool = self.reactor.getThreadPool()
        read = partial(self._read, version=self.deployment.table.asked)
        before = sys.getswitchinterval()
        sys.setswitchinterval(TURN)
        try:
            found, secrets = await deferToThreadPool(self.reactor, pool, read)
        except ConfigError as error:
            return refused(reasons_of(self.deployment, error))
        except SidecarError as error:
            return ReloadOutcome(False, (error.sentence,))
        except Exception as error:
            _log.failure("reading the configuration failed")
            return ReloadOutcome(False, (str(error) or type(error).__name__,))
        finally:
            sys.setswitchinterval(before)
        if not self.running:
            return ReloadOutcome(False, ("the sidecar is stopping",))
        return self._accept(found, secrets)

    def _read(self, version: str | None) -> tuple[Deployment, Mapping[Face, Secrets]]:
        """All files, those of the certificates too; either all of them can be used or nothing changes."""
        return self.read(version=version), self.sidecar.identities.read_again()

    def _accept(self, found: Deployment, secrets: Mapping[Face, Secrets]) -> ReloadOutcome:
        before = self.deployment
        reasons = refusals(before, found)
        if reasons:
            return refused(reasons)
        try:
            self.sidecar.fleet.open(found.settings)
        except SidecarError as error:
            return ReloadOutcome(False, (error.sentence,))
        self._read_at = time.time()
        unchangeable = _unchangeable(before.settings, found.settings)
        kept = evolve(found.settings, **{key: getattr(before.settings, key) for key in LISTENERS})
        found = evolve(found, settings=kept, problems=tuple(dict.fromkeys((*found.problems, *unchangeable))))
        found, ended = carried(before, found)
        self.use(found)
        for problem in self.deployment.problems:
            if problem not in before.problems:
                _log.warn("{problem}", problem=str(problem))
        told = [*ended, *changes(before, self.deployment), *self.sidecar.identities.use(secrets)] or [
            "nothing is different"
        ]
        return ReloadOutcome(True, (*told, *(str(problem) for problem in unchangeable)))


def _unchangeable(before: Settings, after: Settings) -> list[Problem]:
    return [
        after.source.problem((key,), "has changed, which needs a restart; what it was before holds", Severity.WARNING)
        for key in LISTENERS
        if getattr(before, key) != getattr(after, key)
    ]
