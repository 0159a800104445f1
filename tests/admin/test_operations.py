"""The operator's listener: what it tells, what it lets be done, and by whom."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from pathlib import Path
from shutil import which

import pytest
from net.turns import port_of, spin, staged, turns

from admin.operated import CONFIGURATION, Operated, received
from sidecar import __version__, tap
from sidecar.admin.snapshot import snapshot

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
TYPING = b"PUT /_matrix/client/v3/rooms/!r:x/typing/@a:x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RETRY = b"\r\nRetry-After: "


def answered(got: bytes) -> bool:
    return got.endswith(b"ok")


@staged(Operated)
async def test_health(scene: Operated) -> None:
    """As long as the reactor turns the sidecar is healthy, whatever the workers are."""
    status, told, head = await scene.ask("GET", "/health")
    assert (status, told) == (200, {"healthy": True})
    assert "\r\nCache-Control: no-store" in head
    status, told, _ = await scene.ask("HEAD", "/health")
    assert (status, told) == (200, None)


@staged(Operated)
async def test_ready(scene: Operated) -> None:
    """Ready is who has somebody for main and for every pool without a fallback; otherwise each lack is a sentence."""
    assert (await scene.ask("GET", "/ready"))[:2] == (200, {"ready": True, "reasons": []})
    pools = scene.sidecar.gateway.pools
    await scene.worker("main").stop()
    scene.client(GET % b"/anything")
    while not pools["main"].down:
        await turns(1)
    pools["sync1"].drain()
    pools["sync2"].drain()
    status, told, _ = await scene.ask("GET", "/ready")
    assert status == 503
    lacking_main, *_, lacking_alone = told["reasons"]
    assert re.fullmatch(r"Nobody serves main, .*: main is down \(No such file or directory\)\.", lacking_main)
    assert lacking_alone == "Nobody serves alone: sync2 is being drained."
    assert not (await scene.ask("GET", "/api/status"))[1]["ready"]


@staged(Operated)
async def test_ready_of_some_pools(scene: Operated) -> None:
    """`pool` limits the question to those that are named, each as often as wanted; who is not there is told."""
    scene.sidecar.gateway.pools["typing1"].drain()
    assert (await scene.ask("GET", "/ready"))[:2] == (
        503,
        {"ready": False, "reasons": ["Nobody serves typing: typing1 is being drained."]},
    )
    for query in ("pool=main", "pool=main&pool=sync&else=1", "pool=s%79nc"):
        assert (await scene.ask("GET", f"/ready?{query}"))[:2] == (200, {"ready": True, "reasons": []})
    for query in ("pool=typing", "pool=main&pool=typing"):
        assert (await scene.ask("GET", f"/ready?{query}"))[0] == 503
    status, told, _ = await scene.ask("GET", "/ready?pool=main&pool=typin")
    assert (status, told["error"]) == (404, "No pool is called 'typin'. Did you mean typing?")
    assert (await scene.ask("GET", "/ready?pool="))[0] == 404


FOREIGN = """\
  other: {endpoint: "unix:other.sock", serves: []}
pools:
  other: {workers: [other]}
routes:
  - {path: "/other/**", pool: other}
"""


@staged(Operated, replaced=FOREIGN)
async def test_what_is_no_synapse_is_asked_for_by_name_only(scene: Operated) -> None:
    """It may be down, but is not said to be there."""
    scene.client(GET % b"/other/x")
    while not scene.sidecar.gateway.pools["other"].down:
        await turns(1)
    assert (await scene.ask("GET", "/ready"))[0] == 200
    status, told, _ = await scene.ask("GET", "/ready?pool=other")
    assert (status, told["reasons"]) == (503, ["Nobody serves other: other is down (No such file or directory)."])


@staged(Operated, away=("typing1",))
async def test_who_is_in_line_does_not_run(scene: Operated) -> None:
    """Requests for a worker that is down wait: in the status, in its pool, and in the metrics."""
    for _ in range(13):
        scene.client(TYPING)
    gate = scene.sidecar.gateway.gates["typing"]
    while gate.in_line < 13:
        await turns(1)
    told = (await scene.ask("GET", "/api/status"))[1]
    assert (told["pools"]["typing"]["running"], told["pools"]["typing"]["waiting"]) == (0, 13)
    facts = snapshot(told)
    assert (facts.waiting, [(wait.count, wait.place) for wait in facts.waits]) == (13, [(13, "for typing1")])
    text = (await scene.say("GET", "/metrics"))[2]
    assert 'matrix_sidecar_pool_running{pool="typing"} 0.0' in text
    assert 'matrix_sidecar_pool_queue{pool="typing"} 13.0' in text
    assert 'matrix_sidecar_pool_endpoints{pool="typing",served_by="nobody"} 2.0' in text


@staged(Operated)
async def test_status(scene: Operated) -> None:
    """Workers, pools and counters are told with the names of the configuration."""
    main = scene.worker("main")
    client = scene.client(GET % b"/anything")
    connection = await main.connection()
    await connection.head()
    status, told, _ = await scene.ask("GET", "/api/status")
    assert status == 200
    assert told["version"] == __version__
    assert told["uptime"] >= 0
    assert (told["ready"], told["stopping"], told["reload"], told["leaving"]) == (True, False, None, [])
    assert told["listening"] == [f"127.0.0.1:{port_of(scene.sidecar.ports[0])}"]
    assert told["counters"]["requests"] == 1
    assert told["workers"]["main"].pop("recent").keys() == {
        "requests_per_second",
        "errors",
        "p50",
        "p99",
        "slowest",
        "curve",
    }
    assert told["recent"].keys() == {"seconds", "per_second", "more", "failures", "refusals", "statuses"}
    worker = told["workers"]["main"]
    assert worker.pop("changed") >= 0
    assert worker.pop("heard") >= 0
    assert worker.pop("life") != 0
    assert worker == {
        "name": "main",
        "state": "up",
        "healthy": True,
        "leased": 1,
        "idle": 0,
        "connecting": 0,
        "waiting": 0,
        "connects": 1,
        "failures": 0,
        "reason": "",
        "changes": 0,
        "slow_start": False,
        "cuts": 0,
        "waiting_bytes": 0,
        "weight": 1.0,
        "maximum": 8192,
        "overrides": {},
    }
    assert told["pools"]["sync"]["workers"] == ["sync1", "sync2"]
    assert told["pools"]["main"]["running"] == 1
    assert told["pools"]["typing"]["parts"] == [
        {
            "name": "typing",
            "pool": "typing",
            "endpoints": ["room_typing"],
            "rows": 2,
            "workers": ["typing1"],
            "fallback": [],
            "seats": [],
            "named": [],
            "share": "",
            "mounted": True,
            "open": True,
            "required": True,
            "sharing": ["typing1"],
            "served_by": "workers",
            "now": ["typing1"],
        }
    ]
    assert told["misroutes"] == []
    assert told["pools"]["alone"]["fallback"] == []
    assert isinstance(told["problems"], list)
    connection.send(OK)
    assert answered(await received(client, answered))


@staged(Operated)
async def test_drain_and_undrain(scene: Operated) -> None:
    """A drained worker finishes what it has, its new requests go to the others, and come back after `undrain`."""
    first, second = scene.worker("sync1"), scene.worker("sync2")
    token = b"GET /_matrix/client/v3/sync?since=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    running = scene.client(token)
    while not (first.accepted or second.accepted):
        await turns(1)
    busy, other = (first, second) if first.accepted else (second, first)
    name = busy.path.name.removesuffix(".sock")
    connection = await busy.connection()
    await connection.head()
    status, told, _ = await scene.ask("POST", f"/api/workers/{name}/drain")
    assert (status, told["state"], told["leased"]) == (200, "draining", 1)
    assert told["told"] == f"The worker {name} gets no new requests; 1 of its requests still run."
    elsewhere = scene.client(token)
    substitute = await other.connection()
    await substitute.head()
    substitute.send(OK)
    assert answered(await received(elsewhere, answered))
    connection.send(OK)
    assert answered(await received(running, answered))
    await connection.end()
    drained = (await scene.ask("GET", "/api/status"))[1]
    assert drained["workers"][name]["state"] == "draining"
    assert drained["workers"][name]["changed"] < drained["uptime"]
    status, told, _ = await scene.ask("POST", f"/api/workers/{name}/undrain")
    assert (status, told["state"]) == (200, "up")
    assert told["told"] == f"The worker {name} gets new requests."


@staged(Operated)
async def test_a_drained_writer(scene: Operated) -> None:
    """What only a drained worker may take waits for it, and is served as soon as it is back."""
    writer = scene.worker("typing1")
    await scene.ask("POST", "/api/workers/typing1/drain")
    client = scene.client(TYPING)
    pool = scene.sidecar.gateway.pools["typing1"]
    while not pool.waiting:
        await turns(1)
    assert pool.busy
    await scene.ask("POST", "/api/workers/typing1/undrain")
    connection = await writer.connection()
    await connection.head()
    connection.send(OK)
    assert answered(await received(client, answered))


SYNC = GET % b"/_matrix/client/v3/sync?since=s1"
SLIDING = (
    b"POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos=1 HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)


@pytest.mark.parametrize("poll", [SYNC, SLIDING])
@staged(Operated)
async def test_long_polls_move(scene: Operated, poll: bytes) -> None:
    """With `polls=move` another worker gets the long polls that the drained one has, however often that happens."""
    client = scene.client(poll)
    pools = scene.sidecar.gateway.pools
    while not (pools["sync1"].leased or pools["sync2"].leased):
        await turns(1)
    here, there = ("sync1", "sync2") if pools["sync1"].leased else ("sync2", "sync1")
    first = await scene.worker(here).connection()
    await first.head()
    for _ in range(6):
        status, told, _ = await scene.ask("POST", f"/api/workers/{here}/drain?polls=move")
        assert (status, told["leased"]) == (200, 0)
        await first.vanishes()
        first = await scene.worker(there).connection()
        assert (await first.head()).startswith(poll.partition(b" HTTP")[0])
        await scene.ask("POST", f"/api/workers/{here}/undrain")
        here, there = there, here
    first.send(OK)
    assert answered(await received(client, answered))
    assert scene.sidecar.gateway.counters.replayed == 0


@staged(Operated)
async def test_what_does_not_move(scene: Operated) -> None:
    """A write, a sync without a position, and a poll of which an answer has begun stay where they are."""
    requests = (TYPING, GET % b"/_matrix/client/v3/sync", SYNC)
    pools = scene.sidecar.gateway.pools
    clients, connections = [], []
    for count, request in enumerate(requests, start=1):
        clients.append(scene.client(request))
        while sum(pool.leased for pool in pools.values()) < count:
            await turns(1)
    for name in ("typing1", "sync1", "sync2"):
        for _ in range(pools[name].leased):
            connections.append(await scene.worker(name).connection())
            await connections[-1].head()
    for connection in connections:
        connection.send(OK[:-2])
    while b"\r\n\r\n" not in await received(clients[-1], lambda got: b"\r\n\r\n" in got):
        await turns(1)
    for name in pools:
        await scene.ask("POST", f"/api/workers/{name}/drain?polls=move")
    assert sum(pool.leased for pool in pools.values()) == len(requests)
    for connection in connections:
        connection.send(b"ok")
    for client in clients:
        assert answered(await received(client, answered))


@pytest.mark.parametrize("position", [b"", b"&pos=1"])
@staged(Operated, replaced='pools: {sliding_sync: {workers: ["sync*"]}}\n')
async def test_a_first_sliding_sync_stays_whatever_its_pool(scene: Operated, position: bytes) -> None:
    """It is in the pool of the later ones here."""
    pools = scene.sidecar.gateway.pools
    scene.client(SLIDING.replace(b"?pos=1", b"?timeout=1" + position))
    while not (pools["sync1"].leased or pools["sync2"].leased):
        await turns(1)
    here = "sync1" if pools["sync1"].leased else "sync2"
    await scene.ask("POST", f"/api/workers/{here}/drain?polls=move")
    assert pools[here].leased == (0 if position else 1)


@staged(Operated)
async def test_a_poll_that_nobody_else_takes_waits(scene: Operated) -> None:
    """It is in line until the first worker is back; one that was moved while the drain ended stays."""
    client = scene.client(GET % b"/alone/1")
    poll = scene.client(SYNC)
    pools = scene.sidecar.gateway.pools
    while sum(pool.leased for pool in pools.values()) < 2:
        await turns(1)
    for name in pools:
        await scene.ask("POST", f"/api/workers/{name}/drain?polls=move")
    assert pools["sync2"].leased == 1
    assert sum(pool.waiting for pool in pools.values()) == 1
    connection = await scene.worker("sync2").connection()
    await connection.head()
    for name in pools:
        await scene.ask("POST", f"/api/workers/{name}/undrain")
    while sum(pool.leased for pool in pools.values()) < 2:
        await turns(1)
    for accepted in (each for worker in scene.workers.values() for each in worker.accepted):
        if not accepted.ended:
            accepted.send(OK)
    for each in (client, poll):
        assert answered(await received(each, answered))


@staged(Operated, more="timeouts: {health_interval: 1h}\n")
async def test_a_worker_is_asked_for_its_health(scene: Operated) -> None:
    """At once, drained or not; the status says whether it answers and when it did last."""
    await scene.ask("POST", "/api/workers/sync1/drain")
    asked = scene.worker("sync1").asked
    assert (await scene.ask("POST", "/api/workers/sync1/check"))[0] == 200
    while scene.worker("sync1").asked == asked:
        await turns(1)
    told = (await scene.ask("GET", "/api/status"))[1]["workers"]["sync1"]
    assert (told["state"], told["healthy"]) == ("draining", True)
    life = told["life"]
    await scene.worker("sync1").stop()
    await scene.ask("POST", "/api/workers/sync1/check")
    while scene.sidecar.gateway.pools["sync1"].health.up:
        await turns(1)
    told = (await scene.ask("GET", "/api/status"))[1]["workers"]["sync1"]
    assert (told["state"], told["healthy"], told["life"]) == ("draining", False, 0)
    scene.worker("sync1").start()
    while not scene.sidecar.gateway.pools["sync1"].health.up:
        await turns(1)
    assert (await scene.ask("GET", "/api/status"))[1]["workers"]["sync1"]["life"] not in (0, life)
    assert (await scene.ask("POST", "/api/workers/synk1/check"))[0] == 404


@staged(Operated, more="timeouts: {wait: 100ms}\n")
async def test_a_drained_writer_for_too_long(scene: Operated) -> None:
    """After `timeouts.wait` it is 503 with Retry-After."""
    scene.worker("typing1")
    await scene.ask("POST", "/api/workers/typing1/drain")
    got = await received(scene.client(TYPING), lambda got: b"errcode" in got)
    assert got.startswith(b"HTTP/1.1 503 ")
    assert RETRY in got


@staged(Operated, away=("sync1", "sync2"))
async def test_who_waits_goes_where_it_can(scene: Operated) -> None:
    """Of two drained workers the first that is back takes the requests that wait for either."""
    for name in ("main", "sync1", "sync2"):
        await scene.ask("POST", f"/api/workers/{name}/drain")
    client = scene.client(GET % b"/_matrix/client/v3/sync?since=1")
    pools = scene.sidecar.gateway.pools
    while not (pools["sync1"].waiting or pools["sync2"].waiting):
        await turns(1)
    free = "sync2" if pools["sync1"].waiting else "sync1"
    worker = scene.worker(free)
    await scene.ask("POST", f"/api/workers/{free}/undrain")
    connection = await worker.connection()
    await connection.head()
    connection.send(OK)
    assert answered(await received(client, answered))


@staged(Operated, away=("main",))
async def test_a_drained_worker_that_is_away(scene: Operated) -> None:
    """A worker that was down when it was drained is found when it is back."""
    pool = scene.sidecar.gateway.pools["main"]
    client = scene.client(GET % b"/anything")
    while not pool.down:
        await turns(1)
    await scene.ask("POST", "/api/workers/main/drain")
    client.close()
    while pool.waiting:
        await turns(1)
    await scene.ask("POST", "/api/workers/main/undrain")
    scene.worker("main")
    while pool.down:
        await turns(1)


@staged(Operated)
async def test_names_and_methods(scene: Operated) -> None:
    """What is not there, or not so, is told with what is."""
    status, told, _ = await scene.ask("POST", "/api/workers/synk1/drain")
    assert (status, told["error"]) == (404, "No worker is called 'synk1'. Did you mean sync1?")
    status, told, _ = await scene.ask("POST", "/api/workers/%7f/drain")
    assert (status, told["error"]) == (404, "No worker is called '\\x7f'. There are main, sync1, sync2, typing1.")
    status, told, _ = await scene.ask("POST", "/api/workers/Sync1/drain")
    assert (status, told["error"]) == (404, "No worker is called 'Sync1'. Did you mean sync1?")
    for action in ("drain", "check", "weight?value=2"):
        status, told, _ = await scene.ask("POST", f"/api/workers/sync/{action}")
        assert (status, told["error"]) == (404, "sync is a pool, not a worker. Its workers: sync1, sync2.")
    status, told, head = await scene.ask("GET", "/api/workers/sync1/drain")
    assert (status, told["error"]) == (405, "This takes POST, not GET.")
    assert "\r\nAllow: POST" in head
    status, told, head = await scene.ask("POST", "/ready")
    assert status == 405
    assert "\r\nAllow: GET, HEAD" in head
    assert (await scene.ask("GET", "/elsewhere"))[0] == 404
    assert not scene.sidecar.gateway.pools["sync1"].draining


@staged(Operated)
async def test_pages_of_other_sites(scene: Operated) -> None:
    """A browser on a page of another site cannot drain anything; the sidecar's own page, and no browser, can."""
    path = "/api/workers/sync1/drain"
    for origin in ("http://evil.example", "null", "http://x:8080"):
        assert (await scene.ask("POST", path, f"Origin: {origin}"))[0] == 403
    assert not scene.sidecar.gateway.pools["sync1"].draining
    assert (await scene.ask("POST", path, "Origin: http://x"))[0] == 200
    assert scene.sidecar.gateway.pools["sync1"].draining


@staged(Operated)
async def test_answers_while_draining(scene: Operated) -> None:
    """The operator is listened to until the last exchange has ended, and told that the sidecar stops."""
    main = scene.worker("main")
    client = scene.client(GET % b"/anything")
    connection = await main.connection()
    await connection.head()
    stopped = scene.services.stopService()
    status, told, _ = await scene.ask("GET", "/ready")
    assert (status, told["reasons"]) == (503, ["The sidecar is stopping."])
    connection.send(OK)
    assert answered(await received(client, answered))
    await stopped
    with pytest.raises(OSError, match="No such file"), socket.socket(socket.AF_UNIX) as operator:
        operator.connect(str(scene.directory / "admin.sock"))


def test_an_endpoint_that_is_taken(tmp_path: Path) -> None:
    """If the operator cannot be listened to the sidecar does not start, and says why."""

    async def scenario() -> None:
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            taken = f"tcp:{busy.getsockname()[1]}:interface=127.0.0.1"
            (tmp_path / "sidecar.yaml").write_text(CONFIGURATION.replace("unix:admin.sock:mode=660", taken))
            options = tap.Options()
            options.parseOptions(["-c", str(tmp_path / "sidecar.yaml")])
            with pytest.raises(SystemExit, match=f"cannot listen on {taken}: Address already in use") as caught:
                tap.makeService(options).startService()
            [command] = re.findall("`(ss .*)` shows the program that listens there", str(caught.value))
            assert command == f"ss -ltnp 'sport = :{busy.getsockname()[1]}'"
            if which("ss") is not None:  # a small container has none
                shown = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout
                assert f"pid={os.getpid()}," in shown
            await turns(5)

    spin(scenario())
