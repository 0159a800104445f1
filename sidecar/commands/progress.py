"""A progress bar for long work: on standard error, and only where that is a terminal. Knows no command."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from sidecar.commands.printed import Printed

Step = Callable[[int, str], None]
"""Takes how much more is done, and what comes next, if that is worth showing."""


@contextmanager
def progress(label: str, total: int | None, *, hidden: bool = False) -> Iterator[Step]:
    """A bar as long as the block lasts. None where nobody knows how much there is to do.

    `hidden`: the terminal shows what the command prints, which the bar would disturb.
    """
    stream = _terminal()
    if hidden or stream is None or not total:
        yield _no_step
        return
    with click.progressbar(
        length=total,
        label=label,
        file=stream,
        item_show_func=lambda doing: doing,
        update_min_steps=max(1, total // 100),
    ) as bar:

        def step(count: int, doing: str) -> None:
            bar.update(count, doing or None)
            if doing:
                bar.render_progress()

        yield step


def clear() -> None:
    """Take the bar off its line, so that text can stand there; the next step draws it again below."""
    stream = _terminal()
    if stream is not None:
        stream.write("\r\033[K")
        stream.flush()


def _no_step(_count: int, _doing: str) -> None:
    """Nobody is watching."""


def _terminal() -> Any:
    """Standard error without the filter that shows control characters, which a bar needs; None: it is no terminal."""
    stream = sys.stderr
    bare = stream.unfiltered if isinstance(stream, Printed) else stream
    return bare if bare.isatty() else None


def size_of(file: IO[bytes]) -> int | None:
    """Bytes of a file; None of a pipe, of which nobody knows."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
