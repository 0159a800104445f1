"""Who is in which pool, from what processes serve and write and from what the configuration says."""

from __future__ import annotations

import pytest

from sidecar.config.schema import Pool, Route, Settings, Worker
from sidecar.errors import ConfigError, Severity
from sidecar.routing.compile import compile_plan
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts, PlannedWorker, planned_workers, workers_of
from sidecar.synapse.processes import Process
from sidecar.synapse.shards import event_persister
from sidecar.synapse.topology import Topology

from .plans import MAIN, SPLIT, TABLE, asked, authorized, client, endpoint, plan_of

ROOM = "/_matrix/client/v3/rooms/!r:example.org"
SEND = f"{ROOM}/send/m.room.message/t1"
FREE = {"sync1", "sync2", "sync3", "client1"}


def members(plan: Plan, pool: str) -> set[str]:
    return set(plan.pools[pool].workers)


def test_built_in_pools_are_formed_from_what_workers_serve() -> None:
    """Without a word in `pools`, roles follow from resources and streams."""
    plan = plan_of()
    for pool in ("sync", "initial_sync", "client", "rooms", "user_directory", "sso"):
        assert members(plan, pool) == FREE
    assert members(plan, "federation") == members(plan, "federation_send") == {"fed1", "fed2"}
    assert members(plan, "media") == {"media1"}
    assert members(plan, "main") == {"main"}
    assert members(plan, "receipts") == {"receipts1", "receipts2"}
    assert plan.pools["sync"].fallback == ("main",)
    assert plan.pools["typing"].fallback == ()


def test_every_decision_has_what_the_file_says_of_its_pool() -> None:
    """With a key and without, by a row, a route, a first sync or no row at all: a new setting needs no copying."""
    names = ("main", "sync", "initial_sync", "client", "events", "own", "federation")
    pools = {name: Pool(answer=float(number)) for number, name in enumerate(names)}
    plan = plan_of(pools={**pools, "own": Pool(workers=("client1",))}, routes=(Route(path="/own", pool="own"),))
    sync, versions = "/_matrix/client/v3/sync", "/_matrix/client/versions"
    federation = "/_matrix/federation/v1/version"
    asks = [("GET", f"{sync}?since=s1"), ("GET", sync), ("GET", versions), ("OPTIONS", versions), ("PUT", SEND)]
    decisions = [
        asked(plan, *ask, authorized()) for ask in (*asks, ("GET", "/own"), ("GET", federation), ("GET", "/x"))
    ]
    assert {decision.pool for decision in decisions} == set(names)
    for decision in decisions:
        assert decision.settings is plan.pools[decision.pool].settings
    assert asked(plan_of(), "GET", sync).settings == Pool()


def test_main_alone_gets_everything() -> None:
    """One process: all candidates are main, nothing to fall back to."""
    plan = plan_of({"main": MAIN})
    for target in ("/_matrix/client/v3/sync", SEND, "/_matrix/federation/v1/version", "/_matrix/media/v3/config", "/x"):
        decision = asked(plan, "PUT" if target == SEND else "GET", target, authorized())
        assert (decision.candidates, decision.fallback) == (("main",), ())
    assert asked(plan, "PUT", f"{ROOM}/typing/@a:b").candidates == ("main",)


def test_a_worker_alone_stands_for_main() -> None:
    """Whatever it is called and whatever it says that it serves."""
    plan = plan_of({"synapse": client()})
    assert asked(plan, "GET", "/_matrix/client/v3/sync").candidates == ("synapse",)
    assert asked(plan, "GET", "/_matrix/federation/v1/version").candidates == ("synapse",)
    assert asked(plan, "GET", "/anything").candidates == ("synapse",)
    assert asked(plan, "PUT", f"{ROOM}/typing/@a:b").candidates == ("synapse",)
    assert plan.main == "synapse"


@pytest.mark.parametrize("workers", [{}, {"a": client(), "b": client()}])
def test_a_topology_without_main_is_a_fault(workers: dict[str, Worker]) -> None:
    """The sentence says what to write."""
    with pytest.raises(ConfigError, match="no process is known as the main process"):
        plan_of(workers)


def test_a_worker_that_says_nothing_serves_whatever_a_worker_can() -> None:
    """A name and an endpoint are enough to try things."""
    plan = plan_of({"main": MAIN, "w1": Worker(endpoint="unix:/w1")})
    for target in ("/_matrix/client/v3/sync", "/_matrix/federation/v1/version", "/_matrix/media/v3/config"):
        decision = asked(plan, "GET", target)
        assert (decision.candidates, decision.fallback) == (("w1",), ("main",))
    assert asked(plan, "POST", "/_matrix/client/v3/logout").candidates == ("main",)


def test_main_is_no_substitute_for_a_media_repository_of_its_own() -> None:
    """Where a worker is said to serve media, main has none (`enable_media_repo: false`) and would answer 404."""
    assert asked(plan_of(), "GET", "/_matrix/media/v3/config").fallback == ()
    kept = plan_of({**SPLIT, "main": Worker(endpoint="unix:/m", serves=("client", "media"))})
    assert asked(kept, "GET", "/_matrix/media/v3/config").fallback == ("main",)


def test_hard_writers_never_fall_back() -> None:
    """Anybody but the writer would answer 500; another writer of the same stream is no substitute but an equal."""
    plan = plan_of()
    typing = asked(plan, "PUT", f"{ROOM}/typing/@a:b")
    assert (typing.pool, typing.candidates, typing.fallback) == ("typing", ("typing1",), ())
    receipt = asked(plan, "POST", f"{ROOM}/receipt/m.read/$e")
    assert (set(receipt.candidates), receipt.fallback) == ({"receipts1", "receipts2"}, ())
    stated = plan_of(pools={"typing": Pool(fallback=("client", "main"))})
    assert asked(stated, "PUT", f"{ROOM}/typing/@a:b").fallback == ()


ACCOUNT_DATA = "/_matrix/client/v3/user/@alice:example.org/account_data/m.direct"
SOFT_WRITES = (
    ("PUT", ACCOUNT_DATA),
    ("DELETE", "/_matrix/client/v3/user/@alice:example.org/rooms/!r/tags/m.favourite"),
    ("PUT", "/_matrix/client/v3/presence/@alice:example.org/status"),
)


def test_soft_streams_are_read_anywhere() -> None:
    """Their writer comes first, and others take a read while it is down."""
    decision = asked(plan_of(), "GET", ACCOUNT_DATA, authorized())
    assert (decision.pool, decision.candidates) == ("account_data", ("account1",))
    assert set(decision.fallback) == {*FREE, "main"}
    assert decision.fallback[-1] == "main"


@pytest.mark.parametrize(("method", "target"), SOFT_WRITES)
def test_writes_of_soft_streams_wait_for_their_writer(method: str, target: str) -> None:
    """Any other process would only pass them on, and then backs off while the writer is down."""
    decision = asked(plan_of(), method, target, authorized())
    assert (decision.candidates, decision.fallback) == (("account1",), ())
    assert "would only pass it on" in decision.reason
    stated = plan_of(pools={decision.pool: Pool(fallback=("client", "main"))})
    assert set(asked(stated, method, target, authorized()).fallback) == {*FREE, "main"}


def test_one_writer_of_device_lists_stands_in_for_another() -> None:
    """Either does the work; nobody else does."""
    workers = {**SPLIT, "devices1": client("device_lists"), "devices2": client("device_lists")}
    for method, target in (("POST", "/_matrix/client/v3/keys/upload"), ("PUT", "/_matrix/client/v3/devices/A")):
        decision = asked(plan_of(workers), method, target, authorized())
        assert (set(decision.candidates), decision.fallback) == ({"devices1", "devices2"}, ())
    assert set(asked(plan_of(workers), "GET", "/_matrix/client/v3/devices", authorized()).fallback) == {*FREE, "main"}


def test_soft_streams_of_main_are_for_workers() -> None:
    """A worker spares main the work, and main stands in for it."""
    for method in ("GET", "DELETE"):
        devices = asked(plan_of(), method, "/_matrix/client/v3/devices/A", authorized())
        assert (devices.pool, set(devices.candidates), devices.fallback) == ("device_lists", FREE, ("main",))


def test_a_pool_by_the_name_of_a_stream_does_not_say_who_writes_it() -> None:
    """Without Synapse's files and without `writes` main may be the writer, so main stands in."""
    workers = {"main": MAIN, "a": client(), "b": client()}
    plan = plan_of(workers, pools={"account_data": Pool(workers=("a",)), "events": Pool(workers=("a", "b"))})
    assert asked(plan, "PUT", ACCOUNT_DATA, authorized()).fallback == ("b", "main")
    sent = asked(plan, "PUT", SEND, authorized())
    assert (set(sent.candidates), sent.fallback) == ({"a", "b"}, ("main",))


def test_push_rules_are_written_by_their_writer_only_and_read_there_first() -> None:
    """Reading elsewhere can miss what was just written, writing elsewhere fails."""
    plan = plan_of()
    rule = "/_matrix/client/v3/pushrules/global/override/x"
    assert asked(plan, "PUT", rule).candidates == asked(plan, "GET", rule).candidates == ("account1",)
    assert asked(plan, "PUT", rule).fallback == ()
    assert asked(plan, "GET", rule).fallback


def test_only_main_answers_what_only_main_has() -> None:
    """By method and path: a worker answers 404 or 405."""
    plan = plan_of()
    for method, target in [
        ("POST", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/abc"),
        ("PUT", "/_matrix/client/v3/directory/list/appservice/n/!r"),
        ("POST", "/_matrix/client/v3/logout"),
        ("GET", "/_matrix/client/v3/pushers"),
        ("GET", "/_matrix/client/v3/auth/m.login.recaptcha/fallback/web"),
        ("POST", "/_matrix/client/v3/register/email/requestToken"),
    ]:
        assert asked(plan, method, target, authorized()).candidates == ("main",)
    assert asked(plan, "GET", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/abc").pool == "client"


def test_sends_go_to_the_persister_of_the_room() -> None:
    """Synapse's own function names it, whatever the spelling. Nobody else is tried: they would only pass it on."""
    plan = plan_of()
    persisters = ("event1", "event2", "event3")
    for number in range(30):
        room = f"!room{number}:example.org"
        for method, rest in [("PUT", "send/m.x/t"), ("POST", "join"), ("PUT", "state/m.x"), ("PUT", "redact/$e/t")]:
            decision = asked(plan, method, f"/_matrix/client/v3/rooms/%21{room[1:]}/{rest}", authorized())
            assert decision.pool == "events"
            assert decision.candidates == (event_persister(room, persisters),)
            assert decision.fallback == ()
    stated = plan_of(pools={"events": Pool(fallback=("rooms",))})
    assert (set(asked(stated, "PUT", SEND).candidates), set(asked(stated, "PUT", SEND).fallback)) == (
        {*persisters},
        FREE,
    )
    assert asked(plan, "GET", f"{ROOM}/state/m.x").pool == "rooms"
    for room in ("%23alias:example.org", "!room:example.org"):
        assert asked(plan, "POST", f"/_matrix/client/v3/join/{room}").pool == "rooms"


def test_the_order_of_stream_writers_decides_who_owns_a_room() -> None:
    """It is the order in Synapse's configuration, not that of names; a persister out of reach keeps its place."""
    order = ("event3", "hidden", "event1")
    plan = plan_of(facts=Facts(writers={"events": order}))
    owners = {f"!{number}:x": event_persister(f"!{number}:x", order) for number in range(60)}
    for room, owner in owners.items():
        decision = asked(plan, "PUT", f"/_matrix/client/v3/rooms/{room}/send/m.x/t")
        assert decision.pool == "events"
        if owner == "hidden":
            assert set(decision.candidates) >= FREE
            assert "hidden" not in decision.candidates
        else:
            assert decision.candidates == (owner,)


def test_sends_stay_with_the_rooms_where_no_persister_takes_requests() -> None:
    """Persisters that have only a replication listener are asked by the workers themselves."""
    silent = {name: worker for name, worker in SPLIT.items() if not name.startswith("event")}
    for facts in (Facts(), Facts(writers={"events": ("e1", "e2")}), Facts(writers={"events": ("main",)})):
        decision = asked(plan_of(silent, facts=facts), "PUT", SEND)
        assert (decision.pool, set(decision.candidates), decision.fallback) == ("rooms", FREE, ("main",))


def test_initial_syncs_cascade() -> None:
    """`initial_sync`, then `sync`, then main; later syncs stay in `sync`."""
    plan = plan_of(pools={"initial_sync": Pool(workers=("sync3",)), "sync": Pool(workers=("sync1", "sync2"))})
    for target in (
        "/_matrix/client/v3/sync",
        "/_matrix/client/v3/sync?filter=since=1",
        "/_matrix/client/v3/sync?since=s1&full_state=true",
        "/_matrix/client/v3/sync?full_state=true;since=s1",
        "/_matrix/client/v3/initialSync",
        f"{ROOM}/initialSync",
    ):
        decision = asked(plan, "GET", target, authorized())
        assert (decision.pool, decision.candidates) == ("initial_sync", ("sync3",))
        assert set(decision.fallback[:2]) == {"sync1", "sync2"}
        assert decision.fallback[2:] == ("main",)
    for target in ("?since=s1", "?a=b&since=s1", "?%73ince=s1", "?since=1&full_state=false", "?a;since=s1"):
        decision = asked(plan, "GET", f"/_matrix/client/v3/sync{target}", authorized())
        assert (decision.pool, set(decision.candidates), decision.fallback) == ("sync", {"sync1", "sync2"}, ("main",))


def test_sliding_sync_begins_in_the_initial_pool() -> None:
    """Without `pos`; unless sliding sync alone was given workers of its own."""
    target = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    plan = plan_of(pools={"initial_sync": Pool(workers=("sync3",)), "sliding_sync": Pool(workers=("sync2",))})
    assert asked(plan, "POST", target).candidates == ("sync3",)
    assert asked(plan, "POST", f"{target}?pos=0").candidates == ("sync2",)
    own = plan_of(pools={"sliding_sync": Pool(workers=("sync2",))})
    assert asked(own, "POST", target).pool == "sliding_sync"
    assert set(asked(plan_of(), "POST", f"{target}?pos=1").candidates) == FREE


def test_a_pool_of_the_file_has_the_workers_that_it_names() -> None:
    """Globs are unfolded; weight 0 takes a worker out; a pool without workers is formed as ever."""
    workers = {**SPLIT, "sync9": client(weight=0)}
    plan = plan_of(workers, pools={"sync": Pool(workers=("sync*",)), "client": Pool(answer=3.0)})
    assert set(asked(plan, "GET", "/_matrix/client/v3/sync?since=1").candidates) == {"sync1", "sync2", "sync3"}
    assert "sync9" not in asked(plan, "GET", "/_matrix/client/versions").candidates
    assert asked(plan, "GET", "/_matrix/client/versions").settings.answer == 3.0


def test_a_request_never_goes_to_a_worker_that_does_not_serve_it() -> None:
    """Not even when the file puts that worker into the pool; the fallback takes it, and it is a warning."""
    plan = plan_of(pools={"sync": Pool(workers=("fed1",)), "media": Pool(workers=("sync1", "media1"))})
    assert asked(plan, "GET", "/_matrix/client/v3/sync?since=1").candidates == ("main",)
    assert asked(plan, "POST", "/_matrix/media/v3/upload").candidates == ("media1",)
    warned = [problem for problem in plan.problems if problem.key == "pools.sync.workers"]
    assert [problem.severity for problem in warned] == [Severity.WARNING]
    assert "`fed1` serves no endpoint of this pool" in warned[0].message


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (None, "the workers of pool sync serve it"),
        (Pool(workers=("main",)), "the configuration gives pool sync to main alone"),
        (Pool(workers=("fed1", "main")), "no worker of pool sync serves it, so main answers it"),
        (Pool(workers=("fed1",)), "no worker of pool sync serves it, so main answers it"),
    ],
)
def test_the_reason_does_not_say_that_no_worker_serves_what_one_outside_the_pool_serves(
    pool: Pool | None, said: str
) -> None:
    plan = plan_of(pools={} if pool is None else {"sync": pool})
    assert asked(plan, "GET", "/_matrix/client/v3/sync?since=1").reason.partition(";")[0] == said


def test_nor_does_it_where_main_answers_404_though_a_worker_outside_the_pool_serves_it() -> None:
    upload = "/_matrix/media/v3/upload"
    assert asked(plan_of(), "POST", upload).reason.startswith("the workers of pool media serve it")
    reason = asked(plan_of(pools={"media": Pool(workers=("sync1",))}), "POST", upload).reason
    assert reason.startswith("no worker of pool media serves it; main answers 404")


def test_a_stated_fallback_is_the_whole_fallback() -> None:
    """Pools in order; an empty list means none."""
    plan = plan_of(
        pools={"sync": Pool(workers=("sync1",), fallback=()), "federation": Pool(fallback=("client", "main"))}
    )
    assert asked(plan, "GET", "/_matrix/client/v3/sync?since=1").fallback == ()
    assert asked(plan, "GET", "/_matrix/federation/v1/version").fallback == ("main",)
    assert plan.pools["sync"].fallback == ()


def test_stream_pools_written_by_hand_name_the_writers() -> None:
    """Without Synapse's files, `pools.typing.workers` says who writes typing; with them, they say it."""
    workers = {"main": MAIN, "c1": client(), "t1": client()}
    pools = {"typing": Pool(workers=("t1",))}
    by_hand = plan_of(workers, pools=pools)
    assert asked(by_hand, "PUT", f"{ROOM}/typing/@a:b").candidates == ("t1",)
    assert asked(by_hand, "GET", "/_matrix/client/v3/sync").candidates == ("c1",)
    known = plan_of(workers, pools=pools, facts=Facts(known=True, writers={"typing": ("main",)}))
    assert asked(known, "PUT", f"{ROOM}/typing/@a:b").action == "refuse"


def test_a_hard_stream_whose_writer_is_out_of_reach_is_refused() -> None:
    """503 instead of somebody's 500."""
    plan = plan_of(facts=Facts(known=True, writers={"typing": ("hidden",)}))
    decision = asked(plan, "PUT", f"{ROOM}/typing/@a:b")
    assert (decision.action, decision.status, decision.candidates) == ("refuse", 503, ())
    assert "typing" in decision.reason
    assert asked(plan, "OPTIONS", f"{ROOM}/typing/@a:b").candidates == ("main",)


def test_dedicated_writers_serve_others_only_when_nobody_else_does() -> None:
    """A topology of main and one writer leaves main what only main can do."""
    plan = plan_of({"main": MAIN, "writer1": client("typing to_device")})
    assert asked(plan, "GET", "/_matrix/client/v3/sync").candidates == ("writer1",)


def test_rows_exist_under_their_configuration_only() -> None:
    """Features that Synapse's files do not switch on are unknown paths, and these go to main."""
    rows = [
        endpoint("/plain"),
        endpoint("/mas", needs=frozenset({"mas", "msc1_enabled"})),
        endpoint("/sso", needs=frozenset({"cas|oidc"})),
        endpoint("/media", needs=frozenset({"media_repo"})),
    ]
    workers = [
        PlannedWorker(name="main", endpoint="x", serves=frozenset({"client"}), is_main=True),
        PlannedWorker(name="w1", endpoint="x", serves=frozenset({"client"}), media=False),
    ]

    def first(features: str, target: str, *, known: bool = True) -> tuple[str, str]:
        facts = Facts(known=known, features=frozenset(features.split()))
        decision = asked(plan_of({}, rows=rows, planned=workers, facts=facts), "GET", target)
        return decision.endpoint, decision.candidates[0]

    assert first("", "/plain") == ("plain", "w1")
    assert first("mas", "/mas") == ("unknown", "main")
    assert first("mas msc1_enabled", "/mas") == ("mas", "w1")
    assert first("cas", "/sso") == first("oidc", "/sso") == ("sso", "w1")
    assert first("", "/sso") == ("unknown", "main")
    assert first("", "/sso", known=False) == ("sso", "w1")
    assert first("", "/media") == ("media", "main")


def test_what_nobody_serves_goes_to_main_all_the_same() -> None:
    """Main answers it as Synapse does, with 404."""
    workers = [
        PlannedWorker(name="main", endpoint="x", serves=frozenset({"client"}), is_main=True),
        PlannedWorker(name="w1", endpoint="x", serves=frozenset({"client"})),
    ]
    plan = plan_of({}, planned=workers)
    assert asked(plan, "GET", "/_matrix/federation/v1/version").candidates == ("main",)


def test_limits_of_pools_and_processes_come_with_the_decision() -> None:
    """A pool's own limit, else the least of what its workers take, never more than the configuration allows."""
    small, large = Process(name="", body_limit=13_107_200), Process(name="", body_limit=99_000_000_000)
    workers = [
        PlannedWorker(name="main", endpoint="x", serves=frozenset({"client"}), is_main=True, process=small),
        PlannedWorker(name="w1", endpoint="x", serves=frozenset({"client"}), process=small),
        PlannedWorker(name="w2", endpoint="x", serves=frozenset({"client"}), process=large),
        PlannedWorker(name="m1", endpoint="x", serves=frozenset({"media"}), process=large),
    ]
    plan = plan_of({}, planned=workers, pools={"sync": Pool(request_body=5, answer=7.5)})
    assert asked(plan, "GET", "/_matrix/client/versions").body_limit == 13_107_200
    assert asked(plan, "POST", "/_matrix/media/v3/upload").body_limit == Settings().limits.request_body
    decision = asked(plan, "GET", "/_matrix/client/v3/sync?since=1")
    assert (decision.body_limit, decision.settings.answer) == (5, 7.5)
    assert asked(plan, "GET", "/x").body_limit == 13_107_200
    assert asked(plan_of(), "GET", "/_matrix/client/versions").body_limit is None


def test_a_pool_whose_globs_match_nobody_leaves_its_requests_to_the_fallback() -> None:
    """Its workers may be added tomorrow."""
    plan = plan_of(pools={"sync": Pool(workers=("later*",)), "own": Pool()}, routes=(Route(path="/x", pool="own"),))
    assert asked(plan, "GET", "/_matrix/client/v3/sync?since=1").candidates == ("main",)
    assert set(asked(plan, "GET", "/x").candidates) == FREE


def test_a_topology_read_from_synapse_becomes_a_plan() -> None:
    """Processes, writers and features come over; what is stated by hand alone serves what a worker can."""
    topology = Topology(
        processes=(
            Process(name="main", endpoint="unix:/m", serves=frozenset({"client"}), media=True, file="homeserver.yaml"),
            Process(name="w1", endpoint="unix:/w", serves=frozenset({"client"}), file="w1.yaml", body_limit=9),
            Process(name="extra", endpoint="unix:/e", writes=frozenset({"typing"})),
        ),
        writers={"typing": ("extra",), "events": ("main",)},
        known=True,
        features=frozenset({"oidc"}),
        appservices={"secret": "@b:x"},
    )
    settings = Settings(workers={"extra": Worker(endpoint="unix:/e"), "w1": Worker(weight=2.0)})
    workers, facts = workers_of(topology, settings)
    assert [worker.name for worker in workers] == ["main", "w1", "extra"]
    assert (workers[0].is_main, workers[0].media) == (True, True)
    assert (workers[1].settings.weight, workers[1].process.body_limit) == (2.0, 9)
    assert workers[2].serves >= {"client", "federation"}
    assert workers[2].writes == {"typing"}
    assert (facts.known, facts.features, "secret" in repr(facts)) == (True, frozenset({"oidc"}), False)
    plan = compile_plan(settings, workers, TABLE, facts)
    assert asked(plan, "PUT", f"{ROOM}/typing/@a:b").candidates == ("extra",)


def test_processes_from_the_configuration_alone() -> None:
    """`workers:` is taken as it stands."""
    found = {worker.name: worker for worker in planned_workers(Settings(workers={**SPLIT, "main": MAIN}))}
    assert found["main"].is_main
    assert not found["main"].media
    assert found["typing1"].writes == {"typing"}
    assert found["fed1"].serves == {"federation"}


def shared(plan: Plan, pool: str) -> tuple[int, int]:
    """How many workers share the keys of a pool, and of how many."""
    return len(plan.pools[pool].sharing), len(plan.pools[pool].workers)


SYNC = "/_matrix/client/v3/sync"


@pytest.mark.parametrize(("workers", "sharing"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 4)])
def test_half_of_the_workers_share_the_syncs(workers: int, sharing: int) -> None:
    """By default, in all three pools of syncs; all other pools have everybody."""
    plan = plan_of({"main": MAIN, **{f"w{number}": client() for number in range(workers)}})
    assert [shared(plan, pool)[0] for pool in ("sync", "initial_sync", "sliding_sync")] == [sharing] * 3
    assert shared(plan, "client") == shared(plan, "rooms") == (workers, workers)
    users = [authorized(b"Bearer syt_%s_abcdefghijklmnopqrst_0abcde" % name) for name in (b"YQ", b"Yg", b"Yw", b"ZA")]
    for user in users:
        first, later = (asked(plan, "GET", target, user) for target in (SYNC, f"{SYNC}?since=1"))
        assert first.candidates == later.candidates
        assert sorted(first.candidates) == sorted(plan.pools["sync"].workers)
        assert first.candidates[0] in plan.pools["sync"].sharing


def test_a_pool_with_workers_of_its_own_keeps_them_all() -> None:
    """Unless it says how many; then the hash of the others does not change either."""
    explicit = Pool(workers=("sync*",))
    plan = plan_of(pools={"sync": explicit})
    assert shared(plan, "sync") == shared(plan, "initial_sync") == (3, 3)
    assert not asked(plan, "GET", SYNC, authorized()).sharing
    plan = plan_of(pools={"sync": Pool(workers=("sync*",), spread=1), "client": Pool(spread=9)})
    assert (shared(plan, "sync"), shared(plan, "sliding_sync"), shared(plan, "client")) == ((1, 3), (1, 3), (4, 4))
    plan = plan_of(pools={"sync": Pool(spread=3), "initial_sync": Pool(workers=("client1",))})
    assert (shared(plan, "sync"), shared(plan, "initial_sync")) == ((3, 4), (1, 1))
    plan = plan_of(pools={"own": Pool(workers=("sync*",), spread=2)}, routes=(Route(path="/own/**", pool="own"),))
    assert shared(plan, "own") == (2, 3)
    decision = asked(plan, "GET", "/own/x", authorized())
    assert set(decision.sharing) == set(plan.pools["own"].sharing)


def test_rooms_of_event_persisters_are_theirs_whatever_the_spread() -> None:
    """A room has one writer, and `spread` does not change which."""
    for number in range(8):
        send = f"/_matrix/client/v3/rooms/!{number}:x/send/m.room.message/t1"
        own, limited = (asked(plan_of(pools=pools), "PUT", send) for pools in ({}, {"events": Pool(spread=1)}))
        assert own.candidates == limited.candidates
