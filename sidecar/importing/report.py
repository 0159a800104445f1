"""The outcome of an import in sentences: line by line what became of the file, and which requests it sends amiss.

Knows nothing of terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from sidecar.importing.asked import Position
from sidecar.importing.assessment import Examined, FileLine, Remark, by_place
from sidecar.importing.comparison import CLOSED, SPARED, Compared
from sidecar.importing.ordering import Settled
from sidecar.importing.outcomes import FILES
from sidecar.importing.probes import LONE_ROOM, MISLEADING, PLAIN, Probe
from sidecar.importing.roles import Answered

EXPECTED = (CLOSED, SPARED)
"""Differences that are meant."""
_SHOWN = 8
"""Routes that are named with a line."""


@frozen
class Told:
    """A line of the file with what became of it."""

    place: Position
    text: str
    remark: Remark


@frozen
class Amiss:
    """Requests that one line of the file sends to an upstream that cannot serve them, for one reason."""

    place: Position | None
    upstream: str
    why: str
    requests: tuple[str, ...]
    """Methods and paths for people."""


def told(examined: Examined) -> Iterator[Told]:
    """Every line of the file, in its order."""
    usual = [each for each in examined.elsewhere if each.answered.probe.kind == PLAIN]
    places = by_place((*examined.compared, *usual))
    settled: dict[Position, list[Settled]] = {}
    for each in examined.settled:
        settled.setdefault(each.own.place, []).append(each)
    for line in examined.foreign.lines:
        remark = line.remark
        if line.decides or (remark is None and line.place in settled):
            remark = _deciding(line, examined, places.get(line.place, ()), settled.get(line.place, ()))
        elif line.upstream:
            remark = _of_upstream(line.upstream, examined)
        elif line.matches is not None:
            remark = _of_expression(line, examined)
        if remark is not None:
            yield Told(line.place, line.text, remark)


def _of_upstream(upstream: str, examined: Examined) -> Remark:
    names = examined.roles.members.get(upstream, ())
    busy = {process.name for process in examined.draft.workers}
    known = examined.foreign.proxy.upstreams.get(upstream)
    faults = [server.fault for server in known.servers if server.fault] if known is not None else []
    if faults:
        return Remark("lost", faults[0])
    if names and busy.issuperset(names):
        return Remark("taken", f"workers: {', '.join(names)}")
    return Remark("superfluous", "no request goes to it")


def faults(examined: Examined) -> list[tuple[Position, str, str]]:
    """The servers that the sidecar cannot use as they stand: the line, the upstream, and what to do."""
    used = {each.verdict.pool for each in (one.answered for one in (*examined.compared, *examined.elsewhere))}
    used |= {each.own.upstream for each in examined.settled}
    return [
        (server.place, name, server.fault)
        for name, upstream in examined.foreign.proxy.upstreams.items()
        for server in upstream.servers
        if server.fault and name in used
    ]


def _of_expression(line: FileLine, examined: Examined) -> Remark:
    if _matches_any(line, examined):
        return Remark("superfluous", "the endpoint table already has what it matches")
    return Remark("superfluous", f"it matches no endpoint of Synapse {examined.release}")


def _matches_any(line: FileLine, examined: Examined) -> bool:
    """Whether its expression fits any plain request, whatever stands above it."""
    fits = line.matches
    if fits is None:
        return False
    return any(fits(each.answered.asked) for each in examined.compared)


def _deciding(
    line: FileLine, examined: Examined, compared: Sequence[Compared], settled: Sequence[Settled]
) -> Remark | None:
    own = _of_own(settled) if settled else None
    if own is not None and own.kind == "lost":
        return own
    rows = {id(each.answered.probe): each for each in compared}
    if rows and (own is None or any(each.fate in ("table", "lost", "nameless") for each in settled)):
        return _of_endpoints(list(rows.values()), own)
    if own is not None:
        return own
    if line.text.startswith("return"):
        return None
    if line.text.startswith("default_backend"):
        return Remark("taken", "routes: the last one, for everything else")
    if _matches_any(line, examined):
        return Remark("superfluous", "lines above match the same endpoints first")
    return Remark(
        "superfluous", f"it matches no endpoint of Synapse {examined.release}, or lines above match them first"
    )


def _of_own(settled: Sequence[Settled]) -> Remark | None:
    """What became of a line by itself; None where the endpoint table has all of it."""
    lost = [each for each in settled if each.fate in ("lost", "nameless")]
    if lost:
        own = lost[0].own
        why = own.why_not or own.remark or "the files do not give an address for any of its servers"
        return Remark("lost", why, is_filter=any(each.own.is_filter for each in lost))
    ports = sorted({each.own.port for each in settled if each.fate == "port" and each.own.port})
    if ports and not any(each.routes for each in settled):
        why = (
            f"only port {ports[0]} does this, but the sidecar treats all ports alike; run another sidecar for this port"
        )
        return Remark("lost", why, is_filter=any(each.own.is_filter for each in settled))
    routes = list(dict.fromkeys(shown_route(route) for each in settled for route in each.routes))
    remark = next((each.own.remark for each in settled if each.own.remark), "")
    if routes:
        more = f", and {len(routes) - _SHOWN} more" if len(routes) > _SHOWN else ""
        beside = f"; {remark}" if remark else ""
        return Remark("lost" if remark else "taken", f"routes: {', '.join(routes[:_SHOWN])}{more}{beside}")
    if all(each.fate == "shadowed" for each in settled):
        return Remark("superfluous", "lines above match the same requests first")
    return None


def shown_route(route: Mapping[str, Any]) -> str:
    """A route in few words: `POST matrix.example.org/_matrix/client/{x3}/login`."""
    methods = " ".join(route.get("method", ()))
    scheme = f"{route['scheme']}://" if "scheme" in route else ""
    hosts = " ".join(route.get("host", ("*",) if scheme else ()))
    path = route.get("path") or ("/**" if hosts or scheme else "any path")
    source = f" from {', '.join(route['source'])}" if "source" in route else ""
    return f"{methods}{' ' if methods else ''}{scheme}{hosts}{path}{source}"


def _of_endpoints(compared: Sequence[Compared], own: Remark | None) -> Remark:
    """How many requests a line decides, and what differs here."""
    if all(each.answered.verdict.action == "files" for each in compared):
        return Remark("lost", FILES)
    same = [each for each in compared if not each.difference]
    parts = [f"{len(compared)} kinds of requests" if len(compared) > 1 else "one kind of request"]
    if own is not None:
        parts[0] += f", and {own.sentence}"
    faults = [each for each in compared if each.faulty]
    others = Counter(each.difference for each in compared if each.difference and not each.faulty)
    if len(same) == len(compared):
        parts.append("all go to the same workers as before")
    elif same:
        parts.append(f"{len(same)} go to the same workers as before")
    if faults:
        fail = "fail" if len(faults) > 1 else "fails"
        parts.append(f"{len(faults)} {fail} where your proxy sends them, such as {faults[0].answered.probe.shown}")
    parts += [f"{count} go{'' if count > 1 else 'es'} elsewhere: {why}" for why, count in others.most_common()]
    return Remark("taken" if same or own is not None else "superfluous", "; ".join(parts))


def amiss(examined: Examined) -> list[Amiss]:
    """What is sent to a process that cannot serve it, plain requests and odd ones."""
    plain = [each.answered for each in examined.compared if each.faulty]
    known = {_shape(each.probe, each.pool) for each in plain}
    odd = [
        each
        for each in examined.odd
        if each.pool
        and not _is_foreign(each.pool, examined)
        and not examined.roles.serves(each.pool, each.probe.row)
        and _shape(each.probe, each.pool) not in known
    ]
    found: dict[tuple[Position | None, str, str], dict[str, None]] = {}
    for answered in (*plain, *odd):
        why = examined.roles.why_not(answered.pool, answered.probe.row)
        found.setdefault((answered.verdict.place, answered.pool, why), {})[_shown(answered)] = None
    result = [Amiss(place, pool, why, tuple(_merged(requests))) for (place, pool, why), requests in found.items()]
    result.sort(key=lambda each: (str(each.place.file), each.place.line) if each.place else ("", 0))
    return result


def _shape(probe: Probe, pool: str) -> tuple[object, ...]:
    return (probe.row.path, probe.path, probe.method, pool)


def _shown(answered: Answered) -> str:
    kind = f" with {answered.probe.kind}" if answered.probe.kind else ""
    return f"{answered.probe.method} /{'/'.join(answered.probe.row.path)}{kind}"


def _is_foreign(pool: str, examined: Examined) -> bool:
    """Whether it is another program, of which nothing is known that could be a fault."""
    names = examined.roles.members.get(pool, ())
    return all(examined.roles.processes[name].foreign for name in names)


def _merged(requests: Iterable[str]) -> Iterator[str]:
    """Requests that differ in their method only, together."""
    methods: dict[str, list[str]] = {}
    for each in requests:
        method, _, path = each.partition(" ")
        methods.setdefault(path, []).append(method)
    yield from (f"{','.join(sorted(found))} {path}" for path, found in methods.items())


@frozen
class Difference:
    """Requests that differ for one reason, at the same places."""

    why: str
    theirs: str
    ours: str
    at: tuple[str, ...]
    """Names and ports."""
    requests: tuple[str, ...]


def differences(examined: Examined) -> list[Difference]:
    """Everything that another process gets here than there, or is answered otherwise, at every name and port."""
    found: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for each in examined.elsewhere:
        if each.difference:
            probe, where = each.answered.probe, str(each.answered.entrance)
            outcome = (each.difference, _named(each.theirs), _named(each.ours))
            plain = (*outcome, probe.shown)
            kind = f" with {probe.kind}" if probe.kind in (LONE_ROOM, MISLEADING) else ""
            # What differs like the plain request is told with it.
            key = (*outcome, f"{probe.shown}{kind}" if where not in found.get(plain, {}) else probe.shown)
            found.setdefault(key, {})[where] = None
    together: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for (why, theirs, ours, shown), places in found.items():
        together.setdefault((why, theirs, ours, tuple(places)), []).append(shown)
    result = [
        Difference(why, theirs, ours, places, tuple(_merged(requests)))
        for (why, theirs, ours, places), requests in together.items()
    ]
    return sorted(result, key=lambda each: (each.why in EXPECTED, -len(each.requests)))


def _named(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def doubts(examined: Examined) -> list[tuple[str, int]]:
    """What could not be worked out on the way of requests, and for how many of them."""
    everything = (*examined.compared, *examined.elsewhere)
    counts = Counter(doubt for each in everything for doubt in each.answered.verdict.doubts)
    return counts.most_common()
