"""The weight and the maximum of a worker at run time: what they do to requests, and how long they hold."""

from __future__ import annotations

from base64 import b64encode
from getpass import getuser
from urllib.parse import quote

import pytest
from net.turns import staged, turns
from test_reload import Threads

from admin.operated import CONFIGURATION, Operated, received
from sidecar.app.reload import Reload

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
USERS = tuple(f"user{number}" for number in range(40))


def answered(got: bytes) -> bool:
    return got.endswith(b"ok")


def homes(scene: Operated) -> dict[str, str]:
    """Where the syncs of each user go."""
    plan = reload_of(scene).deployment.plan
    step = next(plan.step_of(row) for row in plan.rows if row.pool == "sync")
    return {user: step.settle(("user", user)).candidates[0] for user in USERS}


def reload_of(scene: Operated) -> Reload:
    return next(each for each in scene.services if isinstance(each, Reload))


def sync(scene: Operated) -> bytes:
    """A request that belongs to sync1."""
    user = next(user for user, home in homes(scene).items() if home == "sync1")
    name = quote(b64encode(user.encode()).decode().rstrip("="))
    token = f"syt_{name}_abcdefghijklmnopqrst_0aBcDe"
    target = f"/_matrix/client/v3/sync?since=1&access_token={token}"
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def worker_of(scene: Operated, name: str) -> dict[str, object]:
    told = (await scene.ask("GET", "/api/status"))[1]["workers"][name]
    return {key: told[key] for key in ("weight", "maximum", "overrides")}


@staged(Operated)
async def test_a_weight(scene: Operated) -> None:
    """Only keys of that worker move; with 0 it has none; the file's value brings all of them back."""
    before = homes(scene)
    status, told, _ = await scene.ask("POST", "/api/workers/sync1/weight?value=0.25")
    assert (status, told["weight"], told["told"]) == (200, 0.25, "The weight of sync1 is 0.25.")
    less = homes(scene)
    assert {less[user] for user in USERS if less[user] != before[user]} == {"sync2"}
    shown = await worker_of(scene, "sync1")
    assert (shown["weight"], shown["overrides"]) == (
        0.25,
        {"weight": {"value": 0.25, "file": 1.0, "by": f"{getuser()} on the UNIX socket"}},
    )
    assert (await scene.ask("POST", "/api/workers/sync1/weight", body="value=0"))[0] == 200
    assert set(homes(scene).values()) == {"sync2"}
    _, told, _ = await scene.ask("POST", "/api/workers/sync1/weight?value=file")
    assert told["told"] == "The weight of sync1 is 1, as the file says."
    assert homes(scene) == before
    assert (await worker_of(scene, "sync1"))["overrides"] == {}
    events = (await scene.ask("GET", "/api/status"))[1]["events"]
    assert [(each["kind"], each["about"], each["text"]) for each in events if each["kind"] == "adjusted"] == [
        ("adjusted", "sync1", "weight 1 instead of 0, as the file says"),
        ("adjusted", "sync1", "weight 0 instead of 0.25"),
        ("adjusted", "sync1", "weight 0.25 instead of 1"),
    ]
    assert all(each["by"] for each in events if each["kind"] == "adjusted")


@staged(Operated)
async def test_with_weight_0_nobody_misses_it(scene: Operated) -> None:
    """Unlike a drained worker, it is up, and nothing waits for it; its requests go to the others of its pools."""
    request = sync(scene)
    await scene.ask("POST", "/api/workers/sync1/weight?value=0")
    told = (await scene.ask("GET", "/api/status"))[1]
    assert (told["workers"]["sync1"]["state"], told["ready"]) == ("up", True)
    client = scene.client(request)
    connection = await scene.worker("sync2").connection()
    await connection.head()
    connection.send(OK)
    assert answered(await received(client, answered))


@staged(Operated)
async def test_a_maximum(scene: Operated) -> None:
    """One more request waits until one has ended; a higher maximum lets it through at once."""
    request, worker, pool = sync(scene), scene.worker("sync1"), scene.sidecar.gateway.pools["sync1"]
    status, told, _ = await scene.ask("POST", "/api/workers/sync1/maximum?value=1")
    assert (status, told["maximum"], told["told"]) == (200, 1, "The maximum of sync1 is 1.")
    clients = [scene.client(request) for _ in range(3)]
    first = await worker.connection()
    await first.head()
    while pool.waiting < 2:
        await turns(1)
    assert pool.leased == 1
    first.send(OK)
    await first.head()
    assert (pool.leased, pool.waiting) == (1, 1)
    await scene.ask("POST", "/api/workers/sync1/maximum?value=2")
    second = await worker.connection()
    await second.head()
    first.send(OK)
    second.send(OK)
    for client in clients:
        assert answered(await received(client, answered))
    assert (await worker_of(scene, "sync1"))["maximum"] == 2
    _, told, _ = await scene.ask("POST", "/api/workers/sync1/maximum?value=file")
    assert told["told"] == "The maximum of sync1 is 8192, as the file says."


@staged(Operated)
async def test_a_lower_maximum(scene: Operated) -> None:
    """What runs goes on; connections beyond it are closed as they come free, and nobody gets one before."""
    request, worker, pool = sync(scene), scene.worker("sync1"), scene.sidecar.gateway.pools["sync1"]
    clients = [scene.client(request) for _ in range(3)]
    connections = [await worker.connection() for _ in clients]
    for connection in connections:
        await connection.head()
    await scene.ask("POST", "/api/workers/sync1/maximum?value=1")
    late = scene.client(request)
    while not pool.waiting:
        await turns(1)
    for left, connection in zip((2, 1), connections, strict=False):
        connection.send(OK)
        while pool.leased > left:
            await turns(1)
        assert (pool.leased, pool.waiting) == (left, 1)
    connections[2].send(OK)
    last = connections[2]
    await last.head()
    assert (pool.leased, pool.waiting) == (1, 0)
    last.send(OK)
    for client in (*clients, late):
        assert answered(await received(client, answered))


MAXIMUM = "A maximum is a whole number from 1 to 1000000. To give sync1 no requests, drain it."


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("sync1/weight?value=heavy", 400, "`value` is a number, or `file` for what the file says."),
        ("sync1/weight", 400, "`value` is a number, or `file` for what the file says."),
        ("sync1/weight?value=-1", 400, "A weight is a number from 0 to 1000000."),
        ("sync1/weight?value=nan", 400, "A weight is a number from 0 to 1000000."),
        ("sync1/maximum?value=0", 400, MAXIMUM),
        ("sync1/maximum?value=1.5", 400, MAXIMUM),
        ("sync1/maximum?value=inf", 400, MAXIMUM),
        ("main/weight?value=0", 400, "main is the main process, which some requests need. It cannot have weight 0."),
        (
            "typing1/weight?value=0",
            400,
            "Nobody else serves room_typing (pool typing). Drain typing1 instead: then those requests wait for it.",
        ),
        (
            "sync2/weight?value=0",
            400,
            "Nobody else serves routes[0] (pool alone). Drain sync2 instead: then those requests wait for it.",
        ),
        ("synk1/weight?value=2", 404, "No worker is called 'synk1'. Did you mean sync1?"),
    ],
)
@staged(Operated)
async def test_values_that_cannot_be(scene: Operated, path: str, status: int, error: str) -> None:
    """They are refused with a sentence, and change nothing."""
    before = reload_of(scene).deployment
    assert (await scene.ask("POST", f"/api/workers/{path}"))[:2] == (status, {"error": error})
    assert reload_of(scene).deployment is before
    assert (await scene.ask("GET", "/api/workers/sync1/weight?value=2"))[0] == 405


@staged(Operated)
async def test_a_reload(scene: Operated) -> None:
    """Both outlive one, unless the file says something else of that value than when they were set."""
    for path in ("sync1/weight?value=3", "sync2/weight?value=2", "sync2/maximum?value=5", "typing1/maximum?value=7"):
        assert (await scene.ask("POST", f"/api/workers/{path}"))[0] == 200
    file, reload = scene.directory / "sidecar.yaml", reload_of(scene)
    text = CONFIGURATION.replace('sync2.sock", serves: [client]', 'sync2.sock", serves: [client], weight: 4')
    file.write_text("\n".join(line for line in text.splitlines() if "typing1" not in line))
    reload.reactor = threads = Threads()
    reload.reload()
    threads.work()
    assert reload.outcome is not None
    assert reload.outcome.accepted, reload.outcome.sentences
    told = (await scene.ask("GET", "/api/status"))[1]["workers"]
    assert (told["sync1"]["weight"], told["sync2"]["weight"], told["sync2"]["maximum"]) == (3, 4, 5)
    assert "typing1" not in told
    assert reload.outcome.sentences[:2] == (
        "sync2: the weight 2 that was set at run time has ended, because the file now says 4",
        "typing1: the maximum 7 that was set at run time has ended, because the worker is gone",
    )
    assert scene.sidecar.gateway.pools["sync2"].limits.connections == 5


@staged(Operated)
async def test_a_reload_that_needs_who_was_taken_out(scene: Operated) -> None:
    """Where the file loses the other one that serves the same, the weight of 0 ends."""
    file, reload = scene.directory / "sidecar.yaml", reload_of(scene)
    reload.reactor = threads = Threads()
    file.write_text(CONFIGURATION.replace("{workers: [sync2],", "{workers: [sync2, sync1],"))
    reload.reload()
    threads.work()
    status, told, _ = await scene.ask("POST", "/api/workers/sync2/weight?value=0")
    assert status == 200, told
    file.write_text(CONFIGURATION)
    reload.reload()
    threads.work()
    assert reload.outcome is not None
    assert reload.outcome.accepted, reload.outcome.sentences
    assert reload.outcome.sentences[0].startswith(
        "sync2: the weight 0 that was set at run time has ended, because nobody else serves "
    )
    assert (await worker_of(scene, "sync2"))["weight"] == 1
