"""What is in force, row by row: the operator's routes first, then the endpoint table, then what no row has.

Knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import evolve, frozen

from sidecar.config.schema import Route
from sidecar.loading.deployment import Deployment
from sidecar.routing.access import closed_resource
from sidecar.routing.plan import Plan, PlannedRow, Step
from sidecar.routing.seats import holders_of

_SECRET = frozenset(("authorization", "cookie", "access_token"))


@frozen(kw_only=True)
class Row:
    """One line of `routes`. `route` is the number of a route of the operator's, None for the table."""

    route: int | None = None
    methods: tuple[str, ...]
    path: str
    endpoint: str
    action: str = "forward"
    status: int | None = None
    pool: str
    affinity: str | None
    workers: tuple[str, ...] = ()
    sharing: tuple[str, ...] = ()
    """Those of the workers that share the keys; the others replace them."""
    fallback: tuple[str, ...] = ()
    reason: str

    @property
    def reserve(self) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.workers if name not in self.sharing)


def rows_in_force(deployment: Deployment) -> Iterator[Row]:
    """Every row, in the order in which they are tried."""
    plan = deployment.plan
    for number, route in enumerate(deployment.settings.routes):
        yield _of_route(number, route, plan)
    for row in plan.rows:
        yield from _of_table(row, plan)
    yield _listed(plan.unknown, ("*",), "/**")


def _of_route(number: int, route: Route, plan: Plan) -> Row:
    conditions = conditions_of(route)
    row = Row(
        route=number,
        methods=route.method or ("*",),
        path=route.path or "/**",
        endpoint=f"routes[{number}]",
        pool=route.pool or "",
        affinity=None,
        reason=f"the configuration says so, if {conditions}" if conditions else "the configuration says so",
    )
    if route.pool is None:
        action, status = answer_of(route)
        return evolve(row, action=action, status=status)
    planned = plan.pools[route.pool]
    parts = [part for part in plan.parts[route.pool] if row.endpoint in part.endpoints]
    shared = [name for name in parts[0].everybody if all(name in part.everybody for part in parts)]
    substitutes = tuple(name for name in shared if name not in parts[0].workers)
    return evolve(
        row,
        affinity=planned.settings.affinity,
        workers=parts[0].workers,
        sharing=parts[0].sharing,
        fallback=substitutes,
    )


def answer_of(route: Route) -> tuple[str, int | None]:
    """Action and status of a route that has no pool; `table` has no status."""
    if route.table:
        return "table", None
    if route.respond is not None:
        return "respond", route.respond.status
    if route.redirect is not None:
        return "redirect", route.redirect.status
    return "refuse", route.refuse or 403


def conditions_of(route: Route) -> str:
    """The conditions of a route but method and path, without values that could be secrets."""
    parts = [f"host is {' or '.join(route.host)}"] if route.host else []
    for kind, pairs in (("query", route.query), ("header", route.header)):
        parts += [f"{kind} {name}{_value(name, value)}" for name, value in (pairs or {}).items()]
    parts += [f"header {name} is like {pattern!r}" for name, pattern in (route.header_like or {}).items()]
    parts += [f"scheme is {route.scheme}"] if route.scheme else []
    parts += [f"source is in {' or '.join(map(str, route.source))}"] if route.source else []
    return " and ".join(parts)


def _value(name: str, value: str | None) -> str:
    if value is None:
        return " is there"
    return " has a certain value" if name.lower() in _SECRET else f" is {value!r}"


def _of_table(row: PlannedRow, plan: Plan) -> Iterator[Row]:
    methods = shown_methods(row.endpoint.methods)
    path = "/" + "/".join(row.endpoint.path)
    yield Row(
        methods=methods,
        path=path,
        endpoint=row.endpoint.name,
        pool=row.pool,
        affinity=row.affinity,
        workers=row.workers,
        sharing=row.sharing,
        fallback=row.fallback,
        reason=_closed(path, plan) + row.reason,
    )
    initial = plan.step_of(row).initial
    if initial is not None:
        yield _listed(initial, methods, f"{path} (initial)")


def shown_methods(methods: Iterable[str]) -> tuple[str, ...]:
    """Methods for people: HEAD goes without saying."""
    return tuple(sorted(method for method in methods if method != "HEAD" or "GET" not in methods))


def _closed(path: str, plan: Plan) -> str:
    """What `access` says of a path, for the reason."""
    resource = closed_resource(path.encode(), known=True)
    if resource is None:
        return ""
    networks = ", ".join(map(str, plan.access.networks.get(resource, ())))
    return f"closed but for {networks}; " if networks else f"closed, because access.{resource} names nobody; "


def _listed(step: Step, methods: tuple[str, ...], path: str) -> Row:
    return Row(
        methods=methods,
        path=path,
        endpoint=step.endpoint,
        pool=step.pool,
        affinity=step.kind,
        workers=tuple(step.members),
        sharing=sharing_of(step),
        fallback=fallback_of(step),
        reason=step.reason,
    )


def sharing_of(step: Step) -> tuple[str, ...]:
    """The names of the workers that share the keys."""
    return holders_of(step.seats) or tuple(step.members)


def fallback_of(step: Step) -> tuple[str, ...]:
    """The names of all workers that stand in, each once."""
    names = [name for group in step.fallback for name in group if name not in step.members]
    return tuple(dict.fromkeys(names))


JSON_VERSION = 1
"""Of `routes --json`; raised when a key of it goes or changes its meaning (docs/routes.schema.json)."""


def as_json(release: str, rows: Iterable[Row]) -> dict[str, Any]:
    """What `routes --json` prints: the rows, in the order in which they are tried, for Synapse `release`."""
    return {"version": JSON_VERSION, "synapse": release, "rows": [_row_as_json(row) for row in rows]}


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "route": row.route,
        "methods": list(row.methods),
        "path": row.path,
        "endpoint": row.endpoint,
        "action": row.action,
        "status": row.status,
        "pool": row.pool,
        "affinity": row.affinity,
        "workers": list(row.workers),
        "sharing": list(row.sharing),
        "fallback": list(row.fallback),
        "reason": row.reason,
    }
