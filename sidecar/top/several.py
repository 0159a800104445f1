"""Several instances on the screen of `top`: a line above everything, and a list of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.snapshot import InstanceFacts, Snapshot
from sidecar.admin.words import NOTHING, duration, number, size
from sidecar.top.styled import Line, Piece, Style, fitted, left, paragraphs, right

_STYLES: dict[str, Style] = {"ready": "good", "draining": "warm", "stuck": "warm", "down": "bad"}
_WIDEST = 30
_NUMBERS = (("REQ/S", 7), ("RUNS", 6), ("WAIT", 5), ("CLIENTS", 8), ("CPU", 5), ("MEMORY", 8), ("UP", 11))


def short(facts: Snapshot, width: int) -> Iterator[Line]:
    """Nothing where there is one; else who is how, those that are silent with the reason, in lines of their own."""
    if not facts.instances:
        return
    answered = [each for each in facts.instances if each.answered]
    yield fitted((piece for each in answered for piece in _named(each)), width)
    yield from paragraphs((f"{each.name} does not answer: {each.why}." for each in facts.silent), width, "bad")


def _named(each: InstanceFacts) -> Iterator[Piece]:
    yield Piece(f"{each.name} ", "soft")
    yield Piece(f"{each.word.lower()}  ", _STYLES[each.kind])


def instance_lines(facts: Snapshot, width: int) -> Iterator[Line]:
    """One line for each with its numbers, and what it has to say below."""
    longest = max((len(each.name) for each in facts.instances), default=8)
    room = min(max(longest, 8), max(width // 3, 8), _WIDEST)
    titles = " ".join(right(title, space) for title, space in _NUMBERS)
    yield (Piece(left(f"{left('INSTANCE', room)} {left('STATE', 10)} {titles}", width), "title"),)
    if not facts.instances:
        yield (Piece("There is only this one; `operator.siblings` names others.", "soft"),)
    for each in facts.instances:
        word, style = (each.word.lower(), _STYLES[each.kind]) if each.answered else ("no answer", "bad")
        numbers = " ".join(right(text, space) for text, (_, space) in zip(_texts(each), _NUMBERS, strict=True))
        name = Piece(f"{left(each.name, room)} ", "bold")
        yield fitted((name, Piece(f"{left(word, 10)} ", style), Piece(numbers)), width)
        told = each.why if not each.answered else each.remark or ("" if each.kind == "ready" else each.told)
        yield from paragraphs([told] if told else [], width, "soft", indent="  ")


def _texts(each: InstanceFacts) -> tuple[str, ...]:
    if not each.answered:
        return tuple(NOTHING for _ in _NUMBERS)
    return (
        number(each.requests_per_second),
        number(each.in_flight),
        number(each.waiting),
        number(each.clients),
        NOTHING if each.cpu is None else f"{each.cpu:.0%}",
        size(each.memory),
        duration(each.uptime),
    )
