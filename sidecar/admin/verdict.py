"""What the page and `top` say first: whether requests get their answers, and from whom where workers are down. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from attrs import frozen

from sidecar.admin.snapshot import Snapshot
from sidecar.plurals import counted

HeadlineKind = Literal["ready", "draining", "stuck", "down"]
_WORSE: tuple[HeadlineKind, ...] = get_args(HeadlineKind)


@frozen
class Headline:
    """`kind` is the colour of it."""

    kind: HeadlineKind
    word: str
    told: str


MAINTENANCE = "Maintenance mode is on: clients are answered 503, and other servers are served."


def verdict(facts: Snapshot) -> Headline:
    """The worst first; of several instances each that has something to say, and those that are silent."""
    return _of_all(facts) if facts.instances else _of_one(facts)


def _of_all(facts: Snapshot) -> Headline:
    answered, silent = [each for each in facts.instances if each.answered], facts.silent
    worst = max(answered, key=lambda each: _WORSE.index(each.kind))
    least = _WORSE.index("stuck") if silent else 0
    if len({each.told for each in answered}) == 1:
        told = [worst.told]
    else:
        told = [f"{each.name}: {each.told}" for each in answered if each.kind != "ready"]
    told += [f"{each.name} does not answer: {each.why}." for each in silent]
    told += [f"{each.name}: {each.remark}." for each in answered if each.remark]
    return Headline(_WORSE[max(least, _WORSE.index(worst.kind))], worst.word, " ".join(told))


def _of_one(facts: Snapshot) -> Headline:
    if facts.stopping:
        return Headline("draining", "Stopping", "Running requests end; new ones are not taken.")
    if not facts.ready:
        told = [MAINTENANCE] if facts.maintenance is not None else []
        return Headline("down", "Not ready", " ".join((*told, *facts.reasons)))
    clauses = list(clauses_of(facts))
    told = [MAINTENANCE] if facts.maintenance is not None else []
    told += [f"{'; '.join(clauses)}."] if clauses else []
    if facts.errors:
        found, they = counted(facts.errors, "error"), "it is" if facts.errors == 1 else "they are"
        told.append(f"The configuration has {found}. Requests can fail until {they} fixed.")
    if facts.refusal:
        told.append(f"The last reload was refused, and nothing has changed: {facts.refusal[0]}")
    if told:
        return Headline("down" if facts.errors else "stuck", "Ready", " ".join(told))
    return Headline("ready", "Ready", "Every pool has a worker.")


def clauses_of(facts: Snapshot) -> Iterator[str]:
    """What is not as it should be although the sidecar is ready."""
    for name, balancer in facts.balancers.items():
        if not any(server.state == "up" for server in balancer.servers.values()):
            yield f"balancer {name} has no server that is up"
    ailing = facts.ailing
    if ailing:
        yield f"{', '.join(ailing)} {'is' if len(ailing) == 1 else 'are'} unavailable"
    stepping_in: dict[tuple[str, ...], list[str]] = {}
    deserted = []
    for part in facts.parts:
        turn = part.now(facts.takes)
        if turn.by == "fallback" and part.open:
            stepping_in.setdefault(turn.workers, []).append(part.name)
        elif turn.by == "nobody" and part.open:
            deserted.append(part.name)
    for workers, names in stepping_in.items():
        yield f"{', '.join(workers)} {'takes' if len(workers) == 1 else 'take'} over {', '.join(names)}"
    if deserted:
        yield f"nobody serves {', '.join(deserted)}"
    elif ailing and not stepping_in:
        yield "all pools are still served"
