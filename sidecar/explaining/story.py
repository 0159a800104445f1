"""What would happen to one request, told to people: the steps, the outcome, who was not chosen, and what if.

Shows nothing of a field line but what the decision shows of it, and no `access_token` of a request-target. Knows
nothing of terminals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from sidecar.explaining.rehearsal import Heard, Rehearsal, RequestText
from sidecar.explaining.what_if import NOBODY, Movement, first_up, movement, plan_with, step_of
from sidecar.loading.deployment import Deployment
from sidecar.routing.decision import Decision
from sidecar.routing.explain import as_json, explain
from sidecar.routing.plan import Step
from sidecar.wire.head import RequestHead

_TOKEN = re.compile(r"((?:[?&]|%26)access_token=)[^&]*", re.IGNORECASE)
_NOT_SHOWN = r"\1(not-shown)"


@frozen
class Supposition:
    """What would be otherwise with other workers. `facts` is for programs."""

    title: str
    sentences: tuple[str, ...]
    facts: Mapping[str, Any]


@frozen(kw_only=True)
class Story:
    """All that there is to say of one request."""

    asked: RequestText
    decision: Decision
    title: str
    steps: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...] = ()
    supposition: Supposition | None = None

    @property
    def forwarded(self) -> bool:
        """Whether a worker gets the request."""
        return self.decision.action == "forward"

    @property
    def outcome(self) -> str:
        """The end of the story in one line."""
        decision = self.decision
        if not self.forwarded:
            return f"{decision.action} with {decision.status}: {printable(decision.reason)}"
        order = (*decision.candidates, *decision.fallback)
        others = f"; if it is down, {', then '.join(order[1:])}" if order[1:] else "; if it is down, nobody else"
        equals = decision.sharing or decision.candidates
        first = f"one of {', '.join(equals)}" if decision.keyless and equals[1:] else order[0]
        return f"forward to {first}{others if first == order[0] else ', whoever has the fewest in flight'}"

    def as_json(self) -> dict[str, Any]:
        """The object that `explain --json` prints; `what_if` is there when something was supposed."""
        told = as_json(self.asked.method, self.asked.target, self.decision)
        return told if self.supposition is None else {**told, "what_if": dict(self.supposition.facts)}


def printable(text: str) -> str:
    """Text in which nothing moves a cursor."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def tell(deployment: Deployment, asked: RequestText, down: Sequence[str] = (), add: Sequence[str] = ()) -> Story:
    """The story of a request. `down` are workers of the plan, `add` names of workers that are not there."""
    heard = Rehearsal(deployment).hear(asked)
    title = printable(f"{asked.method} {_TOKEN.sub(_NOT_SHOWN, asked.target)}")
    if heard.head is None:
        steps = [("request", f"no request that is served: {heard.decision.reason}")]
        return Story(asked=asked, decision=heard.decision, title=title, steps=tuple(steps))
    head = heard.head
    explanation = explain(head.method, head.origin, head.fields, heard.client, deployment.plan, heard.scheme)
    steps = _arrival(asked, head, heard.client)
    place = _place(deployment, explanation.route)
    steps += [(name, printable(text + place if name == "route" else text)) for name, text in explanation.steps]
    forwarded = heard.decision.action == "forward"
    return Story(
        asked=asked,
        decision=heard.decision,
        title=title,
        steps=tuple(steps),
        others=tuple(explanation.others.items()) if forwarded else (),
        supposition=_suppose(deployment, head, heard, down, add) if forwarded and (down or add) else None,
    )


def _place(deployment: Deployment, route: int | None) -> str:
    """The file and line of a route, of which several files can have some; empty inside Synapse, where none is ours."""
    source = deployment.settings.source
    if route is None or not source.file:
        return ""
    found = source.problem(("routes", route), "")
    return f" ({found.file}:{found.line})"


def _arrival(asked: RequestText, head: RequestHead, client: str) -> list[tuple[str, str]]:
    """What was assumed, and whose request it is."""
    steps = []
    if head.fields.host is not None and not any(name.lower() == "host" for name, _ in asked.headers):
        steps.append(("host", f"{head.fields.host.decode('latin-1')}, because none was given"))
    peer = asked.peer or "unix"
    if head.fields.get(b"x-forwarded-for") is None:
        told = client
    elif client != asked.peer:
        told = f"{client}, as {peer} says in X-Forwarded-For"
    else:
        told = f"{client}; what X-Forwarded-For says does not count (`forwarded.trust`)"
    return [*steps, ("client", told)]


def _supposed(down: Sequence[str], add: Sequence[str]) -> str:
    parts = [f"{', '.join(down)} down"] if down else []
    parts += [f"{', '.join(add)} added"] if add else []
    return f"with {' and '.join(parts)}"


def _suppose(
    deployment: Deployment, head: RequestHead, heard: Heard, down: Sequence[str], add: Sequence[str]
) -> Supposition:
    """What changes for this request, and for the keys of requests like it."""
    plan, decision = deployment.plan, heard.decision
    request = (head.method, head.origin, head.fields, heard.client)
    other = plan_with(deployment, add, decision.pool, decision.candidates[0]) if add else plan
    explanation = explain(*request, other, heard.scheme)
    before, after = (step_of(*request, each, heard.scheme) for each in (plan, other))
    assert before is not None
    assert after is not None
    candidates, fallback = explanation.decision.candidates, explanation.decision.fallback
    moved = movement(before, after, down, decision.key)
    sentences = [f"this request goes to {_first((*candidates, *fallback), down)}; it went to {decision.candidates[0]}"]
    sentences += [
        f"{name} gets none of these: {explanation.others[name]}" for name in add if name in explanation.others
    ]
    sentences += _shares(moved, after)
    facts = {
        "down": list(down),
        "added": list(add),
        "candidates": [name for name in candidates if name not in down],
        "fallback": [name for name in fallback if name not in down],
        "moved": None if moved is None else moved.share,
        "sampled": 0 if moved is None else moved.keys,
    }
    return Supposition(_supposed(down, add), tuple(sentences), facts)


def _first(order: Sequence[str], down: Sequence[str]) -> str:
    first = first_up(order, down)
    return "nobody: it waits for one of them, and then is answered 503" if first == NOBODY else first


def _shares(moved: Movement | None, step: Step) -> list[str]:
    if moved is None:
        return ["no keys move, because these requests have none: the load of each moment spreads them"]
    if moved.keys == 1:
        return ["all requests of this kind have one key and move together" if moved.share else "their one key stays"]
    told = f"{moved.share:.1%} of the keys move ({moved.keys} made-up {step.kind} keys were placed before and after)"
    return [told, *(f"  {share:6.1%}  {one} -> {other}" for (one, other), share in moved.flows.items())]
