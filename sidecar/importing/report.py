"""The outcome of an import in sentences: line by line what became of the file, and which requests it sends amiss.

Knows nothing of terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from sidecar.importing.asked import Place
from sidecar.importing.draft import OwnRoute
from sidecar.importing.examination import OUTSIDE, Compared, Examined, FileLine, Remark, by_place
from sidecar.importing.probes import Probe
from sidecar.importing.roles import Answered


@frozen
class Told:
    """A line of the file with what became of it."""

    place: Place
    text: str
    remark: Remark


@frozen
class Amiss:
    """Requests that one line of the file sends to an upstream that cannot serve them, for one reason."""

    place: Place | None
    upstream: str
    why: str
    requests: tuple[str, ...]
    """Methods and paths for people."""


def told(examined: Examined) -> Iterator[Told]:
    """Every line of the file, in its order."""
    places = by_place(examined.compared)
    own: dict[Place, list[OwnRoute]] = {}
    for each in examined.own:
        own.setdefault(each.place, []).append(each)
    for line in examined.foreign.lines:
        remark = line.remark
        if line.decides:
            remark = _deciding(line, examined, places.get(line.place, ()), own.get(line.place, ()))
        elif line.upstream:
            remark = _of_upstream(line.upstream, examined)
        elif line.matches is not None:
            remark = _of_expression(line, examined)
        if remark is not None:
            yield Told(line.place, line.text, remark)


def _of_upstream(upstream: str, examined: Examined) -> Remark:
    names = examined.roles.members.get(upstream, ())
    busy = {process.name for process in examined.draft.workers}
    if names and busy.issuperset(names):
        return Remark("taken", f"workers: {', '.join(names)}")
    return Remark("superfluous", "nothing is sent to it")


def _of_expression(line: FileLine, examined: Examined) -> Remark:
    if _matches_any(line, examined):
        return Remark("superfluous", "the endpoint table has what it matches")
    return Remark("superfluous", f"it matches no endpoint of Synapse {examined.release}")


def _matches_any(line: FileLine, examined: Examined) -> bool:
    """Whether its expression fits any plain request, whatever stands above it."""
    fits = line.matches
    if fits is None:
        return False
    return any(fits(each.answered.probe.asked(examined.host, OUTSIDE)) for each in examined.compared)


def _deciding(
    line: FileLine, examined: Examined, compared: Sequence[Compared], own: Sequence[OwnRoute]
) -> Remark | None:
    if compared:
        return _of_endpoints(compared, own)
    if own:
        return _of_own(own)
    if line.text.startswith("return"):
        return None
    if line.text.startswith("default_backend"):
        return Remark("taken", "routes: the last one, for what nothing else takes")
    if _matches_any(line, examined):
        return Remark("superfluous", "lines above take every endpoint that it matches")
    return Remark("superfluous", f"it matches no endpoint of Synapse {examined.release}, or lines above take them all")


def _of_own(own: Sequence[OwnRoute]) -> Remark:
    lost = [each for each in own if each.why_not]
    if lost:
        return Remark("lost", lost[0].why_not)
    paths = ", ".join(str(each.conditions.get("path", "any path")) for each in own)
    return Remark("taken", f"routes: {paths}")


def _of_endpoints(compared: Sequence[Compared], own: Sequence[OwnRoute]) -> Remark:
    """How many requests a line decides, and what differs here."""
    if all(each.answered.verdict.action == "files" for each in compared):
        return Remark(
            "lost", "it serves files; leave them with a web server, and send them there by a pool of your own"
        )
    same = [each for each in compared if not each.difference]
    parts = [f"{len(compared)} kinds of requests" if len(compared) > 1 else "one kind of request"]
    if own:
        parts[0] += f", and routes: {', '.join(str(each.conditions.get('path', 'any path')) for each in own)}"
    faults = [each for each in compared if each.faulty]
    others = Counter(each.difference for each in compared if each.difference and not each.faulty)
    if len(same) == len(compared):
        parts.append("all go to the same workers here")
    elif same:
        parts.append(f"{len(same)} go to the same workers here")
    if faults:
        fail = "fail" if len(faults) > 1 else "fails"
        parts.append(f"{len(faults)} {fail} where it sends them, such as {faults[0].answered.probe.shown}")
    parts += [f"{count} go{'' if count > 1 else 'es'} elsewhere: {why}" for why, count in others.most_common()]
    return Remark("taken" if same or own else "superfluous", "; ".join(parts))


def amiss(examined: Examined) -> list[Amiss]:
    """What is sent to a process that cannot serve it, plain requests and odd ones."""
    plain = [each.answered for each in examined.compared if each.faulty]
    known = {_shape(each.probe, each.pool) for each in plain}
    odd = [
        each
        for each in examined.odd
        if each.pool
        and not examined.roles.serves(each.pool, each.probe.row)
        and _shape(each.probe, each.pool) not in known
    ]
    found: dict[tuple[Place | None, str, str], dict[str, None]] = {}
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


def _merged(requests: Iterable[str]) -> Iterator[str]:
    """Requests that differ in their method only, together."""
    methods: dict[str, list[str]] = {}
    for each in requests:
        method, _, path = each.partition(" ")
        methods.setdefault(path, []).append(method)
    yield from (f"{','.join(sorted(found))} {path}" for path, found in methods.items())


def moved(examined: Examined) -> list[tuple[str, int, str]]:
    """Why requests go elsewhere here than there, how many of them, and one of them."""
    counts = Counter(each.difference for each in examined.compared if each.difference and not each.faulty)
    examples: dict[str, str] = {}
    for each in examined.compared:
        examples.setdefault(each.difference, each.answered.probe.shown)
    return [(why, count, examples[why]) for why, count in counts.most_common()]


def doubts(examined: Examined) -> list[tuple[str, int]]:
    """What could not be worked out on the way of requests, and for how many of them."""
    counts = Counter(doubt for each in examined.compared for doubt in each.answered.verdict.doubts)
    return counts.most_common()
