"""What a proxy needs to know to send each request where the sidecar sends it: ordered rules and the groups they choose.

Read from a plan, in no proxy's language. Knows nothing of nginx, HAProxy or Caddy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, evolve, field, frozen

from sidecar.config.endpoint_strings import ListenAddress, entrance, place_of
from sidecar.config.schema import Network, Route, Settings
from sidecar.exporting.responses import FixedResponse, response_of
from sidecar.routing.decision import DEFAULTS
from sidecar.routing.matcher import alternatives
from sidecar.routing.plan import Plan, PlannedPool, Step
from sidecar.routing.seats import holders_of

INITIAL, LATER = "initial", "later"
"""A sync without a position in the stream, and one that goes on from its position."""


@frozen
class SocketAddress:
    """Where a process listens: the path of a UNIX socket, or a host and a port."""

    path: str = ""
    host: str = ""
    port: str = ""


@frozen
class Member:
    """A worker of a group."""

    name: str
    place: SocketAddress
    weight: int = 1
    backup: bool = False
    """It gets requests only when all others are down."""


@frozen
class Group:
    """Workers that take the same requests in the same way: an upstream, a backend."""

    name: str
    members: tuple[Member, ...]
    kind: str
    """What keeps requests together, as `affinity` of the configuration."""
    synapse: bool = True
    """Its workers are processes of Synapse."""
    strip: str = ""
    """What is taken from the beginning of a path before its workers get it; `add` comes there then."""
    add: str = ""
    reserve: tuple[str, ...] = ()
    """Those of the backups that in the sidecar replace any worker that is down (`pools.NAME.spread`)."""

    @property
    def first(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if not member.backup)

    @property
    def backups(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.backup)


@frozen
class Destination:
    """A group, and where in the divided path the key stands (0: nowhere)."""

    group: Group
    key_at: int = 0

    @property
    def label(self) -> str:
        """One word for both; the number after the colon counts segments, the first one is 1."""
        return f"{self.group.name}:{self.key_at}" if self.key_at else self.group.name


@frozen
class TableRule:
    """Methods and a shape of path, in the notation of `sidecar.synapse.endpoint_rows.Endpoint.path`."""

    methods: tuple[str, ...]
    path: tuple[str, ...]
    choice: Destination
    sync: str = ""
    """`INITIAL`, `LATER` or empty, where the position does not matter."""
    position: str = ""
    """Query parameter with the position."""

    @property
    def pattern(self) -> str:
        """An expression for method, a blank, and path with query; nginx, HAProxy and Caddy all understand it."""
        methods = self.methods[0] if len(self.methods) == 1 else f"(?:{'|'.join(self.methods)})"
        path = "".join(f"/{_expression(segment)}" for segment in self.path)
        return f"{methods} {path}{self._query}"

    @property
    def _query(self) -> str:
        if self.sync == INITIAL:
            return "[?](?:.*&)?full_state=true(?:&.*)?$"
        return f"[?](?:.*&)?{self.position}=.*$" if self.sync == LATER else "(?:[?].*)?$"


@frozen
class OwnRule:
    """An entry of `routes:`; `choice` is where it forwards to, if it does."""

    number: int
    route: Route
    choice: Destination | None

    @property
    def answer(self) -> FixedResponse | None:
        """What is answered without asking anybody."""
        return response_of(self.route)

    @property
    def path(self) -> str:
        """An expression for the path with its query."""
        if self.route.path is None:
            return "/.*$"
        segments = self.route.path.removeprefix("/").split("/")
        return "".join(f"/{_expression(segment)}" for segment in segments) + "(?:[?].*)?$"

    @property
    def queries(self) -> tuple[str, ...]:
        """An expression for each condition on the query, to be searched in it."""
        found = (self.route.query or {}).items()
        endings = (("(?:=|&|$)" if value is None else f"={literally(value)}(?:&|$)") for _, value in found)
        return tuple(f"(?:^|&){literally(name)}{ending}" for (name, _), ending in zip(found, endings, strict=True))

    @property
    def likes(self) -> tuple[tuple[str, str], ...]:
        """Names of fields, and an expression for the whole value, without case."""
        likes = (self.route.header_like or {}).items()
        return tuple((name, f"^{'.*'.join(map(literally, pattern.split('*')))}$") for name, pattern in likes)

    @property
    def methods(self) -> tuple[str, ...]:
        methods = tuple(method.upper() for method in self.route.method or ())
        return (*methods, "HEAD") if "GET" in methods and "HEAD" not in methods else methods


@frozen(kw_only=True)
class Exported:
    """Everything that a proxy is told."""

    release: str
    settings: Settings
    listens: tuple[ListenAddress, ...]
    closed: Mapping[str, tuple[Network, ...]]
    """Who may reach what is closed below `/_synapse`, by resource."""
    own: tuple[OwnRule, ...]
    table: tuple[TableRule, ...]
    """The first one that matches counts."""
    rest: Destination
    """For what no rule of the table matches."""
    faulty: Mapping[str, str]
    """Why workers are left out whose files have a fault, by name."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every group that a rule chooses, each once."""
        own = [rule.choice for rule in self.own if rule.choice is not None]
        choices = [*own, *(rule.choice for rule in self.table), self.rest]
        return tuple(dict.fromkeys(choice.group for choice in choices))

    @property
    def keys_at(self) -> tuple[int, ...]:
        """Every place in a path where a key stands."""
        own = [rule.choice for rule in self.own if rule.choice is not None]
        return tuple(sorted({choice.key_at for choice in (*own, *(rule.choice for rule in self.table))} - {0}))


def exported(plan: Plan, settings: Settings, release: str) -> Exported:
    """What the plan of a deployment says, for the endpoints of Synapse `release`."""
    return _Reader(plan, settings, release).exported()


@define(eq=False)
class _Reader:
    plan: Plan
    settings: Settings
    release: str
    groups: dict[tuple[object, ...], Group] = field(factory=dict)
    names: set[str] = field(factory=set)

    def exported(self) -> Exported:
        rest = Destination(self._group(self.plan.unknown))
        networks = self.plan.access.networks
        return Exported(
            release=self.release,
            settings=self.settings,
            listens=tuple(entrance(text) for text in self.settings.listen),
            closed={name: networks.get(name, ()) for name in ("admin", "mas", "metrics", "replication")},
            own=tuple(self._own(number, route) for number, route in enumerate(self.settings.routes)),
            table=_needed(self._table(), rest),
            rest=rest,
            faulty={name: worker.process.fault for name, worker in self.plan.workers.items() if worker.process.fault},
        )

    def _table(self) -> list[TableRule]:
        rules = []
        for row in sorted(self.plan.rows, key=lambda row: tuple(map(_literalness, row.endpoint.path))):
            path = row.endpoint.path
            # Every process answers OPTIONS alike; the first row of a path takes it.
            methods = tuple(sorted({*row.endpoint.methods, "OPTIONS"}))
            step = self.plan.step_of(row)
            choice = self._choice(step, path)
            if step.initial is None:
                rules.append(TableRule(methods, path, choice))
                continue
            position = step.position.decode()
            initial = self._choice(step.initial, path)
            rules.append(TableRule(methods, path, initial, INITIAL))
            rules.append(TableRule(methods, path, choice, LATER, position))
            rules.append(TableRule(methods, path, initial))
        return rules

    def _choice(self, step: Step, path: Sequence[str]) -> Destination:
        key = "" if step.row is None or step.row.affinity != step.kind else step.row.key or ""
        names = (key,) if key else ("room_id", "room_identifier", "room_alias") if step.kind == "room" else ()
        places = (number for number, segment in enumerate(path, start=1) if segment.strip("{+}") in names)
        group = self._group(step)
        return Destination(group, next(places, 0) if len(group.first) > 1 else 0)

    def _group(self, step: Step) -> Group:
        sharing = {name: step.members[name] for name in holders_of(step.seats) or step.members}
        reserve = tuple(name for name in step.members if name not in sharing)
        others = dict.fromkeys(name for group in step.fallback for name in group if name not in step.members)
        return self._grouped(step.pool, sharing, reserve, tuple(others), step.kind)

    def _own(self, number: int, route: Route) -> OwnRule:
        if route.pool is None:
            return OwnRule(number, route, None)
        pool = self.plan.pools[route.pool]
        weights = {name: self.plan.workers[name].weight for name in pool.sharing}
        group = self._grouped(pool.name, weights, pool.reserve, pool.fallback, self._kind(pool))
        return OwnRule(number, route, Destination(group))

    def _kind(self, pool: PlannedPool) -> str:
        """Of an own route: without an endpoint row, only the caller can be told from another."""
        return pool.settings.affinity or ("user" if self._is_synapse(pool.workers) else "none")

    def _is_synapse(self, names: Iterable[str]) -> bool:
        return any(self.plan.workers[name].serves for name in names)

    def _grouped(
        self, pool: str, weights: Mapping[str, float], reserve: Sequence[str], fallback: Sequence[str], kind: str
    ) -> Group:
        kind = kind if len(weights) > 1 else "none"
        settings = self.settings.pools.get(pool, DEFAULTS)
        strip, add = settings.strip_prefix or "", settings.add_prefix or ""
        backups = (*reserve, *fallback)
        known = (tuple(weights.items()), backups, kind, strip, add)
        if known not in self.groups:
            scale = 1 if all(weight == int(weight) for weight in weights.values()) else 100
            first = [self._member(name, max(1, round(weight * scale))) for name, weight in weights.items()]
            others = [self._member(name, 1, backup=True) for name in backups]
            members = [member for member in (*first, *others) if not self.plan.workers[member.name].process.fault]
            if members and members[0].backup:
                # Programs want one that is none.
                members[0] = evolve(members[0], backup=False)
            name, synapse = self._name(pool, kind), self._is_synapse(weights)
            self.groups[known] = Group(name, tuple(members), kind, synapse, strip, add, tuple(reserve))
        return self.groups[known]

    def _member(self, name: str, weight: int, *, backup: bool = False) -> Member:
        kind, rest = place_of(self.plan.workers[name].endpoint) or ("", "")
        place = SocketAddress(path=rest) if kind == "unix" else SocketAddress(host=kind or "127.0.0.1", port=rest)
        return Member(name, place, weight, backup)

    def _name(self, pool: str, kind: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_]", "_", pool)
        wanted = [stem, f"{stem}_by_{kind}", *(f"{stem}_{number}" for number in range(2, 1000))]
        name = next(name for name in wanted if name not in self.names)
        self.names.add(name)
        return name


_LITERAL, _FILLED, _ANY, _REST = range(4)


def _literalness(segment: str) -> int:
    """How early a segment stands among others that match the same."""
    if segment == "**":
        return _REST
    if not segment.startswith("{") or "|" in segment:
        return _LITERAL
    return _FILLED if segment.endswith("+}") else _ANY


def literally(text: str) -> str:
    """An expression that matches `text` and nothing else."""
    return re.sub(r"([.+*?()|{}^$\[\]\\])", r"\\\1", text)


def _expression(segment: str) -> str:
    match _literalness(segment):
        case 0:
            choices = [literally(each) for each in alternatives(segment)]
            return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"
        case 1:
            return "[^/?]+"
        case 2:
            return "[^/?]*"
    return "[^?]*"


def _needed(rules: Sequence[TableRule], rest: Destination) -> tuple[TableRule, ...]:
    """The rules without those that say what holds without them."""
    kept: list[TableRule] = []
    for rule in reversed(rules):
        if rule.choice != rest or any(other.choice != rest and _meet(rule, other) for other in kept):
            kept.append(rule)
    return tuple(reversed(kept))


def _meet(one: TableRule, other: TableRule) -> bool:
    """Whether there are requests that both match."""
    if not set(one.methods) & set(other.methods):
        return False
    for first, second in zip(one.path, other.path, strict=False):
        if "**" in (first, second):
            return True
        if _literalness(first) == _literalness(second) == _LITERAL:
            if not set(alternatives(first)) & set(alternatives(second)):
                return False
        elif "" in (first, second) and _FILLED in (_literalness(first), _literalness(second)):
            return False
    return len(one.path) == len(other.path)
