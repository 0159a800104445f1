"""The way to a decision, told to people."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from sidecar.config.schema import Access, Pool, Route
from sidecar.routing.explain import Explanation, as_json, explain, moved
from sidecar.routing.keys import Fields
from sidecar.routing.workers import Facts

from .plans import NOTHING, PEER, SPLIT, Headers, asked, authorized, client, plan_of

ROOM = "/_matrix/client/v3/rooms/!r:example.org"
WORKERS = {**SPLIT, "resting": client(weight=0)}
PLAN = plan_of(
    WORKERS,
    pools={"sync": Pool(workers=("sync1", "sync2"))},
    routes=(Route(path="/own", pool="sync"), Route(path="/gone", refuse=410)),
    access=Access(admin=(ip_network("192.0.2.0/24"),)),
)


def told(method: str, target: str, fields: Headers = NOTHING, peer: str = PEER) -> tuple[Explanation, dict[str, str]]:
    explanation = explain(method.encode(), target.encode(), fields, peer, PLAN)
    assert explanation.decision == asked(PLAN, method, target, fields, peer)
    return explanation, dict(explanation.steps)


def test_the_steps_of_a_sync() -> None:
    """Row, position, pool, key, order, fallback, and why the others were not chosen."""
    explanation, steps = told("GET", "/_matrix/client/v3/sync?since=s1", authorized())
    assert steps["row"] == "sync: GET /_matrix/client/{r0|v3|unstable}/sync"
    assert steps["route"] == "none of 2 holds"
    assert steps["position"] == "`since` is given: an incremental sync"
    assert steps["pool"].startswith("sync: the workers of pool sync serve it; ")
    assert steps["key"] == "user 'alice'"
    assert steps["order"] == "sync2, sync1"
    assert steps["fallback"] == "main"
    assert explanation.others["fed1"] == "its listener has none of the resources client"
    assert explanation.others["sync3"] == "pools.sync.workers does not name it"
    assert explanation.others["resting"] == "its weight is 0"
    assert set(explanation.others) == set(WORKERS) - {"sync1", "sync2", "main"}


def test_an_initial_sync_is_called_one() -> None:
    """Because `since` is missing or everything is asked for."""
    assert told("GET", "/_matrix/client/v3/sync")[1]["position"] == "no `since`, or `full_state`: an initial sync"


def test_writes_that_wait_for_their_writer() -> None:
    """Others are passed over because they would only ask the writer themselves."""
    explanation, steps = told("PUT", f"{ROOM}/send/m.x/t")
    (owner,) = explanation.decision.candidates
    assert steps["pool"].startswith("events: the event persister that owns the room does it; any other process would")
    assert steps["owner"] == f"{owner} persists the events of this room"
    assert steps["fallback"] == "none"
    another = next(name for name in ("event1", "event2") if name != owner)
    assert explanation.others[another] == "it does not persist the events of this room"
    others = told("PUT", "/_matrix/client/v3/user/@a:b/account_data/m.direct")[0].others
    assert others["client1"] == "it does not write account_data, and would only pass the request on"


def test_hard_writers_and_dedicated_workers() -> None:
    """The reasons name streams."""
    explanation, steps = told("PUT", f"{ROOM}/typing/@a:b")
    assert "only a writer of typing" in steps["pool"]
    assert explanation.others["sync1"] == "it does not write typing"
    assert steps["fallback"] == "none"
    others = told("GET", f"{ROOM}/messages")[0].others
    assert others["typing1"] == "it writes typing and is kept for that"
    assert told("POST", "/_matrix/client/v3/logout")[0].others["sync1"] == "no worker serves this endpoint"
    media = told("GET", "/_matrix/client/v1/media/config")[0].others
    assert media["sync1"] == "its media repository is disabled"
    assert told("PUT", "/_matrix/client/v3/pushrules/global/x")[0].others["main"] == "it does not write push_rules"


def test_a_send_names_the_owner_of_the_room() -> None:
    """The event persister by Synapse's own function."""
    explanation, steps = told("PUT", f"{ROOM}/send/m.x/t", authorized())
    assert steps["owner"] == f"{explanation.decision.candidates[0]} persists the events of this room"


def test_requests_without_a_key() -> None:
    """What was looked for is told where it was looked for."""
    assert told("GET", "/_matrix/client/versions")[1]["key"].startswith("none: ")
    assert told("POST", "/_matrix/client/v3/keys/query")[1]["key"].startswith("none (user was looked for): ")


def test_routes_refusals_and_unknown_paths() -> None:
    """Each ends the story where it ends."""
    _, steps = told("GET", "/own")
    assert steps["route"] == "routes[0] is the first route that matches"
    assert told("GET", "/own")[0].others["sync3"] == "pools.sync.workers does not name it"
    assert told("GET", "/gone")[0].decision.status == 410
    explanation, steps = told("GET", "/_synapse/replication/x")
    assert "never forwarded" in steps["refused"]
    assert explanation.others == {}
    assert told("GET", "/_synapse/admin/v1/rooms")[1]["order"] == "main"
    assert "closed" in told("GET", "/_synapse/admin/v1/rooms", peer="::1")[1]["refused"]
    explanation, steps = told("GET", "http://h/nowhere")
    assert "URL" in steps["request-target"]
    assert explanation.others["sync1"] == "it is not in pool main"
    assert "neither" in told("GET", "matrix-federation://h/x")[1]["refused"]
    assert told("OPTIONS", "*")[1]["order"] == "main"
    answering = plan_of(routes=(Route(path="/x", refuse=404),))
    plain = plan_of()
    assert dict(explain(b"GET", b"/x", NOTHING, "", answering).steps)["route"].startswith("routes[0]")
    assert dict(explain(b"GET", b"/x", NOTHING, "", plain).steps)["route"] == "the configuration has none"
    leaving = explain(b"GET", b"/x", NOTHING, "", plan_of(routes=(Route(path="/x", table=True), Route(refuse=404))))
    assert dict(leaving.steps)["route"].endswith("that matches, and leaves the request to the table")
    assert leaving.decision.candidates == ("main",)


def test_a_stream_that_nobody_can_answer() -> None:
    """The refusal still says who was asked for."""
    plan = plan_of(facts=Facts(known=True, writers={"typing": ("hidden",)}))
    explanation = explain(b"PUT", f"{ROOM}/typing/@a:b".encode(), NOTHING, PEER, plan)
    assert dict(explanation.steps)["order"] == "nobody"
    assert explanation.others["typing1"] == "it does not write typing"


def test_the_json_of_a_decision() -> None:
    """The names that scripts rely on."""
    target = "/_matrix/client/v3/sync?since=s1"
    found = json.loads(json.dumps(as_json("GET", target, asked(PLAN, "GET", target, authorized()))))
    assert list(found) == [
        "method", "target", "action", "status", "endpoint", "pool", "affinity", "candidates", "fallback", "reason",
    ]  # fmt: skip
    assert (found["action"], found["status"], found["endpoint"], found["pool"]) == ("forward", None, "sync", "sync")
    assert found["affinity"] == {"kind": "user", "key": "alice"}
    assert (found["candidates"], found["fallback"]) == (["sync2", "sync1"], ["main"])
    refused = as_json("GET", "/_synapse/admin", asked(PLAN, "GET", "/_synapse/admin", peer=""))
    assert (refused["action"], refused["status"], refused["candidates"]) == ("refuse", 403, [])


@pytest.mark.parametrize(
    ("gone", "least", "most"), [("client1", 0.4, 0.6), ("sync3", 0.4, 0.6), ("sync1", 0.0, 0.0), ("fed1", 0.0, 0.0)]
)
def test_the_share_of_keys_that_a_change_moves(gone: str, least: float, most: float) -> None:
    """Half of the users when one of the two goes that share them, nobody when another worker does."""
    before, after = plan_of(), plan_of({name: worker for name, worker in SPLIT.items() if name != gone})
    requests: list[tuple[bytes, bytes, Fields, str]] = [
        (b"GET", b"/_matrix/client/v3/sync?since=1", authorized(b"Bearer t%d" % number), PEER) for number in range(400)
    ]
    assert least <= moved(before, after, requests) <= most
    assert moved(before, before, []) == 0.0
