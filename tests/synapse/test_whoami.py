"""The question whose a token is, and answers that tell it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.synapse.releases import release_of
from sidecar.synapse.token_owner import (
    LONGEST_TOKEN,
    TARGET,
    TokenOwner,
    answers_login,
    answers_whoami,
    caller_at,
    is_askable,
    masquerades,
    question,
    told_by_login,
    told_by_whoami,
)

FORWARDED = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
LOGIN = {"user_id": "@alice:example.org", "access_token": "mct_abc", "device_id": "D", "home_server": "example.org"}


def test_the_question_comes_from_the_client() -> None:
    """Address and agent are the client's, because Synapse writes them down as where the device was last seen."""
    assert question(b"mat_1", b"example.org", b"Element X", FORWARDED) == (
        b"GET /_matrix/client/v3/account/whoami HTTP/1.1\r\nHost: example.org\r\nAuthorization: Bearer mat_1\r\n"
        b"User-Agent: Element X\r\nAccept: application/json\r\n" + FORWARDED + b"\r\n"
    )
    assert b"User-Agent" not in question(b"mat_1", b"example.org", None, FORWARDED)


@pytest.mark.parametrize("token", [b"mat_1", b"!", b"x" * LONGEST_TOKEN])
def test_tokens_that_fit_into_a_line(token: bytes) -> None:
    """Visible ASCII."""
    assert is_askable(token)


@pytest.mark.parametrize("token", [b"", b"a b", b"a\r\nX: y", b"a\n", b"\xc3\xa4", b"a\0", b"x" * (LONGEST_TOKEN + 1)])
def test_tokens_that_do_not(token: bytes) -> None:
    """A token from a query may hold anything, and must not become another line of ours."""
    assert not is_askable(token)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789._=-/+", min_size=1, max_size=40))
def test_whoami_tells_the_localpart(name: str) -> None:
    """As Synapse answers it."""
    content = json.dumps({"user_id": f"@{name}:example.org", "is_guest": False, "device_id": "D"}).encode()
    assert told_by_whoami(200, content) == TokenOwner(name)
    assert told_by_whoami(401, content) is None


def test_a_login_tells_the_token_and_its_end() -> None:
    """With and without a refresh token; a registration answers the same."""
    assert told_by_login(200, json.dumps(LOGIN).encode()) == TokenOwner("alice", b"mct_abc", None)
    expiring = {**LOGIN, "expires_in_ms": 300_000, "refresh_token": "mcr_x"}
    assert told_by_login(200, json.dumps(expiring).encode()) == TokenOwner("alice", b"mct_abc", 300.0)
    assert told_by_login(403, json.dumps(LOGIN).encode()) is None


@pytest.mark.parametrize("left", ['"5"', "true", "-1", "1e400", "NaN", "Infinity", "1" + "0" * 400, "null", "[]"])
def test_an_end_that_is_none_is_not_believed(left: str) -> None:
    """The user is."""
    content = json.dumps(LOGIN)[:-1] + f', "expires_in_ms": {left}}}'
    assert told_by_login(200, content.encode()) == TokenOwner("alice", b"mct_abc", None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"user_id": 5}',
        b'{"user_id": "alice"}',
        b'{"user_id": "@:x"}',
        b"[" * 100_000,
        b'{"user_id": "@alice:x", "access_token": 5}',
        b'{"user_id": "@alice:x", "access_token": ""}',
        b'{"access_token": "x"}',
    ],
)
@pytest.mark.parametrize("tells", [told_by_login, told_by_whoami])
def test_answers_that_tell_nothing(tells: Callable[[int, bytes], TokenOwner | None], content: bytes) -> None:
    """Whatever is in them, nothing is raised, and no user made of it."""
    told = tells(200, content)
    assert told is None or (tells is told_by_whoami and told == TokenOwner("alice"))


@given(st.integers(100, 599), st.binary(max_size=60))
def test_any_answer_is_taken(status: int, content: bytes) -> None:
    """Total."""
    told_by_whoami(status, content)
    told_by_login(status, content)


def test_where_answers_tell_of_a_user() -> None:
    """Login and registration in any version, and whoami; nothing that only looks like them."""
    assert answers_whoami(TARGET)
    assert answers_login(b"/_matrix/client/v3/login")
    assert answers_login(b"/_matrix/client/r0/register")
    assert not answers_login(b"/_matrix/client/v3/login/sso/redirect")
    assert not answers_login(b"/_matrix/client/v3/register/available")
    assert not answers_whoami(TARGET + b"/")


def test_who_acts_for_somebody_teaches_nothing() -> None:
    """An application service that is not known here uses one token for all its users."""
    assert masquerades(b"user_id=%40ghost%3Ax")
    assert masquerades(b"a=b&user%5fid=x")
    assert not masquerades(b"not_user_id=@a:b")
    assert not masquerades(b"")


def _rows(release: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in load_endpoints(release).endpoints:
        at = caller_at(row)
        if at > 0:
            assert ("", *row.path)[at] == "{user_id}"
            for method in row.methods:
                found.setdefault(f"{method} {row.name}", set()).add("/".join(row.path))
    return found


def test_the_endpoints_that_name_the_caller() -> None:
    """Those at which Synapse refuses anybody else's id: for profiles, an administrator's may be another's."""
    found = _rows("1.163.2")
    assert set(found) == {
        *("GET account_data", "HEAD account_data", "PUT account_data", "DELETE unstable_account_data"),
        *("GET room_account_data", "HEAD room_account_data", "PUT room_account_data"),
        *("DELETE unstable_room_account_data", "POST create_filter", "GET get_filter", "HEAD get_filter"),
        *("GET tag_list", "HEAD tag_list", "PUT tag", "DELETE tag", "POST id_token", "PUT presence_status"),
        "PUT room_typing",
    }
    assert not any("profile" in path or "admin" in path for paths in found.values() for path in paths)


def test_older_releases_have_them_too() -> None:
    """The names have not changed since the oldest table."""
    oldest = load_endpoints().oldest
    assert release_of(oldest) < release_of("1.110.0")
    assert set(_rows(f"{oldest}.0" if oldest.count(".") == 1 else oldest)) >= {
        *("GET account_data", "POST create_filter", "PUT presence_status", "PUT room_typing", "POST id_token"),
    }
