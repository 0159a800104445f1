"""Maintenance mode: who is answered 503, who is served, who sees it, and how long it holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net.turns import staged, turns
from pictures import parsed, told
from runners import runner
from test_reload import Threads
from top.operated import StandIn, listening

from admin.operated import Operated, received
from sidecar.admin.page.live import live
from sidecar.admin.snapshot import snapshot
from sidecar.admin.verdict import verdict
from sidecar.app.reload import Reload
from sidecar.cli import main
from sidecar.routing.maintenance import concerns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHERS = (
    "/_matrix/federation/v1/version",
    "/_matrix/key/v2/server",
    "/_synapse/admin/v1/server_version",
    "/.well-known/matrix/client",
    "/elsewhere",
)
MORE = "access: {admin: 127.0.0.1}\n"


def answered(got: bytes) -> bool:
    return got.endswith((b"ok", b"}"))


def asked(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def served(scene: Operated, path: str) -> None:
    """Main gets it, and its answer comes."""
    client = scene.client(asked(path))
    connection = await scene.worker("main").connection()
    assert f"GET {path} ".encode() in await connection.head()
    connection.send(OK)
    assert answered(await received(client, answered))
    connection.close()


@staged(Operated, more=MORE)
async def test_clients_are_answered_503(scene: Operated) -> None:
    """With the text, a time, and fields with which a web client may read it; the connection stays."""
    status, said, _ = await scene.ask("POST", "/api/maintenance/on?text=Back+at+noon.&retry_after=5m")
    assert (status, said["told"]) == (200, "Maintenance mode is on. Clients are answered 503: Back at noon.")
    client = scene.client(asked("/_matrix/client/v3/sync?since=1") + asked("/_matrix/client/v1/media/download/x/y"))
    got = await received(client, lambda got: got.count(b"Back at noon.") == 2)
    head, _, content = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    for line in (b"Retry-After: 300", b"Access-Control-Allow-Origin: *", b"Content-Type: application/json"):
        assert line in head
    assert json.loads(content.partition(b"HTTP/1.1")[0]) == {"errcode": "M_UNKNOWN", "error": "Back at noon."}
    preflight = scene.client(asked("/_matrix/client/v3/sync", "OPTIONS"))
    got = await received(preflight, lambda got: got.endswith(b"\r\n\r\n"))
    assert got.startswith(b"HTTP/1.1 204 ")
    assert b"Access-Control-Allow-Origin: *" in got
    assert (await scene.ask("POST", "/api/maintenance/off"))[1]["told"].endswith("Clients are served again.")
    await served(scene, "/_matrix/client/v3/rooms/!r:x/report")


@staged(Operated, more=MORE)
async def test_others_are_served(scene: Operated) -> None:
    """Other servers, administrators, probes, and whatever is not Matrix."""
    await scene.ask("POST", "/api/maintenance/on")
    pools, connections = scene.sidecar.gateway.pools, {}
    for path in OTHERS:
        client = scene.client(asked(path))
        while not (busy := [name for name, pool in pools.items() if pool.leased]):
            await turns(1)
        (name,) = busy
        if name not in connections:
            connections[name] = await scene.worker(name).connection()
        assert f"GET {path} ".encode() in await connections[name].head()
        connections[name].send(OK)
        assert answered(await received(client, answered))
        while pools[name].leased:
            await turns(1)
    assert not concerns(b"/health")


@staged(Operated, away=("main",))
async def test_federation_waits_for_workers_that_are_down(scene: Operated) -> None:
    """For as long as always, and it is served as soon as they are back: no server counts a failure."""
    await scene.ask("POST", "/api/maintenance/on")
    client = scene.client(asked("/_matrix/federation/v1/version"))
    while not scene.sidecar.gateway.pools["main"].waiting:
        await turns(1)
    connection = await scene.worker("main").connection()
    await connection.head()
    connection.send(OK)
    assert answered(await received(client, answered))


@staged(Operated)
async def test_what_runs_goes_on(scene: Operated) -> None:
    """A long poll of before ends as it would; the next request on that connection is answered 503."""
    client = scene.client(asked("/_matrix/client/v3/sync?since=1"))
    pools = scene.sidecar.gateway.pools
    while not (pools["sync1"].leased or pools["sync2"].leased):
        await turns(1)
    connection = await scene.worker("sync1" if pools["sync1"].leased else "sync2").connection()
    await connection.head()
    await scene.ask("POST", "/api/maintenance/on")
    connection.send(OK)
    assert answered(await received(client, answered))
    client.sendall(asked("/_matrix/client/v3/sync?since=2"))
    assert (await received(client, answered)).startswith(b"HTTP/1.1 503 ")


@staged(Operated)
async def test_it_is_shown_and_outlives_a_reload(scene: Operated) -> None:
    """In the status, the metrics and the events; a restart is without it."""
    await scene.ask("POST", "/api/maintenance/on", body="text=Back+soon.")
    reload = next(each for each in scene.services if isinstance(each, Reload))
    reload.reactor = threads = Threads()
    reload.reload()
    threads.work()
    assert reload.outcome is not None
    assert reload.outcome.accepted
    status = (await scene.ask("GET", "/api/status"))[1]
    assert (status["maintenance"]["text"], status["maintenance"]["retry_after"]) == ("Back soon.", 600)
    assert status["ready"]
    (event,) = [each for each in status["events"] if each["kind"] == "maintenance"]
    assert (event["text"], event["by"]) == ("on: Back soon.", status["maintenance"]["by"])
    assert "matrix_sidecar_maintenance 1.0" in (await scene.say("GET", "/metrics"))[2]
    got = await received(scene.client(asked("/_matrix/client/versions")), answered)
    assert got.startswith(b"HTTP/1.1 503 ")
    await scene.ask("POST", "/api/maintenance/off")
    assert (await scene.ask("GET", "/api/status"))[1]["maintenance"] is None
    assert "matrix_sidecar_maintenance 0.0" in (await scene.say("GET", "/metrics"))[2]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("retry_after=soon", "`retry_after` is a duration from 1s to 1d, such as `10m`."),
        ("retry_after=0", "`retry_after` is a duration from 1s to 1d, such as `10m`."),
        ("retry_after=2d", "`retry_after` is a duration from 1s to 1d, such as `10m`."),
        ("text=a%0Ab", "`text` is one line of 1 to 500 printable characters."),
        (f"text={'x' * 501}", "`text` is one line of 1 to 500 printable characters."),
    ],
)
@staged(Operated)
async def test_values_that_cannot_be(scene: Operated, query: str, error: str) -> None:
    """They are refused with a sentence, and nothing changes."""
    assert (await scene.ask("POST", f"/api/maintenance/on?{query}"))[:2] == (400, {"error": error})
    assert (await scene.ask("GET", "/api/status"))[1]["maintenance"] is None
    assert (await scene.ask("GET", "/api/maintenance/on"))[0] == 405


def test_the_verdict() -> None:
    """Amber, and the first that is said."""
    facts = snapshot(told(maintenance={"text": "Back soon."}, workers={"main": {"name": "main"}}, pools={}))
    found = verdict(facts)
    assert (found.kind, found.told[:23]) == ("stuck", "Maintenance mode is on:")
    assert "Maintenance mode is on" in parsed(str(live(facts, "", ""))).one(id="verdict").text


@given(st.binary(max_size=30))
def test_other_servers_are_never_concerned(rest: bytes) -> None:
    """Whatever follows the beginning of their paths."""
    assert not concerns(b"/_matrix/federation/" + rest)
    assert not concerns(b"/_matrix/key/" + rest)
    assert not concerns(b"/_synapse/admin/" + rest)
    assert concerns(b"/_matrix/client/" + rest)


def test_the_command(tmp_path: Path) -> None:
    """It says what the sidecar says; a refusal is a failure."""
    stand_in = StandIn(told())
    with listening(stand_in, tmp_path / "admin.sock"):
        command = ["maintenance", "on", "--admin", f"unix:{tmp_path}/admin.sock", "--text", "Back soon.", "--all"]
        done = runner().invoke(main, command)
        assert done.exit_code == 0
        assert stand_in.asked == ["POST /api/maintenance/on?text=Back+soon.&all="]
        stand_in.refusals = 1
        done = runner().invoke(main, ["maintenance", "off", "--admin", f"unix:{tmp_path}/admin.sock"])
        assert (done.exit_code, done.stderr) == (2, "No way.\n")
