"""Names of others on a terminal: what is in a file of Synapse's is shown, and not obeyed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runners import runner

from sidecar.cli import main
from sidecar.commands.printed import Printed
from sidecar.errors import Problem, printable, printable_but_coloured
from sidecar.synapse.reading import read_topology

HOSTILE = "w\x1b]0;owned\x07\x9b31m\u202e"
SHOWN = r"w\x1b]0;owned\x07\x9b31m\u202e"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration whose worker has a name that a terminal would obey."""
    (tmp_path / "homeserver.yaml").write_text(
        "server_name: x.org\nreport_stats: false\nmedia_store_path: /m\nsigning_key_path: /k\n"
        "listeners: [{type: http, path: /run/main.sock, resources: [{names: [client]}]}]\n"
        "redis: {enabled: true}\n"
    )
    quoted = HOSTILE.encode("unicode_escape").decode("ascii")
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "one.yaml").write_text(
        f'worker_app: synapse.app.generic_worker\nworker_name: "{quoted}"\n'
        "worker_listeners: [{type: http, path: /run/w.sock, resources: [{names: [client, federation]}]}]\n"
    )
    path = tmp_path / "sidecar.yaml"
    path.write_text("listen: tcp:0\nsynapse: {config: homeserver.yaml, workers: workers}\n")
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("check", "--no-ask"),
        ("routes", "--no-ask"),
        ("explain", "--no-ask", "GET", "/_matrix/client/v3/sync\x1b[5m"),
        ("explain", "--no-ask", "GET", "/_matrix/client/v3/sync"),
        ("doctor",),
    ],
)
@pytest.mark.parametrize("color", [False, True])
def test_no_command_prints_it_raw(file: Path, command: tuple[str, ...], *, color: bool) -> None:
    """Whatever it is about."""
    result = runner({}).invoke(main, [command[0], "-c", str(file), *command[1:]], color=color)
    said = result.output.replace("\x1b[0m", "")
    for octet in "\x07\x9b\u202e":
        assert octet not in said
    assert "\x1b]" not in said
    assert color or "\x1b" not in said
    assert SHOWN in said or command[-1].endswith("\x1b[5m") or command[0] == "doctor"


def test_it_is_an_error(file: Path) -> None:
    """The name is told in a way that can be read, and nothing else has it raw."""
    topology = read_topology([str(file.parent / "homeserver.yaml")], [str(file.parent / "workers")], {})
    assert [process.name for process in topology.processes][1:] == [SHOWN]
    assert any(f"worker_name: `{SHOWN}` holds a control character" in str(problem) for problem in topology.problems)


def test_a_problem_is_one_line_of_text() -> None:
    """A path or a value in it can come from anywhere."""
    assert str(Problem("/a\x1bb", 1, "k\x07", "m\x9b")) == r"/a\x1bb:1: k\x07: m\x9b"


@given(st.text())
def test_nothing_that_a_terminal_obeys(text: str) -> None:
    """Lines and tabs stay; colours do where they are ours."""
    shown = printable(text)
    assert not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in shown if each not in "\t\n")
    assert printable(shown) == shown
    assert printable_but_coloured("\x1b[31mred\x1b[0m" + shown) == "\x1b[31mred\x1b[0m" + shown


def test_a_stream() -> None:
    """It is the stream in all else."""
    stream = io.StringIO()
    printed = Printed(stream)
    assert printed.write("a\x1b[1mb\x1b[2J\n") == len("a\x1b[1mb\\x1b[2J\n")
    assert stream.getvalue() == "a\x1b[1mb\\x1b[2J\n"
    assert not printed.isatty()
