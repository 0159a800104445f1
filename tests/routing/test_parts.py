"""Who serves which part of a pool, against what a request gets: `decide`, and who of its workers takes requests."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.schema import Access, Pool, Route, Worker
from sidecar.routing.decision import Decision
from sidecar.routing.lanes import is_open
from sidecar.routing.matcher import concrete_paths
from sidecar.routing.parts import PoolPart, Turn, drained
from sidecar.routing.plan import Plan
from sidecar.routing.workers import MAIN_SERVES, Facts, PlannedWorker

from .plans import SPLIT, TABLE, asked, authorized, client, plan_of

WITHOUT_MEDIA = (
    PlannedWorker(name="main", endpoint="unix:/m", serves=MAIN_SERVES - {"media"}, media=False, is_main=True),
    PlannedWorker(name="sync1", endpoint="unix:/s", serves=frozenset({"client"}), media=False),
    PlannedWorker(name="media1", endpoint="unix:/d", serves=frozenset({"media"})),
)
FACTS = Facts(known=True, features=frozenset({"not_mas"}))


def parts(plan: Plan, pool: str) -> list[PoolPart]:
    return list(plan.parts[pool])


def served(decision: Decision, up: set[str]) -> bool:
    """Whether a request that goes this way is answered by a worker."""
    return not up.isdisjoint((*decision.candidates, *decision.fallback))


def requests(plan: Plan) -> Iterator[Decision]:
    """What is decided of requests for each row that clients can reach."""
    for row in TABLE:
        if not plan.membership.exists(row) or not is_open(row, plan.access):
            continue
        for path in concrete_paths(row.path)[:1]:
            target = "/" + "/".join("!room:x" if part[:1] == "{" or part == "**" else part for part in path)
            for method in row.methods - {"HEAD"}:
                for query in ("", "?since=1&pos=1"):
                    yield asked(plan, method, target + query)


PLAN = plan_of(SPLIT)
ASKED = list(requests(PLAN))


@given(st.sets(st.sampled_from(sorted(SPLIT))))
def test_what_is_said_is_what_requests_get(up: set[str]) -> None:
    """Whoever is up: a pool has a part that nobody serves if and only if a request to it finds nobody."""
    plan = PLAN
    said = {pool: any(part.now(up.__contains__).by == "nobody" for part in parts) for pool, parts in plan.parts.items()}
    failing = dict.fromkeys(said, False)
    for decision in ASKED:
        # A room belongs to one event persister; the pool speaks of all rooms.
        owners = plan.parts["events"] if decision.pool == "events" else ()
        failing[decision.pool] |= not served(decision, up) or any(not up & set(part.workers) for part in owners)
    failing["quarantined_media_changes"] = said["quarantined_media_changes"]
    assert said == failing


@given(st.sets(st.sampled_from(sorted(SPLIT))), st.sampled_from(sorted(SPLIT)))
def test_a_drain_costs_what_it_is_said_to_cost(up: set[str], name: str) -> None:
    """Each part that a drain concerns has the outcome that its requests have afterwards, and no other part changes."""
    plan = PLAN
    everything = [part for parts in plan.parts.values() for part in parts]
    told = {part.name: turn for part, turn in drained(everything, up.__contains__, name)}
    for part in everything:
        after = part.now((up - {name}).__contains__)
        turn = told.get(part.name)
        if turn is None:
            assert part.now(up.__contains__) == after
        elif part.seats and turn.by == "workers":
            assert set(turn.workers) <= set(after.workers)
        else:
            assert turn == after


def test_downloads_have_nobody_but_the_media_worker() -> None:
    """One row of the administration that main could answer, and that is closed, is no fallback for downloads."""
    plan = plan_of(planned=WITHOUT_MEDIA, facts=FACTS)
    (media,) = parts(plan, "media")
    assert (media.name, media.workers, media.fallback, media.required) == ("media", ("media1",), (), True)
    assert "media_download" in media.endpoints
    assert "admin_list_media_in_room" not in media.endpoints
    assert plan.pools["media"].fallback == ()
    assert media.now({"main", "sync1"}.__contains__) == Turn(by="nobody")


def test_a_row_that_access_opens_counts() -> None:
    """Whoever may administer gets answers of main that others do not get for downloads."""
    access = Access(admin=(ip_network("10.0.0.0/8"),))
    plan = plan_of(planned=WITHOUT_MEDIA, facts=FACTS, access=access)
    found = {part.fallback: part for part in parts(plan, "media")}
    assert set(found) == {(), (("main",),)}
    assert found[(("main",),)].endpoints == ("admin_list_media_in_room",)
    assert found[(("main",),)].name == "media (admin_list_media_in_room)"


def test_a_pool_that_nobody_can_ask() -> None:
    """What `access` closes to everybody fails for nobody, whoever is down."""
    (part,) = parts(plan_of(planned=WITHOUT_MEDIA, facts=FACTS), "quarantined_media_changes")
    assert (part.open, part.required) == (False, False)
    access = Access(admin=(ip_network("10.0.0.0/8"),))
    facts = Facts(known=True, features=FACTS.features, writers={"quarantined_media_changes": ("media1",)})
    (part,) = parts(plan_of(planned=WITHOUT_MEDIA, facts=facts, access=access), "quarantined_media_changes")
    assert (part.workers, part.open, part.required) == (("media1",), True, True)


def test_reading_and_writing() -> None:
    """What the writer of a stream does alone, and what others can tell as well, are two parts."""
    plan = plan_of(SPLIT)
    found = {part.name: part for part in parts(plan, "account_data")}
    assert set(found) == {"account_data (reading)", "account_data (writing)"}
    assert found["account_data (writing)"].fallback == ()
    assert found["account_data (reading)"].fallback[-1] == ("main",)
    up = {"client1", "main"}
    assert found["account_data (reading)"].now(up.__contains__) == Turn(by="fallback", workers=("client1",))
    assert found["account_data (reading)"].now({"main"}.__contains__) == Turn(by="fallback", workers=("main",))


def test_each_event_persister_has_its_rooms() -> None:
    """While one of them is down nobody serves its rooms, whoever else is up."""
    plan = plan_of(SPLIT)
    found = {part.name: part.workers for part in parts(plan, "events")}
    assert found == {f"events (rooms of event{number})": (f"event{number}",) for number in (1, 2, 3)}


def test_rooms_of_a_persister_that_cannot_be_reached_are_everybodys() -> None:
    """Others pass such requests on; the rooms of those that can be reached stay theirs."""
    facts = Facts(known=True, features=frozenset(), writers={"events": ("event1", "lost")})
    workers = {"main": Worker(endpoint="unix:/m"), "event1": client("events"), "client1": client()}
    plan = plan_of(workers, facts=facts)
    found = {part.name: part.workers for part in parts(plan, "events")}
    assert found == {"events (rooms of event1)": ("event1",), "events (other rooms)": ("event1", "client1")}


def test_who_is_named_and_not_there() -> None:
    """A stream or the media repository that Synapse's files give to somebody who cannot be reached has nobody."""
    facts = Facts(known=True, features=frozenset({"not_mas"}), writers={"typing": ("typing1",)}, media=("media1",))
    plan = plan_of(planned=WITHOUT_MEDIA[:2], facts=facts)
    (typing,) = parts(plan, "typing")
    assert (typing.workers, typing.named, typing.required) == ((), ("typing1",), True)
    (media,) = parts(plan, "media")
    assert (media.workers, media.named, media.required) == ((), ("media1",), True)
    decision = asked(plan, "GET", "/_matrix/client/v1/media/download/a/b")
    assert (decision.action, decision.status) == ("refuse", 503)
    assert decision.reason.startswith("no process that can be reached serves it; it belongs to media1")


def test_what_nobody_was_given_is_not_missed() -> None:
    """Main answers 404 for what no process has, and neither that nor its own streams make anybody wait."""
    facts = Facts(known=True, features=frozenset({"not_mas"}))
    main, *_ = WITHOUT_MEDIA
    planned = (
        PlannedWorker(name="main", endpoint=main.endpoint, serves=frozenset({"client"}), media=False, is_main=True),
    )
    plan = plan_of(planned=planned, facts=facts)
    for pool in ("media", "federation"):
        (part,) = parts(plan, pool)
        assert (part.mounted, part.required) == (False, False)
        assert part.now({"main"}.__contains__) == Turn(by="unmounted", workers=("main",))
    assert not any(part.required for part in parts(plan, "quarantined_media_changes"))
    row = next(row for row in plan.rows if row.endpoint.name == "media_download")
    assert row.reason.startswith("no process serves it; main answers 404")
    assert all(part.now({"main"}.__contains__).by == "workers" for part in parts(plan, "typing"))


def test_what_is_no_synapse_may_be_down() -> None:
    """Its pool is told as it is, and does not make the sidecar unready."""
    workers = {**SPLIT, "other": Worker(endpoint="tcp:127.0.0.1:9", serves=())}
    plan = plan_of(workers, pools={"other": Pool(workers=("other",))}, routes=(Route(path="/other/**", pool="other"),))
    (part,) = parts(plan, "other")
    assert (part.required, part.endpoints, part.fallback) == (False, ("routes[0]",), ())
    assert part.now({"main"}.__contains__) == Turn(by="nobody")


def test_a_pool_that_only_stands_in() -> None:
    """It has a part, too, without a fallback of its own."""
    workers = {**SPLIT, "spare": client()}
    plan = plan_of(
        workers, pools={"spare": Pool(workers=("spare",)), "sync": Pool(workers=("sync*",), fallback=("spare", "main"))}
    )
    (part,) = parts(plan, "spare")
    assert (part.workers, part.fallback, part.required) == (("spare",), (), True)
    (sync,) = parts(plan, "sync")
    assert sync.fallback == (("spare",), ("main",))


def test_who_stands_in_twice_counts_once() -> None:
    """In the first of the pools; a pool that has nobody else is left out."""
    pools = {
        "spare": Pool(workers=("spare",)),
        "other": Pool(workers=("spare",)),
        "sync": Pool(workers=("sync*",), fallback=("spare", "other", "main")),
    }
    (sync,) = parts(plan_of({**SPLIT, "spare": client()}, pools=pools), "sync")
    assert sync.fallback == (("spare",), ("main",))


@pytest.mark.parametrize(
    ("route", "taken"),
    [
        (Route(path="/_matrix/client/v1/media/**", refuse=404), True),
        (Route(path="/_matrix/client/v1/media/**", method=("GET",), refuse=404), True),
        (Route(path="/_matrix/client/v1/media/**", method=("POST",), refuse=404), False),
        (Route(path="/_matrix/client/v1/media/**", host=("other.example",), refuse=404), False),
        (Route(refuse=404), True),
        (Route(host=("other.example",), refuse=404), False),
        (Route(path="/_matrix/client/v1/media/**", table=True), False),
    ],
)
def test_rows_that_a_route_takes_are_not_the_pools(route: Route, taken: bool) -> None:
    """What never comes to the workers of a pool says nothing of it."""
    later = Route(path="/_matrix/client/v1/media/**", refuse=404)
    plan = plan_of(planned=WITHOUT_MEDIA, facts=FACTS, routes=(route, later) if route.table else (route,))
    whole = sum(part.rows for part in plan_of(planned=WITHOUT_MEDIA, facts=FACTS).parts["media"])
    left = sum(part.rows for part in plan.parts["media"])
    decision = asked(plan, "GET", "/_matrix/client/v1/media/config")
    assert (decision.action == "refuse") is taken
    if route.path is not None:
        assert (left < whole) is taken


def test_a_route_to_main_is_told_whatever_main_has() -> None:
    """The operator sends media there, and may know why; the part is not left out as one that no process has."""
    route = Route(path="/_matrix/media/v3/config", pool="main")
    plan = plan_of(planned=WITHOUT_MEDIA, facts=FACTS, routes=(route,))
    (part,) = [part for part in parts(plan, "main") if "routes[0]" in part.endpoints]
    assert (part.workers, part.mounted, part.required) == (("main",), True, True)


def test_a_route_into_a_built_in_pool_has_the_substitutes_of_the_row() -> None:
    """Not those that some other row of the pool has."""
    route = Route(path="/_matrix/client/v1/media/download/{server_name}/{media_id}", pool="media")
    plan = plan_of(planned=WITHOUT_MEDIA, facts=FACTS, routes=(route,), access=Access(admin=(ip_network("::/0"),)))
    decision = asked(plan, "GET", "/_matrix/client/v1/media/download/a/b")
    assert (decision.candidates, decision.fallback) == (("media1",), ())
    routed = [part for part in parts(plan, "media") if "routes[0]" in part.endpoints]
    assert [part.fallback for part in routed] == [()]


SPREADS = {
    "by default": PLAN,
    "as written": plan_of(SPLIT, pools={"sync": Pool(spread=3), "client": Pool(workers=("sync*",), spread=2)}),
}


@given(
    st.sampled_from(sorted(SPREADS)),
    st.sets(st.sampled_from(sorted(SPLIT))),
    st.sampled_from(sorted(SPLIT)),
    st.text("abcdefgh", min_size=1, max_size=8),
)
def test_a_drain_moves_the_keys_of_one_worker_to_whom_it_is_said(case: str, up: set[str], name: str, user: str) -> None:
    """Of a pool that few workers share: who got a key gets it still, or those that are said to take over do."""
    plan = SPREADS[case]
    for pool, target in (("sync", "/_matrix/client/v3/sync?since=1"), ("client", "/_matrix/client/v3/account/whoami")):
        (part,) = plan.parts[pool]
        token = base64.b64encode(user.encode()).rstrip(b"=")
        decision = asked(plan, "GET", target, authorized(b"Bearer syt_%s_abcdefghijklmnopqrst_0abcde" % token))
        order = (*decision.candidates, *decision.fallback)
        before, after = (next((each for each in order if each in those), None) for those in (up, up - {name}))
        told = {each.pool: turn for each, turn in drained([part], up.__contains__, name)}
        if before in part.workers:
            assert before in part.now(up.__contains__).workers
        if after in part.workers:
            assert after in part.now((up - {name}).__contains__).workers
        if before == name:
            assert after in told[pool].workers if after is not None else told[pool].by == "nobody"
        else:
            assert before == after
