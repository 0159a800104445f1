"""What `/api/status?all` reported, as one picture: sums where numbers can be added, each state where they differ. Pure.

Times are the longest of any instance, because percentiles cannot be added. What nothing else is said of, such as who
is in a pool, is as the instance that was asked says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from attrs import evolve, frozen

from sidecar.admin.columns import gravity, state_word
from sidecar.admin.instances import NONE
from sidecar.admin.snapshot import (
    BalancerFacts,
    Failures,
    Happened,
    InstanceFacts,
    Lately,
    Misroutes,
    PoolFacts,
    ProcessFacts,
    RecentWhole,
    RecentWorker,
    ServerFacts,
    Snapshot,
    WorkerFacts,
    snapshot,
    where_each,
)
from sidecar.admin.verdict import verdict
from sidecar.plurals import counted

MOST_EVENTS = 200
"""How many events of all instances are listed; the newest."""
T = TypeVar("T")
Number = TypeVar("Number", int, float)


@frozen
class _Answered:
    """An instance that has answered."""

    name: str
    facts: Snapshot


def snapshot_of(told: Mapping[str, Any]) -> Snapshot:
    """The values of what `/api/status` reported, of one instance or of all. Raises ValueError where it is neither."""
    listed = told.get("instances")
    if listed is None:
        return snapshot(told)
    try:
        rows = [_instance(each) for each in listed]
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{error}") from error
    seen = [_Answered(row.name, facts) for row, facts in rows if facts is not None]
    if not rows or rows[0][1] is None:
        raise ValueError("the instance that was asked does not say how it is")
    if len(rows) == 1:
        return seen[0].facts
    return _merged(seen, tuple(row for row, _ in rows))


def _instance(told: Mapping[str, Any]) -> tuple[InstanceFacts, Snapshot | None]:
    """The row of one instance, and how it is; None where it does not say."""
    row = InstanceFacts(
        name=str(told["name"]),
        endpoint=str(told.get("endpoint", "")),
        own=bool(told.get("own")),
        why=str(told.get("why", "")),
        remark=str(told.get("remark", "")),
    )
    if told.get("status") is None:
        return row, None
    try:
        facts = snapshot(told["status"])
    except ValueError:
        return evolve(row, why=NONE), None
    found = verdict(facts)
    return (
        evolve(
            row,
            answered=True,
            why="",
            kind=found.kind,
            word=found.word,
            told=found.told,
            host=facts.host,
            version=facts.version,
            uptime=facts.uptime,
            requests_per_second=facts.recent.per_second.get("requests"),
            in_flight=facts.in_flight,
            waiting=facts.waiting,
            clients=facts.counters.get("connections_open", 0),
            cpu=facts.process.cpu,
            memory=facts.process.memory,
        ),
        facts,
    )


def _merged(seen: Sequence[_Answered], rows: tuple[InstanceFacts, ...]) -> Snapshot:
    own, all_ = seen[0].facts, [each.facts for each in seen]
    return evolve(
        own,
        instances=rows,
        ready=all(facts.ready for facts in all_),
        reasons=_named(seen, lambda facts: facts.reasons),
        stopping=all(facts.stopping for facts in all_),
        maintenance=next((facts.maintenance for facts in all_ if facts.maintenance is not None), None),
        counters=_summed([facts.counters for facts in all_]),
        workers={name: _worker(name, seen) for name in _names(facts.workers for facts in all_)},
        leaving=tuple(worker for facts in all_ for worker in facts.leaving),
        pools=_each(own.pools, [facts.pools for facts in all_], _pool),
        balancers={name: _balancer(name, balancer, seen) for name, balancer in own.balancers.items()},
        misroutes=_misroutes(all_),
        problems=_named(seen, lambda facts: facts.problems),
        errors=max(facts.errors for facts in all_),
        recent=_whole([facts.recent for facts in all_]),
        events=_events(seen),
        hour=_hour([facts.hour for facts in all_]),
        busiest=_each({}, [facts.busiest for facts in all_], _lately),
        process=_process([facts.process for facts in all_]),
    )


# Numbers.


def _total(values: Iterable[Number | None]) -> Number | None:
    """The sum of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _summed(mappings: Sequence[Mapping[str, Number]]) -> dict[str, Number]:
    return {name: sum(each[name] for each in mappings if name in each) for name in _names(mappings)}


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of all, those of the first one first."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _each(
    first: Mapping[str, T], mappings: Sequence[Mapping[str, T]], merge: Callable[[Sequence[T]], T]
) -> dict[str, T]:
    """By name what becomes of all that have it; where `first` is not empty, of its names only."""
    return {name: merge([each[name] for each in mappings if name in each]) for name in first or _names(mappings)}


def _curve(curves: Sequence[Sequence[float | None]], join: Callable[[Iterable[float | None]], float | None]) -> Any:
    """Point by point from the newest back: an instance that began later has fewer of them."""
    joined = [join(points) for points in zip_longest(*(curve[::-1] for curve in curves))]
    return tuple(joined[::-1])


# Parts.


def _named(seen: Sequence[_Answered], texts: Callable[[Snapshot], Sequence[str]]) -> tuple[str, ...]:
    """Sentences; one that not all say begins with who does."""
    who: dict[str, list[str]] = {}
    for each in seen:
        for text in texts(each.facts):
            who.setdefault(text, []).append(each.name)
    return tuple(text if len(names) == len(seen) else f"{', '.join(names)}: {text}" for text, names in who.items())


def _worker(name: str, seen: Sequence[_Answered]) -> WorkerFacts:
    """One worker as all see it: its state is the worst of them."""
    found = {each.name: each.facts.workers[name] for each in seen if name in each.facts.workers}
    workers = list(found.values())
    words = {instance: state_word(worker) for instance, worker in found.items()}
    adjusted = {instance: worker.adjusted for instance, worker in found.items()}
    worst = min(workers, key=gravity)
    return evolve(
        worst,
        states=words if len(set(words.values())) > 1 else {},
        weight=workers[0].weight,
        maximum=workers[0].maximum,
        overrides=workers[0].overrides,
        adjustments=adjusted if len(set(adjusted.values())) > 1 else {},
        **{field: sum(getattr(each, field) for each in workers) for field in _COUNTS},
        recent=_recent_worker([worker.recent for worker in workers]),
    )


_COUNTS = ("changes", "leased", "idle", "connecting", "waiting", "connects", "failures", "cuts")


def _measures(found: Sequence[RecentWorker] | Sequence[Lately]) -> dict[str, Any]:
    """What is measured of a worker as of anything else."""
    return {
        "requests_per_second": _total(each.requests_per_second for each in found),
        "errors": sum(each.errors for each in found),
        "p50": _most(each.p50 for each in found),
        "p99": _most(each.p99 for each in found),
        "slowest": _most(each.slowest for each in found),
    }


def _recent_worker(found: Sequence[RecentWorker]) -> RecentWorker:
    return evolve(
        found[0],
        **_measures(found),
        curve=_curve([each.curve for each in found], _total),
        hour=_curve([each.hour for each in found], _total),
    )


def _lately(found: Sequence[Lately]) -> Lately:
    return evolve(
        found[0],
        **_measures(found),
        requests=sum(each.requests for each in found),
        seconds=_total(each.seconds for each in found),
    )


def _pool(found: Sequence[PoolFacts]) -> PoolFacts:
    """Its members are those of the first; how many it may serve at once adds up, as each instance has its own limit."""
    return evolve(
        found[0],
        running=_total(each.running for each in found),
        waiting=sum(each.waiting for each in found),
        admitted=_total(each.admitted for each in found),
        concurrency=sum(each.concurrency for each in found) if all(each.concurrency for each in found) else 0,
        queued=_total(each.queued for each in found),
        asking=sum(each.asking for each in found),
        recent=_lately([each.recent for each in found]),
    )


def _balancer(name: str, own: BalancerFacts, seen: Sequence[_Answered]) -> BalancerFacts:
    found = {each.name: each.facts.balancers[name] for each in seen if name in each.facts.balancers}
    return evolve(
        own,
        connections=sum(each.connections for each in found.values()),
        most=sum(each.most for each in found.values()),
        waiting=sum(each.waiting for each in found.values()),
        servers={server: _server(server, found) for server in own.servers},
    )


def _server(name: str, found: Mapping[str, BalancerFacts]) -> ServerFacts:
    servers = {instance: each.servers[name] for instance, each in found.items() if name in each.servers}
    states = {instance: server.state for instance, server in servers.items()}
    differ = len(set(states.values())) > 1
    worst = min(servers.values(), key=lambda server: (server.state == "up", server.state == "draining"))
    told = f"{where_each(states)}{f' ({worst.reason})' if worst.reason else ''}" if differ else worst.reason
    return evolve(
        worst,
        reason=told,
        **{field: sum(getattr(each, field) for each in servers.values()) for field in _OF_SERVERS},
        most=_total(each.most for each in servers.values()),
    )


_OF_SERVERS = ("changes", "connections", "failures", "bytes_up", "bytes_down")


def _misroutes(all_: Sequence[Snapshot]) -> tuple[Misroutes, ...]:
    found: dict[tuple[str, str], list[Misroutes]] = {}
    for facts in all_:
        for each in facts.misroutes:
            found.setdefault((each.endpoint, each.worker), []).append(each)
    return tuple(
        evolve(
            same[0],
            count=sum(each.count for each in same),
            ago=min((each.ago for each in same if each.ago is not None), default=None),
        )
        for same in found.values()
    )


def _failures(found: Iterable[Sequence[Failures]]) -> tuple[Failures, ...]:
    by_kind: dict[tuple[str, str], list[Failures]] = {}
    for failures in found:
        for each in failures:
            by_kind.setdefault((each.pool, each.reason), []).append(each)
    return tuple(evolve(same[0], count=sum(each.count for each in same)) for same in by_kind.values())


def _whole(found: Sequence[RecentWhole]) -> RecentWhole:
    return evolve(
        found[0],
        per_second=_summed([each.per_second for each in found]),
        more=_summed([each.more for each in found]),
        failures=_failures(each.failures for each in found),
        refusals=_failures(each.refusals for each in found),
        statuses=_summed([each.statuses for each in found]),
    )


def _events(seen: Sequence[_Answered]) -> tuple[Happened, ...]:
    events = [evolve(event, instance=each.name) for each in seen for event in each.facts.events]
    return tuple(sorted(events, key=lambda event: event.ago)[:MOST_EVENTS])


def _hour(found: Sequence[Mapping[str, Sequence[float | None]]]) -> dict[str, tuple[float | None, ...]]:
    """Rates and counts add up; of times it is the longest."""
    return {
        name: _curve([each[name] for each in found if name in each], _total if name in _ADDED else _most)
        for name in _names(found)
    }


_ADDED = frozenset(("rate", "errors", "waiting"))


def _process(found: Sequence[ProcessFacts]) -> ProcessFacts:
    return evolve(
        found[0],
        cpu=_total(each.cpu for each in found),
        memory=_total(each.memory for each in found),
        files=_total(each.files for each in found),
        files_limit=_total(each.files_limit for each in found),
        connections_limit=_total(each.connections_limit for each in found),
    )


def instances_told(facts: Snapshot) -> str:
    """`all 3 instances`, and who of them does not answer."""
    silent = ", ".join(each.name for each in facts.silent)
    but = f"; {silent} {'does' if len(facts.silent) == 1 else 'do'} not answer" if silent else ""
    return f"all {counted(len(facts.instances), 'instance')}{but}"
