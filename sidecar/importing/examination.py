"""A foreign configuration from end to end: asked about every endpoint, converted, and compared with what came out.

Knows neither proxy: `Foreign` brings what differs between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from sidecar.config.load import settle
from sidecar.document import parse_document
from sidecar.importing.asked import Asked, Place, Proxy
from sidecar.importing.conversion import Conversion
from sidecar.importing.draft import Draft, OwnRoute
from sidecar.importing.probes import LONE_ROOM, Probe, odd_probes, probes
from sidecar.importing.roles import Answered, Roles, answers, roles
from sidecar.importing.told import addressed, told_roles
from sidecar.routing.compile import compile_plan
from sidecar.routing.decide import decide
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts, planned_workers, workers_of
from sidecar.synapse.endpoints import Endpoint, EndpointTable
from sidecar.synapse.names import MAIN
from sidecar.synapse.topology import Topology, state_workers
from sidecar.wire.fields import FieldSection

OUTSIDE = "203.0.113.77"
"""An address that no configuration lets in anywhere (RFC 5737)."""
_MOST_HOSTS = 20

Kind = Literal["taken", "superfluous", "lost"]


@frozen
class Remark:
    """What became of a line: taken over, superfluous here, or lost, and why or what to do about it."""

    kind: Kind
    sentence: str


@frozen
class FileLine:
    """A line of the file. `decides`: it is one that sends requests somewhere."""

    place: Place
    text: str
    decides: bool = False
    remark: Remark | None = None
    upstream: str = ""
    """It begins the description of this upstream."""
    matches: Callable[[Asked], bool] | None = field(default=None, eq=False, repr=False)
    """Whether its own expression fits a request, whatever stands above it."""


@frozen(eq=False, kw_only=True)
class Foreign:
    """What was read of a proxy, and what only its kind can tell."""

    proxy: Proxy
    lines: Sequence[FileLine]
    hosts: Sequence[str]
    """Names for which it answers."""
    admin: Sequence[str]
    """Networks that may reach the admin API, where others may not."""
    own: Callable[[Roles, frozenset[Place], str], Sequence[OwnRoute]]
    """Its lines for what is not Synapse's, given those that decide requests for endpoints, and the host."""
    draft: Draft
    """With what can be told without asking: where it listens, limits, timeouts."""


@frozen(eq=False)
class Synapse:
    """Synapse's own files: what they say, and where they are."""

    topology: Topology
    paths: Mapping[str, Sequence[str]]
    """`config` and `workers` of the section `synapse`."""


@frozen(eq=False)
class Compared:
    """A request, what the foreign proxy does with it, and what the draft does."""

    answered: Answered
    ours: tuple[str, ...]
    """Names of the candidates, or the action and status."""
    difference: str = ""
    """Why they differ, empty where they do not."""
    faulty: bool = False
    """The process that gets it there cannot serve it."""


@frozen(eq=False, kw_only=True)
class Examined:
    """Everything that was found out."""

    foreign: Foreign
    host: str
    roles: Roles
    draft: Draft
    own: Sequence[OwnRoute]
    release: str
    """Of Synapse, whose endpoints were asked about."""
    compared: Sequence[Compared]
    """For each plain request."""
    odd: Sequence[Answered] = field(factory=tuple)
    """Requests with a room of version 12, or with misleading words."""


def examine(
    foreign: Foreign, table: EndpointTable, host: str | None = None, synapse: Synapse | None = None
) -> Examined:
    """Ask, convert, compare. `host`: the name of the homeserver, if it is not to be found out."""
    plain = list(probes(_existing(table.endpoints, synapse)))
    host = host or _host(foreign, plain)
    sources = (OUTSIDE, *(network.partition("/")[0] for network in foreign.admin[:1]))
    answered = list(answers(foreign.proxy, plain, host, sources))
    odd = list(answers(foreign.proxy, odd_probes(plain), host, sources))
    concluded = roles(foreign.proxy, answered, host)
    if synapse is not None:
        concluded = told_roles(foreign.proxy, synapse.topology, concluded)
    own = foreign.own(concluded, frozenset(each.verdict.place for each in answered if each.verdict.place), host)
    conversion = Conversion(foreign.proxy, concluded, answered, _shaky(answered, odd), own, host, foreign.draft)
    draft = conversion.convert()
    draft.admin = list(foreign.admin)
    if synapse is not None:
        draft.synapse = synapse.paths
        draft.unsaid = frozenset(each.name for each in draft.workers if addressed(each, synapse.topology))
    plan = plan_of(draft, table.endpoints, synapse)
    compared = list(_compared(plan, concluded, answered, host, sources[-1]))
    return Examined(
        foreign=foreign,
        host=host,
        roles=concluded,
        draft=draft,
        own=own,
        release=table.release,
        compared=compared,
        odd=odd,
    )


def _host(foreign: Foreign, plain: Sequence[Probe]) -> str:
    """The name for which most different upstreams are chosen."""
    some = plain[:: max(1, len(plain) // 50)]

    def variety(host: str) -> int:
        verdicts = (foreign.proxy.verdict(probe.asked(host, OUTSIDE)) for probe in some)
        return len({verdict.pool for verdict in verdicts if verdict.action == "forward"})

    return max((*foreign.hosts[:_MOST_HOSTS], "matrix.invalid"), key=variety)


def _shaky(plain: Iterable[Answered], odd: Iterable[Answered]) -> frozenset[int]:
    """The plain requests that go elsewhere when the room in them has no domain."""

    def place(probe: Probe) -> tuple[object, ...]:
        return (probe.row.path, probe.method, probe.path)

    lone = {place(each.probe): each for each in odd if each.probe.kind == LONE_ROOM}
    return frozenset(
        id(each.probe)
        for each in plain
        if (other := lone.get(place(each.probe))) is not None and (other.pool != each.pool)
    )


def _existing(rows: Sequence[Endpoint], synapse: Synapse | None) -> Sequence[Endpoint]:
    """The endpoints that this homeserver has."""
    if synapse is None:
        return rows
    features = synapse.topology.features
    return [
        row
        for row in rows
        if all(need == "media_repo" or not features.isdisjoint(need.split("|")) for need in row.needs)
    ]


def plan_of(draft: Draft, rows: Sequence[Endpoint], synapse: Synapse | None = None) -> Plan:
    """The plan of a draft. Raises ConfigError where it is none."""
    settings = settle(parse_document(draft.text("a test").encode(), "/sidecar.yaml"))
    if synapse is None:
        return compile_plan(settings, planned_workers(settings), rows, Facts())
    workers, facts = workers_of(state_workers(synapse.topology, settings.workers), settings)
    return compile_plan(settings, workers, rows, facts)


def _compared(plan: Plan, concluded: Roles, plain: Sequence[Answered], host: str, source: str) -> Iterator[Compared]:
    for each in plain:
        asked = each.probe.asked(host, source)
        fields = FieldSection(
            f"\r\nHost: {host}\r\nAuthorization: {asked.fields['authorization']}\r\n\r\n".encode("latin-1")
        )
        decision = decide(each.probe.method.encode(), each.probe.target.encode(), fields, source, plan)
        ours = decision.candidates or (f"{decision.action} {decision.status}",)
        yield _difference(each, ours, concluded)


def _difference(each: Answered, ours: tuple[str, ...], concluded: Roles) -> Compared:
    row = each.probe.row
    alone = f"{each.verdict.action} {each.verdict.status}"
    theirs = concluded.members.get(each.pool, ()) if each.pool else (alone,)
    if not set(ours).isdisjoint(theirs):
        return Compared(each, ours)
    if each.pool and not concluded.serves(each.pool, row):
        return Compared(each, ours, concluded.why_not(each.pool, row), faulty=True)
    return Compared(each, ours, _reason(each, ours, concluded))


def _reason(each: Answered, ours: tuple[str, ...], concluded: Roles) -> str:
    """Why a request that is in good hands there goes elsewhere here."""
    row = each.probe.row
    if ours[0].startswith("refuse") and each.pool:
        return "closed here unless `access` names networks, and open there"
    if each.pool and each.pool == concluded.main and ours != (MAIN,):
        return "a worker of this homeserver serves it, and main is spared"
    if row.stream and set(ours) & set(concluded.writers.get(row.stream, ())):
        return f"the writer of {row.stream} answers without asking another process"
    if not each.pool:
        return f"it is answered by the proxy itself there (`{each.verdict.action}`)"
    return "an expression takes what stands in it for something else; here it goes with its like"


def by_place(compared: Iterable[Compared]) -> dict[Place, list[Compared]]:
    """The comparisons by the line that decided there."""
    found: dict[Place, list[Compared]] = {}
    for each in compared:
        if each.answered.verdict.place is not None:
            found.setdefault(each.answered.verdict.place, []).append(each)
    return found
