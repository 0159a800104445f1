"""The endpoint table in the package: which rows are in force for which release, and that they make sense."""

from __future__ import annotations

import json
from functools import cache
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints
from sidecar.synapse.names import BUILT_IN_POOLS, STREAMS
from sidecar.synapse.overlay import AFFINITIES, COSTS
from sidecar.synapse.patterns import shape_of
from sidecar.synapse.releases import release_of, text_of
from sidecar.synapse.table import TABLE

RELEASES: list[str] = json.loads(TABLE.read_text("utf-8"))["releases"]


def find(method: str, path: str, version: str | None = None) -> list[Endpoint]:
    """The rows for one path, written with its parameters."""
    segments = tuple(path.split("/")[1:])
    return [e for e in load_endpoints(version).endpoints if e.path == segments and method in e.methods]


def one(method: str, path: str, version: str | None = None) -> Endpoint:
    (endpoint,) = find(method, path, version)
    return endpoint


CLIENT = "/_matrix/client/{r0|v3|unstable}"
DELAYED = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id+}"


def test_without_a_version_the_newest_rows_are_in_force() -> None:
    """None means the newest release known, and that is no gap."""
    table = load_endpoints()
    assert (table.release, table.newest, table.oldest) == (RELEASES[-1], RELEASES[-1], RELEASES[0])
    assert table.gap == ""
    assert len(table.endpoints) > 400


@pytest.mark.parametrize("release", RELEASES)
def test_a_known_release_has_its_own_rows(release: str) -> None:
    """Patch releases and candidates have the rows of their minor release, without a warning."""
    tables = [load_endpoints(release + patch) for patch in ("", ".0", ".7", ".0rc1", ".1+local")]
    assert {table.release for table in tables} == {release}
    assert {table.gap for table in tables} == {""}
    assert len({table.endpoints for table in tables}) == 1


def test_a_newer_version_gets_the_newest_rows_and_a_warning_that_names_the_gap() -> None:
    """A Synapse from after the table is served, and the caller can say what is missing."""
    newer = text_of((1, release_of(RELEASES[-1])[1] + 1)) + ".0"
    table = load_endpoints(newer)
    assert table.endpoints == load_endpoints().endpoints
    assert newer in table.gap
    assert "after" in table.gap
    assert RELEASES[-1] in table.gap


def test_an_older_version_gets_the_oldest_rows_and_a_warning() -> None:
    """A Synapse from before the table is served as the oldest known one."""
    table = load_endpoints("1.60.0")
    assert table.release == RELEASES[0]
    assert "1.60.0 came before" in table.gap


@pytest.mark.parametrize(
    "version", ["", "1", "1.", "v1.163", "1.163.x", "1.163.0-rc1", "1.163.0rc", "1.1.1.1", " 1.163", "1.163\n"]
)
def test_what_is_no_version_is_an_error_that_shows_how_to_write_one(version: str) -> None:
    """The comparison is strict: no guess about a version that Synapse would not have."""
    with pytest.raises(ValueError, match=r"write it like 1\.163\.2"):
        load_endpoints(version)


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 99))
def test_versions_compare_by_number(major: int, minor: int, patch: int, candidate: int) -> None:
    """1.9 is older than 1.10, whatever comes after the minor number."""
    written = [f"{major}.{minor}", f"{major}.{minor}.{patch}", f"{major}.{minor}.{patch}rc{candidate}"]
    assert {release_of(each) for each in written} == {(major, minor)}
    assert text_of(release_of(written[1])) == written[0]


@pytest.mark.parametrize("release", RELEASES)
def test_every_row_says_where_it_belongs(release: str) -> None:
    """Group, affinity and cost are words of the overlay; a row that no worker serves is in group main."""
    for e in load_endpoints(release).endpoints:
        assert e.group in BUILT_IN_POOLS, e
        assert e.affinity in AFFINITIES, e
        assert e.cost in COSTS, e
        assert e.reason, e
        assert e.resources, e
        assert e.worker_resources or (e.group == "main" and e.stream is None), e
        assert not {"mas", "not_mas"} <= e.needs, e
        assert e.stream is None or (e.stream in STREAMS and e.group == e.stream), e
        assert e.stream or not e.hard, e
        assert e.key is None or f"{{{e.key}}}" in e.path or f"{{{e.key}+}}" in e.path, e
        assert e.affinity not in ("room", "path") or e.key, e
        assert ("HEAD" in e.methods) == ("GET" in e.methods), e
        assert "OPTIONS" not in e.methods, e
        assert "**" not in e.path[:-1], e


@pytest.mark.parametrize("release", RELEASES)
def test_rows_that_match_one_path_agree(release: str) -> None:
    """Which of two rows wins can never change where a request goes, unless only one exists with MAS or without."""
    rows = load_endpoints(release).endpoints
    keys = [(method, tuple(map(shape_of, e.path)), "mas" in e.needs) for e in rows for method in e.methods]
    assert len(keys) == len(set(keys))
    for one_row, other in combinations(rows, 2):
        if overlap(one_row.path, other.path) and one_row.methods & other.methods:
            exclusive = {"mas", "not_mas"} <= one_row.needs | other.needs
            assert exclusive or routing(one_row) == routing(other), (one_row, other)


def routing(e: Endpoint) -> tuple[object, ...]:
    return (e.group, e.worker_resources, e.stream, e.hard, e.affinity, e.key, e.replayable)


@cache
def overlap(one_path: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether some path matches both."""
    length = min(len(one_path), len(other))
    if one_path[-1] == "**" or other[-1] == "**":
        cut = min(len(p) - 1 if p[-1] == "**" else len(p) for p in (one_path, other))
        longest_fixed = max((len(p) for p in (one_path, other) if p[-1] != "**"), default=None)
        shortest_open = max(len(p) for p in (one_path, other) if p[-1] == "**")
        fits = longest_fixed is None or longest_fixed >= shortest_open
        return fits and all(map(segments_overlap, one_path[:cut], other[:cut]))
    return len(one_path) == len(other) and all(map(segments_overlap, one_path[:length], other[:length]))


def segments_overlap(one_segment: str, other: str) -> bool:
    literals = [
        set(s.strip("{}").split("|")) for s in (one_segment, other) if not shape_of(s).startswith("{") or "|" in s
    ]
    if len(literals) == 2:
        return bool(literals[0] & literals[1])
    return not literals or literals[0] != {""} or "{+}" not in (shape_of(one_segment), shape_of(other))


@pytest.mark.parametrize("release", RELEASES)
def test_where_mas_decides_who_serves_the_row_without_mas_is_first(release: str) -> None:
    """Who does not know whether MAS is on takes the first row, and that is the one which works on main."""
    seen: set[tuple[str, ...]] = set()
    for e in load_endpoints(release).endpoints:
        for method in e.methods:
            key = (method, *map(shape_of, e.path))
            assert key not in seen or "mas" in e.needs, e
            seen.add(key)


def test_mas_gave_workers_a_few_admin_endpoints_for_a_while() -> None:
    """Where it depends on the configuration who serves an endpoint, the table has a row for each."""
    without, with_mas = find("GET", "/_synapse/admin/v2/users/{user_id}", "1.130.0")
    assert (without.group, without.needs) == ("main", frozenset({"not_mas"}))
    assert (with_mas.worker_resources, with_mas.needs) == (frozenset({"client"}), frozenset({"mas"}))


def test_the_writer_s_endpoints_are_hard_where_others_fail() -> None:
    """Typing, to-device, receipts, others' presence, and writes of push rules, threads and quarantine are hard."""
    room = CLIENT + "/rooms/{room_id}"
    hard = {(e.stream, m) for e in load_endpoints().endpoints for m in e.methods if e.hard}
    assert hard == {
        ("presence", "GET"),
        ("presence", "HEAD"),
        ("typing", "PUT"),
        ("to_device", "PUT"),
        ("receipts", "POST"),
        ("push_rules", "PUT"),
        ("push_rules", "DELETE"),
        ("thread_subscriptions", "PUT"),
        ("thread_subscriptions", "DELETE"),
        ("quarantined_media_changes", "POST"),
    }
    assert one("POST", room + "/read_markers").stream == "receipts"
    assert not one("GET", "/_matrix/client/{r0|v3|unstable}/pushrules/**").hard
    soft = {e.stream for e in load_endpoints().endpoints if e.stream and not e.hard}
    assert soft == {"account_data", "presence", "device_lists", "push_rules", "thread_subscriptions"}


def test_what_workers_lack_is_main_s_by_method_and_path() -> None:
    """One path can be a worker's for one method and main's for another."""
    assert one("POST", DELAYED).group == "main"
    assert one("GET", DELAYED).worker_resources == {"client"}
    assert one("POST", DELAYED + "/restart").worker_resources == {"client"}
    assert (
        one("PUT", "/_matrix/client/{r0|v3|unstable}/directory/list/appservice/{network_id}/{room_id}").group == "main"
    )
    assert one("PUT", "/_synapse/admin/v2/users/{user_id}").group == "main"
    assert one("GET", "/_synapse/admin/v2/users/{user_id}").worker_resources == {"client"}


def test_a_rendezvous_session_is_main_s_although_workers_have_its_path() -> None:
    """The session is in main's memory only."""
    assert one("GET", "/_synapse/client/rendezvous/**").group == "main"


@pytest.mark.parametrize("release", RELEASES)
def test_main_gets_what_workers_mount_but_cannot_answer(release: str) -> None:
    """In every release that is known: a worker answers these with 500, because its store lacks the method."""
    userinfo = one("GET", "/_matrix/federation/v1/openid/userinfo", release)
    assert (userinfo.group, userinfo.worker_resources) == ("main", frozenset({"federation", "openid"}))
    extremities = "/_matrix/federation/unstable/org.matrix.msc4370/extremities/{room_id}"
    assert all(each.group == "main" for each in find("GET", extremities, release))


def test_the_table_follows_the_releases() -> None:
    """What a worker serves since a release is main's before it."""
    device = CLIENT + "/devices/{device_id}"
    assert one("DELETE", device, "1.120.0").group == "main"
    assert one("DELETE", device, "1.130.0").worker_resources == {"client"}
    assert find("GET", DELAYED, "1.150.0") == []
    assert one("GET", DELAYED, "1.163.2").since == "1.161"
    assert find("GET", "/_matrix/client/v1/media/config", "1.105.1") == []
    assert one("GET", "/_matrix/client/v1/media/config", "1.111.1").needs == {"media_repo"}


def test_replay_is_for_reads_and_transaction_ids_and_values() -> None:
    """Nothing that makes a second thing, spends a ticket or claims a key may be sent twice."""
    rows = load_endpoints().endpoints
    assert not any(e.replayable for e in rows if "POST" in e.methods or "DELETE" in e.methods)
    room = CLIENT + "/rooms/{room_id}"
    assert one("PUT", room + "/send/{event_type}/{txn_id}").replayable
    assert one("PUT", "/_matrix/federation/v1/send/{transaction_id}").replayable
    assert one("GET", CLIENT + "/sync").replayable
    assert not one("PUT", CLIENT + "/createRoom/{txn_id}").replayable
    assert not one("PUT", room + "/state/{event_type}/{state_key}").replayable
    assert one("GET", room + "/state/{event_type}/{state_key}").replayable
    assert not one("PUT", "/_matrix/client/{r0|v3|unstable}/pushrules/**").replayable
    assert not one("GET", "/_synapse/client/oidc/callback").replayable
    assert not one("POST", CLIENT + "/keys/claim").replayable


def test_affinity_follows_what_a_process_remembers() -> None:
    """Rooms for rooms, users for syncs, the sending server for transactions, one process for single sign-on."""
    expected = {
        ("GET", CLIENT + "/sync"): ("sync", "user", None),
        ("GET", CLIENT + "/rooms/{room_id}/initialSync"): ("initial_sync", "user", None),
        ("GET", CLIENT + "/rooms/{room_id}/messages"): ("rooms", "room", "room_id"),
        ("POST", CLIENT + "/join/{room_identifier}"): ("rooms", "room", "room_identifier"),
        ("GET", CLIENT + "/directory/room/{room_alias}"): ("rooms", "room", "room_alias"),
        ("PUT", "/_matrix/federation/v1/send/{transaction_id}"): ("federation_send", "origin", None),
        ("GET", "/_synapse/client/pick_idp"): ("sso", "session", None),
        ("GET", "/_matrix/media/{r0|v3|v1}/download/{server_name}/{media_id}"): ("media", "path", "media_id"),
        ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"): ("sliding_sync", "user", None),
    }
    for (method, path), wanted in expected.items():
        e = one(method, path)
        assert (e.group, e.affinity, e.key) == wanted, path
