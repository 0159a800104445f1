"""Bars for long work: at a terminal, on standard error, and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, environment
from runners import runner
from terminals import Terminal

from sidecar.cli import main

REQUEST = json.dumps({"method": "GET", "target": "/_matrix/client/v3/sync"}) + "\n"
FOREIGN = """\
frontend web
  mode http
  bind :80
  default_backend synapse
backend synapse
  server main 127.0.0.1:8008
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sidecar.yaml"
    path.write_text("workers: {main: {endpoint: unix:main.sock}}\n")
    (tmp_path / "requests").write_text(REQUEST * 500)
    (tmp_path / "haproxy.cfg").write_text(FOREIGN)
    return str(path)


def shell(command: str) -> list[str]:
    return ["sh", "-c", f"{sys.executable} -m sidecar.cli {command}"]


def test_explaining_a_file(file: str, tmp_path: Path) -> None:
    """How much of the file is read, where the answers go elsewhere."""
    lines, answers = tmp_path / "requests", tmp_path / "answers"
    command = f"explain --no-ask -c {file} --from {lines} >{answers}"
    with Terminal(shell(command)) as terminal:
        terminal.says(r"Requests  \[")
        terminal.says("100%")
        assert terminal.ends() == 0
    assert len(answers.read_text().splitlines()) == 500


def test_no_bar_in_the_middle_of_the_answers(file: str, tmp_path: Path) -> None:
    """They are on the same terminal."""
    with Terminal(shell(f"explain --no-ask -c {file} --from {tmp_path / 'requests'}")) as terminal:
        assert terminal.ends() == 0
        assert "Requests" not in terminal.said


@pytest.mark.usefixtures("file")
def test_comparing(tmp_path: Path) -> None:
    """`import` says at which name and port it is."""
    command = f"import haproxy {tmp_path / 'haproxy.cfg'} -o {tmp_path / 'new.yaml'}"
    with Terminal(shell(command)) as terminal:
        terminal.says(r"Comparing  \[")
        terminal.says("100%")
        assert terminal.ends() == 0


@pytest.mark.parametrize("arguments", [("explain", "--from", "requests"), ("import", "haproxy", "haproxy.cfg")])
def test_nothing_of_it_in_a_pipe(file: str, arguments: tuple[str, ...]) -> None:
    """Nor a label."""
    command = [sys.executable, "-m", "sidecar.cli", *arguments]
    if arguments[0] == "explain":
        command += ["-c", file, "--no-ask"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(file).parent,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Requests" not in done.stderr
    assert "Comparing" not in done.stderr


def test_lines_of_a_pipe_have_no_end_to_measure(file: str) -> None:
    """So that there is no bar, and no fault either."""
    result = runner().invoke(main, ["explain", "--no-ask", "-c", file, "--from", "-"], input=REQUEST)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["candidates"] == ["main"]
