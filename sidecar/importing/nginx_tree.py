"""nginx's directives as frozen values, from what crossplane read. Knows no directive's meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from sidecar.importing.asked import Position

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = {"t": "\t", "r": "\r", "n": "\n"}


@frozen
class Directive:
    """One directive; `block` is None where it has no braces."""

    name: str
    args: tuple[str, ...]
    place: Position
    block: tuple[Directive, ...] | None = None

    def inside(self, *names: str) -> Iterator[Directive]:
        """The directives in its block that have one of these names."""
        return (each for each in self.block or () if each.name in names)

    def __str__(self) -> str:
        words = " ".join([self.name, *self.args])
        return words if self.block is None else f"{words} {{"


def tree(files: Sequence[Mapping[str, Any]]) -> tuple[Directive, ...]:
    """The directives of the first file of those that crossplane read, the others in place of what includes them."""
    return tuple(_directives(files, 0, frozenset({0})))


def _directives(files: Sequence[Mapping[str, Any]], index: int, open_files: frozenset[int]) -> Iterator[Directive]:
    return _of_block(files, files[index]["parsed"], str(files[index]["file"]), open_files)


def _of_block(
    files: Sequence[Mapping[str, Any]], parsed: Iterable[Mapping[str, Any]], file: str, open_files: frozenset[int]
) -> Iterator[Directive]:
    for each in parsed:
        included = [index for index in each.get("includes", ()) if index not in open_files]
        for index in included:
            yield from _directives(files, index, open_files | {index})
        if each["directive"] != "#" and not included:
            block = each.get("block")
            inner = None if block is None else tuple(_of_block(files, block, file, open_files))
            args = tuple(_unescaped(argument) for argument in each["args"])
            yield Directive(str(each["directive"]), args, Position(file, int(each["line"])), inner)


def _unescaped(argument: str) -> str:
    """nginx resolves these in every word (ngx_conf_read_token), quoted or not; any other backslash stays."""
    return _ESCAPE.sub(lambda found: _CONTROLS.get(found[1], found[1] if found[1] in "\\\"'" else found[0]), argument)


def first(directives: Sequence[Directive], name: str) -> Directive | None:
    """The first directive of this name."""
    return next((each for each in directives if each.name == name), None)


def every(directives: Iterable[Directive]) -> Iterator[Directive]:
    """All of them, those in blocks after the one that holds them."""
    for each in directives:
        yield each
        yield from every(each.block or ())
