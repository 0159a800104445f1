"""What a change would do to the distribution: a worker that is down, one that is added, another configuration.

Shares of keys are measured, not estimated: the same ten thousand made-up keys are placed before and after. Their
standard error is at most half a per cent. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from sidecar.config.schema import Settings
from sidecar.loading.deployment import Deployment
from sidecar.routing.compile import compile_plan
from sidecar.routing.decide import is_initial, matching_rule, routed
from sidecar.routing.keys import Fields
from sidecar.routing.plan import Plan, Step
from sidecar.routing.workers import GENERIC_SERVES, Facts, PlannedWorker, workers_of
from sidecar.synapse.names import SINGLE_WRITER_STREAMS

KEYS = 10_000
NOBODY = "nobody"

_KEYS_OF = {
    "room": "!room{}:example.org",
    "origin": "server{}.example.org",
    "source": "2001:db8::{:x}",
}


@frozen
class Movement:
    """What share of `keys` made-up keys another worker gets, from whom to whom."""

    keys: int
    share: float
    flows: Mapping[tuple[str, str], float]


def step_of(method: bytes, target: bytes, fields: Fields, peer: str, plan: Plan, scheme: str = "http") -> Step | None:
    """Everything about a request but its key; None where a route of the operator's answers it.

    `target` is in origin-form or the asterisk. Does not look whether the path is closed.
    """
    if target == b"*":
        return plan.anything
    path, _, query = target.partition(b"?")
    node = plan.start
    for segment in path.split(b"/", plan.splits):
        node = node.get(segment) or node.other
    methods = node.payload
    step = methods.steps.get(method) or methods.unmatched
    rule = matching_rule(methods.rules, plan.pathless, method, query, fields, peer, scheme)
    if rule is not None:
        if rule.route.pool is None:
            return None
        step = routed(plan, rule, step)
    return step.initial if step.initial is not None and is_initial(query, step.position) else step


def first_up(candidates: Sequence[str], down: Collection[str]) -> str:
    """Who gets a request with these candidates, fallback included."""
    return next((name for name in candidates if name not in down), NOBODY)


def movement(before: Step, after: Step, down: Collection[str] = (), key: str | None = None) -> Movement | None:
    """How keys move from one step to another while the workers in `down` are; None where there are no keys.

    `key` is that of one request, by which a step is known that has one key for all.
    """
    if before.key_of is None or after.key_of is None:
        return None
    # Ranking those that stand in costs as much again, and nobody stands in for who is up.
    before = evolve(before, fallback=())
    after = after if down else evolve(after, fallback=())
    keys = 1 if before.kind == "session" and key == before.pool else KEYS
    pairs = zip(_made_up(before.kind, keys, key), _made_up(after.kind, keys, key), strict=True)
    flows = Counter((_placed(before, one, ()), _placed(after, other, down)) for one, other in pairs)
    moved = {flow: count / keys for flow, count in flows.most_common() if flow[0] != flow[1]}
    return Movement(keys, sum(moved.values()), moved)


def _made_up(kind: str, count: int, key: str | None) -> Iterator[str]:
    if count == 1 and key is not None:
        yield key
        return
    form = _KEYS_OF.get(kind, "key{}")
    yield from (form.format(number) for number in range(count))


def _placed(step: Step, key: str, down: Collection[str]) -> str:
    decision = step.settle((step.kind, key))
    return first_up((*decision.candidates, *decision.fallback), down)


def plan_with(deployment: Deployment, names: Sequence[str], pool: str, like: str) -> Plan:
    """The plan if there were workers `names` besides: like the worker `like`, in the same streams and in `pool`.

    Beside main alone, they are generic workers. A stream that Synapse gives one writer only stays with that one.
    """
    settings = deployment.settings
    workers, facts = workers_of(deployment.topology, settings)
    model = deployment.plan.workers[like]
    serves = GENERIC_SERVES if model.is_main else model.serves
    added = tuple(evolve(model, name=name, serves=serves, writes=frozenset(), is_main=False) for name in names)
    settings = _listed(settings, pool, names) if like in deployment.plan.membership.named.get(pool, ()) else settings
    facts = facts if model.is_main else _writing(facts, names, like)
    return compile_plan(settings, (*_kept(workers, deployment.plan), *added), deployment.table.endpoints, facts)


def _kept(workers: tuple[PlannedWorker, ...], plan: Plan) -> tuple[PlannedWorker, ...]:
    """The workers; a single one counts as main, and is to stay that beside others."""
    return workers if len(workers) > 1 else tuple(plan.workers.values())


def _listed(settings: Settings, pool: str, names: Sequence[str]) -> Settings:
    stated = settings.pools[pool]
    return evolve(settings, pools={**settings.pools, pool: evolve(stated, workers=(*(stated.workers or ()), *names))})


def _writing(facts: Facts, names: Sequence[str], like: str) -> Facts:
    writers = {
        stream: (*current, *names) if like in current and stream not in SINGLE_WRITER_STREAMS else current
        for stream, current in facts.writers.items()
    }
    return evolve(facts, writers=writers)
