"""A foreign configuration from end to end: asked about every endpoint, converted, and compared with what came out.

Knows neither proxy: `Foreign` brings what differs between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

from attrs import evolve, field, frozen

from sidecar.config.load import settle
from sidecar.document import parse_document
from sidecar.errors import ConfigError
from sidecar.importing.asked import Asked, Position, Proxy, ProxyEntrance
from sidecar.importing.comparison import Compared, Comparison
from sidecar.importing.conversion import Conversion
from sidecar.importing.draft import Draft, OwnRoute
from sidecar.importing.ordering import Settled
from sidecar.importing.probes import LONE_ROOM, OUTSIDE, Probe, odd_probes, probes, strays
from sidecar.importing.roles import Answered, Roles, answers, roles
from sidecar.importing.told import addressed, told_roles
from sidecar.routing.compile import compile_plan
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts, planned_workers, workers_of
from sidecar.synapse.endpoint_rows import Endpoint, EndpointTable
from sidecar.synapse.topology import Topology, state_workers

_MOST_ENTRANCES = 40
_FEDERATION_PORTS = (8448, 8048)

Kind = Literal["taken", "superfluous", "lost"]


@frozen
class Remark:
    """What became of a line: taken over, superfluous here, or lost, and why or what to do about it."""

    kind: Kind
    sentence: str
    is_filter: bool = False
    """It keeps requests away there, and is lost here."""


@frozen
class FileLine:
    """A line of the file. `decides`: it is one that sends requests somewhere."""

    place: Position
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
    paths: Sequence[str]
    """Paths of which its lines speak."""
    admin: Sequence[str]
    """Networks that may reach the admin API, where others may not."""
    own: Sequence[OwnRoute]
    """Its lines that send requests anywhere, in the order in which they are tried."""
    draft: Draft
    """With what can be told without asking: where it listens, limits, timeouts."""


@frozen(eq=False)
class SynapseFiles:
    """Synapse's own files: what they say, and where they are."""

    topology: Topology
    paths: Mapping[str, Sequence[str]]
    """`config` and `workers` of the section `synapse`."""


@frozen(eq=False, kw_only=True)
class Examined:
    """Everything that was found out."""

    foreign: Foreign
    home: ProxyEntrance
    """Where clients find the homeserver."""
    guessed: bool
    """Nobody said what it is called."""
    entrances: Sequence[ProxyEntrance]
    """Where it was asked."""
    unasked: Sequence[ProxyEntrance]
    """Where it was not, because there are too many."""
    roles: Roles
    draft: Draft
    settled: Sequence[Settled]
    """What became of each line that sends requests anywhere."""
    release: str
    """Of Synapse, whose endpoints were asked about."""
    compared: Sequence[Compared]
    """For each plain request, where it usually comes in."""
    elsewhere: Sequence[Compared]
    """The same at all names and ports, and what is no endpoint."""
    odd: Sequence[Answered] = field(factory=tuple)
    """Requests with a room of version 12, or with misleading words."""

    @property
    def host(self) -> str:
        return self.home.host


def _unwatched(_count: int, _doing: str) -> None:
    """Nobody wants to know how far it has come."""


def steps_of(foreign: Foreign) -> int:
    """How many steps `examine` takes: one for each name and port, of which each takes about as long."""
    return max(1, min(len(foreign.proxy.entrances), _MOST_ENTRANCES))


def examine(
    foreign: Foreign,
    table: EndpointTable,
    name: str | None = None,
    synapse: SynapseFiles | None = None,
    step: Callable[[int, str], None] = _unwatched,
) -> Examined:
    """Ask, convert, compare. `name`: the homeserver's, if it is not to be found out; `step` is told how far it is."""
    plain = list(probes(_existing(table.endpoints, synapse)))
    said = name or (synapse.topology.server_name if synapse is not None else "")
    entrances = list(foreign.proxy.entrances)
    home = _home(foreign.proxy, entrances, plain, said.lower())
    entrance = _entrance(foreign.proxy, entrances, home)
    sources = (OUTSIDE, *(network.partition("/")[0] for network in foreign.admin[:1]))
    answered = list(answers(foreign.proxy, plain, entrance, sources))
    odd = list(answers(foreign.proxy, odd_probes(plain), entrance, sources))
    concluded = roles(foreign.proxy, answered, home)
    if synapse is not None:
        concluded = told_roles(foreign.proxy, synapse.topology, concluded)
    conversion = Conversion(foreign.proxy, concluded, answered, _shaky(answered, odd), foreign.own, home, foreign.draft)
    draft = conversion.convert()
    described = [] if synapse is None else [each for each in draft.workers if addressed(each, synapse.topology)]
    draft.take_installation(foreign.admin, {} if synapse is None else synapse.paths, [each.name for each in described])
    comparison = Comparison(_plan_or_none(draft, table.endpoints, synapse), concluded, sources[-1])
    more = [*plain, *odd_probes(plain), *strays(foreign.paths)]
    everywhere = entrances[:_MOST_ENTRANCES] or [home]
    return Examined(
        foreign=foreign,
        home=home,
        guessed=not said,
        entrances=everywhere,
        unasked=entrances[_MOST_ENTRANCES:],
        roles=concluded,
        draft=draft,
        settled=conversion.settled,
        release=table.release,
        compared=[comparison.of(each) for each in answered],
        elsewhere=_compared_at(everywhere, foreign.proxy, more, sources, comparison, step),
        odd=odd,
    )


def _compared_at(
    everywhere: Sequence[ProxyEntrance],
    proxy: Proxy,
    asked: Sequence[Probe],
    sources: tuple[str, ...],
    comparison: Comparison,
    step: Callable[[int, str], None],
) -> list[Compared]:
    """The same requests at each name and port."""
    found: list[Compared] = []
    for where in everywhere:
        step(0, str(where))
        for chosen in dict.fromkeys((sources[:1], sources)):
            each_answer = answers(proxy, asked, partial(_at, where), chosen)
            found += [comparison.of(each) for each in each_answer if len(chosen) == 1 or each.closed]
        step(1, "")
    return found


def _at(where: ProxyEntrance, _probe: Probe) -> ProxyEntrance:
    return where


def _home(proxy: Proxy, entrances: Sequence[ProxyEntrance], plain: Sequence[Probe], said: str) -> ProxyEntrance:
    """Where clients find the homeserver: of the names that may be meant, that for which most upstreams are chosen."""
    some = plain[:: max(1, len(plain) // 50)]

    def variety(where: ProxyEntrance) -> tuple[bool, bool, bool, int, int, bool]:
        verdicts = [proxy.verdict(probe.asked(where)) for probe in some]
        pools = {verdict.pool for verdict in verdicts if verdict.action == "forward"}
        forwarded = sum(verdict.action == "forward" for verdict in verdicts)
        clients = proxy.verdict(where.asked("GET", "/_matrix/client/versions", OUTSIDE)).action == "forward"
        return clients, where.port not in _FEDERATION_PORTS, where.named, len(pools), forwarded, where.tls

    meant = [each for each in entrances if _bare(each.host) == said] if said else []
    below = [each for each in entrances if _bare(each.host).endswith(f".{said}")] if said else []
    candidates = below if not any(variety(each)[0] for each in meant) else meant
    best = max(candidates or meant or entrances or [ProxyEntrance("matrix.invalid")], key=variety)
    return evolve(best, host=said, named=True) if said and not candidates and not meant else best


def _bare(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _entrance(
    proxy: Proxy, entrances: Sequence[ProxyEntrance], home: ProxyEntrance
) -> Callable[[Probe], ProxyEntrance]:
    """Where a request usually comes in: other servers come to a port of their own, where there is one."""
    version = "/_matrix/federation/v1/version"
    ports = [each for each in entrances if each.port in _FEDERATION_PORTS and each.host == home.host]
    ports += [each for each in entrances if each.port in _FEDERATION_PORTS and each not in ports]
    found = next(
        (each for each in ports if proxy.verdict(each.asked("GET", version, OUTSIDE)).action == "forward"), home
    )

    def entrance(probe: Probe) -> ProxyEntrance:
        return found if probe.path[:2] in (("_matrix", "federation"), ("_matrix", "key")) else home

    return entrance


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


def _existing(rows: Sequence[Endpoint], synapse: SynapseFiles | None) -> Sequence[Endpoint]:
    """The endpoints that this homeserver has."""
    if synapse is None:
        return rows
    features = synapse.topology.features
    return [
        row
        for row in rows
        if all(need == "media_repo" or not features.isdisjoint(need.split("|")) for need in row.needs)
    ]


def _plan_or_none(draft: Draft, rows: Sequence[Endpoint], synapse: SynapseFiles | None) -> Plan | None:
    """The plan; None where there is nothing to forward to, which `check` will say of the draft."""
    try:
        return plan_of(draft, rows, synapse)
    except ConfigError:
        return None


def plan_of(draft: Draft, rows: Sequence[Endpoint], synapse: SynapseFiles | None = None) -> Plan:
    """The plan of a draft. Raises ConfigError where it is none."""
    settings = settle(parse_document(draft.text("a test").encode(), "/sidecar.yaml"))
    if synapse is None:
        return compile_plan(settings, planned_workers(settings), rows, Facts())
    workers, facts = workers_of(state_workers(synapse.topology, settings.workers), settings)
    return compile_plan(settings, workers, rows, facts)


def by_place(compared: Iterable[Compared]) -> dict[Position, list[Compared]]:
    """The comparisons by the line that decided there."""
    found: dict[Position, list[Compared]] = {}
    for each in compared:
        if each.answered.verdict.place is not None:
            found.setdefault(each.answered.verdict.place, []).append(each)
    return found
