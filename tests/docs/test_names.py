"""Everything that the pages name is there: files, modules, tests, options, settings."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from .blocks import PAGES, ROOT

TOP = "(?:sidecar|tests|conf|docs|systemd|benchmarks|man|twisted|\\.ci)"
FILE = re.compile(
    rf"(?<![\w./-])({TOP}/[\w./@*-]*\w\*?|README\.md|CHANGELOG\.md|LICENSE|pyproject\.toml|setup\.cfg)(?![\w/])"
)
MODULE = re.compile(r"\bpython3? -m ((?:sidecar|tests|benchmarks)[\w.]*)")
TEST = re.compile(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`")
SETTING = re.compile(r"`((?:limits|timeouts|forwarded|access|operator|log|tokens|synapse)\.(?!py`)\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Those of the checkout, by their path from its top."""
    named = set(FILE.findall(page.read_text("utf-8")))
    assert {name for name in named if not any(ROOT.glob(name.rstrip("/")))} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    """`python -m NAME` finds them."""
    named = set(MODULE.findall(page.read_text("utf-8")))
    assert {name for name in named if find_spec(name) is None} == set()


def test_tests_that_the_pages_name_exist() -> None:
    """A function that a page names is a test."""
    tests = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    named = {name for page in PAGES for _, name in TEST.findall(page.read_text("utf-8"))}
    assert {name for name in named - tests if not any((ROOT / "tests").rglob(f"{name}.py"))} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    """By section and key, as docs/configuration.md has them."""
    reference = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    keys = {
        f"{section}.{key}"
        for section, text in re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL)
        for key in re.findall(r"^\| `(\w+)`", text, re.MULTILINE)
    }
    assert len(keys) > 50
    assert set(SETTING.findall(page.read_text("utf-8"))) - keys == set()
