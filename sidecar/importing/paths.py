"""Places of other proxies as path patterns of ours: prefixes, and expressions that spell out paths. Knows no proxy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SAFE = re.compile(r"[!-~]*")
_ONE, _ANY, _END = "\0", "\1", "\2"
"""Stand for something within a segment, for anything, and for the end of the path."""
_MOST = 96
"""Paths that one expression may spell out."""
_MOST_ANY = 2
_DEEPEST = 20
_WILD = re.compile(r"\[\^/\][+*]\??|\[\^/\]\{[^}]*\}|\[[\w\\.^~%@:!$*/-]+\][+*]\??|\\[wdS][+*]\??")
_PARAMETER = re.compile(r"\{x\d*\}")


def of_prefix(text: str) -> list[str] | None:
    """Patterns for what begins with `text`, divided at slashes; None for all paths, which is no condition."""
    if not text.startswith("/") or not _SAFE.fullmatch(text) or set(text) & set("{}*?#"):
        return None
    if text == "/":
        return None
    return [f"{text}**"] if text.endswith("/") else [text, f"{text}/**"]


def of_exact(text: str) -> list[str] | None:
    """The pattern for this path alone."""
    return [text] if text.startswith("/") and _SAFE.fullmatch(text) and not set(text) & set("{}*?#") else None


def of_expression(text: str) -> list[str] | None:
    """Patterns for an expression that spells out paths; None where it says more than patterns can.

    What stands between two slashes and may be anything is taken for one segment or two.
    """
    reader = _Expression(text.removeprefix("^"))
    spelled = reader.read() if text.startswith(("^", "/", "(/")) else None
    if spelled is None:
        return None
    found: dict[str, None] = {}
    for each in spelled:
        patterns = list(_patterns(each))
        if not patterns:
            return None
        found.update(dict.fromkeys(patterns))
    return list(found) or None


def covers(pattern: str | None, other: str | None) -> bool:
    """Whether a pattern takes every path that another takes; None is any path."""
    if pattern is None:
        return True
    if other is None:
        return False
    ours, theirs = pattern.split("/"), other.split("/")
    open_ended = ours[-1] == "**"
    if open_ended:
        ours.pop()
        if len(theirs) <= len(ours):
            return False
    elif theirs[-1] == "**" or len(ours) != len(theirs):
        return False
    return all(one == two or one[:1] == "{" for one, two in zip(ours, theirs, strict=False))


def sample_of(pattern: str | None) -> str:
    """A path that fits a pattern."""
    if pattern is None:
        return "/nobodys"
    return "/".join("abc" if part[:1] == "{" else "x" if part == "**" else part for part in pattern.split("/"))


def _patterns(spelled: str) -> Iterator[str]:
    """The patterns of one path that an expression spells out; none where it cannot be one."""
    path, end, _ = spelled.partition(_END)
    if not path.startswith("/"):
        return
    open_end = not end
    while path.endswith(_ANY):
        path, open_end = path[:-1], True
    for variant in _widths(path):
        segments = variant.split("/")
        if any(_ONE in segment and segment != _ONE for segment in segments):
            return
        plain = "/".join(f"{{x{at}}}" if part == _ONE else part for at, part in enumerate(segments))
        if not _SAFE.fullmatch(plain) or set(_PARAMETER.sub("", plain)) & set("{}*?#"):
            return
        if not open_end:
            yield plain
        elif plain.endswith("/"):
            yield f"{plain}**"
        else:
            yield from (plain, f"{plain}/**")


def _widths(path: str) -> Iterable[str]:
    """With each «anything» as one segment, and as two."""
    before, found, after = path.partition(_ANY)
    if not found:
        return [path]
    if after.count(_ANY) >= _MOST_ANY:
        return [path.replace(_ANY, _ONE)]
    return [before + middle + rest for middle in (_ONE, f"{_ONE}/{_ONE}") for rest in _widths(after)]


class _Expression:
    """Reads an expression that consists of text, alternatives, optional parts, and places where anything may stand."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def read(self) -> list[str] | None:
        """Every path that it spells out; None where it cannot be read, or spells out too many."""
        found = self._alternatives()
        return found if found is not None and self._at == len(self._text) else None

    def _alternatives(self) -> list[str] | None:
        found = self._sequence()
        while found is not None and self._text[self._at : self._at + 1] == "|":
            self._at += 1
            more = self._sequence()
            found = None if more is None else [*found, *more]
        return found

    def _sequence(self) -> list[str] | None:
        found = [""]
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            part = self._part()
            if part is None:
                return None
            found = [one if _END in one else one + other for one in found for other in part]
            if len(found) > _MOST:
                return None
        return found

    def _part(self) -> list[str] | None:
        part = self._atom()
        following = self._text[self._at : self._at + 1]
        if part is None or following not in ("?", "*", "+", "{") or not following:
            return part
        self._at += 1
        return [*part, ""] if following == "?" else None

    def _atom(self) -> list[str] | None:
        rest = self._text[self._at :]
        wild = _WILD.match(rest)
        anything = re.match(r"(?:\[\\s\\S\]|\.)[*+]\??", rest)
        if wild is not None or anything is not None:
            self._at += len((wild or anything)[0])  # type: ignore[index]
            return [_ONE if wild is not None else _ANY]
        if rest.startswith("("):
            return self._group(re.match(r"\((?:\?:|\?P?<\w+>)?", rest)[0])  # type: ignore[index]
        if rest.startswith("["):
            return self._class()
        self._at += 1
        if rest[0] == "\\":
            self._at += 1
            return [rest[1]] if len(rest) > 1 and not rest[1].isalnum() else None
        if rest[0] == "$":
            return [_END]
        return None if rest[0] in "^*+?{" else [rest[0]]

    def _group(self, opening: str) -> list[str] | None:
        self._at += len(opening)
        if self._text[self._at : self._at + 1] == "?" or self._depth >= _DEEPEST:
            return None
        self._depth += 1
        found = self._alternatives()
        self._depth -= 1
        self._at += 1
        return found if self._text[self._at - 1 : self._at] == ")" else None

    def _class(self) -> list[str] | None:
        """`[rv]` is one of its characters; a range or a negation is more than can be spelled out."""
        match = re.match(r"\[([A-Za-z0-9_]+)\]", self._text[self._at :])
        if match is None:
            return None
        self._at += match.end()
        return list(match[1])
