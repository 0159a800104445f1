"""Lines of a terminal as values: pieces of text with a style each, cut and padded to a width. Pure.

Text comes from elsewhere and may hold anything; nothing that moves a cursor leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Literal

from attrs import frozen

Style = Literal["plain", "bold", "soft", "good", "warm", "bad", "bar", "chosen", "title"]


@frozen
class Piece:
    """Text in one style."""

    text: str
    style: Style = "plain"


Line = tuple[Piece, ...]


def printable(text: str) -> str:
    """Text in which every character takes a place and none does anything."""
    return "".join(each if each.isprintable() else "?" for each in text)


def cut(text: str, width: int) -> str:
    """Text that is not longer than `width`; where something is missing it ends in `…`."""
    text = printable(text)
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"[:width]


def left(text: str, width: int) -> str:
    """Text at the left of a column."""
    return cut(text, width).ljust(width)


def right(text: str, width: int) -> str:
    """Text at the right of a column."""
    return cut(text, width).rjust(width)


def fitted(pieces: Iterable[Piece], width: int) -> Line:
    """Pieces one after another as far as there is room."""
    line, room = [], width
    for piece in pieces:
        text = cut(piece.text, room)
        if text:
            line.append(Piece(text, piece.style))
        room -= len(text)
    return tuple(line)


def spread(begin: Iterable[Piece], end: Piece, width: int) -> Line:
    """Pieces at the left, and one at the right end if there is room for it."""
    line = fitted(begin, width)
    used = sum(len(piece.text) for piece in line)
    if used + len(end.text) >= width:
        return line
    return (*line, Piece(" " * (width - used - len(end.text))), Piece(printable(end.text), end.style))


def paragraphs(texts: Iterable[str], width: int, style: Style = "plain", indent: str = "") -> Iterator[Line]:
    """Texts in as many lines as they need; further lines of one are indented a little more."""
    for text in texts:
        for number, line in enumerate(wrap(printable(text), max(width - len(indent) - 2, 10))):
            yield fitted((Piece(f"{indent}{'  ' if number else ''}{line}", style),), width)
