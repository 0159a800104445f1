"""Prints what the programs reached side by side, when all tests are over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.programs import directory

_reached: list[str] = []


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that nginx's own user may enter."""
    with directory() as path:
        yield path


@pytest.fixture
def reached() -> Callable[[str, str, str], None]:
    """Note what a program reached in a fault, to be printed in the end."""

    def note(fault: str, program: str, result: str) -> None:
        _reached.append(f"{fault}: {program}: {result}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _reached:
        terminalreporter.section("reached in faults")
        for line in sorted(_reached):
            terminalreporter.write_line(line)
