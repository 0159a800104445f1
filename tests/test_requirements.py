"""Names of requirements, `R-1` and `F-1`, that code, tests and pages use are defined on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "requirements.md"
NAME = re.compile(r"(?<![\w.-])[RF]-\d{1,3}(?![\w-])")
DEFINITIONS = re.findall(r"^\| ([RF]-\d+) \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)


def _files() -> Iterator[Path]:
    for part, pattern in (("sidecar", "*.py"), ("tests", "*.py"), ("benchmarks", "*.py"), ("docs", "*.md")):
        yield from (file for file in (ROOT / part).rglob(pattern) if file not in (PAGE, Path(__file__)))


def test_every_name_that_is_used_is_defined() -> None:
    defined = {name for name, _ in DEFINITIONS}
    used = {str(file.relative_to(ROOT)): set(NAME.findall(file.read_text("utf-8"))) for file in _files()}
    assert set.union(*used.values()) > {"R-12", "F-6"}
    assert {file: names - defined for file, names in used.items() if names - defined} == {}


def test_every_name_is_defined_once_and_says_something() -> None:
    names = [name for name, _ in DEFINITIONS]
    assert len(names) == len(set(names)) > 100
    assert all(len(demand.split()) > 1 for _, demand in DEFINITIONS)


@pytest.mark.parametrize("text", ["R-1", "(R-12, R-3)", "see R-7.", "F-19:"])
def test_names_are_seen_where_they_stand(text: str) -> None:
    assert NAME.search(text)


@pytest.mark.parametrize("text", ["CR-1", "R-1a", "SHA-1", "2R-5"])
def test_what_only_looks_like_a_name_is_none(text: str) -> None:
    assert not NAME.search(text)
