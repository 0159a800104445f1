"""The table of instances on the status page, where there are several: one row each, also of one that is silent."""

from __future__ import annotations

from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.page.pieces import Cell, badge, figure, row, section, table
from sidecar.admin.snapshot import InstanceFacts, Snapshot
from sidecar.admin.words import NOTHING, duration, number, size

_TITLES = ("Instance", "State", "Requests", "In flight", "Waiting", "Clients", "Processor", "Memory", "Up for")


def instance_table(facts: Snapshot) -> Markup | None:
    """Nothing where there is only one."""
    if not facts.instances:
        return None
    rows = [_row(each) for each in facts.instances]
    note = "numbers are of all together, and times the longest of any; Hottest and History are of this one"
    return section("Instances", "instances", table(_TITLES, rows, "cards instances"), note=note)


def _row(each: InstanceFacts) -> Markup:
    name = Cell((each.name, tag("small", " this one") if each.own else None))
    if not each.answered:
        silent = (badge("no answer", "down"), tag("span", each.why, class_="reason"))
        cells = tag("th", name.content, scope="row"), tag("td", silent, class_="states", colspan=len(_TITLES) - 1)
        return tag("tr", cells, class_="of-down")
    told = each.remark or ("" if each.kind == "ready" else each.told)
    state = (badge(each.word, each.kind), tag("span", told, class_="reason") if told else None)
    return row(
        (
            name,
            Cell(state, "", "states"),
            figure(_rate(each.requests_per_second), "Requests"),
            figure(number(each.in_flight), "In flight"),
            figure(number(each.waiting), "Waiting", "warm"),
            figure(number(each.clients), "Clients"),
            figure(NOTHING if each.cpu is None else f"{each.cpu:.0%}", "Processor"),
            figure(size(each.memory), "Memory"),
            figure(duration(each.uptime), "Up for"),
        )
    )


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{number(value)}/s"
