"""Aligned columns that fit the terminal. What is cut ends in `…`; in a pipe nothing is cut. Knows no command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import click

_GAP = 2
_LEAST = 7
"""Narrowest column where there is not room for all."""
_CUT = "…"


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None where it goes elsewhere, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None], width: int | None
) -> tuple[list[str], bool]:
    """The lines, and whether anything was cut. A style is `bold` or a colour; `width` None: as wide as it is."""
    lines = [titles, *rows]
    natural = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    widths = natural if width is None else fitted(natural, width)
    printed = []
    for number, line in enumerate(lines):
        cells = [_cell(text, room) for text, room in zip(line, widths, strict=True)]
        cells[-1] = cells[-1].rstrip()
        if number:
            cells = [_styled(cell, style) for cell, style in zip(cells, styles, strict=True)]
        else:
            cells = [click.style(cell, underline=True) for cell in cells]
        printed.append((" " * _GAP).join(cells))
    return printed, widths != natural


def fitted(natural: Sequence[int], width: int) -> list[int]:
    """Widths of columns that fit into `width`: the widest give way first, and none below the least."""
    widths = list(natural)
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    while over > 0:
        widest = max(widths)
        if widest <= _LEAST:
            break
        following = max((each for each in widths if each < widest), default=_LEAST)
        at = [column for column, each in enumerate(widths) if each == widest]
        step = min(widest - max(following, _LEAST), -(-over // len(at)))
        for column in at:
            taken = min(step, over)
            widths[column] -= taken
            over -= taken
    return widths


def _cell(text: str, room: int) -> str:
    return text.ljust(room) if len(text) <= room else text[: room - 1] + _CUT


def _styled(text: str, style: str | None) -> str:
    return text if style is None else click.style(text, bold=True) if style == "bold" else click.style(text, fg=style)
