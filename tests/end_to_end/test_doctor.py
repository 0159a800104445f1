"""`doctor` against a real Synapse with workers, and with real proxies in front: right ones, and wrong ones."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from doctor.installation import look_at_nothing_else
from front_files import program

from sidecar.cli import main
from sidecar.doctor import front
from sidecar.install import fronts
from sidecar.install.fronts import Wanted, lines
from sidecar.install.synapses import sources

from .fronts import running_front
from .laboratory import Gateway
from .topology import Configuration

UPLOAD = 20 * 1024 * 1024
"""`max_upload_size` of the laboratory."""
ONE = pytest.mark.parametrize("gateways", ["generic"], indirect=True)
"""The proxies are tested in front of one topology."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else runs on this host is not looked at, and a refusal is not waited for as long as over a network."""
    monkeypatch.setattr(front, "BODY_PATIENCE", 1.0)
    look_at_nothing_else(monkeypatch)


def found(gateway: Gateway, *arguments: str) -> list[str]:
    """Everything that is not fine, with its area."""
    file = gateway.laboratory.layout.sidecar_file(gateway.configuration)
    result = CliRunner().invoke(main, ["doctor", "-c", str(file), "--json", *arguments])
    assert not isinstance(result.exception, Exception), result.exc_info
    findings = json.loads(result.stdout)["findings"]
    return [
        f"{finding['area']}: {finding['level']}: {finding['sentence']}"
        for finding in findings
        if finding["level"] != "fine"
    ]


def test_everything_is_fine(gateway: Gateway) -> None:
    """Every process is reached, every pool answers as its workers do, and Synapse refuses the unknown login."""
    assert found(gateway) == []


@ONE
@pytest.mark.usefixtures("gateways")
def test_a_worker_that_is_killed_is_found(gateways: Mapping[Configuration, Gateway]) -> None:
    """It leaves its socket behind; when it is back everything is fine again."""
    gateway = gateways["three_lines"]
    laboratory = gateway.laboratory
    laboratory.end("generic1", signal.SIGKILL)
    try:
        told = found(gateway)
    finally:
        laboratory.start("generic1")
    socket = laboratory.layout.socket("generic1")
    assert f"Workers: error: generic1 is down: no process listens at {socket}." in told
    assert not [each for each in told if each.startswith(("Pools", "Configuration"))]


def of_front(gateway: Gateway, port: int, *more: str) -> list[str]:
    """What is found of the proxy in front; names are not delegated here."""
    url = f"http://127.0.0.1:{port}"
    return [
        each.removeprefix("The proxy in front: ")
        for each in found(gateway, "--public", url, "--well-known", url, *more)
        if not each.startswith("Delegation")
    ]


@ONE
@pytest.mark.parametrize("kind", fronts.NAMES)
def test_the_lines_that_init_prints_are_right(
    kind: str, gateways: Mapping[Configuration, Gateway], tmp_path: Path
) -> None:
    """Each proxy with them passes every test, also a long poll that is longer than a short one."""
    if program(kind) is None:
        pytest.skip(f"{kind} is not installed")
    gateway = gateways["three_lines"]
    wanted = Wanted("lab.test", port=gateway.port, upload=UPLOAD)
    with running_front(kind, lines(kind, wanted), tmp_path) as port:
        assert of_front(gateway, port, "--slow", "1") == []


CHANGED = "error: The proxy in front changes paths or queries: "
SLASH = (
    f"{CHANGED}a slash within an id (%2F): `/a%2Fb` arrives as `/a/b`; two slashes in a row: `/a//b` arrives as `/a/b`"
)
ADDED = "warning: The proxy in front extends X-Forwarded-For instead of replacing it"
CLAIMED = "warning: The proxy in front does not set X-Forwarded-Proto"
HOST = "error: Host arrives as `127.0.0.1:"
PRETENDED = "error: Every client can pretend to have any address"
MISTAKES = [
    pytest.param(
        "nginx",
        "location / {{ proxy_pass http://127.0.0.1:{port}/; proxy_read_timeout 1s;\n"
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}",
        [
            SLASH,
            ADDED,
            CLAIMED,
            HOST,
            "error: The proxy in front refuses uploads of 20M, which Synapse accepts",
            "error: The proxy in front does not wait 2 s",
        ],
        id="nginx with a URI in proxy_pass, an added address, and its own timeout and size",
    ),
    pytest.param(
        "nginx",
        "location /_matrix/client {{ proxy_pass http://127.0.0.1:{port}; proxy_set_header Host $host;\n"
        "proxy_set_header X-Forwarded-For $http_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;\n"
        "add_header Access-Control-Allow-Origin *; }}",
        [
            "error: Access-Control-Allow-Origin arrives 2 times",
            "error: Requests below /_matrix/federation, /_matrix/key, /_matrix/media, /_synapse/client do not reach",
            PRETENDED,
        ],
        id="nginx with one location, the client's own address, and CORS of its own",
    ),
    pytest.param(
        "apache",
        "ProxyPass / http://127.0.0.1:{port}/",
        [
            f"{CHANGED}two slashes in a row: `/a//b` arrives as",
            "error: The proxy in front does not forward paths with a slash within an id (%2F)",
            ADDED,
            CLAIMED,
            HOST,
        ],
        id="Apache without nocanon and AllowEncodedSlashes",
    ),
    pytest.param(
        "apache",
        "AllowEncodedSlashes On\nProxyPreserveHost On\nProxyPass / http://127.0.0.1:{port}/",
        [SLASH, ADDED, CLAIMED],
        id="Apache without nocanon",
    ),
    pytest.param(
        "caddy",
        "handle_path /_matrix/* {{\n    rewrite * /_matrix{{path}}\n    reverse_proxy 127.0.0.1:{port}\n}}\n",
        [f"{CHANGED}a slash within an id (%2F)", "error: Requests below /_synapse/client do not reach"],
        id="Caddy with handle_path",
    ),
    pytest.param(
        "caddy",
        "reverse_proxy 127.0.0.1:{port} {{\n    header_up -X-Forwarded-For\n}}\n",
        ["error: The proxy in front sends no X-Forwarded-For"],
        id="Caddy that keeps the address to itself",
    ),
    pytest.param(
        "haproxy",
        "    option forwardfor\n    http-request normalize-uri path-merge-slashes\n    default_backend b\n"
        "backend b\n    timeout server 1s\n    server s 127.0.0.1:{port}\n",
        [
            f"{CHANGED}two slashes in a row: `/a//b` arrives as `/a/b`",
            ADDED,
            CLAIMED,
            "error: The proxy in front does not wait 2 s",
        ],
        id="HAProxy that normalises, adds, and does not wait",
    ),
]


@ONE
@pytest.mark.parametrize(("kind", "text", "expected"), MISTAKES)
def test_what_people_write_is_found(
    kind: str, text: str, expected: list[str], gateways: Mapping[Configuration, Gateway], tmp_path: Path
) -> None:
    """Every mistake, and nothing that is none."""
    if program(kind) is None:
        pytest.skip(f"{kind} is not installed")
    gateway = gateways["three_lines"]
    with running_front(kind, text.format(port=gateway.port), tmp_path) as port:
        slow = ["--slow", "2"] if any("does not wait" in sentence for sentence in expected) else []
        told = of_front(gateway, port, *slow)
    for sentence in expected:
        assert [each for each in told if each.startswith(sentence)], (sentence, told)
    surplus = [each for each in told if not each.startswith(tuple(expected))]
    assert surplus == []


@ONE
def test_init_finds_a_synapse_that_runs(gateways: Mapping[Configuration, Gateway], tmp_path: Path) -> None:
    """By the command lines of its processes: the files that they read, and all workers."""
    layout = gateways["three_lines"].laboratory.layout
    named = ["--synapse-config", str(layout.etc / "homeserver.yaml"), "--yes", "--listen", "8100"]
    result = CliRunner().invoke(main, ["init", "--config", str(tmp_path / "sidecar.yaml"), *named])
    assert result.exit_code == 0, result.output
    assert "4 processes that serve requests, 4 of them on UNIX sockets" in result.output
    (source,) = [each for each in sources() if each.config[0].startswith(str(layout.root))]
    assert source.config == (str(layout.etc / "homeserver.yaml"), str(layout.etc / "conf.d"))
    assert source.workers == (str(layout.workers),)
    assert source.how.endswith("and 3 workers")
