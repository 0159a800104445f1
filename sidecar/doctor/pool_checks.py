"""A canary through each part of a pool: the same request straight to each worker and through the sidecar, compared.

The requests carry no token. Synapse refuses them, in a way that shows that it knows the endpoint, and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from sidecar.doctor.findings import Finding, error, fine, unknown
from sidecar.doctor.raw_request import Reply, ServerAddress, SilenceError, ask
from sidecar.doctor.worker_checks import FORWARDED
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.routing.matcher import concrete_paths, target_of
from sidecar.routing.plan import Plan, PlannedRow
from sidecar.wire.fields import FieldSection

_NO_FIELDS = FieldSection(b"\r\n\r\n")
_PEER = "192.0.2.7"
_HARMLESS = ("GET", "PUT", "POST")
"""In the order in which they are taken. Never DELETE."""
_GOING_ON = b"?since=0&pos=0"
_UNKNOWN = "M_UNRECOGNIZED"
_CERTAIN = frozenset(("media_repo", "not_mas"))
"""Of what an endpoint needs, what is likely where Synapse's files are not read; it may lack single sign-on and mail."""


@frozen
class Canary:
    """A request that shows the way to a part of a pool."""

    part: str
    endpoint: str
    method: str
    target: str
    workers: tuple[str, ...]


def canaries(plan: Plan) -> dict[str, list[Canary]]:
    """For each part of a pool that gets requests the canaries that suit, the best first."""
    found: dict[str, list[Canary]] = {}
    known = plan.membership.facts.known
    for method in _HARMLESS:
        for row in plan.rows:
            if method in row.endpoint.methods and _suits(row, method) and (known or row.endpoint.needs <= _CERTAIN):
                for query in (_GOING_ON, b"") if row.endpoint.path[-1] == "sync" else (b"",):
                    _add(found, plan, row, method, query)
    names = dict.fromkeys(name for pool, parts in plan.parts.items() for name in (pool, *(part.name for part in parts)))
    return {name: sorted(found[name], key=_rank) for name in names if name in found}


def _rank(canary: Canary) -> tuple[int, bool]:
    """Methods first, then the spelling that is in use today."""
    return _HARMLESS.index(canary.method), "/v3/" not in canary.target


def _suits(row: PlannedRow, method: str) -> bool:
    """Whether Synapse asks for a token before it does anything, as far as the table can tell.

    Administration is closed by `access`; links in mails are no requests of programs. What is kept by user or room, or
    belongs to a stream, always needs a token; with another method than GET nothing else is asked.
    """
    endpoint = row.endpoint
    if endpoint.path[0] != "_matrix" or not row.workers or endpoint.path[-1] == "submit_token":
        return False
    return method == "GET" or endpoint.stream is not None or endpoint.affinity in ("user", "room", "origin")


def _add(found: dict[str, list[Canary]], plan: Plan, row: PlannedRow, method: str, query: bytes) -> None:
    choices = concrete_paths(row.endpoint.path)
    target = target_of(next((path for path in choices if "v3" in path), choices[-1])) + query
    decision = decide(method.encode(), target, _NO_FIELDS, _PEER, plan)
    if decision.action == "forward":
        name = _part(plan, decision)
        canary = Canary(name, decision.endpoint, method, target.decode(), decision.candidates)
        found.setdefault(name, []).append(canary)


def _part(plan: Plan, decision: Decision) -> str:
    """The name of the part of its pool to which a request belongs; that of the pool, where it is in several."""
    everybody = {*decision.candidates, *decision.fallback}
    fitting = [part for part in plan.parts[decision.pool] if decision.endpoint in part.endpoints]
    return next((part.name for part in fitting if everybody == set(part.everybody)), decision.pool)


TRIES = 20
"""Endpoints of a pool that are tried until one is refused for want of a token."""


def examine_pools(plan: Plan, places: Mapping[str, ServerAddress], gateway: ServerAddress | None) -> Iterator[Finding]:
    """Every part. `places` are the workers that can be asked, `gateway` the sidecar; None: it was not found."""
    for part in (part for parts in plan.parts.values() for part in parts):
        if part.named:
            yield error(
                f"{part.name}: no process serves it. Synapse's files assign it to {', '.join(part.named)}, but do not "
                "say where that listens.",
                "Name its file in `synapse.workers`, and give it a listener that the sidecar can reach.",
            )
    for pool, suited in canaries(plan).items():
        yield from _examine(pool, _chosen(suited, places), places, gateway)


def _chosen(suited: Sequence[Canary], places: Mapping[str, ServerAddress]) -> tuple[Canary, Reply | None]:
    """The first canary that a worker refuses for want of a token, else the first one of all, with its direct answer."""
    first: tuple[Canary, Reply | None] | None = None
    for canary in suited[:TRIES]:
        reply = _direct(canary, places)
        if reply is not None and reply.status in (401, 403) and reply.errcode:
            return canary, reply
        first = first or (canary, reply)
    assert first is not None
    return first


def _direct(canary: Canary, places: Mapping[str, ServerAddress]) -> Reply | None:
    for worker in canary.workers:
        try:
            return ask(places[worker], canary.method, canary.target, FORWARDED)
        except (KeyError, SilenceError):
            continue
    return None


def _examine(
    pool: str, chosen: tuple[Canary, Reply | None], places: Mapping[str, ServerAddress], gateway: ServerAddress | None
) -> Iterator[Finding]:
    canary, expected = chosen
    what = f"{canary.method} {canary.target.partition('?')[0]}"
    if expected is None:
        yield unknown(f"{pool}: none of its workers answers ({', '.join(canary.workers)}).")
        return
    wrong = [*_workers(pool, canary, what, places)]
    yield from wrong
    if gateway is None:
        if not wrong:
            yield fine(f"{pool}: {', '.join(canary.workers)} ({what}: {expected.told()}, asked directly).")
        return
    try:
        through = ask(gateway, canary.method, canary.target)
    except SilenceError as silence:
        yield error(f"{pool}: {what} through the sidecar: {silence}.", "Read the sidecar's log.")
        return
    if (through.status, through.errcode) != (expected.status, expected.errcode):
        yield error(
            f"{pool}: {what} gets {through.told()} through the sidecar, but {expected.told()} from the worker.",
            f"`matrix-sidecar explain {canary.method} '{canary.target}'` shows the routing. Read the sidecar's log.",
        )
    elif not wrong:
        yield fine(
            f"{pool}: {', '.join(canary.workers)} ({what}: {expected.told()}, directly and through the sidecar)."
        )


def _workers(pool: str, canary: Canary, what: str, places: Mapping[str, ServerAddress]) -> Iterator[Finding]:
    """Whether each worker of the pool knows the endpoint."""
    for worker in canary.workers:
        if worker not in places:
            continue
        try:
            reply = ask(places[worker], canary.method, canary.target, FORWARDED)
        except SilenceError as silence:
            yield error(f"{pool}: {worker} does not answer {what}: {silence}.", "Read its log.")
            continue
        if reply.status >= 500:
            yield error(f"{pool}: {worker} answers {reply.told()} to {what}.", "Read its log.")
        elif reply.status == 404 and reply.errcode == _UNKNOWN:
            yield error(
                f"{pool}: {worker} does not know {what}, although its configuration has it.",
                "Check that it has the version of the others, and that it was restarted after its files last changed.",
            )
