"""`/.well-known/matrix`, as `doctor` sees it: what clients and servers are told, or not."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from doctor.installation import Proxy
from sidecar.doctor.delegation import CLIENT, SERVER, examine_delegation
from sidecar.doctor.raw_request import ServerAddress

NAME, PUBLIC = "example.org", "https://matrix.example.org"
GOOD_CLIENT = {"m.homeserver": {"base_url": "https://matrix.example.org/"}}
GOOD_SERVER = {"m.server": "matrix.example.org:443"}
CORS = "Access-Control-Allow-Origin: *"


def served(pages: Mapping[str, object], *fields: str, public: str = PUBLIC) -> list[str]:
    """What is found where these pages are, and all others are not."""

    def answer(head: bytes) -> bytes | None:
        path = head.split(b" ")[1].decode()
        if path not in pages:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        content = json.dumps(pages[path]).encode()
        lines = ["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(content)}", "", ""]
        return "\r\n".join(lines).encode() + content

    with Proxy(0, answer) as proxy:
        place = ServerAddress(host="127.0.0.1", port=proxy.port)
        return [f"{finding.level.value}: {finding.sentence}" for finding in examine_delegation(NAME, place, public)]


def test_as_it_should_be() -> None:
    """Both lead to the public address."""
    assert served({CLIENT: GOOD_CLIENT, SERVER: GOOD_SERVER}, CORS) == [
        "fine: Clients find example.org at https://matrix.example.org/.",
        "fine: Other servers find example.org at matrix.example.org:443.",
    ]


@pytest.mark.parametrize(
    ("page", "fields", "sentence"),
    [
        ({"m.homeserver": "https://x"}, [CORS], "error: {} of example.org has no `m.homeserver` with `base_url`"),
        ({}, [CORS], "error: {} of example.org has no `m.homeserver` with `base_url`"),
        ([], [CORS], "error: {} of example.org has no `m.homeserver` with `base_url`"),
        (GOOD_CLIENT, [], "error: {} of example.org does not allow requests from other origins: web clients fail."),
        (GOOD_CLIENT, [CORS, CORS], "error: {} of example.org does not allow requests from other origins"),
        (
            {"m.homeserver": {"base_url": "https://old.example.org"}},
            [CORS],
            "warning: {} of example.org points to https://old.example.org, not to https://matrix.example.org.",
        ),
        (
            {"m.homeserver": {"base_url": "https://matrix.example.org:x"}},
            [CORS],
            "warning: {} of example.org points to https://matrix.example.org:x, not to https://matrix.example.org.",
        ),
    ],
)
def test_what_clients_cannot_use(page: object, fields: list[str], sentence: str) -> None:
    """They refuse it, or go elsewhere."""
    (told, _) = served({CLIENT: page, SERVER: GOOD_SERVER}, *fields)
    assert told.startswith(sentence.format(CLIENT))


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ({}, "error: {} of example.org has no `m.server`: other servers ignore it."),
        ({"m.server": 443}, "error: {} of example.org has no `m.server`: other servers ignore it."),
        (
            {"m.server": "old.example.org:443"},
            "warning: {} of example.org points to old.example.org:443, not to matrix.example.org:443.",
        ),
        ({"m.server": "matrix.example.org"}, "warning: {} of example.org points to matrix.example.org, not to"),
    ],
)
def test_what_servers_cannot_use(page: object, sentence: str) -> None:
    """They ignore it, or go elsewhere; without a port it means 8448."""
    (_, told) = served({CLIENT: GOOD_CLIENT, SERVER: page}, CORS)
    assert told.startswith(sentence.format(SERVER))


def test_the_usual_port_may_be_written() -> None:
    """It is the same as none."""
    page = {"m.homeserver": {"base_url": "https://Matrix.example.org:443"}}
    assert served({CLIENT: page, SERVER: GOOD_SERVER}, CORS)[0].startswith("fine: ")


def test_nothing_is_delegated() -> None:
    """Servers then come to the name itself, at 8448; clients must be told."""
    client, server = served({})
    assert (
        client == f"warning: {CLIENT} of example.org answers 404: users must enter the homeserver's address themselves."
    )
    assert server.startswith(f"warning: {SERVER} of example.org delegates nothing (it answers 404), so other")
    assert served({}, public="https://example.org:8448")[1].startswith(
        "fine: Other servers connect to example.org:8448: "
    )


def test_a_port_of_federation_need_not_be_written() -> None:
    """8448 is the default."""
    (_, told) = served({SERVER: {"m.server": "matrix.example.org"}}, public="https://matrix.example.org:8448")
    assert told == "fine: Other servers find example.org at matrix.example.org."


def test_nobody_answers_at_the_name() -> None:
    """Which is a warning, because clients may be configured by hand."""
    with Proxy(0, lambda _: None) as proxy:
        place = ServerAddress(host="127.0.0.1", port=proxy.port)
        client, server = examine_delegation(NAME, place, PUBLIC)
    assert client.sentence.startswith(f"{CLIENT} of example.org: the connection closed without an HTTP response")
    assert "delegates nothing (the connection closed" in server.sentence
