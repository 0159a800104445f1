"""Canaries: requests that the sidecar answers itself, for a while, because the operator asked for it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from net.turns import staged, turns
from twisted.internet.task import Clock

from admin.operated import Operated, received
from sidecar.admin.canaries import CanaryOperations
from sidecar.app.canary import ANSWERS, HELD_ANSWERS, LIFETIME, LONGEST_HOLD, MOST, Canaries
from sidecar.app.reload import Reload
from sidecar.app.work import work_of
from sidecar.config.schema import Limits, Timeouts
from sidecar.relay.gateway import Gateway
from sidecar.routing.decision import Decision
from sidecar.transport.deadlines import Deadlines
from sidecar.wire.fields import FieldSection
from sidecar.wire.forwarded import ForwardedPolicy

NAME = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
RAW = f"/_matrix/client/{NAME}/a%2Fb//%21c?q=%2f&"
REQUEST = (
    f"GET {RAW} HTTP/1.1\r\nHost: example.org:1\r\nX-Forwarded-For: 198.51.100.7, 10.0.0.1\r\nX-forwarded-for: 9.9.9.9"
    "\r\nX-Secret: of the proxy\r\nAuthorization: Bearer secret\r\n\r\n"
).encode()


def whole(got: bytes) -> bool:
    return got.endswith(b"}\n")


async def told(scene: Operated, request: bytes = REQUEST) -> dict[str, Any]:
    """What the sidecar answers itself."""
    got = await received(scene.client(request), whole)
    head, _, content = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Cache-Control: no-store" in head
    assert b"Access-Control-Allow-Origin: *" in head
    values: dict[str, Any] = json.loads(content)
    return values


@staged(Operated)
async def test_an_open_canary_tells_what_came(scene: Operated) -> None:
    """The raw target, the client that is believed, the fields that say where from; of others only the names."""
    assert (await scene.ask("POST", f"/api/canary/{NAME}/open"))[:2] == (200, {"canary": NAME})
    values = await told(scene)
    assert values["canary"] == NAME
    assert values["method"] == "GET"
    assert values["target"] == RAW
    assert values["client"] == "9.9.9.9"
    assert values["scheme"] == ""  # a trusted peer that names a client, and does not say how that came
    assert values["fields"]["x-forwarded-for"] == ["198.51.100.7, 10.0.0.1", "9.9.9.9"]
    assert values["fields"]["host"] == ["example.org:1"]
    assert values["fields"]["x-forwarded-proto"] == []
    assert "x-secret" in values["names"]
    assert "secret" not in json.dumps(values).replace("x-secret", "")


@staged(Operated)
async def test_without_an_open_canary_nothing_is_in_the_way(scene: Operated) -> None:
    """The very function of the plan decides, before and after; and such a target is as any other."""
    before = scene.sidecar.gateway.decide
    await scene.ask("POST", f"/api/canary/{NAME}/open")
    assert scene.sidecar.gateway.decide is not before
    assert (await scene.ask("POST", f"/api/canary/{NAME}/close"))[1] == {"canary": NAME, "was_open": True}
    assert scene.sidecar.gateway.decide is before
    assert (await scene.ask("POST", f"/api/canary/{NAME}/close"))[1] == {"canary": NAME, "was_open": False}
    main = scene.worker("main")
    scene.client(REQUEST)
    assert RAW.encode() in await (await main.connection()).head()


@staged(Operated)
async def test_other_requests_go_on_as_before(scene: Operated) -> None:
    """While a canary is open, too."""
    await scene.ask("POST", f"/api/canary/{NAME}/open")
    main = scene.worker("main")
    scene.client(b"GET /anything HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"GET /anything" in await (await main.connection()).head()


@staged(Operated)
async def test_a_reload_ends_it_until_it_is_opened_again(scene: Operated) -> None:
    """The new plan decides alone; what was open can be opened once more, and closing leaves the new plan alone."""
    await scene.ask("POST", f"/api/canary/{NAME}/open")
    reload = next(each for each in scene.services if isinstance(each, Reload))
    scene.sidecar.use(work_of(reload.deployment))
    fresh = scene.sidecar.gateway.decide
    await scene.ask("POST", f"/api/canary/{NAME}/open")
    assert (await told(scene))["canary"] == NAME
    await scene.ask("POST", f"/api/canary/{NAME}/close")
    assert scene.sidecar.gateway.decide is fresh


@staged(Operated)
async def test_an_answer_can_be_held_back(scene: Operated) -> None:
    """It comes when its time is over, and the connection lives on; a client that leaves meanwhile is let go."""
    await scene.ask("POST", f"/api/canary/{NAME}/hold/0.05")
    client = scene.client(REQUEST)
    assert whole(await received(client, whole))
    client.sendall(REQUEST)
    assert whole(await received(client, whole))
    await scene.ask("POST", f"/api/canary/{NAME}/hold/600")
    gone = scene.client(REQUEST)
    counters = scene.sidecar.gateway.counters
    while counters.connections_open < 2:
        await turns(1)
    before = counters.client_gone
    await turns(5)
    gone.close()
    while counters.client_gone == before:
        await turns(1)


@staged(Operated)
async def test_pages_cannot_open_one(scene: Operated) -> None:
    """And it takes POST; what is no canary's path is nothing."""
    path = f"/api/canary/{NAME}/open"
    assert (await scene.ask("POST", path, "Origin: https://evil.example"))[0] == 403
    assert (await scene.ask("GET", path))[0] == 405
    assert (await scene.ask("POST", f"/api/canary/{NAME}/sing"))[0] == 404
    assert (await scene.ask("POST", "/api/canary/short/open"))[0] == 409


# Bounds.


class Bench:
    """Canaries with a clock that is moved by hand, in front of a decision."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.plain = Decision(action="forward", endpoint="any", pool="any", candidates=("main",))
        self.sidecar = SimpleNamespace(gateway=self.gateway())
        self.canaries = Canaries(cast(Any, self.sidecar), self.clock)

    def gateway(self) -> Gateway:
        """One that has not seen a canary yet."""
        return Gateway(
            decide=lambda *_, **__: self.plain,
            pools={},
            forwarded=ForwardedPolicy((), None),
            limits=Limits(),
            timeouts=Timeouts(),
            deadlines=Deadlines(self.clock),
        )

    def decide(self, name: str = NAME) -> Decision:
        fields = FieldSection(b"\r\n\r\n")
        decide = self.sidecar.gateway.decide
        decision: Decision = decide(b"GET", f"/{name}".encode(), fields, "192.0.2.1", "http")
        return decision


def test_it_ends_by_itself() -> None:
    """After its lifetime, or that and the time for which it holds answers back; then nothing is in the way."""
    bench = Bench()
    before = bench.sidecar.gateway.decide
    assert bench.canaries.open(NAME) is None
    assert bench.canaries.open(OTHER, 10.0) is None
    bench.clock.advance(LIFETIME)
    assert bench.decide() is bench.plain
    assert bench.decide(OTHER).after == 10.0
    bench.clock.advance(10.0)
    assert bench.sidecar.gateway.decide is before
    assert bench.clock.getDelayedCalls() == []


def test_opening_again_begins_anew() -> None:
    """With another time to hold back, if so."""
    bench = Bench()
    bench.canaries.open(NAME)
    bench.clock.advance(LIFETIME - 1)
    bench.canaries.open(NAME)
    bench.clock.advance(LIFETIME - 1)
    assert bench.decide().endpoint == "canary"
    bench.canaries.open(NAME, 5.0)
    assert bench.decide().after == 5.0
    bench.canaries.close(NAME)
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("hold", "most"), [(0.0, ANSWERS), (5.0, HELD_ANSWERS)])
def test_it_answers_so_many_requests(hold: float, most: int) -> None:
    """Then they are decided as any other."""
    bench = Bench()
    bench.canaries.open(NAME, hold)
    assert [bench.decide().endpoint for _ in range(most + 1)] == [*["canary"] * most, "any"]


def test_there_are_so_many_at_once() -> None:
    """And one that is closed makes room."""
    bench = Bench()
    names = [f"{number:032x}" for number in range(MOST + 1)]
    assert [bench.canaries.open(name) for name in names[:-1]] == [None] * MOST
    refused = bench.canaries.open(names[-1])
    assert refused is not None
    assert f"{MOST} canaries are open" in refused
    bench.canaries.close(names[0])
    assert bench.canaries.open(names[-1]) is None


@pytest.mark.parametrize("name", ["", "short", "F" * 32, "f" * 33, "g" * 32, "/" * 32])
def test_names_are_hard_to_guess(name: str) -> None:
    """32 hexadecimal digits, and nothing that could stand in a target anyhow."""
    assert Bench().canaries.open(name) == "The name of a canary is 32 hexadecimal digits in lower case."


def test_no_answer_is_held_back_for_longer_than_that() -> None:
    """The path could say anything."""
    bench = Bench()
    assert bench.canaries.open(NAME, LONGEST_HOLD) is None
    assert bench.canaries.open(OTHER, LONGEST_HOLD + 1) == "An answer is held back for at most 600 seconds."


@pytest.mark.parametrize(
    "path", ["/api/canary/x/hold/", "/api/canary/x/hold/1e3", "/api/canary/x/hold/-1", "/api/canary"]
)
def test_what_is_no_number_of_seconds_is_no_path(path: str) -> None:
    """Others may know it."""
    assert CanaryOperations(Bench().canaries).answer("POST", path.split("/")[1:]) is None
