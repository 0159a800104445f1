"""Why a request goes where it goes, step by step. For people; `decide` alone decides.

Walks the same way as `decide` once more and tells what it saw. Knows nothing of terminals or of JSON text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from sidecar.config.amounts import write_duration
from sidecar.plurals import counted
from sidecar.routing.decide import closed, decide, first_rule, is_initial, is_long_poll, origin_form, routed
from sidecar.routing.decision import Decision
from sidecar.routing.keys import Fields
from sidecar.routing.plan import Plan, Step
from sidecar.routing.rules import Rule
from sidecar.routing.seats import holders_of
from sidecar.routing.workers import PlannedWorker
from sidecar.synapse.mas import MAS


@frozen
class Explanation:
    """A decision and the way to it."""

    decision: Decision
    steps: tuple[tuple[str, str], ...]
    """What was looked at and what was seen: request-target, route, row, pool, key, order."""
    others: Mapping[str, str]
    """For each worker that does not get the request, why not."""
    route: int | None = None
    """The number of the first route that matches."""


def as_json(method: str, target: str, decision: Decision) -> dict[str, Any]:
    """The object that `explain --json` prints for one request."""
    return {
        "method": method,
        "target": target,
        "action": decision.action,
        "status": decision.status,
        "endpoint": decision.endpoint,
        "pool": decision.pool,
        "affinity": {"kind": decision.kind, "key": decision.key},
        "candidates": list(decision.candidates),
        "fallback": list(decision.fallback),
        "reason": decision.reason,
    }


def explain(method: bytes, target: bytes, fields: Fields, peer: str, plan: Plan, scheme: str = "http") -> Explanation:
    """The decision for a request with everything that led to it; never raises, as `decide` does not."""
    decision = decide(method, target, fields, peer, plan, scheme)
    path, query, form = _parsed(target)
    node = plan.start
    for segment in path.split(b"/", plan.splits):
        node = node.get(segment) or node.other
    methods = node.payload
    table = methods.steps.get(method) or methods.unmatched
    steps = [("request-target", form), ("row", _row(table, method))]
    barred = table.guarded and closed(path, peer, table, plan) is not None
    if barred or (path[:1] != b"/" and decision.action == "refuse"):
        return Explanation(decision, (*steps, ("refused", decision.reason)), {})
    rule = first_rule(methods.rules, plan.pathless, method, query, fields, peer, scheme)
    steps.append(("route", _route(rule, plan)))
    number = None if rule is None else rule.number
    if rule is not None and rule.route.table:
        rule = None
    if rule is not None and rule.route.pool is None:
        return Explanation(decision, (*steps, ("answered", decision.reason)), {}, number)
    step = table if rule is None else routed(plan, rule, table)
    if step.initial is not None:
        steps.append(("position", _position(step, query)))
        step = step.initial if is_initial(query, step.position) else step
    steps.extend(_outcome(step, decision, plan))
    if decision.coalesce and is_long_poll(method, query):
        waits = write_duration(decision.coalesce)
        steps.append(("coalesce", f"it waits {waits} or more if the client was answered just now: one answer has more"))
    return Explanation(decision, tuple(steps), _others(step, decision, plan), number)


def _parsed(target: bytes) -> tuple[bytes, bytes, str]:
    """Path, query, and how the request-target was read; the path begins with no slash where it is none."""
    form = "a path, compared as received, byte for byte"
    if target[:1] != b"/":
        target, form = origin_form(target) or target, "a URL; only the part after the host counts"
    path, _, query = target.partition(b"?")
    return path, query, form if path[:1] == b"/" else "neither a path nor a URL"


def _row(step: Step, method: bytes) -> str:
    if step.row is None:
        return step.reason
    return f"{step.endpoint}: {method.decode('latin-1')} /{'/'.join(step.row.path)}"


def _route(rule: Rule | None, plan: Plan) -> str:
    if rule is not None:
        outcome = ", and leaves the request to the table" if rule.route.table else ""
        return f"routes[{rule.number}] is the first route that matches{outcome}"
    return f"none of {plan.rules} holds" if plan.rules else "the configuration has none"


def _position(step: Step, query: bytes) -> str:
    name = step.position.decode()
    if is_initial(query, step.position):
        return f"no `{name}`, or `full_state`: an initial sync"
    return f"`{name}` is given: an incremental sync"


def _outcome(step: Step, decision: Decision, plan: Plan) -> Iterator[tuple[str, str]]:
    yield "pool", f"{step.pool}: {step.reason}"
    if step.seats:
        sharing = holders_of(step.seats)
        verb = "share" if len(sharing) > 1 else "has"
        yield "spread", f"{', '.join(sharing)} {verb} the keys of {counted(len(step.members), 'worker')}"
    if decision.key is None:
        wanted = f" ({step.kind} was looked for)" if step.key_of is not None else ""
        yield "key", f"none{wanted}: the worker with the fewest requests in flight gets it"
    else:
        yield "key", f"{decision.kind} {decision.key!r}"
    if decision.opaque:
        yield "token", _asking(decision, plan)
    if step.persisters and decision.candidates[:1] and decision.candidates[0] in step.persisters:
        yield "owner", f"{decision.candidates[0]} persists the events of this room"
    yield "order", ", ".join(decision.candidates) or "nobody"
    yield "fallback", ", ".join(decision.fallback) or "none"


def _asking(decision: Decision, plan: Plan) -> str:
    """What becomes of a token that does not say whose it is."""
    if len(decision.candidates) < 2:
        return "does not name its user; the sidecar does not ask for it, because there is only one candidate"
    if not plan.resolving:
        return "does not name its user; the sidecar does not ask for it (`tokens.resolve`), and the token is the key"
    return (
        "does not name its user; the sidecar asks Synapse for it (whoami) and remembers the answer; then the order is "
        "that of the user's key, and until then the order below"
    )


def _others(step: Step, decision: Decision, plan: Plan) -> dict[str, str]:
    chosen = {*decision.candidates, *decision.fallback}
    return {name: _why_not(step, worker, plan) for name, worker in plan.workers.items() if name not in chosen}


def _why_not(step: Step, worker: PlannedWorker, plan: Plan) -> str:
    pools, row = plan.membership, step.row
    if not worker.share:
        return "its weight is 0"
    if row is not None and row.group == MAS:
        return "it is not the Matrix Authentication Service"
    if row is not None and not pools.serves(worker, row):
        return _cannot(row.hard, row.stream, row.resources if worker.is_main else row.worker_resources, worker)
    if worker.name in step.members:
        return "it does not persist the events of this room"
    if row is not None and pools.waits(step.pool, row):
        return f"it does not write {row.stream}, and would only pass the request on"
    if step.pool in pools.named:
        return f"pools.{step.pool}.workers does not name it"
    if worker.name in pools.dedicated:
        streams = ", ".join(stream for stream, names in pools.writers.items() if worker.name in names)
        return f"it writes {streams} and is kept for that"
    return f"it is not in pool {step.pool}"


def _cannot(hard: bool, stream: str | None, needed: frozenset[str], worker: PlannedWorker) -> str:
    if not needed:
        return "no worker serves this endpoint"
    if not needed & worker.serves:
        return f"its listener has none of the resources {', '.join(sorted(needed))}"
    return f"it does not write {stream}" if hard else "its media repository is disabled"


def moved(before: Plan, after: Plan, requests: list[tuple[bytes, bytes, Fields, str]]) -> float:
    """The share of these requests whose first candidate differs between two plans."""
    changed = sum(_first(before, request) != _first(after, request) for request in requests)
    return changed / len(requests) if requests else 0.0


def _first(plan: Plan, request: tuple[bytes, bytes, Fields, str]) -> str:
    decision = decide(*request, plan)
    return decision.candidates[0] if decision.candidates else f"{decision.action} {decision.status}"
