"""Who serves a pool, told part by part, and who takes over when workers are down or drained.

The endpoint rows of one pool need not have the same workers, nor the same substitutes: what is true of a pool as a
whole may be false for each of its requests. A part is what is alike. Everything that is told about a pool comes from
here. Pure: which workers take requests is asked of the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from attrs import evolve, frozen

from sidecar.routing.seats import Seats, holders_of

Takes = Callable[[str], bool]
"""Whether new requests are given to the worker of this name."""
By = Literal["workers", "fallback", "nobody", "unmounted"]
SERVED_BY: tuple[By, ...] = get_args(By)

_READING = frozenset(("GET", "HEAD"))
_SHOWN = 3
"""Most endpoints that the name of a part lists."""


@frozen(kw_only=True)
class Turn:
    """Who gets the requests of a part at a moment."""

    by: By
    """`workers`: its own. `fallback`: others. `nobody`: they wait, and are then answered 503. `unmounted`: no process
    has the endpoints, and main answers 404."""
    workers: tuple[str, ...] = ()


@frozen(kw_only=True)
class Lane:
    """One endpoint row, or the requests that a route of the configuration sends to a pool."""

    pool: str
    endpoint: str
    methods: frozenset[str] = frozenset()
    workers: tuple[str, ...] = ()
    fallback: tuple[tuple[str, ...], ...] = ()
    seats: Seats = ()
    named: tuple[str, ...] = ()
    share: str = ""
    mounted: bool = True
    required: bool = True
    open: bool = True
    """Clients can reach it: `access` does not close it to everybody, and no route takes all of its requests."""


@frozen(kw_only=True)
class PoolPart:
    """Rows of one pool that the same workers serve and the same others take over."""

    name: str
    """The pool's name, with the endpoints where the pool has other parts."""
    pool: str
    endpoints: tuple[str, ...] = ()
    rows: int = 1
    workers: tuple[str, ...] = ()
    fallback: tuple[tuple[str, ...], ...] = ()
    """Groups of workers: the first group in which anybody is up takes over."""
    seats: Seats = ()
    """Where not all of `workers` share the keys: for each part of the keys the workers in the order in which they take
    it (`sidecar.routing.seats`)."""
    named: tuple[str, ...] = ()
    """Workers that Synapse's files name for it and that cannot be reached, where nobody else can serve it."""
    share: str = ""
    """Which requests for the endpoints these are, where not all go to the same workers."""
    mounted: bool = True
    """Any process has the endpoints."""
    open: bool = True
    """Clients can reach it; else `access` closes all that the pool has, or routes take it."""
    required: bool = True
    """The sidecar is not ready while nobody serves it."""

    def now(self, takes: Takes) -> Turn:
        """Who gets its requests, given who takes any."""
        if not self.mounted:
            return Turn(by="unmounted", workers=self.workers)
        own = tuple(filter(takes, self.workers))
        if own:
            return Turn(by="workers", workers=_sitting(self.seats, takes) or own)
        substitutes = (tuple(filter(takes, group)) for group in self.fallback)
        others: tuple[str, ...] = next(filter(None, substitutes), ())
        return Turn(by="fallback", workers=others) if others else Turn(by="nobody")

    @property
    def sharing(self) -> tuple[str, ...]:
        """The workers among which its requests are divided while all are up."""
        return holders_of(self.seats) or self.workers

    @property
    def reserve(self) -> tuple[str, ...]:
        """Those that replace them, in the order of the first of them."""
        return tuple(name for name in (self.seats[0] if self.seats else ()) if name not in self.sharing)

    def without(self, takes: Takes, name: str) -> Turn | None:
        """Who gets its requests that the worker `name` would get, if that is drained; None where it would get none."""

        def others(other: str) -> bool:
            return other != name and takes(other)

        if name not in self.sharing and name not in self.now(takes).workers:
            return None
        turn = self.now(others)
        if turn.by != "workers" or not self.seats:
            return turn
        left = tuple(order for order in self.seats if name in (order[0], next(filter(takes, order), None)))
        return Turn(by="workers", workers=_sitting(left, others))

    @property
    def what(self) -> str:
        """Which of the pool's endpoints these are; the name of the pool, where it has no other part."""
        return self.name.removeprefix(f"{self.pool} (").removesuffix(")")

    @property
    def everybody(self) -> tuple[str, ...]:
        """Its workers and all who could take over, each once."""
        return tuple(dict.fromkeys((*self.workers, *(name for group in self.fallback for name in group))))


def drained(parts: Iterable[PoolPart], takes: Takes, name: str) -> Iterator[tuple[PoolPart, Turn]]:
    """The parts that the drain of a worker concerns, with who gets their requests then.

    Those are its own parts, and those of others whose requests it gets at this moment.
    """
    for part in parts:
        turn = part.without(takes, name) if part.mounted and part.open else None
        if turn is not None:
            yield part, turn


def _sitting(seats: Seats, takes: Takes) -> tuple[str, ...]:
    """Who has the keys of each seat now."""
    return tuple(dict.fromkeys(worker for order in seats if (worker := next(filter(takes, order), None)) is not None))


def parts_of(lanes: Iterable[Lane]) -> dict[str, tuple[PoolPart, ...]]:
    """The parts of each pool. Rows that no client can reach count only where a pool has no others."""
    pools: dict[str, list[Lane]] = {}
    for lane in lanes:
        pools.setdefault(lane.pool, []).append(lane)
    return {
        pool: tuple(_parts(pool, [lane for lane in own if lane.open] or [evolve(lane, required=False) for lane in own]))
        for pool, own in pools.items()
    }


def _parts(pool: str, lanes: Sequence[Lane]) -> Iterator[PoolPart]:
    groups: dict[object, list[Lane]] = {}
    for lane in lanes:
        alike = (lane.workers, lane.fallback, lane.seats, lane.named, lane.share, lane.mounted, lane.required)
        groups.setdefault(alike, []).append(lane)
    if any(lane.mounted for lane in lanes):
        # What no process has is no part of what the pool does.
        groups = {alike: group for alike, group in groups.items() if group[0].mounted}
    for name, group in zip(_names(list(groups.values())), groups.values(), strict=True):
        yield PoolPart(
            name=f"{pool} ({name})" if name else pool,
            pool=pool,
            endpoints=tuple(dict.fromkeys(lane.endpoint for lane in group)),
            rows=len(group),
            workers=group[0].workers,
            fallback=group[0].fallback,
            seats=group[0].seats,
            named=group[0].named,
            share=group[0].share,
            mounted=group[0].mounted,
            open=group[0].open,
            required=group[0].required,
        )


def _names(groups: Sequence[Sequence[Lane]]) -> Iterator[str]:
    """What tells each part of a pool from the others; nothing where there is but one."""
    reads = [all(lane.methods and lane.methods <= _READING for lane in group) for group in groups]
    writes = [all(lane.methods and lane.methods.isdisjoint(_READING) for lane in group) for group in groups]
    places = Counter(endpoint for group in groups for endpoint in {lane.endpoint for lane in group})
    for number, group in enumerate(groups):
        if len(groups) == 1:
            yield ""
        elif group[0].share:
            yield group[0].share
        elif sum(reads) == sum(writes) == 1 and len(groups) == 2:
            yield "reading" if reads[number] else "writing"
        else:
            yield _listed(group, places)


def _listed(group: Sequence[Lane], places: Mapping[str, int]) -> str:
    """The endpoints of a part; with their methods, where another part has the same endpoint."""
    methods: dict[str, set[str]] = {}
    for lane in group:
        methods.setdefault(lane.endpoint, set()).update(lane.methods - {"HEAD"})
    names = [
        f"{'/'.join(sorted(verbs))} {endpoint}" if places[endpoint] > 1 and verbs else endpoint
        for endpoint, verbs in methods.items()
    ]
    more = len(names) - _SHOWN
    return ", ".join(names if more <= 1 else (*names[:_SHOWN], f"{more} more"))
