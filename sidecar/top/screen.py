"""The screen of `top`: every line of it, for a state and a size. Pure: what is shown where, and nothing of how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from sidecar.admin.consequences import consequences
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.together import instances_told
from sidecar.admin.verdict import MAINTENANCE, clauses_of, verdict
from sidecar.admin.words import NOTHING, duration, number, size
from sidecar.plurals import counted
from sidecar.routing.parts import PoolPart
from sidecar.top.balancer_lines import balancers
from sidecar.top.busy_endpoints import endpoints, hottest
from sidecar.top.event_lines import events
from sidecar.top.several import instance_lines, short
from sidecar.top.spark import spark
from sidecar.top.state import Action, Maintaining, Setting, TopState, View
from sidecar.top.styled import Line, Piece, Style, fitted, left, paragraphs, right, spread
from sidecar.top.worker_lines import table

_NARROWEST = 12
"""Characters of a curve that says something."""
HELP = """\
up, down, PgUp, PgDn  choose a worker, or scroll
Tab                   workers, pools, balancers, endpoints, events, notes,
                      instances
/       Esc           show only what has the text that follows; show all
s, >    S, <          sort by the next column, by the one before
r                     turn the order round
d       u             drain the chosen worker, resume it; asks first
w       m             set its weight, its maximum of requests at once
M                     turn maintenance mode on or off; asks first
?                     this help
q                     quit

RUNS    requests that it has now
WAIT    requests that wait for it now
RATE    answers a second, the mean of the last ten
P50     half of its answers in the last minute began within this time;
        long polls are left out
P99     the same of 99 in 100
5xx     such answers in the last minute
SINCE   how long it has been in its state
*       not on all instances; with several, numbers are sums, times the longest
"""
KEYS = "q quit  ? help  Tab view  / filter  s sort  d drain  u resume  w weight  m max"


def screen(state: TopState, width: int, height: int) -> list[Line]:
    """As many lines as there are, none longer than `width`."""
    head, foot = list(_head(state, width)), list(_foot(state, width))
    room = max(height - len(head) - len(foot), 0)
    lines = [*head, *_body(state, width, room), *foot][-height:]
    return [fitted(line, width) for line in lines]


def _body(state: TopState, width: int, room: int) -> list[Line]:
    if state.help:
        body = [fitted((Piece(line),), width) for line in HELP.splitlines()]
    elif state.facts is None:
        body = list(paragraphs([state.trouble or "Asking the sidecar."], width, "bad" if state.trouble else "soft"))
    elif state.view == "workers":
        body = table(state, width, room)
        if len(body) < room - 1:
            body += [(), *_notes(state.facts, width)]
    else:
        first, *rest = list(_VIEWS[state.view](state.facts, width)) or [()]
        wanted = state.filter.lower()
        whole = [first, *(line for line in rest if wanted in "".join(piece.text for piece in line).lower())]
        body = whole[min(state.scroll, max(len(whole) - room, 0)) :]
    return [*body[:room], *([()] * (room - len(body)))]


# Above.


def _head(state: TopState, width: int) -> Iterator[Line]:
    facts = state.facts
    if facts is None:
        yield fitted((Piece("matrix-sidecar", "bold"),), width)
        return
    word, style = _verdict(facts)
    if state.trouble:
        word, style = f"no answer for {duration(state.age)}", "bad"
    name = (Piece("matrix-sidecar", "bold"), Piece(f"  {facts.host}  "), Piece(word, style))
    yield spread(name, Piece(f"up {duration(facts.uptime)}", "soft"), width)
    yield from short(facts, width)
    yield tuple(_figures(facts, width))
    yield from _hour(facts, width)
    yield ()


def _verdict(facts: Snapshot) -> tuple[str, Style]:
    found = verdict(facts)
    styles: dict[str, Style] = {"ready": "good", "stuck": "warm", "down": "bad", "draining": "warm"}
    missing = f" without {', '.join(facts.ailing)}" if found.kind == "stuck" and facts.ailing else ""
    return f"{found.word.lower()}{missing}", styles[found.kind]


def _figures(facts: Snapshot, room: int) -> Iterator[Piece]:
    """As many as fit."""
    rates, failed = facts.recent.per_second, facts.recent.more.get("failed", 0)
    figures: list[tuple[str, str, Style]] = [
        ("req", f"{number(rates.get('requests'))}/s", "bold"),
        ("in flight", number(facts.in_flight), "bold"),
        ("waiting", number(facts.waiting), "warm" if facts.waiting else "bold"),
        ("failed", number(failed), "bad" if failed else "bold"),
        ("in", f"{size(rates.get('bytes_up'))}/s", "bold"),
        ("out", f"{size(rates.get('bytes_down'))}/s", "bold"),
        ("clients", number(facts.counters.get("connections_open", 0)), "bold"),
    ]
    for name, value, style in figures:
        room -= len(name) + len(value) + 3
        if room < -2:
            return
        yield Piece(f"{name} ", "soft")
        yield Piece(f"{value}  ", style)


def _hour(facts: Snapshot, width: int) -> Iterator[Line]:
    """Curves of the last hour beside each other, where there is room for them."""
    curves = [(name, facts.hour.get(name, ())) for name in ("rate", "errors", "p99", "waiting")]
    room = width // len(curves) - 10
    if room >= _NARROWEST and len(curves[0][1]) > 1:
        yield fitted((piece for name, values in curves for piece in _curve(name, values, room)), width)


def _curve(name: str, values: Sequence[float | None], room: int) -> Iterator[Piece]:
    yield Piece(f"{name} ", "soft")
    yield Piece(f"{spark(values, min(room, len(values)))}  ", "bad" if name == "errors" and any(values) else "good")


# Below.


def _foot(state: TopState, width: int) -> Iterator[Line]:
    if state.asked is not None and state.facts is not None:
        yield from _question(state, width)
    elif state.setting is not None and state.facts is not None:
        yield (Piece(left(_prompt(state.facts, state.setting), width), "bar"),)
    elif state.typing or (state.filter and not (state.message or state.trouble)):
        ends = "_  Enter ends" if state.typing else "  Esc shows all"
        yield (Piece(left(f"/{state.filter}{ends}", width), "bar"),)
    elif state.message or state.trouble:
        yield (Piece(left(state.trouble or state.message, width), "bad" if state.trouble else "bold"),)
    else:
        yield (Piece(left(KEYS, width), "bar"),)


def _prompt(facts: Snapshot, setting: Setting) -> str:
    worker = facts.workers.get(setting.worker)
    now = "" if worker is None else f" (now {worker.weight if setting.what == 'weight' else worker.maximum or 0:g})"
    enter = "sets"
    if setting.everywhere:
        own = next(each.name for each in facts.instances if each.own)
        enter = f"{instances_told(facts)}, o: only {own}"
    return f"{setting.what} of {setting.worker}{now}: {setting.text}_  Enter {enter}, empty: the file's, Esc ends"


def _question(state: TopState, width: int) -> Iterator[Line]:
    action, facts = state.asked, state.facts
    assert action is not None
    assert facts is not None
    if isinstance(action, Maintaining):
        if action.on:
            told = "Clients are answered 503. Other servers are served, or wait. A restart of the sidecar ends it."
            yield from paragraphs([told], width, "warm")
        asked = f"{'Start' if action.on else 'End'} maintenance{_where(action, facts)} any other key: no"
        yield (Piece(left(asked, width), "bar"),)
        return
    verb = "Drain" if action.drain else "Resume"
    if action.drain and action.worker in facts.workers:
        yield from paragraphs(consequences(facts, action.worker), width, "warm")
    yield (Piece(left(f"{verb} {action.worker}{_where(action, facts)} any other key: no", width), "bar"),)


def _where(action: Action | Maintaining, facts: Snapshot) -> str:
    """On which instances, with the keys."""
    if not action.everywhere:
        return "? y: yes,"
    own = next(each.name for each in facts.instances if each.own)
    return f" on {instances_told(facts)}? y: yes, o: only on {own},"


# Pools and notes.


def _pools(facts: Snapshot, width: int) -> Iterator[Line]:
    widest = max((len(name) for name in facts.pools), default=0)
    room = min(max(widest, 4), max(width // 3, 8))
    yield (Piece(left(f"{left('POOL', room)} {right('RUNS', 11)} {right('WAIT', 6)}  WORKERS", width), "title"),)
    for name, pool in facts.pools.items():
        parts = pool.divided(name)
        runs = f"{number(pool.running)} of {pool.concurrency}" if pool.waiting else number(pool.running)
        yield fitted(
            (
                Piece(f"{left(name, room)} {right(runs, 11)} "),
                Piece(right(number(pool.waiting), 6), "warm" if pool.waiting else "plain"),
                Piece("  "),
                *_serving(parts[0], facts, alone=len(parts) == 1),
            ),
            width,
        )
        for part in parts[1:]:
            yield fitted((Piece(" " * (room + 21)), *_serving(part, facts, alone=False)), width)


def _serving(part: PoolPart, facts: Snapshot, *, alone: bool) -> Iterator[Piece]:
    """Who serves a part of a pool, and who else."""
    if not alone:
        yield Piece(f"{part.what}: ", "soft")
    by = part.now(facts.takes).by
    yield from _named(part.sharing, facts)
    if part.reserve:
        yield Piece(" then ", "soft")
        yield from _named(part.reserve, facts)
    if part.fallback:
        yield Piece(" else ", "soft")
        yield from _named([name for group in part.fallback for name in group], facts)
    if by in ("nobody", "unmounted"):
        yield Piece(f"{' ' if part.everybody else ''}{'nobody' if by == 'nobody' else '(no process has it)'}", "bad")


def _named(names: Iterable[str], facts: Snapshot) -> Iterator[Piece]:
    for place, name in enumerate(names):
        worker = facts.workers.get(name)
        missing = worker is None or worker.state != "up"
        yield Piece(f"{' ' if place else ''}{name}", "bad" if missing else "plain")


def _notes(facts: Snapshot, width: int, *, whole: bool = False) -> Iterator[Line]:
    """What is out of order; with `whole` also what is in order."""
    notes = {
        "Maintenance": () if facts.maintenance is None else (MAINTENANCE,),
        "Not ready": facts.reasons if not facts.ready else (),
        "Missing": list(clauses_of(facts)) if facts.ready else (),
        "Waiting": [f"{counted(wait.count, 'request')} {wait.place}: {wait.why}" for wait in facts.waits],
        "Failures in the last minute": [
            f"{counted(each.count, 'request')} of {each.pool or 'no pool'}: {each.told or each.reason}"
            for each in facts.recent.failures
        ],
        "Misroutes": [
            f"{each.worker} does not know {each.endpoint}: {counted(each.count, 'time')}, last {_ago(each.ago)}"
            for each in facts.misroutes
        ],
        "Configuration": facts.problems,
        "Reload refused, the configuration before it holds": facts.refusal,
        "Last reload": () if facts.reload is None else facts.reload.changes,
    }
    for title, texts in notes.items():
        if texts and (whole or title not in ("Configuration", "Last reload")):
            yield (Piece(title, "bold"),)
            yield from paragraphs(texts, width, indent="  ")
    if whole and not any(notes.values()):
        yield (Piece("Everything is in order.", "soft"),)


def _ago(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{duration(seconds)} ago"


_VIEWS: dict[View, Callable[[Snapshot, int], Iterator[Line]]] = {
    "pools": _pools,
    "balancers": balancers,
    "endpoints": lambda facts, width: chain(endpoints(facts, width), [()], hottest(facts, width)),
    "events": events,
    "notes": partial(_notes, whole=True),
    "instances": instance_lines,
}
"""What scrolls as a whole."""
