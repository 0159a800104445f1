"""What the commands say where something was mistyped, and the summaries in `--help`."""

from __future__ import annotations

import click
import pytest
from click.testing import Result
from runners import runner

from sidecar.cli import main
from sidecar.commands.hints import endpoint_hint
from sidecar.errors import nearest_name, unknown_name
from sidecar.loading.deployment import read_deployment
from sidecar.routing.plan import Plan

CONFIGURATION = """\
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
routes:
  - {path: /own, pool: sync}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("hints") / "sidecar.yaml"
    path.write_text(CONFIGURATION)
    return str(path)


@pytest.fixture(scope="module")
def plan(file: str) -> Plan:
    return read_deployment(file).plan


def run(*arguments: str) -> Result:
    return runner().invoke(main, arguments)


# Summaries


@pytest.mark.parametrize("width", [80, 100])
def test_summaries_are_whole(width: int) -> None:
    """click cuts a docstring that is too long, and ends it in three points."""
    for group in (main, main.commands["import"]):
        assert isinstance(group, click.Group)
        shown = runner().invoke(group, ["--help"], terminal_width=width).output
        assert not [line for line in shown.splitlines() if line.endswith("...") and "ARGS" not in line]
        for name, command in group.commands.items():
            (line,) = [each for each in shown.splitlines() if each.split()[:1] == [name]]
            assert command.short_help, f"{name} has no short_help"
            assert line.endswith(command.short_help)


# Endpoints


@pytest.mark.parametrize(
    ("method", "target", "hint"),
    [
        ("GET", "/_matrix/client/v3/snyc", "did you mean /_matrix/client/{r0|v3|unstable}/sync?"),
        ("GET", "/_matrix/client/V3/sync?since=s", "did you mean /_matrix/client/{r0|v3|unstable}/sync?"),
        ("GET", "/_MATRIX/client/v3/sync", "did you mean /_matrix/client/{r0|v3|unstable}/sync?"),
        ("GET", "/_matrix/client/sync", "did you mean /_matrix/client/{r0|v3|unstable}/sync?"),
        ("GET", "/_matrix/client/v3/sync/", "did you mean /_matrix/client/{r0|v3|unstable}/sync?"),
        (
            "GET",
            "/_matrix/client/v3/rooms/!a:b/mesages",
            "did you mean /_matrix/client/{r0|v3|unstable}/rooms/{room_id}/messages?",
        ),
        ("get", "/_matrix/client/v3/sync", "does not take get; did you mean GET?"),
        ("POST", "/_matrix/client/v3/sync", "does not take POST; it takes GET."),
    ],
)
def test_an_endpoint_that_was_probably_meant(file: str, method: str, target: str, hint: str) -> None:
    """The nearest one, in the spelling that Synapse knows; for people only."""
    result = run("explain", "--no-ask", "-c", file, method, target)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("  Hint: ")
    assert hint in result.stdout
    assert "Hint" not in run("explain", "--no-ask", "-c", file, "--json", method, target).stdout


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/_matrix/client/v3/sync"),
        ("OPTIONS", "/_matrix/client/v3/snyc"),
        ("GET", "/own"),
        ("GET", "/hello"),
        ("GET", "/_synapse/admin/v1/rooms"),
    ],
)
def test_no_hint_where_nothing_is_wrong(file: str, method: str, target: str) -> None:
    """Endpoints, the operator's own routes, and what looks like nothing that is known."""
    assert "Hint" not in run("explain", "--no-ask", "-c", file, method, target).stdout


def test_every_endpoint_is_known_to_the_hints(plan: Plan) -> None:
    """A request that fits a row gets no hint, whatever the row is made of."""
    for row in plan.rows:
        path = "/" + "/".join(_concrete(segment) for segment in row.endpoint.path)
        method = sorted(row.endpoint.methods)[0]
        assert endpoint_hint(method, path, plan) == "", path


def _concrete(segment: str) -> str:
    return segment[1:-1].split("|")[0] if "|" in segment else "x" if segment.startswith("{") else segment


@pytest.mark.parametrize(
    "words", [("GET /own",), ("GET /own HTTP/1.1",), ("GET", "/own", "HTTP/1.1")], ids=["one word", "line", "three"]
)
def test_a_request_line_is_taken_as_it_was_copied(file: str, words: tuple[str, ...]) -> None:
    """From a log or a browser."""
    given = run("explain", "--no-ask", "-c", file, *words)
    assert given.exit_code == 0
    assert given.stdout == run("explain", "--no-ask", "-c", file, "GET", "/own").stdout


def test_a_path_without_its_slash(file: str) -> None:
    """As it stands in many lists."""
    shown = run("explain", "--no-ask", "-c", file, "GET", "_matrix/client/v3/sync").stdout
    assert "Hint: A path begins with `/`." in shown


# Names


def test_names(file: str) -> None:
    """The same in another case comes first; where nothing is alike, those that there are."""
    assert nearest_name("SYNC1", ["sync10", "sync1"]) == "sync1"
    assert nearest_name("snyc1", ["main", "sync1"]) == "sync1"
    assert nearest_name("zzz", ["main"]) is None
    assert unknown_name("pool", "zzz", ["a", "b"]) == "No pool is called 'zzz'. There are a, b."
    assert unknown_name("pool", "zzz", []) == "No pool is called 'zzz'. There is none."
    many = unknown_name("pool", "zzz", [f"{number:03}" for number in range(20)])
    assert many.endswith("011 and 8 more.")
    assert "No pool is called 'Sync'. Did you mean sync?" in run("routes", "-c", file, "--pool", "Sync").stderr
    assert "Did you mean sync1?" in run("explain", "-c", file, "--down", "Sync1", "GET", "/").stderr
