"""Who has the most requests: asked of a running sidecar, and shown on the page and by the command."""

from __future__ import annotations

import json
from pathlib import Path

from net.turns import staged
from pictures import parsed, told
from runners import runner
from top.operated import StandIn, listening

from admin.operated import Operated, received
from sidecar.admin.page.live import live
from sidecar.admin.snapshot import snapshot
from sidecar.cli import main

SYNC = (
    b"GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\n"
    b"Authorization: Bearer syt_YWxpY2U_abcdefghijklmnopqrst_0abcde\r\n\r\n"
)
KEY = {"hash": "b55e01593be30392", "requests": 5120, "at_least": 5000, "per_second": 51.2, "share": 0.384}
ANSWER = {
    "seconds": 100.0,
    "keys": {"user": [KEY], "room": [], "origin": [], "address": [KEY] * 30},
    "asked": [{"kind": "user", "place": 1, **KEY}, {"kind": "origin", "place": None, **KEY}],
}


@staged(Operated)
async def test_is_it_her(scene: Operated) -> None:
    """A request of hers makes her the first; asked for by name, told by hash."""
    scene.sidecar.gateway.pools["sync2"].drain()
    client = scene.client(SYNC)
    connection = await scene.worker("sync1").connection()
    await connection.head()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await received(client, lambda got: got.endswith(b"ok"))
    status, said, _ = await scene.ask("GET", "/api/hottest?is=@alice:example.org&is=@bob:example.org&is=127.0.0.1")
    alice, bob, here = said["asked"]
    assert (status, alice["place"], bob["place"], here["place"]) == (200, 1, None, 1)
    assert said["keys"]["user"][0]["hash"] == alice["hash"]
    assert "alice" not in json.dumps(said)
    _, said, _ = await scene.ask("GET", "/api/status")
    assert said["hottest"]["keys"]["user"][0]["requests"] == 1
    scene.sidecar.hottest.use(scene.sidecar.logbook.hasher, 0)
    assert (await scene.ask("GET", "/api/hottest"))[0] == 404


def test_on_the_page() -> None:
    """A list for each kind of which there is somebody; nothing of an older sidecar."""
    root = parsed(str(live(snapshot(told(hottest={"seconds": 100.0, "keys": {"user": [KEY], "room": []}})), "", "")))
    section = root.one("section", id="hottest")
    assert [each.text for each in section.all("h3")] == ["Users"]
    assert [each.text for each in section.all("li")] == ["b55e01593be3039251/s, 38%"]
    assert not list(parsed(str(live(snapshot(told()), "", ""))).all("section", id="hottest"))


def test_the_command(tmp_path: Path) -> None:
    """People get sentences and at most ten of a kind, programs get JSON."""
    stand_in = StandIn(ANSWER)
    with listening(stand_in, tmp_path / "admin.sock"):
        command = ["hottest", "--admin", f"unix:{tmp_path}/admin.sock", "--is", "@alice:x.org", "--is", "example.org"]
        done = runner().invoke(main, command)
        lines = done.stdout.splitlines()
        assert lines[:5] == [
            "@alice:x.org is number 1 of the users (b55e01593be30392): at most 5120 requests, 51.2/s",
            "example.org is not among the hottest (b55e01593be30392): at most 5120 requests, 51.2/s",
            "the last 100 s",
            "users:",
            "  b55e01593be30392      51.2/s   38.4%",
        ]
        assert (lines[5], len(lines)) == ("addresses:", 16)
        assert stand_in.asked == ["GET /api/hottest?is=%40alice%3Ax.org&is=example.org"]
        assert json.loads(runner().invoke(main, [*command, "--json"]).stdout) == ANSWER
    done = runner().invoke(main, command)
    assert (done.exit_code, "No answer from" in done.stderr) == (2, True)
