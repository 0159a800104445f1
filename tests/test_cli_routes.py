"""`routes`: filters, and columns that fit the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest
from click.testing import Result
from hypothesis import example, given
from hypothesis import strategies as st
from runners import runner
from terminals import Terminal

from sidecar.cli import main
from sidecar.commands.fitting_table import fitted, table

CONFIGURATION = """\
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  typing1: {endpoint: "unix:typing1.sock", serves: client, writes: [typing]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sidecar.yaml"
    path.write_text(CONFIGURATION)
    return str(path)


def run(*arguments: str) -> Result:
    return runner().invoke(main, ["routes", "--no-ask", *arguments])


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()[1:]]


def test_one_pool(file: str) -> None:
    """Its rows only, as a table and as JSON, and none of the remarks on others."""
    result = run("-c", file, "--pool", "typing")
    assert result.exit_code == 0
    assert {row[2] for row in rows(result)} == {"typing"}
    found = json.loads(run("-c", file, "--pool", "typing", "--json").stdout)["rows"]
    assert len(found) == len(rows(result)) > 0


def test_a_text(file: str) -> None:
    """Wherever it stands in the row, in any case; both filters together."""
    result = run("-c", file, "--grep", "OPENID")
    assert len(rows(result)) > 1
    assert all("openid" in " ".join(row).lower() for row in rows(result))
    both = run("-c", file, "--grep", "openid", "--pool", "main")
    assert all(row[2] == "main" for row in rows(both))


def test_nothing_is_left(file: str) -> None:
    """Exit 1, and what was probably meant, on standard error."""
    result = run("-c", file, "--grep", "snyc")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "'snyc' appears in no row. Did you mean sync?\n"
    empty = run("-c", file, "--grep", "snyc", "--json")
    assert (empty.exit_code, json.loads(empty.stdout)["rows"]) == (1, [])
    assert run("-c", file, "--pool", "nothing").exit_code == 2


def test_a_terminal_gets_its_width(file: str) -> None:
    """80 columns, cut where it shows; and how to see all."""
    command = [sys.executable, "-m", "sidecar.cli", "routes", "--no-ask", "-c", file]
    with Terminal(command, COLUMNS="80", NO_COLOR="1") as terminal:
        assert terminal.ends() == 0
        lines = terminal.said.splitlines()
    end = next(number for number, line in enumerate(lines) if not line)
    assert {len(line.rstrip()) <= 80 for line in lines[:end]} == {True}
    assert any("…" in line for line in lines[:end])
    assert "routes | less -S" in lines[-1]


def test_a_pipe_gets_everything(file: str) -> None:
    """Nothing is cut for programs."""
    result = run("-c", file)
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) > 150
    assert result.stderr == ""


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(1, 400))
@example([8, 74, 20, 8, 18, 8, 171], 80)
def test_columns_that_fit(natural: list[int], width: int) -> None:
    """No wider than the terminal unless every column is at its least; nothing is cut that would fit; none grows."""
    widths = fitted(natural, width)
    gaps = 2 * (len(natural) - 1)
    assert all(0 <= got <= wanted for got, wanted in zip(widths, natural, strict=True))
    if sum(natural) + gaps <= width:
        assert widths == natural
    elif max(widths) > 7:
        assert sum(widths) + gaps == width
    assert all(got == wanted or got >= 7 for got, wanted in zip(widths, natural, strict=True))


def test_cut_cells_end_in_a_point() -> None:
    """So that nobody takes a part of a name for the name."""
    lines, is_cut = table(("A", "B"), [("x" * 30, "y" * 30)], (None, None), 30)
    assert is_cut
    assert click.unstyle(lines[1]) == f"{'x' * 13}…  {'y' * 13}…"
