"""The commands as people and scripts run them: what is printed where, and the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import Result
from runners import runner

from sidecar import __version__
from sidecar.cli import main

ROOT = Path(__file__).parent.parent
TOKEN = "syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"
ALICE = ("-H", f"Authorization: Bearer {TOKEN}")
SYNC = "/_matrix/client/v3/sync?since=s1"
CONFIGURATION = """\
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
  client1: {endpoint: "unix:client1.sock", serves: client}
  fed1: {endpoint: "unix:fed1.sock", serves: federation}
  typing1: {endpoint: "unix:typing1.sock", serves: client, writes: [typing]}
pools:
  sync: {workers: "sync*"}
  client: {workers: client1}
routes:
  - {path: "/own/{x}", host: [a.example.org], pool: sync}
  - {path: /gone, refuse: 410}
  - {header: {Authorization: Bearer not-to-be-shown}, query: {probe: null}, respond: {status: 204}}
  - {path: /moved, method: GET, source: 192.0.2.0/24, redirect: {to: "https://example.org{target}"}}
  - {host: b.example.org, table: true}
access: {metrics: 10.0.0.0/8}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sidecar.yaml"
    path.write_text(CONFIGURATION)
    return str(path)


def run(*arguments: str, text: str | bytes = "", color: bool = False, **environment: str) -> Result:
    return runner(environment).invoke(main, arguments, input=text, color=color)


def answer(file: str, *arguments: str) -> dict[str, object]:
    result = run("explain", "-c", file, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def started(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "sidecar.cli", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)


# check


def test_a_clean_configuration(file: str) -> None:
    """Exit 0, and one line that says what was read."""
    result = run("check", "-c", file)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{file}: 6 processes, ")


def test_warnings_only(file: str) -> None:
    """Exit 1, each warning with its file, line and key."""
    Path(file).write_text(CONFIGURATION + "limits: {worker_connecting: 60}\n")
    result = run("check", "-c", file)
    assert result.exit_code == 1
    assert f"{file}:18: limits.worker_connecting: warning: " in result.stdout


def test_errors_of_the_file(file: str) -> None:
    """Exit 2, all problems at once, and nothing that looks like success."""
    Path(file).write_text(CONFIGURATION + "lisen: x\ntimeouts: {head: soon}\n")
    result = run("check", "-c", file)
    assert result.exit_code == 2
    assert f"{file}:18: lisen: unknown key; did you mean `listen`?" in result.stdout
    assert f"{file}:19: timeouts.head: " in result.stdout
    assert "processes" not in result.stdout


def test_errors_that_do_not_prevent_a_start(tmp_path: Path) -> None:
    """Exit 2 for what makes requests fail, though the sidecar would run."""
    homeserver = tmp_path / "homeserver.yaml"
    homeserver.write_text(
        "server_name: example.org\nreport_stats: false\n"
        "listeners: [{path: /run/x/main.sock, type: http, x_forwarded: false, "
        "resources: [{names: [client, federation]}]}]\n"
    )
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"synapse: {{config: {homeserver}, version: '1.163'}}\n")
    result = run("check", "-c", str(path))
    assert result.exit_code == 2
    assert f"{homeserver}:3: " in result.stdout


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{outer}: &{outer} [{','.join([f'*{inner}'] * 9)}]\n" for inner, outer in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD = {
    "a directory": None,
    "a list": "[]",
    "nothing to forward to": "listen: tcp:8008",
    "no main": "workers: {a: {endpoint: 'unix:a'}, b: {endpoint: 'unix:b'}}",
    "a cycle": "pools: &a {sync: *a}",
    "a bomb": BOMB,
    "a homeserver that is missing": "synapse: {config: missing.yaml}",
    "an old homeserver": "synapse: {config: old.yaml}",
    "octets": "\udcff",
}


@pytest.mark.parametrize("command", [("check",), ("routes",), ("explain", "GET", "/")], ids=lambda words: words[0])
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_sentences(kind: str, command: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever a file holds: exit 2 and sentences that name a file, and no traceback."""
    (tmp_path / "old.yaml").write_text("server_name: [x]\nstream_writers: {typing: nobody}\nlisteners: 7\n")
    path, text = tmp_path / "sidecar.yaml", BAD[kind]
    path.mkdir() if text is None else path.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = run(*command, "-c", str(path), "--no-ask")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stdout + result.stderr
    assert bool(result.stderr) == (command[0] != "check")


def test_a_missing_file_in_a_process() -> None:
    """The exit status and the streams are right outside the test runner too."""
    missing = "/nonexistent/sidecar.yaml"
    for command in (("routes",), ("explain", "GET", "/"), ("explain", "--from", "-")):
        done = started(*command, "-c", missing)
        assert (done.returncode, done.stdout) == (2, "")
        assert missing in done.stderr
        assert "Traceback" not in done.stderr
    assert started("check", "-c", missing).returncode == 2
    assert started("diff", missing, missing).returncode == 2


def test_the_default_file() -> None:
    """Without -c it is the one in /etc."""
    assert "/etc/matrix-sidecar/sidecar.yaml" in "".join(run("check", "--help").stdout.split())


# routes


def test_routes_in_a_pipe(file: str) -> None:
    """The operator's routes first, aligned columns, no colour, and none of the values that could be secrets."""
    result = run("routes", "-c", file)
    table, _, told = result.stdout.partition("\n\n")
    assert told.startswith("sync, initial_sync, sliding_sync: sync1, sync2 serve the syncs. `pools.sync.workers` names")
    title, first, second, third, fourth, *rest = table.splitlines()
    assert title.split() == ["METHODS", "PATH", "POOL", "AFFINITY", "WORKERS", "FALLBACK", "WHY"]
    assert first.split()[:6] == ["*", "/own/{x}", "sync", "-", "sync1,sync2", "main"]
    assert first.endswith("the configuration says so, if host is a.example.org")
    assert second.split()[2:4] == ["refuse", "410"]
    assert third.endswith("if query probe is there and header Authorization has a certain value")
    assert fourth.endswith("if source is in 192.0.2.0/24")
    assert rest[-1].split()[:3] == ["*", "/**", "main"]
    assert "\x1b" not in result.stdout
    assert "not-to-be-shown" not in result.stdout
    column = title.index("POOL")
    assert all(line[column - 1] == " " != line[column] for line in (first, second, *rest))


def test_routes_on_a_terminal(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours where somebody sees them, unless NO_COLOR asks for none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = run("routes", "-c", file, color=True).stdout
    assert "\x1b[36m" in coloured
    assert click.unstyle(coloured) == run("routes", "-c", file).stdout
    assert "\x1b" not in run("routes", "-c", file, color=True, NO_COLOR="1").stdout


def test_routes_as_json(file: str) -> None:
    """As the schema says; a sync is there twice, because the first one can go elsewhere."""
    table = json.loads(run("routes", "-c", file, "--json").stdout)
    schema = json.loads((ROOT / "docs" / "routes.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(table, schema)
    assert table["version"] == schema["properties"]["version"]["const"]
    rows = table["rows"]
    assert [row["route"] for row in rows[:5]] == [0, 1, 2, 3, 4]
    assert [(row["action"], row["status"]) for row in rows[:6]] == [
        ("forward", None), ("refuse", 410), ("respond", 204), ("redirect", 302), ("table", None), ("forward", None),
    ]  # fmt: skip
    syncs = [row for row in rows if row["endpoint"] == "sync"]
    assert {row["pool"] for row in syncs} == {"sync", "initial_sync"}
    assert all(row["workers"] == ["sync1", "sync2"] for row in syncs)
    closed = {row["path"]: row["reason"] for row in rows if row["path"].startswith("/_synapse/")}
    assert closed["/_synapse/admin/v1/rooms"].startswith("closed, because access.admin names nobody; ")
    assert any(reason.startswith("closed but for 10.0.0.0/8; ") for reason in closed.values())
    assert {row["path"] for row in rows} >= {"/**", "/own/{x}"}
    typing = next(row for row in rows if row["pool"] == "typing")
    assert (typing["workers"], typing["fallback"]) == (["typing1"], [])


# explain


def test_the_json_of_the_contract(file: str) -> None:
    """The object that scripts rely on, and nothing else."""
    told = answer(file, "GET", SYNC, *ALICE)
    assert list(told) == [
        "method", "target", "action", "status", "endpoint", "pool", "affinity", "candidates", "fallback", "reason",
    ]  # fmt: skip
    assert (told["method"], told["target"], told["action"], told["status"]) == ("GET", SYNC, "forward", None)
    assert (told["endpoint"], told["pool"], told["affinity"]) == ("sync", "sync", {"kind": "user", "key": "alice"})
    assert (told["candidates"], told["fallback"]) == (["sync2", "sync1"], ["main"])


def test_header_names_have_no_case(file: str) -> None:
    """A token is found however the field is spelled."""
    assert answer(file, "GET", SYNC, *ALICE) == answer(file, "GET", SYNC, "-H", f"aUTHORIZATION:Bearer {TOKEN}")


def test_the_steps_for_people(file: str) -> None:
    """Host, client, row, key, order, outcome, and why the others were not chosen."""
    text = run("explain", "-c", file, "GET", SYNC, *ALICE).stdout
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line]
    told = {line[0]: line[1] for line in lines if len(line) == 2}
    assert told["host"] == "localhost, because none was given"
    assert told["client"] == "127.0.0.1"
    assert told["row"].startswith("sync: GET /_matrix/client/")
    assert told["key"] == "user 'alice'"
    assert told["order"] == "sync2, sync1"
    assert told["forward"] == "to sync2; if it is down, sync1, then main"
    assert told["fed1"] == "its listener has none of the resources client"
    assert told["client1"] == "pools.sync.workers does not name it"


def test_outcomes_for_people(file: str) -> None:
    """A refusal, a request without a key, and one that only one process can take."""
    assert "  refuse with 410: " in run("explain", "-c", file, "GET", "/gone").stdout
    keyless = run("explain", "-c", file, "GET", SYNC).stdout
    assert "forward to one of sync" in keyless
    assert "whoever has the fewest in flight" in keyless
    typing = run("explain", "-c", file, "PUT", "/_matrix/client/v3/rooms/!r/typing/@a:b").stdout
    assert "  forward to typing1; if it is down, nobody else\n" in typing
    assert "  request  no request that is served: " in run("explain", "-c", file, "GET", "/a b").stdout


def test_explain_says_where_a_route_stands(tmp_path: Path) -> None:
    """Its number counts through all files."""
    ours, theirs = tmp_path / "sidecar.yaml", tmp_path / "more.yaml"
    ours.write_text(
        "include: more.yaml\nworkers: {main: {endpoint: unix:/run/main.sock}}\nroutes: [{path: /a, refuse: 410}]\n"
    )
    theirs.write_text("routes:\n- {path: /b, refuse: 410}\n- {path: /c, refuse: 410}\n")
    for path, number, file, line in (("/a", 0, ours, 3), ("/b", 1, theirs, 2), ("/c", 2, theirs, 3)):
        expected = f"routes[{number}] is the first route that matches ({file}:{line})\n"
        assert expected in run("explain", "-c", str(ours), "GET", path).stdout


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--down", "sync1", "--add", "sync9")])
def test_a_token_is_never_echoed(file: str, arguments: tuple[str, ...]) -> None:
    """Nothing given with -H comes back, nor an access_token for people."""
    unknown = ("-H", "Authorization: Bearer sesame-open", "-H", "Cookie: crumbs", "-H", "X: odd\x1b[2J")
    result = run("explain", "-c", file, *arguments, "GET", "/_matrix/client/v3/sync", *unknown)
    assert result.exit_code == 0
    assert not any(word in result.stdout + result.stderr for word in ("sesame", "crumbs", "odd"))
    if "--json" not in arguments:
        result = run("explain", "-c", file, *arguments, "GET", f"/_matrix/client/v3/sync?a=1&access_token={TOKEN}&b=2")
        assert "GET /_matrix/client/v3/sync?a=1&access_token=(not-shown)&b=2" in result.output
        assert TOKEN not in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("GET",), "Give METHOD and TARGET"),
        (("GET", "/", "Authorization: Bearer sesame"), "each header after its own -H"),
        (("GET", "/", "-H", "Bearer sesame"), "one has no colon"),
        (("GET", "/", "--peer", "sesame"), "--peer must be an IP address"),
        (("GET", "/", "--down", "sync3"), "Did you mean sync"),
        (("GET", "/", "--down", "SYNC1"), "Did you mean sync1?"),
        (("/", "GET"), "METHOD comes before TARGET"),
        (("GET", "/", "--down", "zzz"), "There are main, sync1"),
        (("GET", "/", "--add", "sync1"), "there already is a worker"),
        (("GET", "/", "--add", "a*"), "Use letters, digits"),
        (("GET", "/", "--from", "-"), "--from has the requests in a file"),
        (("--from", "/nonexistent/lines"), "/nonexistent/lines"),
    ],
)
def test_wrong_usage(file: str, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit 2 with what to write instead, on standard error, and without repeating what could be a token."""
    result = run("explain", "-c", file, *arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "sesame" not in result.stderr


def test_a_target_cannot_move_the_cursor(file: str) -> None:
    """Control octets and what is no text are printed in an escaped form."""
    done = started("explain", "-c", file, "GET", "/\x1b[2J\udcff")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\\x1b[2J" in done.stdout
    assert "refuse with 400" in done.stdout


def test_a_terminal_without_the_letters(file: str) -> None:
    """What the terminal's encoding cannot show of a key is escaped, and no reason to fail."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    target = "/_matrix/client/v3/rooms/%E4%B8%AD/messages"
    command = [sys.executable, "-m", "sidecar.cli", "explain", "-c", file, "GET", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "room '\\u4e2d'" in done.stdout


# explain --from


def test_lines_in_order(file: str) -> None:
    """One answer for each line, errors in their place, and exit 1 for them."""
    lines = [
        json.dumps({"method": "GET", "target": SYNC, "headers": {"authorization": f"Bearer {TOKEN}"}}),
        "not json",
        "",
        json.dumps({"method": "GET", "target": "/gone", "peer": "192.0.2.1"}),
        '192.0.2.7 - - [20/Nov/2026:12:50:14 +0000] "GET /_matrix/federation/v1/version HTTP/1.1" 200 1 "-" "x"',
    ]
    result = run("explain", "-c", file, "--json", "--from", "-", text="\n".join(lines))
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [each.get("action") for each in told] == ["forward", None, None, "refuse", "forward"]
    assert told[0] == answer(file, "GET", SYNC, *ALICE)
    assert [list(each) for each in told[1:3]] == [["error"]] * 2
    assert told[1]["error"].startswith("line 2: ")
    assert told[4]["candidates"] == ["fed1"]


def test_lines_of_a_file(file: str, tmp_path: Path) -> None:
    """Nothing wrong: exit 0. A last line without an end counts; --peer is who sends what names no peer."""
    lines = tmp_path / "lines"
    lines.write_text('{"method": "GET", "target": "/_synapse/metrics"}\n' * 2 + '{"method": "GET", "target": "/x"}')
    result = run("explain", "-c", file, "--from", str(lines), "--peer", "10.1.2.3")
    assert result.exit_code == 0
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == [None, None, None]
    closed = run("explain", "-c", file, "--from", str(lines)).stdout.splitlines()
    assert [json.loads(line)["status"] for line in closed] == [403, 403, None]


def test_a_reader_that_leaves(file: str) -> None:
    """`| head` ends the command without a traceback."""
    line = json.dumps({"method": "GET", "target": SYNC})
    command = [sys.executable, "-m", "sidecar.cli", "explain", "-c", file, "--from", "-"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(f"{line}\n" * 100)
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["pool"] == "sync"
        child.stdout.close()
        try:
            child.stdin.write(f"{line}\n" * 20_000)
            child.stdin.close()
        except BrokenPipeError:
            pass
        complaint = child.stderr.read()
    assert "Traceback" not in complaint
    assert child.returncode == 1


# Everything


def test_the_version() -> None:
    """Printed alone, behind the name of the command."""
    assert started("--version").stdout == f"matrix-sidecar {__version__}\n"


def test_the_commands_need_no_reactor() -> None:
    """Twisted is not imported, because the commands are to answer at once."""
    seen = "import sidecar.cli, sys; print([name for name in sys.modules if name.startswith('twisted')])"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n"
