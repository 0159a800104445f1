"""The part of the status page that changes: what every second is asked for anew and put in the place of the old.

Made from a snapshot alone. Knows no request, no clock and no worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.admin.page import worker_table
from sidecar.admin.page.balancer_table import balancers
from sidecar.admin.page.busiest import busiest
from sidecar.admin.page.event_list import events
from sidecar.admin.page.graphs import graphs
from sidecar.admin.page.hot_keys import hottest
from sidecar.admin.page.instance_table import instance_table
from sidecar.admin.page.markup import Markup, joined, tag
from sidecar.admin.page.pieces import Cell, badge, chips, figure, row, section, table
from sidecar.admin.snapshot import Failures, PoolFacts, ProcessFacts, Snapshot
from sidecar.admin.verdict import verdict
from sidecar.admin.words import NOTHING, duration, number, size
from sidecar.plurals import counted
from sidecar.routing.parts import PoolPart


def live(facts: Snapshot, order: str, time: str, endpoints: str = "") -> Markup:
    """Everything that changes; `order` is the column by which workers are sorted, `time` the moment of this.

    `endpoints` is what endpoints are sorted by.
    """
    parts = (
        _verdict(facts),
        instance_table(facts),
        _figures(facts),
        graphs(facts),
        worker_table.workers(facts, order),
        _waits(facts),
        _failures(facts),
        _refusals(facts),
        _misroutes(facts),
        events(facts),
        busiest(facts, endpoints),
        hottest(facts),
        _configuration(facts),
        _pools(facts),
        balancers(facts),
    )
    return tag("div", parts, id="live", data_title=title(facts), data_time=time)


def title(facts: Snapshot) -> str:
    """What the browser's tab says: the worst first."""
    ailing = facts.ailing
    if facts.stopping:
        told = "stopping"
    elif not facts.ready:
        told = "not ready"
    elif facts.silent:
        told = f"{facts.silent[0].name} does not answer"
    elif ailing:
        told = f"{', '.join(ailing[:2])}{'…' if ailing[2:] else ''} {facts.workers[ailing[0]].state}"
    else:
        told = "ready"
    return f"{told} · {facts.host or 'matrix-sidecar'}"


def _verdict(facts: Snapshot) -> Markup:
    found = verdict(facts)
    content = (badge(found.word, found.kind), tag("span", found.told))
    return tag("p", content, id="verdict", class_=f"verdict of-{found.kind}", aria_live="polite")


def _figures(facts: Snapshot) -> Markup:
    rates, counters = facts.recent.per_second, facts.counters
    failed, refused = (facts.recent.more.get(name, 0) for name in ("failed", "refused"))
    process = facts.process
    most = f" of {number(process.connections_limit)}" if process.connections_limit else ""
    figures = [
        ("Requests", f"{number(rates.get('requests'))}/s", f"{number(counters.get('requests', 0))} since the start"),
        ("In flight", number(facts.in_flight), "requests that a worker has"),
        ("Waiting", number(facts.waiting), "requests in line"),
        ("Failed", number(failed), "in the last minute"),
        ("Refused", number(refused), "in the last minute"),
        ("Clients", number(counters.get("connections_open", 0)), f"connections{most}"),
        ("In", f"{size(rates.get('bytes_up'))}/s", "to workers"),
        ("Out", f"{size(rates.get('bytes_down'))}/s", "to clients"),
        ("Answers", *_statuses(facts)),
        (
            "Processor",
            NOTHING if process.cpu is None else f"{process.cpu:.0%}",
            "of one core" if not facts.instances else "of one core, together",
        ),
        ("Memory", size(process.memory), _files(process)),
    ]
    alarming = {"Waiting": facts.waiting, "Failed": failed}
    tiles = [
        tag("div", tag("dt", name), tag("dd", value), tag("dd", note), class_="warm" if alarming.get(name) else None)
        for name, value, note in figures
    ]
    return tag("dl", tiles, class_="figures")


def _statuses(facts: Snapshot) -> tuple[str, str]:
    """How many of the answers were errors of a server, and the others by class."""
    counts = facts.recent.statuses
    others = ", ".join(f"{number(count)} {code}" for code, count in counts.items() if code != "5xx")
    return f"{number(counts.get('5xx', 0))} 5xx", f"{others or 'nothing else'}, last minute"


def _files(process: ProcessFacts) -> str:
    return f"{number(process.files)} files of {number(process.files_limit)}" if process.files is not None else "in use"


def _waits(facts: Snapshot) -> Markup | None:
    waits = facts.waits
    if not waits:
        return None
    items = [
        tag("li", tag("b", counted(wait.count, "request")), f" {_waits_for(wait.count)} {wait.place}: {wait.why}")
        for wait in waits
    ]
    return section("Waiting", "waiting", tag("ul", items, class_="plain"))


def _waits_for(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _pools(facts: Snapshot) -> Markup:
    """Those that say the same of the same workers share a row, which most of the built-in ones do."""
    alike: dict[object, list[str]] = {}
    for name, pool in facts.pools.items():
        parts = pool.divided(name)
        said = [(part.workers, part.fallback, part.seats, part.named, part.mounted) for part in parts]
        alike.setdefault((tuple(said), name if pool.waiting or len(parts) > 1 else ""), []).append(name)
    rows = [_pool(names, facts) for names in alike.values()]
    return section(
        "Pools", "pools", table(("Pool", "Workers", "Fallback", "Running", "Waiting", "Rate"), rows, "cards pools")
    )


def _pool(names: list[str], facts: Snapshot) -> Markup:
    pools = [facts.pools[name] for name in names]
    parts = pools[0].divided(names[0])
    running = number(sum(each.running or 0 for each in pools))
    busy = pools[0].waiting and pools[0].concurrency
    substitutes = [_substitutes(part, facts, alone=len(parts) == 1) for part in parts]
    return row(
        (
            Cell(", ".join(names)),
            Cell((*_serving(parts, facts), *_deserted(parts, facts)), "", "wide"),
            Cell(substitutes, "Fallback", "" if any(part.fallback for part in parts) else "dull"),
            figure(f"{running} of {pools[0].concurrency}" if busy else running, "Running"),
            figure(number(pools[0].waiting), "Waiting", "warm"),
            figure(_rates(pools), "Rate"),
        )
    )


def _rates(pools: Sequence[PoolFacts]) -> str:
    """Requests a second of all of them."""
    known = [each.recent.requests_per_second for each in pools if each.recent.requests_per_second is not None]
    return f"{number(sum(known))}/s" if known and sum(known) else NOTHING


def _serving(parts: Sequence[PoolPart], facts: Snapshot) -> Iterator[Markup | str]:
    """The workers that share the keys, and after them those that only replace them."""
    sharing = dict.fromkeys(name for part in parts for name in (*part.sharing, *part.named))
    reserve = dict.fromkeys(name for part in parts for name in part.reserve if name not in sharing)
    yield chips(sharing, dict(facts.workers)) or NOTHING
    if reserve:
        yield tag("small", " then ")
        yield chips(reserve, dict(facts.workers))


def _deserted(parts: Sequence[PoolPart], facts: Snapshot) -> Iterator[Markup]:
    """What nobody serves now."""
    for part in parts:
        by = part.now(facts.takes).by
        told = {"nobody": "nobody", "unmounted": "no process has it"}.get(by)
        if told is not None and part.open:
            yield badge(told if len(parts) == 1 else f"{told}: {part.what}", "down" if by == "nobody" else "draining")


def _substitutes(part: PoolPart, facts: Snapshot, *, alone: bool) -> Markup:
    """Who takes over a part of a pool."""
    names = [name for group in part.fallback for name in group]
    found = chips(names, dict(facts.workers)) if names else tag("span", NOTHING if alone else "nobody")
    stands_in = badge("takes over", "stuck") if part.now(facts.takes).by == "fallback" else None
    return tag("div", None if alone else tag("small", f"{part.what}: "), found, stands_in)


def _misroutes(facts: Snapshot) -> Markup | None:
    if not facts.misroutes:
        return None
    rows = [
        row(
            (
                Cell(each.endpoint),
                Cell(chips([each.worker], dict(facts.workers)), "Worker"),
                figure(number(each.count), "Times"),
                figure(f"{duration(each.ago)} ago" if each.ago is not None else NOTHING, "Last"),
            )
        )
        for each in sorted(facts.misroutes, key=lambda each: (each.ago is None, each.ago or 0.0, -each.count))
    ]
    note = "a worker did not know what it should serve; main was asked instead"
    titles = ("Endpoint", "Worker", "Times", "Last")
    return section("Misroutes", "misroutes", table(titles, rows, "cards small"), note=note)


def _failures(facts: Snapshot) -> Markup | None:
    note = "in the last minute, but for clients that went away"
    refusals = {each.reason for each in facts.recent.refusals}
    return _reasons("Failures", [each for each in facts.recent.failures if each.reason not in refusals], note)


def _refusals(facts: Snapshot) -> Markup | None:
    return _reasons("Refused", facts.recent.refusals, "in the last minute, because of what the request is")


def _reasons(title: str, found: Sequence[Failures], note: str) -> Markup | None:
    """How many for which reason, the most first."""
    if not found:
        return None
    rows = [
        row(
            (
                Cell(each.pool or NOTHING),
                Cell(each.told or each.reason, "", "wide"),
                figure(number(each.count), "Requests"),
            )
        )
        for each in sorted(found, key=lambda each: -each.count)
    ]
    return section(title, title.lower(), table(("Pool", "Reason", "Requests"), rows, "cards small"), note=note)


def _configuration(facts: Snapshot) -> Markup:
    return section("Configuration", "configuration", joined(_told(facts)))


def _told(facts: Snapshot) -> Iterator[Markup]:
    if facts.problems:
        yield tag("ul", [tag("li", problem) for problem in facts.problems], class_="plain problems")
    else:
        yield tag("p", "No warnings.")
    reload = facts.reload
    if reload is None:
        yield tag("p", "Nothing was reloaded since the start.")
    else:
        how = "was accepted" if reload.accepted else "was refused, and nothing has changed"
        yield tag("p", f"The last reload {how}:")
        yield tag(
            "ul", [tag("li", each) for each in reload.told], class_="plain" if reload.accepted else "plain problems"
        )
