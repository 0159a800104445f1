"""Why the sidecar does otherwise than a proxy, as a table: each rule is a reason, and the first that fits counts.

A difference that no rule fits fails the test, and so does a rule that fits none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from sidecar.config.load import load_settings
from sidecar.routing.compile import compile_plan
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts, planned_workers
from sidecar.synapse.endpoint_rows import load_endpoints

from .systems import Measured, Outcome, System
from .traffic import RELEASE, Sent

ALL = ("docker-nginx", "nginx-workers", "two-hosts")
_ADMIN = re.compile(r"/_synapse/(admin|mas|metrics)(/|$)")


@frozen
class Case:
    """One request on which both do not agree."""

    sent: Sent
    theirs: Outcome
    ours: Outcome
    serves: bool
    """The process that the proxy chose can serve the request, by Synapse's own table."""


@frozen
class Reason:
    """A rule of the table. `theirs` and `ours` are groups, or answers; None is any."""

    name: str
    fits: Callable[[Case], bool]
    why: str
    theirs: str | None = None
    ours: str | None = None
    systems: Sequence[str] = ALL

    def covers(self, system: str, case: Case) -> bool:
        return (
            system in self.systems
            and self.theirs in (None, case.theirs.group)
            and self.ours in (None, case.ours.group)
            and self.fits(case)
        )


REASONS: tuple[Reason, ...] = (
    Reason(
        "closed",
        lambda case: case.ours.group == "refuse 403" and bool(_ADMIN.match(case.sent.path)),
        "The sidecar closes the admin API, the API for MAS and Synapse's own metrics unless `access` lists "
        "networks. The proxy leaves them open to everybody, or to all private networks.",
    ),
    Reason(
        "closed to browsers",
        lambda case: case.theirs.group == "refuse 403" and case.sent.path.startswith("/_synapse/client/"),
        "Browsers use `/_synapse/client` for single sign-on, password resets and consent. The proxy blocks all of "
        "`/_synapse`.",
        systems=("docker-nginx",),
    ),
    Reason(
        "refused for a word",
        lambda case: case.theirs.group == "refuse 403" and case.sent.path.endswith("media"),
        "The expression for the administration of media ends in `|media$`. It restricts every path with this "
        "ending to trusted networks, even if a user chose the word.",
        systems=("nginx-workers",),
    ),
    Reason(
        "not Synapse's",
        lambda case: case.sent.row is not None,
        "The expressions for ma1sd end in the middle of a path, and also match the first step of single sign-on, "
        "which ma1sd does not have.",
        theirs="synapse0_ma1sd",
        systems=("two-hosts",),
    ),
    Reason(
        "cannot be served",
        lambda case: case.sent.row is not None and not case.serves and not case.sent.misleading,
        "The process that the proxy chooses answers 404 or 500: it is not a writer of the stream, has no media "
        "repository, or only the main process has the endpoint.",
    ),
    Reason(
        "text picks a pool",
        lambda case: case.sent.misleading,
        "A transaction ID, a tag or an event type matches a word of an expression that is meant for another part of "
        "the path. The sidecar compares each segment of the path at its place.",
    ),
    Reason(
        "room without a domain",
        lambda case: case.sent.room is not None and ":" not in case.sent.room and case.ours.group == "room_workers",
        "The expression for rooms needs a colon, but room IDs of version 12 have none. The sidecar gives such a "
        "room a worker like any other.",
        systems=("docker-nginx",),
    ),
    Reason(
        "a room that is only data",
        lambda case: case.theirs.group == "room_workers" and case.ours.group in ("client_readers", "client_syncs"),
        "Some paths have a room ID but belong to a user: key backups, tags, account data, subscriptions, the first "
        "sync of a room. They go to that user's worker.",
        systems=("docker-nginx",),
    ),
    Reason(
        "readers get nothing",
        lambda case: case.theirs.group == "main" and case.ours.group == "client_readers",
        "No location uses the upstream for client readers; the one that is meant for it uses the main process. In "
        "the sidecar, the readers get these requests.",
        systems=("docker-nginx",),
    ),
    Reason(
        "directory worker gets nothing",
        lambda case: case.sent.path.endswith("/user_directory/search"),
        "The rule for the directory's worker comes after a rule for all workers with the same path. In the sidecar, "
        "the directory's worker gets the searches.",
        theirs="synapseX_worker_generic",
        ours="synapse0_directory_worker",
        systems=("two-hosts",),
    ),
    Reason(
        "left on main",
        lambda case: case.theirs.group in ("main", "synapse0_master") and case.sent.row is not None,
        "The lists are from an older Synapse, or have only some spellings of a path. Synapse's own code lets a "
        "worker of this homeserver serve it, so it need not go to main.",
    ),
    Reason(
        "another spelling of a path",
        lambda case: case.sent.row is None and case.ours.group in ("main", "synapse0_master"),
        "nginx decodes the path and merges slashes before it compares. Synapse does not, and has no such endpoint, "
        "so main answers with an error.",
        systems=("docker-nginx", "nginx-workers"),
    ),
    Reason(
        "a path without its slash",
        lambda case: case.sent.path == "/_matrix",
        "nginx redirects to the path with a slash. The sidecar redirects it like any other path that is not Matrix.",
        systems=("docker-nginx",),
    ),
)


def plan_of(system: System) -> Plan:
    """The preset's plan."""
    settings = load_settings(str(system.preset))
    return compile_plan(settings, planned_workers(settings), load_endpoints(RELEASE).endpoints, Facts())


def cases(measured: Measured) -> list[Case]:
    """The requests that did not go to the same group, or were answered differently."""
    plan = plan_of(measured.system)
    members: dict[str, list[str]] = {}
    for worker, group in measured.system.groups.items():
        members.setdefault(group, []).append(worker)
    found = []
    for sent, theirs, ours in zip(measured.requests, measured.theirs, measured.ours, strict=True):
        if (theirs.group, theirs.location) == (ours.group, ours.location):
            continue
        row, pools = sent.row, plan.membership
        serves = row is not None and all(
            pools.serves(plan.workers[name], row) for name in members.get(theirs.group, ())
        )
        found.append(Case(sent, theirs, ours, serves))
    return found


def explained(system: System, found: Sequence[Case]) -> Mapping[Reason | None, list[Case]]:
    """The cases by the first reason that covers each; those that none covers under None."""
    by_reason: dict[Reason | None, list[Case]] = {}
    for case in found:
        reason = next((each for each in REASONS if each.covers(system.name, case)), None)
        by_reason.setdefault(reason, []).append(case)
    return by_reason
