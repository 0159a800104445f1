"""`check` of one file: another sidecar.yaml, or a file of Synapse by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from runners import runner

from sidecar.cli import main

WORKER = """\
worker_app: synapse.app.generic_worker
worker_name: w1
worker_listeners:
  - type: http
    path: {directory}/w1.sock
    resources: [{{names: [client]}}]
"""
HOMESERVER = """\
server_name: example.org
listeners:
  - {{type: http, path: {directory}/main.sock, resources: [{{names: [client, federation]}}]}}
"""


def run(*arguments: str) -> Result:
    return runner().invoke(main, ["check", "--no-ask", *arguments])


def written(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text.format(directory=directory))
    return str(path)


def test_another_configuration(tmp_path: Path) -> None:
    """As with -c, in text and in JSON; but not both."""
    file = written(tmp_path, "other.yaml", "lisen: tcp:1\n")
    assert "unknown key; did you mean `listen`?" in run(file).stdout
    assert run(file).stdout == run("-c", file).stdout
    assert run(file, "--json").stdout == run("-c", file, "--json").stdout
    both = run("-c", file, file)
    assert (both.exit_code, both.stdout) == (2, "")
    assert "not both" in both.stderr


@pytest.mark.parametrize(
    ("text", "who"),
    [(WORKER, "worker `w1` of Synapse"), (HOMESERVER, "configuration of Synapse's main process")],
    ids=["worker", "homeserver"],
)
def test_a_sound_file_of_synapse(tmp_path: Path, text: str, who: str) -> None:
    """Nothing that other files may well say is missed, and the one line says what was and was not checked."""
    file = written(tmp_path, "x.yaml", text)
    result = run(file)
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{file}: {who}, checked by itself: ")
    assert "Not checked: " in line
    told = json.loads(run(file, "--json").stdout)
    assert (told["problems"], line) == ([], f"{file}: {told['scope']}.")


@pytest.mark.parametrize(
    ("text", "old", "new", "place"),
    [
        (WORKER, "[client]", "[clinet]", ":6: worker_listeners[0].resources[0].names: `clinet`"),
        (WORKER, "[client]", "[client, replication]", ":6: worker_listeners[0].resources: warning: "),
        (WORKER, "w1.sock", "w1.sock\n    mode: 660", ":6: worker_listeners[0].mode: YAML reads this"),
        (WORKER, "generic_worker", "generik_worker", ":1: worker_app: must be the class of a worker"),
        (WORKER, "worker_name: w1", "worker_replication_port: 1", ":2: worker_replication_port: "),
        (WORKER, "worker_name: w1", "worker_name: w1\nworker_name: w2", ":3: worker_name: warning: the key was given"),
        (WORKER, "path: {directory}", "path: /nonexistent", ":5: worker_listeners[0].path: warning: "),
        (HOMESERVER, "server_name: example.org", "stream_writers: {{typng: a}}", ":1: stream_writers.typng: "),
        (HOMESERVER, "type: http", "type: htp", ":3: listeners[0].type: must be"),
    ],
)
def test_what_is_wrong_with_a_file_of_synapse(tmp_path: Path, text: str, old: str, new: str, place: str) -> None:
    """One problem for one fault, in its place."""
    file = written(tmp_path, "x.yaml", text.replace(old, new))
    *problems, _scope = run(file).stdout.splitlines()
    problems = [each for each in problems if "`worker_name` is missing" not in each]
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{file}{place}")
    assert run(file).exit_code == (1 if "warning: " in problems[0] else 2)


@pytest.mark.parametrize("text", ["", "a: [", "[]", "presence: {enabled: false}", "listen: x\nworker_app: y"])
def test_everything_else_counts_as_ours(tmp_path: Path, text: str) -> None:
    """A file that is none of Synapse's is checked as sidecar.yaml, whose keys are then named."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    result = run(str(path))
    assert result.exit_code == 2
    assert result.stdout == run("-c", str(path)).stdout
    assert "by itself" not in result.stdout


def test_a_file_that_is_not_there() -> None:
    """One sentence."""
    result = run("/nonexistent/worker.yaml")
    assert result.exit_code == 2
    assert result.stdout == "/nonexistent/worker.yaml: the file does not exist; give the path of an existing one\n"
