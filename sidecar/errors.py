"""The failure vocabulary: what can go wrong, in words for people and in kinds for programs.

Knows nothing else of the project; every layer may import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import Enum

from attrs import field, frozen

# Control characters, those that terminals obey first of all, and what turns the direction of the text behind it.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_COLOUR = re.compile("(\x1b\\[[0-9;]*m)")
_MOST_KNOWN = 12
"""Most names that are listed where none is alike."""


def printable(text: str) -> str:
    """The text with control characters written as `\\x1b`, so that no terminal obeys them; lines and tabs stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def printable_but_coloured(text: str) -> str:
    """The same, with the colours that a command gives."""
    return "".join(part if number % 2 else printable(part) for number, part in enumerate(_COLOUR.split(text)))


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant: the same in another case, else one that looks alike."""
    names = list(known)
    folded = {each.lower(): each for each in reversed(names)}
    if name.lower() in folded:
        return folded[name.lower()]
    near = get_close_matches(name.lower(), folded, 1)
    return folded[near[0]] if near else None


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that nothing has, with the one that was probably meant or those that there are."""
    names = list(known)
    near = nearest_name(name, names)
    if near is not None:
        hint = f"Did you mean {near}?"
    elif names:
        more = f" and {len(names) - _MOST_KNOWN} more" if len(names) > _MOST_KNOWN else ""
        hint = f"There are {', '.join(names[:_MOST_KNOWN])}{more}."
    else:
        hint = "There is none."
    return f"No {what} is called {name!r}. {hint}"


class Severity(Enum):
    """How much a problem in a configuration matters."""

    WARNING = "warning"
    ERROR = "error"


@frozen
class Problem:
    """One fault in a configuration file, told so that the reader can mend it.

    `line` counts from 1; 0 means the whole file. `key` is a dotted path such as `workers.sync1.endpoint`,
    empty where no key is concerned. `message` says what is wrong and what to write instead.
    """

    file: str
    line: int
    key: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return self.told("warning: " if self.severity is Severity.WARNING else "")

    def told(self, mark: str = "") -> str:
        """With its place, for whoever says by other means how bad it is."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return printable(f"{place}: {self.key}: {mark}{self.message}" if self.key else f"{place}: {mark}{self.message}")


def _as_tuple(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(problems)


@frozen
class ConfigError(Exception):
    """A configuration that cannot be used; holds every problem found, not only the first."""

    problems: tuple[Problem, ...] = field(converter=_as_tuple)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Fault(Enum):
    """Which rule a malformed message broke, in the order of severity for a reply."""

    SYNTAX = "syntax"
    FRAMING = "framing"
    VERSION = "version"
    METHOD = "method"
    TARGET_TOO_LONG = "target too long"
    HEAD_TOO_LARGE = "head too large"
    CODING = "transfer coding"
    EXPECTATION = "expectation"


@frozen
class WireError(Exception):
    """Octets that are not an HTTP/1.1 message we accept.

    `section` names the rule (for example `RFC 9112 6.3`); `detail` never contains octets of the message,
    because a token could be among them.
    """

    fault: Fault
    detail: str
    section: str = ""

    def __str__(self) -> str:
        return f"{self.detail} ({self.section})" if self.section else self.detail


@frozen
class SidecarError(Exception):
    """Something that prevents the sidecar from running, in one sentence."""

    sentence: str

    def __str__(self) -> str:
        return self.sentence
