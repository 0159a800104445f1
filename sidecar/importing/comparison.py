"""What a foreign proxy does with a request, what a draft of ours does, and why they differ. Knows neither proxy."""

from __future__ import annotations

from functools import lru_cache

from attrs import define, frozen

from sidecar.importing.outcomes import outcome_of
from sidecar.importing.prefixes import NO_PREFIXES
from sidecar.importing.probes import OUTSIDE, STRAY
from sidecar.importing.roles import Answered, Roles
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.routing.plan import Plan
from sidecar.synapse.names import MAIN
from sidecar.wire.fields import FieldSection

SPARED = "a worker can serve it, so it does not go to main"
CLOSED = "the sidecar denies it unless `access` lists networks; your proxy lets it through"
TAKEN_FOR = "a regular expression matches other text in the path by accident; the sidecar routes it by its endpoint"
UNKNOWN = "not an endpoint of Synapse, and no route matches; the sidecar sends unknown paths to main"
NOWHERE = "the file has no worker with an address, so the sidecar does not start with it"
AMONG_MORE = "the sidecar spreads it over more workers"


@frozen(eq=False)
class Compared:
    """A request, what the foreign proxy does with it, and what the draft does."""

    answered: Answered
    ours: tuple[str, ...]
    """Names of the candidates, or what is answered."""
    theirs: tuple[str, ...]
    difference: str = ""
    """Why they differ, empty where they do not."""
    faulty: bool = False
    """The process that gets it there cannot serve it."""


@define(eq=False)
class Comparison:
    """Compares with the plan of a draft."""

    plan: Plan | None
    """None where the draft has nothing to forward to."""
    roles: Roles
    inside: str
    """An address that may come to what is closed to others."""

    def of(self, each: Answered) -> Compared:
        """One request."""
        if self.plan is None:
            theirs = self.roles.members.get(each.pool, ()) if each.pool else (_answer_there(each),)
            return Compared(each, ("nobody",), theirs, NOWHERE)
        decision = decide(
            each.probe.method.encode("latin-1"),
            each.probe.target.encode("latin-1"),
            _fields(each.entrance.host, each.probe.authorization),
            self.inside if each.closed else OUTSIDE,
            self.plan,
            each.entrance.scheme,
        )
        ours = decision.candidates or (_answer_here(decision),)
        theirs = self.roles.members.get(each.pool, ()) if each.pool else (_answer_there(each),)
        if _same_path(each, decision) and (set(ours) <= set(theirs) or _same_answer(each, decision)):
            return Compared(each, ours, theirs)
        faulty = bool(each.pool) and not self.roles.serves(each.pool, each.probe.row) and each.probe.kind != STRAY
        if faulty and each.pool in self.roles.members:
            foreign = all(self.roles.processes[name].foreign for name in theirs)
            if not foreign:
                return Compared(each, ours, theirs, self.roles.why_not(each.pool, each.probe.row), faulty=True)
        return Compared(each, ours, theirs, self._reason(each, ours, theirs))

    def _reason(self, each: Answered, ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
        """Why a request that is in good hands there goes elsewhere here."""
        row = each.probe.row
        if each.verdict.rewrites:
            return f"{each.verdict.rewrites}, which the sidecar does not do"
        if each.pool and not theirs:
            return f"the files do not give an address for any server of {each.pool}"
        if ours[0].startswith("refuse") and each.pool:
            return CLOSED if each.probe.target.startswith("/_synapse/") else "a route of the sidecar denies it"
        if not each.pool:
            return f"your proxy answers it itself (`{theirs[0]}`)"
        if any(name in self.roles.processes and self.roles.processes[name].foreign for name in theirs):
            return f"your proxy sends it to {each.pool}; no route of the sidecar does"
        if each.pool == self.roles.main and ours != (MAIN,):
            return SPARED
        if row.stream and set(ours) & set(self.roles.writers.get(row.stream, ())):
            return f"the writer of {row.stream} can answer without another process"
        if each.probe.kind == STRAY:
            return UNKNOWN
        return AMONG_MORE if set(ours) & set(theirs) else TAKEN_FOR


def _answer_here(decision: Decision) -> str:
    if decision.action == "respond":
        return f"respond {decision.status}"
    return f"{decision.action} {decision.status}"


def _answer_there(each: Answered) -> str:
    verdict = each.verdict
    if verdict.action == "forward":
        return f"{verdict.pool} with a changed path"
    outcome = outcome_of(verdict, each.asked)
    if verdict.action == "files":
        return "files"
    if not outcome:
        return verdict.action
    return f"{verdict.action} {verdict.status}"


def _same_path(each: Answered, decision: Decision) -> bool:
    """Whether a worker gets the request with the path that it would get there."""
    changes = decision.changes
    ours = NO_PREFIXES if changes is None else (changes.strip.decode(), changes.add.decode())
    return ours == (each.verdict.prefixes or NO_PREFIXES)


def _same_answer(each: Answered, decision: Decision) -> bool:
    """Whether both answer with the same; what a page of files says nobody knows, and 404 stands for it."""
    verdict = each.verdict
    if verdict.action == "forward" or verdict.action != decision.action or verdict.status != decision.status:
        return False
    if verdict.action == "redirect":
        return dict(decision.headers).get("Location", "") == verdict.location
    if verdict.action == "respond":
        return decision.body.decode("utf-8", "surrogateescape") == verdict.body
    return True


@lru_cache(256)
def _fields(host: str, authorization: str) -> FieldSection:
    return FieldSection(f"\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\r\n".encode("latin-1", "replace"))
