"""Counts in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sidecar
from sidecar.plurals import counted


@pytest.mark.parametrize(
    ("count", "words", "told"),
    [
        (0, ("request",), "0 requests"),
        (1, ("request",), "1 request"),
        (2000, ("request",), "2,000 requests"),
        (1, ("process", "processes"), "1 process"),
        (2, ("process", "processes"), "2 processes"),
    ],
)
def test_counted(count: int, words: tuple[str, ...], told: str) -> None:
    """One thing, and any other number of them."""
    assert counted(count, *words) == told


def test_nobody_else_counts() -> None:
    """A number of things is never written with the plural alone, because the number can be one."""
    found = [
        f"{path.name}: {line}"
        for path in Path(sidecar.__file__).parent.rglob("*.py")
        for line in re.findall(
            r"\{len\([^{}]*\)\} (?:endpoint|process|pool|worker|request|connection|time)[a-z]*s\b", path.read_text()
        )
    ]
    assert not found
