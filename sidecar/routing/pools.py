"""Who is in which pool, seen from each endpoint: what a process serves, which streams it writes, what the file says.

Roles follow from what a process can serve, never from its name. Knows nothing of requests or keys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from attrs import evolve, frozen

from sidecar.config.schema import Pool
from sidecar.routing.matcher import alternatives
from sidecar.routing.seats import Seats, reweighted, seats_of
from sidecar.routing.workers import Facts, PlannedWorker
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.mas import MAS
from sidecar.synapse.names import MAIN, MASTER, STREAMS

EVENTS = "events"
ROOMS = "rooms"
SYNC = "sync"
SLIDING_SYNC = "sliding_sync"
CLIENT = "client"
BUILT_IN = (
    MAIN,
    SYNC,
    "initial_sync",
    SLIDING_SYNC,
    CLIENT,
    ROOMS,
    "federation",
    "federation_send",
    "media",
    "user_directory",
    "sso",
    *(stream for stream in STREAMS if stream != EVENTS),
    EVENTS,
    MAS,
)
LIKE_SYNC = ("initial_sync", SLIDING_SYNC)
COALESCE = 0.1
"""Seconds for which a sync of a burst is held back by default (docs/homeserver.md has what that saves)."""


@frozen
class Pools:
    """Membership of pools, worked out for one endpoint at a time."""

    workers: Mapping[str, PlannedWorker]
    main: PlannedWorker
    facts: Facts
    settings: Mapping[str, Pool]
    named: Mapping[str, tuple[str, ...]]
    """Workers of the pools that the file spells out, globs unfolded."""
    writers: Mapping[str, tuple[str, ...]]
    """For each stream, in the order of `stream_writers`."""
    stated: frozenset[str]
    """Streams whose writers are known, and not guessed from the pool that carries the name."""
    dedicated: frozenset[str]
    """Workers that write a stream and therefore get nothing else unless nobody else can."""

    def exists(self, row: Endpoint) -> bool:
        """Whether any process has the endpoint under this configuration."""
        needs = (need.split("|") for need in row.needs if need != "media_repo")
        return not self.facts.known or all(not self.facts.features.isdisjoint(choice) for choice in needs)

    def serves(self, worker: PlannedWorker, row: Endpoint) -> bool:
        """Whether a request for the endpoint is in good hands with this process."""
        if row.group == MAS:
            return not worker.serves
        resources = row.resources if worker.is_main else row.worker_resources
        if not resources & worker.serves or ("media_repo" in row.needs and not worker.media):
            return False
        return not (row.hard and row.stream) or worker.name in self.writers[row.stream or ""]

    def is_mounted(self, row: Endpoint | None, members: Collection[str]) -> bool:
        """Whether `members` have the endpoint; main is among them, too, for what no process has, to answer 404."""
        return row is None or set(members) != {self.main.name} or self.serves(self.main, row)

    def named_for(self, row: Endpoint) -> tuple[str, ...]:
        """The workers to which Synapse's files give an endpoint that not every process can serve."""
        if row.hard and row.stream is not None:
            return tuple(name for name in self.writers[row.stream] if name != self.main.name)
        return self.facts.media if "media_repo" in row.needs else ()

    def pool_of(self, row: Endpoint) -> str:
        """The pool of an endpoint. Sends go to the event persisters where those can be reached."""
        if row.stream == EVENTS and row.group != MAIN:
            return EVENTS if EVENTS in self.named or self._reachable_persisters(row) else ROOMS
        return row.group

    def members(self, pool: str, row: Endpoint) -> tuple[PlannedWorker, ...]:
        """The workers of a pool that serve the endpoint."""
        if pool == MAIN:
            return (self.main,)
        if pool in self.named:
            return tuple(each for each in self._listed(self.named[pool]) if self.serves(each, row))
        if pool == MAS and self.facts.mas is not None:
            return tuple(self._listed((self.facts.mas.name,)))
        if pool in LIKE_SYNC:
            return self.members(SYNC, row)
        if pool == EVENTS:
            return self._persisters(row)
        if pool == row.stream:
            return self._writers(row)
        if pool == CLIENT:
            # What every listener resource serves must not bring workers without clients into their pool.
            return tuple(each for each in self.able(row) if CLIENT in each.serves) or self.able(row)
        return self.able(row)

    def spread(self, pool: str, count: int) -> int | None:
        """How many of `count` workers share the keys of a pool; None: all, as where the file says who they are."""
        stated = self.settings[pool].spread if pool in self.settings else None
        if stated is not None or pool in self.named:
            return stated
        if pool in LIKE_SYNC:
            return self.spread(SYNC, count)
        return (count + 1) // 2 if pool == SYNC else None

    def seats(self, pool: str, names: Collection[str]) -> tuple[Seats, tuple[float, ...]]:
        """Who of these workers shares the keys of a pool, who is next, and how large each share is; empty where all do.

        A user who syncs in one way and then in another stays with one worker.
        """
        standing = {name: self.workers[name].standing for name in names}
        count = self.spread(pool, len(standing))
        if count is None:
            return (), ()
        seats = seats_of(standing, count, SYNC if pool in LIKE_SYNC else pool)
        return reweighted(seats, standing, {name: self.workers[name].share for name in names})

    def coalesce(self, pool: str) -> float:
        """Seconds for which the long polls of a pool are held back."""
        stated = self.settings[pool].coalesce if pool in self.settings else None
        if stated is not None:
            return stated
        if pool == SLIDING_SYNC:
            return self.coalesce(SYNC)
        return COALESCE if pool == SYNC else 0.0

    def able(self, row: Endpoint) -> tuple[PlannedWorker, ...]:
        """All workers that serve the endpoint; dedicated writers only if nobody else does, main if no worker does."""
        workers = [each for each in self.workers.values() if not each.is_main and each.standing > 0]
        serving = [each for each in workers if self.serves(each, row)]
        free = [each for each in serving if each.name not in self.dedicated]
        return tuple(free or serving) or ((self.main,) if self.serves(self.main, row) else ())

    def fallbacks(self, pool: str, row: Endpoint) -> tuple[str, ...]:
        """The pools that take a request for the endpoint when all workers of `pool` are down."""
        stated = self.settings[pool].fallback if pool in self.settings else None
        if stated is not None:
            return stated
        if pool == MAIN or row.hard or self.waits(pool, row):
            return ()
        if pool in LIKE_SYNC:
            return (SYNC, MAIN)
        if pool == EVENTS:
            return (ROOMS, MAIN)
        return (CLIENT, MAIN) if pool == row.stream else (MAIN,)

    def waits(self, pool: str, row: Endpoint) -> bool:
        """Whether a request for the endpoint waits for its writer, because any other process only passes it on.

        Synapse tries a writer that is down again after 1, 3, 7, 15 and 31 seconds, and then gives up; here the request
        is sent as soon as the writer is back.
        """
        if row.stream not in self.stated or "GET" in row.methods:
            return False
        members = [each for each in self.members(pool, row) if each.standing > 0]
        return bool(members) and all(each.name in self.writers[row.stream or ""] for each in members)

    def after(self, pool: str, row: Endpoint) -> list[tuple[PlannedWorker, ...]]:
        """The members of the fallback pools that serve the endpoint."""
        found = [self.members(name, row) for name in self.fallbacks(pool, row)]
        return [kept for members in found if (kept := tuple(each for each in members if self.serves(each, row)))]

    def _writers(self, row: Endpoint) -> tuple[PlannedWorker, ...]:
        writers = [each for each in self._listed(self.writers[row.stream or ""]) if self.serves(each, row)]
        if row.hard or any(not each.is_main for each in writers):
            return tuple(writers)
        return self.members(CLIENT, row)

    def _persisters(self, row: Endpoint) -> tuple[PlannedWorker, ...]:
        reachable = self._reachable_persisters(row)
        if len(reachable) == len(self.writers[EVENTS]):
            return reachable
        others = [each for each in self.members(ROOMS, row) if each not in reachable]
        return (*reachable, *others)

    def _reachable_persisters(self, row: Endpoint) -> tuple[PlannedWorker, ...]:
        writers = self._listed(self.writers[EVENTS])
        reachable = tuple(each for each in writers if self.serves(each, row) and each.standing > 0)
        return () if reachable == (self.main,) else reachable

    def _listed(self, names: Sequence[str]) -> list[PlannedWorker]:
        return [self.workers[name] for name in names if name in self.workers]


def form_pools(workers: Mapping[str, PlannedWorker], settings: Mapping[str, Pool], facts: Facts) -> Pools:
    """Membership from processes and from `pools:`. `workers` holds exactly one main process."""
    main = next(each for each in workers.values() if each.is_main)
    named = {name: _unfold(pool.workers, workers) for name, pool in settings.items() if pool.workers is not None}
    writers = {stream: _writers_of(stream, workers, named, facts, main.name) for stream in STREAMS}
    stated = frozenset(STREAMS) if facts.known else frozenset(s for s in STREAMS if _stated(s, workers, facts))
    dedicated = {name for names in writers.values() for name in names if name != main.name}
    return Pools(workers, main, facts, settings, named, writers, stated, frozenset(dedicated))


def _unfold(patterns: Sequence[str], names: Mapping[str, object]) -> tuple[str, ...]:
    """The names that the patterns mean, each once, in the order of the patterns."""
    return tuple(dict.fromkeys(name for pattern in patterns for name in names if fnmatchcase(name, pattern)))


def _writers_of(
    stream: str, workers: Mapping[str, PlannedWorker], named: Mapping[str, tuple[str, ...]], facts: Facts, main: str
) -> tuple[str, ...]:
    """Declared writers; in a topology spelled out by hand, the workers of the stream's own pool; else main."""
    stated = _stated(stream, workers, facts)
    if facts.known or (stated and stated != (MAIN,)):
        return tuple(main if name in (MASTER, MAIN) else name for name in stated) or (main,)
    return named.get(stream) or (main,)


def _stated(stream: str, workers: Mapping[str, PlannedWorker], facts: Facts) -> tuple[str, ...]:
    return facts.writers.get(stream) or tuple(name for name, worker in workers.items() if stream in worker.writes)


def by_method(rows: Iterable[Endpoint]) -> Iterator[Endpoint]:
    """The rows, with methods apart that go to different places: those that send an event, and reads of a stream that
    anybody answers from writes that its writer does."""
    for row in _with_sends(rows):
        reads = row.methods & _READING_METHODS
        if row.stream is not None and not row.hard and reads and reads != row.methods:
            yield evolve(row, methods=reads)
            row = evolve(row, methods=row.methods - reads)
        yield row


def _with_sends(rows: Iterable[Endpoint]) -> Iterator[Endpoint]:
    """The rows, with those methods that send an event into a room set apart as belonging to the stream `events`."""
    for row in rows:
        sends = row.methods & _SENDING_METHODS if row.group == ROOMS and _is_send(row) else frozenset[str]()
        if sends and row.stream is None:
            yield evolve(row, methods=sends, stream=EVENTS)
            row = evolve(row, methods=row.methods - sends)
        if row.methods:
            yield row


_READING_METHODS = frozenset(("GET", "HEAD"))
_SENDING_METHODS = frozenset(("PUT", "POST"))
_SENDING = frozenset(["send", "redact", "state", "join", "invite", "leave", "ban", "unban", "kick", "knock"])


def _is_send(row: Endpoint) -> bool:
    # What can be named by an alias has no writer that is known, and an alias must not choose another pool than an id.
    return row.key != "room_identifier" and any(not _SENDING.isdisjoint(alternatives(segment)) for segment in row.path)
