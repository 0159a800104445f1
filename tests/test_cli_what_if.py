"""What-if and diff: who gets a request instead, what share of keys moves, which endpoints go elsewhere."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main

SYNC = "/_matrix/client/v3/sync?since=s1"
SEND = "/_matrix/client/v3/rooms/!r:example.org/send/m.room.message/t"
TYPING = "/_matrix/client/v3/rooms/!r:example.org/typing/@alice:example.org"
ALICE = ("-H", "Authorization: Bearer syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV")
CONFIGURATION = """\
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
  client1: {endpoint: "unix:client1.sock", serves: client}
  fed1: {endpoint: "unix:fed1.sock", serves: federation}
  typing1: {endpoint: "unix:typing1.sock", serves: client, writes: [typing]}
  event1: {endpoint: "unix:event1.sock", serves: client, writes: [events]}
  event2: {endpoint: "unix:event2.sock", serves: client, writes: [events]}
pools:
  sync: {workers: "sync?"}
routes:
  - {path: /gone, refuse: 410}
"""
TOLERANCE = 0.02
"""Four standard errors of a share of 10,000 keys."""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sidecar.yaml"
    path.write_text(CONFIGURATION)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def supposed(file: str, *arguments: str) -> dict[str, Any]:
    result = run("explain", "-c", file, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["what_if"]


def text(file: str, *arguments: str) -> str:
    result = run("explain", "-c", file, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("arguments", "candidates", "share"),
    [
        (("GET", SYNC, *ALICE, "--down", "sync1"), ["sync2"], 1 / 2),
        (("GET", SYNC, *ALICE, "--down", "sync1", "--down", "sync2"), [], 1.0),
        (("GET", SYNC, *ALICE, "--down", "client1"), ["sync2", "sync1"], 0.0),
        (("GET", SYNC, *ALICE, "--add", "other"), None, 1 / 3),
        (("GET", SYNC, *ALICE, "--add", "a", "--add", "b"), None, 1 / 2),
        (("GET", SYNC, *ALICE, "--add", "a", "--down", "sync1"), None, 2 / 3),
        (("PUT", SEND, "--add", "event3"), None, 2 / 3),
        (("PUT", SEND, "--down", "event1"), [], 1 / 2),
        (("PUT", TYPING, "--down", "typing1"), [], 1.0),
        (("PUT", TYPING, "--add", "typing2"), ["typing1"], 0.0),
        (("PUT", "/_matrix/federation/v1/send/1", "--add", "fed2"), None, 1 / 2),
    ],
)
def test_the_share_of_keys_that_moves(
    file: str, arguments: tuple[str, ...], candidates: list[str] | None, share: float
) -> None:
    """The fair share for a worker more, its own for a worker less; all rooms anew where Synapse shards anew.

    Rooms whose persister is down have nobody: their sends wait for it.
    """
    told = supposed(file, *arguments)
    assert told["moved"] == pytest.approx(share, abs=0 if share in (0.0, 1.0) else TOLERANCE)
    assert told["sampled"] == 10_000
    if candidates is not None:
        assert told["candidates"] == candidates


def test_another_worker_beside_main_alone(tmp_path: Path) -> None:
    """It takes what a worker can, and main keeps the rest; weights count."""
    path = tmp_path / "sidecar.yaml"
    path.write_text("workers: {main: {endpoint: 'unix:main.sock'}}")
    assert supposed(str(path), "GET", SYNC, *ALICE, "--add", "new")["candidates"] == ["new"]
    told = supposed(str(path), "GET", "/nowhere", "--add", "new")
    assert (told["candidates"], told["moved"], told["sampled"]) == (["main"], None, 0)
    assert "new gets none of these: it is not in pool main" in text(str(path), "GET", "/nowhere", "--add", "new")
    path.write_text("workers: {main: {endpoint: 'unix:main.sock'}, a: {endpoint: 'unix:a', weight: 3}}")
    whoami = ("GET", "/_matrix/client/v3/account/whoami")
    assert supposed(str(path), *whoami, *ALICE, "--add", "b")["moved"] == pytest.approx(1 / 2, abs=TOLERANCE)
    assert supposed(str(path), "GET", SYNC, *ALICE, "--add", "c")["moved"] in (0.0, 1.0), "one of two has all syncs"


def test_what_if_for_people(file: str) -> None:
    """Who gets the request now, what share moves, and from whom to whom."""
    told = text(file, "GET", SYNC, *ALICE, "--down", "sync2")
    assert "  with sync2 down\n    this request goes to sync1; it went to sync2\n" in told
    assert "% of the keys move (10000 made-up user keys were placed before and after)" in told
    assert "%  sync2 -> sync1\n" in told
    nobody = text(file, "PUT", TYPING, "--down", "typing1", "--add", "typing2")
    assert "with typing1 down and typing2 added" in nobody
    assert "goes to nobody: it waits for one of them, and then is answered 503; it went to typing1" in nobody
    assert "typing2 gets none of these: it does not write typing" in nobody
    assert "no keys move, because these requests have none" in text(
        file, "GET", "/_matrix/client/versions", "--add", "a"
    )
    assert "X-Forwarded-For" in text(file, "GET", SYNC, "-H", "X-Forwarded-For: 192.0.2.1")
    assert "does not count" in text(file, "GET", SYNC, "-H", "X-Forwarded-For: 192.0.2.1", "--peer", "192.0.2.2")
    assert "192.0.2.1, as unix says" in text(file, "GET", SYNC, "-H", "X-Forwarded-For: 192.0.2.1", "--peer", "unix")


def test_one_key_for_all(file: str) -> None:
    """A pool that is pinned to one worker moves as a whole or stays as a whole."""
    target = "/_synapse/client/pick_idp"
    chosen = json.loads(run("explain", "-c", file, "--json", "GET", target).stdout)["candidates"]
    told = supposed(file, "GET", target, "--down", chosen[0])
    assert (told["moved"], told["sampled"], told["candidates"][0]) == (1.0, 1, chosen[1])
    assert supposed(file, "GET", target, "--down", chosen[1])["moved"] == 0.0
    assert "their one key stays" in text(file, "GET", target, "--down", chosen[1])
    assert "move together" in text(file, "GET", target, "--down", chosen[0])


def test_nothing_to_suppose(file: str) -> None:
    """A refused request has no candidates to be down."""
    result = run("explain", "-c", file, "--json", "GET", "/gone", "--down", "sync1")
    assert "what_if" not in json.loads(result.stdout)
    assert run("explain", "-c", file, "GET", "/a b", "--down", "sync1").exit_code == 0


def test_what_if_of_other_forms(file: str) -> None:
    """A URL counts by its path, the asterisk goes anywhere."""
    told = supposed(file, "GET", f"http://example.org{SYNC}", *ALICE, "--down", "sync1")
    assert told["moved"] == pytest.approx(1 / 2, abs=TOLERANCE)
    assert supposed(file, "OPTIONS", "*", "--down", "sync1")["candidates"] == ["main"]


# diff


def changed(file: str, *replacements: tuple[str, str]) -> str:
    """Another configuration, in which something is replaced."""
    configuration = CONFIGURATION
    for old, new in replacements:
        assert old in configuration
        configuration = configuration.replace(old, new)
    path = Path(file).with_name("other.yaml")
    path.write_text(configuration)
    return str(path)


def differences(file: str, other: str) -> tuple[dict[str, tuple[str, str]], dict[str, dict[str, Any]]]:
    result = run("diff", file, other, "--json", "--no-ask")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    facts = {each["what"]: (each["before"], each["after"]) for each in told["facts"]}
    return facts, {each["path"]: each for each in told["endpoints"]}


def test_no_difference(file: str) -> None:
    """Two names for one thing."""
    other = changed(file, ("unix:sync1.sock", "unix:elsewhere.sock"))
    assert differences(file, other) == ({}, {})
    assert run("diff", file, other).stdout == "Nothing differs in where requests go.\n"
    assert run("diff", file, other, "--exit-code").exit_code == 0


def test_a_worker_more(file: str) -> None:
    """Exactly the endpoints of its pools, with the share that it gets."""
    other = changed(file, ("  client1:", '  sync3: {endpoint: "unix:sync3.sock", serves: client}\n  client1:'))
    facts, paths = differences(file, other)
    assert facts == {}
    sync = paths["/_matrix/client/{r0|v3|unstable}/sync"]
    assert sync["methods"] == ["GET"]
    assert sync["before"]["workers"] == {"sync1": 1.0, "sync2": 1.0}
    assert sync["after"]["workers"] == {"sync1": 1.0, "sync2": 1.0, "sync3": 1.0}
    assert sync["moved"] == pytest.approx(1 / 3, abs=TOLERANCE)
    assert paths["/_matrix/client/{r0|v3|unstable}/sync (initial)"]["before"]["pool"] == "initial_sync"
    assert paths["/_matrix/client/versions"]["moved"] is None
    assert not any(path.startswith("/_matrix/federation/") or path.endswith("/logout") for path in paths)
    text = run("diff", file, other).stdout
    assert "- sync by user: sync1, sync2, else main\n+ sync by user: sync1, sync2, sync3, else main\n" in text
    assert "they have no keys" in text
    assert "    GET /_matrix/client/{r0|v3|unstable}/sync\n" in text
    assert run("diff", file, other, "--exit-code").exit_code == 1


def test_a_weight(file: str) -> None:
    """Keys move towards the heavier worker, and the text says why."""
    other = changed(file, ('unix:sync2.sock", serves: client', 'unix:sync2.sock", serves: client, weight: 3'))
    sync = differences(file, other)[1]["/_matrix/client/{r0|v3|unstable}/sync"]
    assert sync["moved"] == pytest.approx(1 / 4, abs=TOLERANCE)
    assert "sync2*3" in run("diff", file, other).stdout


def test_routes_access_and_release(file: str) -> None:
    """What is no endpoint is told as well; a route shows where it leads requests and what it ends."""
    routes = (
        "routes:\n  - {path: /gone, refuse: 404}\n  - {path: '/_matrix/client/v3/login', method: [POST], pool: sync}\n"
        "  - {path: /new/**, redirect: {to: 'https://example.org/'}}\n  - {host: b.example.org, pool: client}\n"
        "  - {host: c.example.org, table: true}\n"
        "access: {admin: 10.0.0.0/8}\nforwarded: {trust: []}\nsynapse: {version: '1.130'}\n"
    )
    other = changed(file, ("routes:\n  - {path: /gone, refuse: 410}\n", routes))
    facts, paths = differences(file, other)
    assert facts["endpoint table"][1] == "1.130"
    assert facts["access.admin"] == ("nobody", "10.0.0.0/8")
    assert facts["forwarded.trust"] == ("127.0.0.0/8, ::1/128", "nobody")
    assert facts["routes[0]"] == ("* /gone -> refuse 410", "* /gone -> refuse 404")
    assert facts["routes[1]"] == ("none", "POST /_matrix/client/v3/login -> pool sync")
    assert facts["routes[3]"][1] == "* /** -> pool client if host is b.example.org"
    assert facts["routes[4]"][1] == "* /** -> table if host is c.example.org"
    assert paths["/gone"]["after"]["action"] == "refuse 404"
    assert paths["/new/**"]["after"]["action"] == "redirect 302"
    login = paths["/_matrix/client/v3/login"]
    assert (login["before"]["pool"], login["after"]["pool"]) == ("client", "sync")
    assert "/_matrix/client/{r0|v3|unstable}/login" not in paths
    text = run("diff", file, other, "--no-ask").stdout
    assert text.startswith("endpoint table: ")
    assert "- refuse 410\n+ refuse 404\n" in text


# The version of the running Synapse


class Versioned(BaseHTTPRequestHandler):
    """A main process that says which version it is."""

    def do_GET(self) -> None:
        content = b'{"server": {"name": "Synapse", "version": "1.130.0"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def running(file: str) -> Iterator[str]:
    with socketserver.UnixStreamServer(str(Path(file).with_name("main.sock")), Versioned) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield file
        server.shutdown()
        thread.join()


def test_the_running_synapse_is_asked(running: str) -> None:
    """Its release counts, unless --no-ask says otherwise; who does not answer is not waited for."""
    assert "endpoints of Synapse 1.130" in run("check", "-c", running).stdout
    newest = run("check", "-c", running, "--no-ask").stdout
    assert "endpoints of Synapse 1.130" not in newest
    assert run("routes", "-c", running).stdout != run("routes", "-c", running, "--no-ask").stdout
    other = Path(running).with_name("absent")
    other.mkdir()
    (other / "sidecar.yaml").write_text(CONFIGURATION)
    absent = run("check", "-c", str(other / "sidecar.yaml")).stdout
    assert absent.partition(":")[2] == newest.partition(":")[2]
