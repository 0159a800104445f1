"""One key for each user, room and server, however a request spells it."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.routing.keys import AUTHORIZATION_LENGTH, AUTHORIZATION_LINES, Callers, by_path, by_source
from sidecar.routing.workers import Facts
from sidecar.synapse.senders import token_digest

from .plans import ALICE, NOTHING, PEER, SPLIT, Headers, asked, authorized, endpoint, plan_of

APPSERVICE = b"secret+of/the=bridge"
PLAN = plan_of(facts=Facts(appservices={APPSERVICE.decode(): "@bridge:example.org"}))
BY_PATH = plan_of(rows=[endpoint("/user/{user_id}/filter", affinity="user", key="user_id")])
WHOAMI = "/_matrix/client/v3/account/whoami"
LOCALPARTS = st.text("abcdefghijklmnopqrstuvwxyz0123456789._=-/+", min_size=1, max_size=20)


def token_of(name: str) -> bytes:
    return b"syt_" + b64encode(name.encode()).rstrip(b"=") + b"_xyQVtQzXGennfExeGGhf_2OY2TV"


@given(LOCALPARTS)
def test_header_query_and_path_agree_on_a_user(name: str) -> None:
    """The same worker whether the token is in the header, in the query, or the user id is in the path."""
    token = token_of(name)
    header = asked(PLAN, "GET", WHOAMI, authorized(b"Bearer " + token))
    encoded = asked(PLAN, "GET", f"{WHOAMI}?x=1&access_token={quote(token, safe='')}")
    raw = asked(PLAN, "GET", f"{WHOAMI}?access_token=".encode() + token)
    in_path = asked(BY_PATH, "GET", f"/user/{quote(f'@{name}:example.org', safe='')}/filter")
    assert (header.kind, header.key) == ("user", name)
    assert encoded == raw == header
    assert in_path.key == name


def test_what_is_no_user_id_in_the_path_leaves_the_token() -> None:
    """The caller counts where the path names nobody."""
    assert asked(BY_PATH, "GET", "/user/alice/filter", authorized()).key == "alice"
    assert asked(BY_PATH, "GET", "/user//filter").keyless


def test_the_key_is_the_localpart_in_every_endpoint_of_a_user() -> None:
    """Sync, keys and account data of one user have one key, and sync keeps its worker across its pools."""
    targets = ["/_matrix/client/v3/sync?since=1", "/_matrix/client/v3/sync", WHOAMI, "/_matrix/client/v3/initialSync"]
    decisions = [asked(PLAN, "GET", target, authorized()) for target in targets]
    assert {decision.key for decision in decisions} == {"alice"}
    assert decisions[0].candidates == decisions[1].candidates == decisions[3].candidates


def test_a_token_of_an_application_service_acts_for_the_user_in_the_query() -> None:
    """`user_id` is believed with a known `as_token`, and without it the sender is the user."""
    bridge = authorized(b"Bearer " + APPSERVICE)
    target = f"{WHOAMI}?user_id=%40ghost_1%3Aexample.org"
    assert asked(PLAN, "GET", target, bridge).key == "ghost_1"
    assert asked(PLAN, "GET", WHOAMI, bridge).key == "bridge"
    assert asked(PLAN, "GET", f"{target}&access_token={quote(APPSERVICE, safe='')}").key == "ghost_1"
    assert asked(PLAN, "GET", f"{WHOAMI}?user_id=nonsense", bridge).keyless


def test_the_user_in_the_query_is_not_believed_of_others() -> None:
    """Nobody chooses another user's worker with a query parameter."""
    assert asked(PLAN, "GET", f"{WHOAMI}?user_id=@bob:example.org", authorized()).key == "alice"
    stranger = asked(PLAN, "GET", f"{WHOAMI}?user_id=@bob:example.org", authorized(b"Bearer mat_opaque"))
    assert stranger.key is not None
    assert stranger.key.startswith("token-")


def test_an_opaque_token_is_hashed_whole_and_never_shown() -> None:
    """The key of such a token is a digest: it may be logged, the token may not."""
    decision = asked(PLAN, "GET", WHOAMI, authorized(b"Bearer mat_abcdef_123456"))
    assert decision.kind == "user"
    assert "abcdef" not in repr(decision)
    assert decision == asked(PLAN, "GET", f"{WHOAMI}?access_token=mat_abcdef_123456")


@pytest.mark.parametrize("line", [b"Basic YWxpY2U6", b"Bearer", b"Bearer ", b"Bearer a b", b"bearer x"])
def test_what_synapse_takes_for_no_token_gives_no_key(line: bytes) -> None:
    """It will be answered 401 by anybody."""
    assert asked(PLAN, "GET", WHOAMI, authorized(line)).keyless


def percent(text: str) -> st.SearchStrategy[str]:
    """Spellings of `text` in a path segment."""
    return st.tuples(
        *(st.sampled_from(["".join(f"%{octet:02X}" for octet in c.encode()), quote(c, safe="!:#$@")]) for c in text)
    ).map("".join)


ROOMS = st.sampled_from(["!x:y", "!hbHKA5hYPOdlG5lKrk0EPacvN9kOaVpr0xziY5Dpfvc", "#Räume%2F:example.org", "!a b/c"])


@given(ROOMS.flatmap(lambda room: st.tuples(st.just(room), percent(room), percent(room))))
def test_every_spelling_of_a_room_goes_to_one_worker(drawn: tuple[str, str, str]) -> None:
    """Percent-encoded or not, with a domain or without, on client and federation paths."""
    room, one, other = drawn
    for target in ("/_matrix/client/v3/rooms/{}/messages", "/_matrix/client/v3/rooms/{}/members"):
        first = asked(PLAN, "GET", target.format(one), authorized())
        assert (first.kind, first.key) == ("room", room)
        assert first == asked(PLAN, "GET", target.format(other), authorized(b"Bearer other"))
    assert asked(PLAN, "GET", f"/_matrix/federation/v1/backfill/{one}?v=$x").key == room


def test_a_room_is_its_own_key_whoever_asks() -> None:
    """All of a room's senders meet at one worker."""
    target = "/_matrix/client/v3/rooms/!x:y/send/m.room.message/t1"
    assert asked(PLAN, "PUT", target, authorized()).candidates == asked(PLAN, "PUT", target).candidates


def test_a_federation_transaction_is_kept_by_its_origin() -> None:
    """In any quoting and in the second of two lines; without a signature the address counts."""
    target = "/_matrix/federation/v1/send/1"
    usual = Headers([(b"authorization", b'X-Matrix origin="example.org",key="ed25519:1",sig="x"')])
    odd = Headers(
        [(b"authorization", b"Bearer x"), (b"authorization", b"X-Matrix key=ed25519:2,sig=y,ORIGIN=Example.org")]
    )
    assert asked(PLAN, "PUT", target, usual) == asked(PLAN, "PUT", target, odd, "198.51.100.9")
    assert asked(PLAN, "PUT", target, usual).key == "example.org"
    unsigned = asked(PLAN, "PUT", target)
    assert (unsigned.kind, unsigned.key) == ("source", PEER)
    assert asked(PLAN, "PUT", target, authorized()).kind == "source"
    assert asked(PLAN, "PUT", target, peer="").keyless


def test_single_sign_on_is_pinned_to_one_process() -> None:
    """Every step of a login meets the process that has it in memory, whoever takes the step."""
    steps = [
        ("GET", "/_matrix/client/v3/login/sso/redirect?redirectUrl=x"),
        ("GET", "/_matrix/client/v3/login/sso/redirect/oidc-x"),
        ("GET", "/_synapse/client/oidc/callback?code=1"),
        ("POST", "/_synapse/client/pick_username/account_details"),
        ("GET", "/_synapse/client/sso_register"),
    ]
    decisions = [asked(PLAN, method, target, peer=f"192.0.2.{number}") for number, (method, target) in enumerate(steps)]
    assert {decision.candidates for decision in decisions} == {decisions[0].candidates}
    assert not decisions[0].keyless


def test_media_are_kept_by_their_id() -> None:
    """A picture and its thumbnail come from the worker that has seen it."""
    small = asked(PLAN, "GET", "/_matrix/client/v1/media/thumbnail/example.org/abc?width=1")
    large = asked(PLAN, "GET", "/_matrix/client/v1/media/download/example.org/abc/name.png")
    assert (small.kind, small.key) == ("path", "abc")
    assert small.candidates == large.candidates


def test_anonymous_requests_are_spread_evenly() -> None:
    """Of 6,000 requests from as many addresses every worker of the pool is first for its part within a fifth."""
    firsts = [
        asked(PLAN, "GET", "/_matrix/client/versions", peer=f"10.0.{number // 250}.{number % 250}").candidates[0]
        for number in range(6_000)
    ]
    pool = [name for name in SPLIT if name.startswith(("sync", "client"))]
    assert set(firsts) == set(pool)
    assert all(abs(firsts.count(name) - 1_500) < 300 for name in pool)


def test_what_is_remembered_is_bounded() -> None:
    """Neither many tokens nor long ones can fill the memory."""
    callers = Callers()
    for number in range(AUTHORIZATION_LINES + 10):
        callers.user(b"", authorized(b"Bearer " + token_of(f"u{number}")))
    assert len(callers.remembered) == 10
    long = b"Bearer " + b"x" * AUTHORIZATION_LENGTH
    assert callers.user(b"", authorized(long)) == callers.user(b"", authorized(long))
    assert long not in callers.remembered


def test_callers_do_not_show_tokens() -> None:
    """A representation in a log or a traceback holds none."""
    callers = Callers({APPSERVICE: "@bridge:x"})
    callers.user(b"", authorized(ALICE))
    assert "syt_" not in repr(callers)
    assert "secret" not in repr(callers)
    assert "secret" not in repr(PLAN.workers)


def test_keys_by_path_and_source() -> None:
    """What an operator may choose for a pool."""
    assert by_path([b"", b"a%20b", b"c"], b"", NOTHING, "") == ("path", "/a b/c")
    assert by_source([], b"", NOTHING, "") is None
    assert by_source([], b"", NOTHING, "::1") == ("source", "::1")


def test_what_is_remembered_of_tokens() -> None:
    """As docs/security.md says: a native token as it came, to save its decoding; of an opaque one nothing."""
    callers = Callers()
    assert callers.user(b"", authorized(b"Bearer syt_YWxpY2U_abcdefghijklmnopqrst_0aBcDe")) == ("user", "alice")
    assert callers.user(b"", authorized(b"Bearer mat_opaque")) == ("token", token_digest(b"mat_opaque"))
    assert list(callers.remembered) == [b"Bearer syt_YWxpY2U_abcdefghijklmnopqrst_0aBcDe"]
    assert "opaque" not in token_digest(b"mat_opaque")
