"""The part of the status page that changes: what every second is asked for anew and put in the place of the old.

Made from a snapshot alone. Knows no request, no clock and no worker.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.page import workers
from sidecar.admin.page.markup import Markup, joined, tag
from sidecar.admin.page.parts import Cell, badge, chips, figure, row, section, table
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.words import NOTHING, counted, duration, number, size


def live(facts: Snapshot, order: str, time: str) -> Markup:
    """Everything that changes; `order` is the column by which workers are sorted, `time` the moment of this."""
    parts = (
        _verdict(facts),
        _figures(facts),
        workers.workers(facts, order),
        _waits(facts),
        _failures(facts),
        _misroutes(facts),
        _configuration(facts),
        _pools(facts),
    )
    return tag("div", parts, id="live", data_title=title(facts), data_time=time)


def title(facts: Snapshot) -> str:
    """What the browser's tab says: the worst first."""
    ailing = facts.ailing
    if facts.stopping:
        told = "stopping"
    elif not facts.ready:
        told = "not ready"
    elif ailing:
        told = f"{', '.join(ailing[:2])}{'…' if ailing[2:] else ''} {facts.workers[ailing[0]].state}"
    else:
        told = "ready"
    return f"{told} · {facts.host or 'matrix-sidecar'}"


def _verdict(facts: Snapshot) -> Markup:
    kind, word, told = "ready", "Ready", "Every pool has somebody who serves it."
    if facts.stopping:
        kind, word, told = "draining", "Stopping", "Running requests end; new ones are not taken."
    elif not facts.ready:
        kind, word, told = "away", "Not ready", " ".join(facts.reasons)
    elif facts.ailing:
        names = ", ".join(facts.ailing)
        kind, word = "stuck", "Ready"
        told = f"{names} {'is' if len(facts.ailing) == 1 else 'are'} missing; the rest goes on."
    content = (badge(word, kind), tag("span", told))
    return tag("p", content, id="verdict", class_=f"verdict of-{kind}", aria_live="polite")


def _figures(facts: Snapshot) -> Markup:
    rates, counters = facts.recent.per_second, facts.counters
    failed = facts.recent.more.get("failed", 0)
    figures = [
        ("Requests", f"{number(rates.get('requests'))}/s", f"{number(counters.get('requests', 0))} since the start"),
        ("In flight", number(facts.in_flight), "requests that a worker has"),
        ("Waiting", number(facts.waiting), "requests in line"),
        ("Failed", number(failed), "in the last minute"),
        ("Refused", number(facts.recent.more.get("refused", 0)), "in the last minute"),
        ("Clients", number(counters.get("connections_open", 0)), "connections open"),
        ("In", f"{size(rates.get('bytes_up'))}/s", "to workers"),
        ("Out", f"{size(rates.get('bytes_down'))}/s", "to clients"),
    ]
    alarming = {"Waiting": facts.waiting, "Failed": failed}
    tiles = [
        tag("div", tag("dt", name), tag("dd", value), tag("dd", note), class_="warm" if alarming.get(name) else None)
        for name, value, note in figures
    ]
    return tag("dl", tiles, class_="figures")


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
        place = (pool.workers, pool.fallback, name if pool.waiting else "")
        alike.setdefault(place, []).append(name)
    rows = [_pool(names, facts) for names in alike.values()]
    return section("Pools", "pools", table(("Pool", "Workers", "Fallback", "Running", "Waiting"), rows, "cards pools"))


def _pool(names: list[str], facts: Snapshot) -> Markup:
    workers, pools = dict(facts.workers), [facts.pools[name] for name in names]
    pool = pools[0]
    serving = any(workers[each].state == "up" for each in pool.workers if each in workers)
    deserted = badge("nobody", "away") if pool.workers and not serving else None
    running = number(sum(each.running or 0 for each in pools))
    return row(
        (
            Cell(", ".join(names)),
            Cell((chips(pool.workers, workers) or NOTHING, deserted), "", "wide"),
            Cell(chips(pool.fallback, workers) or NOTHING, "Fallback", "" if pool.fallback else "dull"),
            figure(f"{running} of {pool.concurrency}" if pool.waiting else running, "Running"),
            figure(number(pool.waiting), "Waiting", "warm"),
        )
    )


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
    failures = facts.recent.failures
    if not failures:
        return None
    rows = [
        row(
            (
                Cell(each.pool or NOTHING),
                Cell(each.told or each.reason, "", "wide"),
                figure(number(each.count), "Requests"),
            )
        )
        for each in sorted(failures, key=lambda each: -each.count)
    ]
    note = "in the last minute, but for clients that went away"
    return section("Failures", "failures", table(("Pool", "Reason", "Requests"), rows, "cards small"), note=note)


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
        yield tag("ul", [tag("li", each) for each in reload.sentences], class_="plain")
