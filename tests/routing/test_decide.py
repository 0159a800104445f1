"""The decision as a whole: total, the same everywhere, and deaf to what users write."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.schema import Pool, Route
from sidecar.routing.decide import decide, is_long_poll
from sidecar.routing.overrides import Adjustable, Override
from sidecar.routing.plan import DECISIONS, KEY_LENGTH, Plan
from sidecar.synapse.endpoint_rows import Endpoint

from .plans import ALICE, MAIN, PEER, SPLIT, TABLE, Headers, asked, authorized, client, endpoint, plan_of

PLAN = plan_of()
CROWDED = plan_of(
    routes=(
        Route(path="/own/{x}/**", pool="client"),
        Route(query={"q": None}, pool="sync"),
        Route(host=("h",), refuse=404),
    )
)
STREAMS_AND_POOLS = plan_of(pools={"sync": Pool(workers=("sync1", "sync2")), "rooms": Pool(workers=("client1",))})
WEIGHABLE = ("sync1", "sync3", "client1", "fed1", "event2", "receipts1")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: quote(text, safe="!:#$@()*,;+="))
OCTETS = st.binary(max_size=50)
METHODS = st.sampled_from([b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"BREW", b""])


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes, Headers, str]:
    """Requests to endpoints of the table, with any text where a user may write."""
    row = draw(st.sampled_from(TABLE))
    return draw(METHODS), draw(targets(row)), draw(credentials()), draw(st.sampled_from(["", PEER, "::1", "nonsense"]))


def targets(row: Endpoint) -> st.SearchStrategy[bytes]:
    """Paths that match a row, with any text for its parameters, and any query."""
    parts = [filled(segment) for segment in row.path]
    path = st.tuples(*parts).map(lambda segments: "/" + "/".join(segments))
    return st.tuples(path, st.one_of(st.just(""), TEXT.map(lambda text: f"?x={text}"))).map(
        lambda both: "".join(both).encode()
    )


def filled(segment: str) -> st.SearchStrategy[str]:
    if segment == "**":
        return st.lists(TEXT, min_size=1, max_size=3).map("/".join)
    if segment.startswith("{") and "|" in segment:
        return st.sampled_from(segment[1:-1].split("|"))
    if segment.startswith("{"):
        return TEXT.map(lambda text: text or "x")
    return st.just(segment)


def credentials() -> st.SearchStrategy[Headers]:
    lines = st.sampled_from([ALICE, b"Bearer mat_x", b'X-Matrix origin="a.b",key="k",sig="s"', b"Bearer", b"\xff\x00"])
    return st.one_of(st.just(Headers()), st.one_of(lines, OCTETS).map(authorized))


@given(
    METHODS,
    OCTETS,
    st.lists(st.tuples(st.sampled_from([b"authorization", b"host", b"x"]), OCTETS)),
    st.text(max_size=9),
)
def test_any_octets_are_decided(method: bytes, target: bytes, lines: list[tuple[bytes, bytes]], peer: str) -> None:
    """No octets in a request-target or a field can raise or leave a request without an answer."""
    for plan in (PLAN, CROWDED):
        for start in (b"", b"/", b"/_matrix/client/v3/rooms/", b"http://", b"/_synapse/"):
            decision = decide(method, start + target, Headers(lines), peer, plan)
            assert bool(decision.candidates) == (decision.action == "forward")
            assert (decision.status is None) == (decision.action == "forward")


@given(requests())
def test_candidates_are_a_permutation_of_the_pool(request_: Any) -> None:
    """Every worker of the pool that serves the endpoint is a candidate once, and never a fallback too."""
    method, target, fields, peer = request_
    decision = decide(method, target, fields, peer, PLAN)
    if decision.action == "forward":
        assert len(set(decision.candidates)) == len(decision.candidates)
        assert not set(decision.candidates) & set(decision.fallback)
        assert set(decision.candidates) <= set(PLAN.pools[decision.pool].workers) or decision.candidates == ("main",)
        other = decide(method, target, authorized(b"Bearer someone else"), "198.51.100.3", PLAN)
        assert sorted(other.candidates) == sorted(decision.candidates)


@given(requests())
def test_nobody_gets_what_he_does_not_serve(request_: Any) -> None:
    """Candidates and substitutes serve the endpoint; a hard stream is written by all of them."""
    method, target, fields, peer = request_
    decision = decide(method, target, fields, peer, PLAN)
    rows = [planned.endpoint for planned in PLAN.rows if planned.endpoint.name == decision.endpoint]
    if method == b"OPTIONS" or decision.pool == "main":
        return
    for name in (*decision.candidates, *decision.fallback):
        worker = PLAN.workers[name]
        able = [row for row in rows if (row.resources if worker.is_main else row.worker_resources) & worker.serves]
        assert able
        if decision.pool in ("typing", "to_device", "receipts"):
            assert decision.pool in worker.writes


@given(st.sampled_from(TABLE).flatmap(lambda row: st.tuples(st.just(row), targets(row), targets(row))))
def test_no_text_of_a_user_changes_the_pool(drawn: Any) -> None:
    """Whatever stands in a room id, a transaction id, a state key, an alias or a query."""
    row, one, other = drawn
    for method in row.methods:
        decisions = [decide(method.encode(), target, authorized(), PEER, STREAMS_AND_POOLS) for target in (one, other)]
        assert len({(each.action, each.endpoint, each.pool) for each in decisions}) == 1


@pytest.mark.parametrize(
    "target",
    [
        "/_matrix/client/v3/rooms/{}/send/m.room.message/t",
        "/_matrix/client/v3/rooms/!r/send/{}/t",
        "/_matrix/client/v3/rooms/!r/send/m.room.message/{}",
        "/_matrix/client/v3/rooms/!r/state/m.room.member/{}",
        "/_matrix/client/v3/sendToDevice/m.x/{}",
        "/_matrix/client/v3/rooms/!r/typing/{}",
        "/_matrix/client/v3/user/{}/account_data/m.x",
        "/_matrix/federation/v1/send/{}",
    ],
)
@given(text=TEXT)
def test_what_stands_in_a_parameter_never_changes_the_endpoint(target: str, text: str) -> None:
    """`/tags`, `/typing`, `..` or an encoded slash in it included."""
    plain = asked(PLAN, "PUT", target.format("x"))
    for each in (text, "tags", "typing%2F@a:b", "%2Ftyping%2F", "..", "%2e%2e%2f..", "_synapse", "sync%3Fsince%3D1"):
        decision = asked(PLAN, "PUT", target.format(each))
        assert (decision.action, decision.endpoint, decision.pool) == (plain.action, plain.endpoint, plain.pool)


SAMPLE = [
    ("GET", "/_matrix/client/v3/sync?since=s1", ALICE.decode()),
    ("PUT", "/_matrix/client/v3/rooms/!r:x/send/m.x/t", ALICE.decode()),
    ("GET", "/_matrix/client/v3/rooms/%21r%3Ax/messages", ""),
    ("PUT", "/_matrix/federation/v1/send/1", 'X-Matrix origin="a.example",key="k",sig="s"'),
    ("GET", "/_matrix/client/versions", ""),
    ("GET", "/_matrix/client/v3/login/sso/redirect", ""),
    ("GET", "/_matrix/client/v1/media/download/a/b", "Bearer mat_x"),
]


def answers(order: Callable[[list[str]], list[str]]) -> list[list[str]]:
    """First candidates and substitutes for the sample, with the workers in the configuration in another order."""
    plan = plan_of({name: SPLIT[name] for name in order(list(SPLIT)) if not name.startswith("event")})
    found = []
    for method, target, line in SAMPLE:
        decision = asked(plan, method, target, authorized(line.encode()) if line else Headers())
        found.append([*decision.candidates, "|", *decision.fallback])
    return found


@given(st.randoms())
@settings(max_examples=10)
def test_the_order_of_workers_in_the_configuration_does_not_matter(dice: random.Random) -> None:
    """Two sidecars with the same workers agree, however their files are sorted."""
    assert answers(lambda names: dice.sample(names, len(names))) == answers(list)


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_every_process_gives_the_same_answer(seed: str) -> None:
    """Whatever the seed of Python's own hashes: sidecars agree without talking to each other."""
    tests = Path(__file__).parents[1]
    script = "import json; from routing.test_decide import answers; print(json.dumps(answers(list)))"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent)))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == answers(list)


def test_a_decision_is_what_it_was_after_everything_was_forgotten() -> None:
    """Remembering changes no answer, and what is remembered is bounded."""
    plan = plan_of({"main": MAIN, "sync1": client(), "sync2": client()})
    target = "/_matrix/client/v3/rooms/!{}/messages"
    first = asked(plan, "GET", target.format("a"))
    assert asked(plan, "GET", target.format("a")) is first
    for number in range(DECISIONS):
        asked(plan, "GET", target.format(number))
    assert len(plan.memory.remembered) < 10
    assert asked(plan, "GET", target.format("a")) == first
    before = len(plan.memory.remembered)
    asked(plan, "GET", target.format("x" * KEY_LENGTH))
    assert len(plan.memory.remembered) == before


def test_removing_a_worker_moves_only_its_users() -> None:
    """Through the whole decision, not in the hash alone."""
    fewer = plan_of({name: worker for name, worker in SPLIT.items() if name != "sync2"})
    for number in range(300):
        fields = authorized(b"Bearer token%d" % number)
        before = asked(PLAN, "GET", "/_matrix/client/v3/sync?since=1", fields)
        after = asked(fewer, "GET", "/_matrix/client/v3/sync?since=1", fields)
        assert after.candidates == tuple(name for name in before.candidates if name != "sync2")


@cache
def weighed(name: str, weight: float, spread: int | None) -> Plan:
    pools = {} if spread is None else {"sync": Pool(spread=spread), "client": Pool(spread=spread)}
    override = Override(worker=name, what=Adjustable.WEIGHT, value=weight, stated=1.0, by="")
    return plan_of(pools=pools, overrides=[override])


@given(
    st.sampled_from(WEIGHABLE),
    st.tuples(*[st.sampled_from([0.0, 0.1, 1.0, 3.0])] * 2),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    st.sampled_from([None, 1, 2]),
)
def test_a_weight_at_run_time_moves_only_keys_of_its_worker(
    name: str, values: tuple[float, float], key: str, spread: int | None
) -> None:
    """Whatever the pool, with and without seats, and for OPTIONS; at 0 its seat is another's as it is."""
    before, after = (weighed(name, value, spread) for value in values)
    for rows in zip(before.rows, after.rows, strict=True):
        old, new = (
            plan.step_of(row).settle((row.affinity, key)).candidates
            for plan, row in zip((before, after), rows, strict=True)
        )
        seats = before.step_of(rows[0]).seats or after.step_of(rows[1]).seats
        own = {name, *(new[:1] if not values[1] and seats else ()), *(old[:1] if not values[0] and seats else ())}
        assert old[:1] == new[:1] or not own.isdisjoint((*old[:1], *new[:1]))
        if values == (1.0, 0.0) and name not in old[:1]:
            assert new == tuple(each for each in old if each != name)


def test_the_seats_of_others_stay_whatever_a_worker_weighs() -> None:
    """A holder that weighs less holds on to its seat, with fewer keys; at 0 the next in rank takes it as it is."""
    before, less, none = (weighed("sync3", weight, None) for weight in (1.0, 0.1, 0.0))
    holders = before.pools["sync"].sharing
    assert "sync3" in holders
    assert less.pools["sync"].sharing == holders
    instead = none.pools["sync"].sharing
    assert [old == new or old == "sync3" for old, new in zip(holders, instead, strict=True)] == [True] * len(holders)
    assert "sync3" not in instead


def test_head_is_decided_as_get() -> None:
    """As Synapse answers it, also where the table says only GET."""
    plan = plan_of(rows=[endpoint("/thing"), endpoint("/other", "PUT")])
    assert asked(plan, "HEAD", "/thing").endpoint == "thing"
    assert asked(plan, "HEAD", "/other").endpoint == "unknown"
    assert asked(PLAN, "HEAD", "/_matrix/client/versions") == asked(PLAN, "GET", "/_matrix/client/versions")


def test_options_goes_anywhere_and_has_substitutes() -> None:
    """Every process answers it, so that even a hard writer's pool may be left."""
    decision = asked(PLAN, "OPTIONS", "/_matrix/client/v3/rooms/!r/typing/@a:b")
    assert (decision.pool, decision.candidates, decision.fallback) == ("typing", ("typing1",), ("main",))
    assert decision.keyless
    assert asked(PLAN, "OPTIONS", "*").candidates == ("main",)


def test_an_absolute_target_is_decided_by_its_path() -> None:
    """The part after the authority, cut and not rewritten."""
    path = asked(PLAN, "GET", "/_matrix/client/v3/sync?since=1", authorized())
    assert asked(PLAN, "GET", "http://example.org:8008/_matrix/client/v3/sync?since=1", authorized()) == path
    assert asked(PLAN, "GET", "HTTPS://h/_matrix/client/v3/sync?since=1", authorized()) == path
    assert asked(PLAN, "GET", "http://example.org").pool == "main"
    assert asked(PLAN, "GET", "http://example.org?a=/_matrix/client/v3/sync").endpoint == "unknown"


@pytest.mark.parametrize(
    "target", ["", "*", "x", "matrix-federation://other.example/_matrix/x", "http://", "example.org:443"]
)
def test_other_forms_are_refused(target: str) -> None:
    """Synapse's internal proxy for `matrix-federation:` is not for us to reach."""
    decision = asked(PLAN, "GET", target)
    assert (decision.action, decision.status) == ("refuse", 400)


def test_unknown_paths_and_methods_go_to_main() -> None:
    """Modules of Synapse mount their own, and main alone can say 404 or 405."""
    for method, target in [
        ("GET", "/"),
        ("GET", "/_synapse/client/my_module/page"),
        ("PATCH", "/_matrix/client/v3/sync"),
        ("GET", "/_matrix/client/v3/sync/"),
        ("GET", "/_matrix/client/V3/sync"),
        ("GET", "/_matrix//client/v3/sync"),
    ]:
        decision = asked(PLAN, method, target, authorized())
        assert (decision.endpoint, decision.pool, decision.candidates) == ("unknown", "main", ("main",))


def test_what_may_be_sent_again_is_told() -> None:
    """As the table says."""
    assert asked(PLAN, "GET", "/_matrix/client/v3/sync", authorized()).replayable
    assert asked(PLAN, "POST", "/_matrix/client/v3/keys/claim", authorized()).replayable is False
    assert asked(PLAN, "PUT", "/unknown", authorized()).replayable is None


@pytest.mark.parametrize(
    ("method", "query", "waits"),
    [
        (b"GET", b"timeout=30000", True),
        (b"POST", b"pos=1&timeout=1", True),
        (b"GET", b"timeout=0", False),
        (b"GET", b"timeout=000", False),
        (b"GET", b"timeouts=30000", False),
        (b"GET", b"", False),
        (b"PUT", b"timeout=30000", False),
    ],
)
def test_what_waits_for_news(method: bytes, query: bytes, waits: bool) -> None:
    """A request that says for how long."""
    assert is_long_poll(method, query) is waits
