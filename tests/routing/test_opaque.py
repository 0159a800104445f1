"""Tokens that do not name their users: what a decision makes of them, alone and when somebody knows whose they are."""

from __future__ import annotations

from base64 import b64encode
from typing import Literal
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.schema import Pool, Route, Settings, Tokens
from sidecar.routing.compile import resolves
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.routing.explain import explain
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts

from .plans import NOTHING, PEER, SPLIT, TABLE, Headers, authorized, client, plan_of

V3 = "/_matrix/client/v3"
OPAQUE = b"mat_abcdefghijklmnopqrstuvwxyz1234_0AbCdE"
GUEST = b"MDAxYmxvY2F0aW9uIGxhYi50ZXN0CjAwMTNpZGVudGlmaWVyIGtleQowMDE5Y2lkIHVzZXJfaWQgPSBAMTpsYWIudGVzdAo"
BRIDGE = b"secret-of-the-bridge"
USERS = st.text("abcdefghijklmnopqrstuvwxyz0123456789._=-/+", min_size=1, max_size=20)
TOKENS = st.sampled_from([OPAQUE, b"mct_x", b"mpt_x", b"anything", b"syt_broken", b"eyJhbGciOiJFUzI1NiJ9"])
TARGETS = [
    f"{V3}/sync?since=s1",
    f"{V3}/sync",
    f"{V3}/joined_rooms",
    f"{V3}/keys/query",
    f"{V3}/sendToDevice/m.room_key/1",
    f"{V3}/pushrules/",
    f"{V3}/pushers",
    f"{V3}/rooms/!a:b/messages",
    f"{V3}/profile/@bob:example.org",
    "/_matrix/federation/v1/version",
    "/unknown",
]
PLAN = plan_of(
    routes=(Route(path="/own", pool="client"), Route(host=("bots.example.org",), pool="client")),
    pools={"client": Pool(affinity="user")},
    facts=Facts(appservices={BRIDGE.decode(): "@bridge:example.org"}),
    tokens=Tokens(resolve="always"),
)


def native(user: str) -> bytes:
    return b"syt_" + b64encode(user.encode()).rstrip(b"=") + b"_xyQVtQzXGennfExeGGhf_2OY2TV"


def asked(
    target: str, token: bytes = OPAQUE, user: str | None = None, method: str = "GET", plan: Plan = PLAN
) -> Decision:
    decision = decide(method.encode(), target.encode(), authorized(b"Bearer " + token), PEER, plan)
    return decision if user is None or decision.of_user is None else decision.of_user(user)


@given(st.sampled_from([*TARGETS, "/own", f"http://x{V3}/sync"]), TOKENS, USERS)
def test_with_its_user_known_a_token_is_as_good_as_one_that_names_the_user(
    target: str, token: bytes, user: str
) -> None:
    """The same decision altogether, so that all devices of a user meet."""
    named = asked(target, native(user))
    assert asked(target, token, user) in (named, asked(target, token))
    assert asked(target, token, user).opaque is False
    assert asked(target, token).opaque is (named.kind == "user")


@given(st.sampled_from(TARGETS), st.sampled_from([native("alice"), GUEST, BRIDGE]))
def test_what_names_its_user_is_not_overruled(target: str, token: bytes) -> None:
    """Native tokens, guests' macaroons and application services say themselves whose they are."""
    assert not asked(target, token).opaque


def test_guests_and_application_services_are_known() -> None:
    """So the test above has something to hold on to."""
    assert asked(f"{V3}/joined_rooms", GUEST).key == "1"
    assert asked(f"{V3}/joined_rooms?user_id=%40ghost%3Aexample.org", BRIDGE).key == "ghost"


@given(TOKENS)
def test_without_its_user_a_token_counts_as_a_whole(token: bytes) -> None:
    """And the decision says so where the user matters, and only there."""
    decision = asked(f"{V3}/joined_rooms", token)
    assert (decision.kind, decision.opaque) == ("user", True)
    assert decision.key is not None
    assert decision.key.startswith("token-")
    assert not asked(f"{V3}/rooms/!a:b/messages", token).opaque
    assert not asked(f"{V3}/pushers", token).opaque


def test_a_user_with_the_name_of_a_token_is_no_token() -> None:
    """Nobody can pass for a token by calling himself so."""
    key = asked(f"{V3}/joined_rooms").key
    assert key is not None
    pretender = asked(f"{V3}/joined_rooms", native(key))
    assert (pretender.key, pretender.opaque) == (key, False)


@pytest.mark.parametrize(
    ("method", "path", "at"),
    [
        ("PUT", "user/{}/account_data/m.direct", 5),
        ("GET", "user/{}/account_data/m.direct", 5),
        ("POST", "user/{}/filter", 5),
        ("GET", "user/{}/filter/1", 5),
        ("GET", "user/{}/rooms/!a:b/tags", 5),
        ("PUT", "user/{}/rooms/!a:b/account_data/x", 5),
        ("POST", "user/{}/openid/request_token", 5),
        ("PUT", "presence/{}/status", 5),
        ("PUT", "rooms/!a:b/typing/{}", 7),
        ("GET", "presence/{}/status", -1),
        ("PUT", "profile/{}/displayname", -1),
        ("OPTIONS", "user/{}/filter", -1),
    ],
)
def test_where_the_callers_own_id_stands(method: str, path: str, at: int) -> None:
    """In paths at which Synapse accepts no other one; not in those that a route sends to who knows whom."""
    decision = asked(f"{V3}/{path.format('@alice:example.org')}", method=method)
    assert decision.caller_at == at
    headers = Headers([(b"authorization", b"Bearer " + OPAQUE), (b"host", b"bots.example.org")])
    routed = decide(method.encode(), f"{V3}/{path.format('@alice:x')}".encode(), headers, PEER, PLAN)
    assert routed.caller_at == -1


def test_the_path_names_the_caller_where_the_token_does_not() -> None:
    """No question is needed; a token that names its user counts for more, and nobody's token for nothing."""
    path = f"{V3}/user/{quote('@alice:example.org', safe='')}/filter"
    decision = asked(path, method="POST")
    assert (decision.key, decision.opaque) == ("alice", False)
    assert decision == asked(path, native("alice"), method="POST")
    assert asked(path, native("bob"), method="POST").key == "bob"
    assert decide(b"POST", path.encode(), NOTHING, PEER, PLAN).keyless
    other = asked(f"{V3}/user/alice/filter", method="POST")
    assert other.opaque
    assert asked(f"{V3}/user/alice/filter", user="carol", method="POST").key == "carol"


def test_a_token_is_read_from_where_it_is() -> None:
    """From the header or the query; None where it names its user, or there is none."""
    read = PLAN.callers.opaque_token
    assert read(b"", authorized(b"Bearer " + OPAQUE)) == OPAQUE
    assert read(b"access_token=" + OPAQUE, NOTHING) == OPAQUE
    assert read(b"access_token=a%2Bb", NOTHING) == b"a+b"
    for line in (b"Bearer " + native("alice"), b"Bearer " + BRIDGE, b"Basic x", b"Bearer "):
        assert read(b"", authorized(line)) is None
    assert read(b"", NOTHING) is None


def test_opaque_tokens_are_not_remembered() -> None:
    """Neither here nor there, where those that name their users are."""
    plan = plan_of(facts=Facts(appservices={BRIDGE.decode(): "@bridge:example.org"}))
    for token in (OPAQUE, native("alice"), BRIDGE):
        asked(f"{V3}/joined_rooms", token, plan=plan)
    assert set(plan.callers.remembered) == {b"Bearer " + native("alice"), b"Bearer " + BRIDGE}


def test_where_users_are_asked_for() -> None:
    """By itself where MAS issues the tokens, else as the operator wishes."""
    mas = Facts(known=True, features=frozenset({"mas"}))
    assert plan_of(rows=TABLE[:1], facts=mas).resolving
    assert not plan_of(rows=TABLE[:1], facts=mas, tokens=Tokens(resolve="never")).resolving
    assert not plan_of(rows=TABLE[:1]).resolving
    assert plan_of(rows=TABLE[:1], tokens=Tokens(resolve="always")).resolving


def told(plan: Plan, target: str, token: bytes = OPAQUE) -> str | None:
    explanation = explain(b"GET", target.encode(), authorized(b"Bearer " + token), PEER, plan)
    return dict(explanation.steps).get("token")


def test_explain_says_when_a_user_would_be_asked_for() -> None:
    """And why not."""
    asks, lone = told(PLAN, f"{V3}/joined_rooms"), told(plan_of({"main": client(), "a": client()}), f"{V3}/sync")
    assert asks is not None
    assert "asks Synapse for it (whoami)" in asks
    assert lone is not None
    assert "only one candidate" in lone
    off = told(plan_of(SPLIT), f"{V3}/joined_rooms")
    assert off is not None
    assert "`tokens.resolve`" in off
    assert told(PLAN, f"{V3}/joined_rooms", native("alice")) is None
    assert told(PLAN, f"{V3}/rooms/!a:b/messages") is None


@pytest.mark.parametrize(
    ("wish", "with_mas", "without"), [("always", True, True), ("auto", True, False), ("never", False, False)]
)
def test_users_are_asked_for_where_mas_issues_the_tokens(
    wish: Literal["always", "auto", "never"], with_mas: bool, without: bool
) -> None:
    """By itself; the operator's word counts more than what Synapse's files say."""
    settings = Settings(tokens=Tokens(resolve=wish))
    assert resolves(settings, Facts(features=frozenset(("mas",)))) is with_mas
    assert resolves(settings, Facts()) is without
