"""HAProxy's configuration as words: quotes and escapes resolved, lines gathered into sections.

Knows no keyword's meaning.

After "2.2. Quoting and escaping" of HAProxy's configuration manual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen

from sidecar.importing.asked import Position

SECTIONS = frozenset(
    (
        *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "cache"),
        *("program", "ring", "http-errors", "fcgi-app", "log-forward", "crt-store", "traces", "acme"),
    )
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@frozen
class Line:
    """The words of one line."""

    words: tuple[str, ...]
    place: Position

    @property
    def keyword(self) -> str:
        return self.words[0]

    @property
    def args(self) -> tuple[str, ...]:
        return self.words[1:]

    def __str__(self) -> str:
        return " ".join(self.words)


@frozen
class Section:
    """A section; `name` is empty where it has none."""

    kind: str
    name: str
    place: Position
    lines: tuple[Line, ...]
    origin: str = ""
    """The named `defaults` that it begins with."""

    def having(self, *keywords: str) -> Iterator[Line]:
        """The lines with one of these keywords."""
        return (line for line in self.lines if line.keyword in keywords)


def sections(text: str, file: str) -> tuple[Section, ...]:
    """The sections of a file. A line in front of the first one belongs to a section without a kind."""
    found: list[tuple[Line, list[Line]]] = []
    for line in lines(text, file):
        if line.keyword in SECTIONS:
            found.append((line, []))
        else:
            if not found:
                found.append((Line(("",), line.place), []))
            found[-1][1].append(line)
    return tuple(_section(head, inner) for head, inner in found)


def _section(head: Line, inner: Iterable[Line]) -> Section:
    name = head.args[0] if head.args and head.args[0] != "from" else ""
    origin = head.args[-1] if "from" in head.args[:-1] else ""
    return Section(head.keyword, name, head.place, tuple(inner), origin)


def lines(text: str, file: str) -> Iterator[Line]:
    """The lines that say something; one that ends with a backslash goes on in the next."""
    held, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if held else number
        if raw.endswith("\\") and not raw.endswith("\\\\"):
            held += raw[:-1] + " "
            continue
        words = tuple(_words(held + raw))
        held = ""
        if words:
            yield Line(words, Position(file, start))


def _words(line: Iterable[str]) -> Iterator[str]:
    """The words of a line up to a comment."""
    word: list[str] | None = None
    quote = ""
    rest = iter(line)
    for char in rest:
        if char == "\\" and quote != "'":
            following = next(rest, "")
            word = [*(word or ()), _after_backslash(following, quote)]
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = [*(word or ()), char]
        elif char in "\"'":
            quote, word = char, word or []
        elif char == "#":
            break
        elif char in " \t":
            if word is not None:
                yield "".join(word)
            word = None
        else:
            word = [*(word or ()), char]
    if word is not None:
        yield "".join(word)


def _after_backslash(char: str, quote: str) -> str:
    if char in _ESCAPED and not quote:
        return _ESCAPED[char]
    if char in " #\\\"'" or (quote and char == "$"):
        return char
    return f"\\{char}"
