"""Findings: a sentence, its severity, and what to do. Knows nothing about the tests."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from attrs import frozen


class Level(Enum):
    """The severity of a finding."""

    FINE = "fine"
    UNKNOWN = "unknown"
    """Not tested; the sentence has the reason."""
    WARNING = "warning"
    ERROR = "error"


@frozen
class Finding:
    """One sentence. `mend` says what to do; empty if there is nothing to do."""

    level: Level
    sentence: str
    mend: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong."""
        return self.level in (Level.WARNING, Level.ERROR)


def fine(sentence: str) -> Finding:
    """Something is as it should be."""
    return Finding(Level.FINE, sentence)


def unknown(sentence: str, mend: str = "") -> Finding:
    """Something could not be tested."""
    return Finding(Level.UNKNOWN, sentence, mend)


def warning(sentence: str, mend: str) -> Finding:
    """Something works, but probably not as intended."""
    return Finding(Level.WARNING, sentence, mend)


def error(sentence: str, mend: str) -> Finding:
    """Requests fail, or something is open that should be closed."""
    return Finding(Level.ERROR, sentence, mend)


def status_of(findings: Iterable[Finding]) -> int:
    """The exit status: 0 if all tests passed, 1 for warnings, 2 for errors."""
    levels = {finding.level for finding in findings}
    return 2 if Level.ERROR in levels else 1 if Level.WARNING in levels else 0
