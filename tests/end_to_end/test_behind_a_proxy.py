"""What a proxy in front leaves unsaid, and what a real Synapse makes of it: schemes, and uploads in chunks."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from front_files import program

from sidecar.install.fronts import Wanted, lines

from .fronts import running_front
from .laboratory import Gateway, Laboratory, register, running_sidecar, running_synapse
from .services import Services
from .synapse_files import SERVER_NAME
from .topology import Configuration, Process, Topology

TOPOLOGY = Topology(
    name="alone", processes=(Process("main", ("client", "federation", "media")),), pools={"explicit": {}}
)
CAS = "https://cas.lab.test"
SSO = "/_matrix/client/v3/login/sso/redirect?redirectUrl=https%3A%2F%2Fclient.lab.test%2F"
SIZE = 3 * 1024 * 1024


@pytest.fixture(scope="module")
def laboratory(services: Services) -> Iterator[Laboratory]:
    with running_synapse(services, TOPOLOGY, {"cas_config": {"enabled": True, "server_url": CAS}}) as running:
        yield running


@pytest.fixture(scope="module")
def sides(laboratory: Laboratory) -> Iterator[Mapping[Configuration, Gateway]]:
    """One sidecar that has read Synapse's files, and one that knows nothing of `public_baseurl`."""
    with ExitStack() as stack:
        yield {
            "three_lines": stack.enter_context(running_sidecar(laboratory, "three_lines")),
            "explicit": stack.enter_context(running_sidecar(laboratory, "explicit")),
        }


def redirected(port: int, target: str, fields: Mapping[str, str]) -> str:
    """Where a request for the public name is sent to, 127.0.0.1 being the proxy in front."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", target, headers={"Host": SERVER_NAME, **fields})
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    assert answer.status == 302
    return answer.headers["Location"]


@pytest.mark.parametrize("configuration", ["three_lines", "explicit"])
@pytest.mark.parametrize("fields", [{"X-Forwarded-For": "198.51.100.7"}, {}], ids=["X-Forwarded-For", "nothing"])
def test_single_sign_on_behind_a_proxy_that_does_not_say_the_scheme(
    sides: Mapping[Configuration, Gateway], configuration: Configuration, fields: Mapping[str, str]
) -> None:
    """Synapse sends the client to the identity provider, not to the address that it has just asked."""
    assert urlsplit(redirected(sides[configuration].port, SSO, fields)).netloc == "cas.lab.test"


@pytest.mark.parametrize("configuration", ["three_lines", "explicit"])
def test_single_sign_on_of_a_client_that_came_by_http(
    sides: Mapping[Configuration, Gateway], configuration: Configuration
) -> None:
    """Where the proxy says so, Synapse knows it, and sends the client to its public address first."""
    fields = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "http"}
    assert redirected(sides[configuration].port, SSO, fields) == f"https://{SERVER_NAME}{SSO}"


@pytest.fixture(scope="module")
def token(laboratory: Laboratory) -> str:
    return register(laboratory.layout.socket("main"), "uploader")


def upload_in_chunks(port: int, token: str) -> tuple[int, str]:
    """Status, and the errcode or URI, of an upload that does not say how large it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(
            "POST",
            "/_matrix/media/v3/upload",
            (b"x" * 65_536 for _ in range(SIZE // 65_536)),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"},
            encode_chunked=True,
        )
        answer = connection.getresponse()
        told = json.loads(answer.read())
    finally:
        connection.close()
    return answer.status, told.get("content_uri") or told["error"]


BUFFERS = {"nginx": True, "apache": True, "caddy": False, "haproxy": False}
"""Whether a proxy with the lines that `init` prints makes one length of many chunks; docs/edges.md says so."""


@pytest.mark.parametrize("kind", BUFFERS)
def test_uploads_in_chunks_through_a_proxy(
    sides: Mapping[Configuration, Gateway], token: str, kind: str, tmp_path: Path
) -> None:
    """Synapse takes no upload without Content-Length: behind nginx and Apache each has one."""
    if program(kind) is None:
        pytest.skip(f"{kind} is not installed")
    wanted = Wanted(SERVER_NAME, port=sides["three_lines"].port)
    with running_front(kind, lines(kind, wanted), tmp_path) as port:
        status, told = upload_in_chunks(port, token)
    assert (status, told.startswith("mxc://")) == (200, True) if BUFFERS[kind] else status == 400, told


def test_uploads_in_chunks_without_a_proxy(sides: Mapping[Configuration, Gateway], token: str) -> None:
    """The sidecar passes chunks on as they are, and Synapse refuses them in its own words."""
    status, told = upload_in_chunks(sides["three_lines"].port, token)
    assert (status, told) == (400, "Request must specify a Content-Length")
