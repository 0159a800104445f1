"""Logging in where MAS issues the tokens: a real Synapse with MAS enabled, and a stand-in for MAS that has its paths.

MAS itself is a program in Rust that cannot be built here. What is real is Synapse's side: it has no /login any more,
asks MAS about each token, and takes users and devices from whoever knows the secret.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner
from front_files import program

from sidecar.cli import main
from sidecar.install.fronts import Wanted, lines

from .fronts import running_front
from .laboratory import Gateway, running_sidecar, running_synapse
from .mas import PASSWORD, Mas
from .services import Services
from .synapse_files import SERVER_NAME
from .topology import Process, Topology

TOPOLOGY = Topology(
    name="behindmas",
    processes=(Process("main", ("client", "federation")), Process("generic1", ("client", "federation"))),
    pools={"explicit": {}},
)
CLIENT = "203.0.113.9"
VERSIONS = ("r0", "v3", "unstable")


@frozen
class Answer:
    """A response with its whole content."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    target: str,
    content: object = None,
    *,
    token: str = "",
    peer: str = "127.0.0.1",
    **more: str,
) -> Answer:
    """One request for the public name of the homeserver, from this loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(peer, 0))
    fields = {"Host": SERVER_NAME, **{name.replace("_", "-"): value for name, value in more.items()}}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, target, None if content is None else json.dumps(content), fields)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def log_in(port: int, user: str, version: str = "v3", **more: str) -> Answer:
    content = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": PASSWORD,
    }
    return ask(port, "POST", f"/_matrix/client/{version}/login", content, **more)


@pytest.fixture(scope="module")
def site(services: Services) -> Iterator[tuple[Gateway, Mas]]:
    with ExitStack() as stack:
        mas = stack.enter_context(Mas())
        laboratory = stack.enter_context(running_synapse(services, TOPOLOGY, mas.synapse))
        gateway = stack.enter_context(running_sidecar(laboratory, "three_lines"))
        mas.homeserver = ("127.0.0.1", gateway.port)
        yield gateway, mas


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_logs_in_and_out(site: tuple[Gateway, Mas], version: str) -> None:
    """MAS answers, tells Synapse of user and device at our address, and Synapse takes the token."""
    gateway, _ = site
    flows = ask(gateway.port, "GET", f"/_matrix/client/{version}/login")
    assert (flows.status, {"type": "m.login.password"} in flows.json["flows"]) == (200, True)
    answer = log_in(gateway.port, f"alice-{version}", version)
    assert answer.status == 200, answer.body
    token = answer.json["access_token"]
    who = ask(gateway.port, "GET", "/_matrix/client/v3/account/whoami", token=token)
    assert (who.status, who.json["user_id"]) == (200, f"@alice-{version}:{SERVER_NAME}")
    assert ask(gateway.port, "GET", "/_matrix/client/v3/sync?timeout=0", token=token).status == 200
    path = "logout" if version == "r0" else "logout/all"
    assert ask(gateway.port, "POST", f"/_matrix/client/{version}/{path}", {}, token=token).status == 200
    again = ask(gateway.port, "POST", f"/_matrix/client/{version}/logout", {}, token=token)
    assert (again.status, again.json["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert ask(gateway.port, "POST", f"/_matrix/client/{version}/refresh", {"refresh_token": "mcr_x"}).status == 200


def test_synapse_itself_knows_no_login(site: tuple[Gateway, Mas]) -> None:
    """What `/login` would be answered without `synapse.mas`, and where nobody could log in."""
    gateway, _ = site
    with running_sidecar(
        gateway.laboratory,
        "explicit",
        settings={"workers": {"main": {"endpoint": f"unix:{gateway.laboratory.layout.socket('main')}"}}, "pools": {}},
    ) as other:
        assert log_in(other.port, "alice").status == 404


def test_requests_come_to_mas_as_they_were_sent(site: tuple[Gateway, Mas]) -> None:
    """Method, target, Host and body, and the client's address and scheme in one line each."""
    gateway, mas = site
    more = {"X_Forwarded_For": f"6.6.6.6, {CLIENT}", "X_Forwarded_Proto": "https", "X_Own": "a  b"}
    assert log_in(gateway.port, "carol", **more).status == 200
    seen = next(each for each in reversed(mas.seen) if each.method == "POST")
    assert seen.target == "/_matrix/client/v3/login"
    assert json.loads(seen.body)["identifier"]["user"] == "carol"
    assert seen.values("host") == [SERVER_NAME]
    assert seen.values("x-forwarded-for") == [CLIENT]
    assert seen.values("x-forwarded-proto") == ["https"]
    assert seen.values("x-own") == ["a  b"]
    target = "/_matrix/client/v3/login/sso/redirect/01J0?redirectUrl=https%3A%2F%2Fa.test%2F%3Fb&c=%7E"
    redirect = ask(gateway.port, "GET", target, **more)
    assert (redirect.status, redirect.headers["Location"]) == (303, f"{mas.url}complete-compat-sso/01J0")
    assert mas.seen[-1].target == target


@pytest.mark.parametrize("path", ["login", "logout", "logout/all", "refresh"])
def test_preflights_are_answered_by_mas(site: tuple[Gateway, Mas], path: str) -> None:
    """With the CORS headers that it wants."""
    gateway, mas = site
    preflight = {"Origin": "https://app.test", "Access_Control_Request_Method": "POST"}
    answer = ask(gateway.port, "OPTIONS", f"/_matrix/client/v3/{path}", **preflight)
    assert (answer.status, answer.headers["Access-Control-Allow-Methods"]) == (200, "*")
    assert (mas.seen[-1].method, mas.seen[-1].target) == ("OPTIONS", f"/_matrix/client/v3/{path}")


def test_only_mas_on_this_host_may_call_synapse(site: tuple[Gateway, Mas]) -> None:
    """Synapse asks for the secret; who comes through a proxy does not get so far, even with it."""
    gateway, mas = site
    wanted = {"localpart": "dave"}
    assert mas.call("provision_user", wanted) == 201
    assert mas.call("provision_user", wanted, secret="wrong") in (401, 403)
    refused = ask(
        gateway.port, "POST", "/_synapse/mas/provision_user", wanted, token=mas.secret, X_Forwarded_For=CLIENT
    )
    assert (refused.status, refused.json["errcode"], "access.mas" in refused.json["error"]) == (
        403,
        "M_FORBIDDEN",
        True,
    )


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_behind_a_proxy(site: tuple[Gateway, Mas], kind: str, tmp_path: Path) -> None:
    """With the lines that `init` prints: clients log in, and /_synapse/mas is not to be had from outside."""
    if program(kind) is None:
        pytest.skip(f"{kind} is not installed")
    gateway, mas = site
    with running_front(kind, lines(kind, Wanted(SERVER_NAME, port=gateway.port)), tmp_path) as port:
        assert log_in(port, f"erin-{kind}").status == 200
        assert mas.seen[-1].values("x-forwarded-for") == ["127.0.0.1"]
        outside = ask(port, "POST", "/_synapse/mas/provision_user", {"localpart": "x"}, token=mas.secret)
        assert b"localpart" not in outside.body
        assert outside.status != 201


def test_check_and_doctor_see_it(site: tuple[Gateway, Mas]) -> None:
    """Nothing is missing; and doctor has asked MAS itself."""
    gateway, mas = site
    file = str(gateway.laboratory.layout.sidecar_file("three_lines"))
    checked = CliRunner().invoke(main, ["check", "--no-ask", "-c", file])
    assert "authentication" not in checked.output
    examined = CliRunner().invoke(main, ["doctor", "-c", file, "--json"])
    sentences = [finding["sentence"] for finding in json.loads(examined.stdout)["findings"]]
    assert f"MAS at {mas.url.removeprefix('http://').rstrip('/')} answers: people can log in." in sentences


def test_mas_that_is_down(site: tuple[Gateway, Mas]) -> None:
    """Logins wait and fail with a Matrix error; everything else goes on, the sidecar is ready, and doctor says it."""
    gateway, _ = site
    with running_sidecar(
        gateway.laboratory,
        "explicit",
        settings={
            "workers": {"main": {"endpoint": f"unix:{gateway.laboratory.layout.socket('main')}"}},
            "pools": {},
            "synapse": {"mas": "http://127.0.0.1:9"},
            "timeouts": {"wait": "100ms"},
        },
    ) as other:
        assert log_in(other.port, "alice").status == 503
        assert ask(other.port, "GET", "/_matrix/client/versions").status == 200
        file = str(other.laboratory.layout.sidecar_file("explicit"))
        examined = CliRunner().invoke(main, ["doctor", "-c", file, "--json"])
        sentences = [finding["sentence"] for finding in json.loads(examined.stdout)["findings"]]
        assert any(each.startswith("MAS at 127.0.0.1:9 does not answer") for each in sentences), sentences
