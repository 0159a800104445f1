"""The table of balancers on the status page: one row for each server, below the name of its balancer."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.page.pieces import Cell, badge, figure, row, section, table
from sidecar.admin.snapshot import BalancerFacts, ServerFacts, Snapshot
from sidecar.admin.words import duration, number, size

_KINDS = {"new": "stuck"}
"""States that look like others."""


def balancers(facts: Snapshot) -> Markup | None:
    """The table; None where there is no balancer."""
    if not facts.balancers:
        return None
    rows = [each for name, balancer in facts.balancers.items() for each in _rows(name, balancer, facts)]
    titles: list[str | Markup] = ["Server", "State", "Connections", "Waiting", "In", "Out", "Since"]
    titles += [tag("span", "Actions", class_="unseen")] if facts.actions == "page" else []
    note = "connections of other services"
    return section("Balancers", "balancers", table(titles, rows, "cards balancers"), note=note)


def _rows(name: str, balancer: BalancerFacts, facts: Snapshot) -> Iterator[Markup]:
    whole = [
        Cell(name),
        Cell(", ".join(balancer.listening), "", "states"),
        figure(f"{number(balancer.connections)} of {number(balancer.most)}", "Connections"),
        figure(number(balancer.waiting), "Waiting", "warm"),
        *(Cell(None) for _ in range(3 + (facts.actions == "page"))),
    ]
    yield row(whole)
    for each, server in balancer.servers.items():
        yield row(_cells(name, each, server, facts), class_=f"of-{_KINDS.get(server.state, server.state)}")


def _cells(name: str, each: str, server: ServerFacts, facts: Snapshot) -> Iterator[Cell]:
    reason = tag("span", server.reason, class_="reason") if server.reason else None
    most = "" if server.most is None else f" of {number(server.most)}"
    yield Cell(f"{name}/{each}")
    yield Cell((badge(server.state, _KINDS.get(server.state, "")), reason), "", "states")
    yield figure(f"{number(server.connections)}{most}", "Connections")
    yield Cell(None)
    yield figure(size(server.bytes_up), "In")
    yield figure(size(server.bytes_down), "Out")
    yield figure(duration(server.changed), "Since")
    if facts.actions == "page":
        what, word = ("undrain", "Resume") if server.state == "draining" else ("drain", "Drain")
        target = f"balancers/{quote(name, safe='')}/{quote(each, safe='')}/{what}"
        label = f"{word} {name}/{each}"
        yield Cell(tag("a", word, href=target, class_="button", data_confirm=True, aria_label=label), "", "action")
