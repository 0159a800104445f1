"""A request as a person pastes it: a head, or a line of a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.explaining.pasted import asked_in, explained
from sidecar.explaining.request_lines import NoRequestError
from sidecar.loading.deployment import Deployment, read_deployment

TOKEN = "syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"
SYNC = "GET /_matrix/client/v3/sync?since=s1"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    path = tmp_path_factory.mktemp("pasted") / "sidecar.yaml"
    path.write_text(
        'synapse: {version: "1.163.2"}\nworkers:\n  main: {endpoint: "unix:m"}\n'
        '  sync1: {endpoint: "unix:1", serves: client}\n  fed1: {endpoint: "unix:f", serves: federation}\n'
        'pools: {sync: {workers: "sync*"}}\nroutes: [{path: /gone, refuse: 410}]\n'
    )
    return read_deployment(str(path))


def test_a_head(deployment: Deployment) -> None:
    """Method, target and field lines; what is behind a blank line is no part of it."""
    asked = asked_in(f"\n{SYNC} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nX:  y \r\n\r\nbody", "::1")
    assert (asked.method, asked.target, asked.peer) == ("GET", "/_matrix/client/v3/sync?since=s1", "::1")
    assert asked.headers == [("Authorization", f"Bearer {TOKEN}"), ("X", "y")]
    told = explained(deployment, f"{SYNC}\nAuthorization: Bearer {TOKEN}", "127.0.0.1")
    assert told.forwarded
    assert told.order == ("sync1", "main")
    assert told.outcome == "forward to sync1; if it is down, main"
    assert told.facts["affinity"] == {"kind": "user", "key": "alice"}
    assert [name for name, _ in told.others] == ["fed1"]
    assert TOKEN not in repr((told.title, told.steps, told.outcome, told.others))


def test_what_is_refused(deployment: Deployment) -> None:
    """It has an outcome and nobody who gets it."""
    told = explained(deployment, "GET /gone", "")
    assert (told.forwarded, told.order) == (False, ())
    assert told.outcome.startswith("refuse with 410")


def test_lines_of_logs_and_json() -> None:
    """One line of what `explain --from` takes."""
    combined = '192.0.2.7 - - [01/Jan/2026:00:00:00 +0000] "GET /a?b HTTP/1.1" 200 2 "-" "curl/8"'
    assert (asked_in(combined, "").target, asked_in(combined, "").peer) == ("/a?b", "192.0.2.7")
    assert asked_in('{"method": "PUT", "target": "/x"}', "::1").method == "PUT"
    assert asked_in("get /x", "").method == "get"


@pytest.mark.parametrize(
    ("text", "peer", "sentence"),
    [
        ("", "", "the line is empty"),
        ("hello", "", "neither|no line|line"),
        ("hello\nworld: x", "", "the first line must be a method and a request-target"),
        ("GET /x\nno colon here", "", "one has no colon"),
        ("GET /x", "localhost", "must be an IP address"),
    ],
)
def test_what_is_no_request(text: str, peer: str, sentence: str) -> None:
    """It is told in a sentence."""
    with pytest.raises(NoRequestError, match=sentence):
        asked_in(text, peer)


@given(st.text(max_size=200) | st.text('GETab/ :\n\r\t{}"', max_size=60))
def test_anything_can_be_pasted(deployment: Deployment, text: str) -> None:
    """It is explained, or a sentence says why not."""
    try:
        told = explained(deployment, text, "127.0.0.1").outcome
    except NoRequestError as error:
        told = str(error)
    assert told
