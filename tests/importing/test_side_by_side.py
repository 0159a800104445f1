"""What `import` makes of a file does what the real program does with it, or the report says that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import Result
from runners import runner

from sidecar.cli import main

from .side_by_side import FEWEST, compare

INPUTS = Path(__file__).parent / "inputs"


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        pytest.param("services.conf", 0.85, marks=pytest.mark.needs("nginx")),
        pytest.param("workers.conf", 0.4, marks=pytest.mark.needs("nginx")),
        pytest.param("services.cfg", 0.85, marks=pytest.mark.needs("haproxy")),
        pytest.param("workers.cfg", 0.75, marks=pytest.mark.needs("haproxy")),
    ],
)
def test_every_difference_is_told(name: str, alike: float) -> None:
    """Over all names and ports, before the same workers; and at least this share of the requests is alike.

    That of workers.conf is low: its port for federation, half of its entrances, answers 404 to everything else.
    """
    result = compare(INPUTS / name)
    assert result.exit_code == 0, result.report
    assert result.asked >= FEWEST
    assert result.untold == []
    assert result.same >= result.asked * alike
    assert result.differing


def run(name: str, *arguments: str) -> Result:
    kind = "haproxy" if name.endswith(".cfg") else "nginx"
    return runner().invoke(main, ["import", kind, str(INPUTS / name), *arguments])


def routes(result: Result) -> list[dict[str, object]]:
    return list(yaml.safe_load(result.stdout)["routes"])


def test_logins_go_to_the_authentication_service_whatever_its_name() -> None:
    """By the pattern of its line, for nginx and HAProxy alike; the expression allows anything as the version."""
    for name, pool in (("services.conf", "login-service:8080"), ("services.cfg", "auth")):
        found = {str(route["path"]) for route in routes(run(name)) if route.get("pool") == pool and "path" in route}
        for endpoint in ("login", "logout", "refresh"):
            assert any(path.startswith("/_matrix/client/{") and path.endswith(f"}}/{endpoint}") for path in found)


def test_other_names_are_not_swallowed() -> None:
    """Element Web stays at its names; what is before media stays before it."""
    (web,) = (each for each in routes(run("services.conf")) if each.get("pool") == "element-web")
    assert web == {"host": ["element.example.org", "chat.example.org"], "pool": "element-web"}
    scanned = [each["path"] for each in routes(run("services.cfg")) if each.get("pool") == "scanner"]
    assert "/_matrix/media/v3/download/**" in scanned
    assert "/_matrix/client/v1/media/download/**" in scanned


@pytest.mark.parametrize("name", ["services.conf", "services.cfg"])
def test_other_programs_are_no_fault(name: str) -> None:
    """`--diff` speaks of Synapse alone, and every line that leads elsewhere is needed."""
    assert "no process of Synapse" not in run(name, "--diff").output
    said = run(name).stderr
    for word in ("login-service", "moderation", "use_backend auth", "use_backend scanner", "use_backend livekit"):
        at = said.find(word)
        assert at < 0 or "not needed" not in said[at : said.index("\n", said.index("\n", at) + 1)]


def test_filters_are_told_first(tmp_path: Path) -> None:
    """Before any other line, and each with its place."""
    path = tmp_path / "a.cfg"
    path.write_text(
        "frontend f\n mode http\n bind :80\n tcp-request connection reject if { src 192.0.2.9 }\n default_backend m\n"
        "backend m\n mode http\n http-request deny if { path /x }\n server m 127.0.0.1:1\n"
    )
    said = runner().invoke(main, ["import", "haproxy", str(path)]).stderr
    first, second = said.index("a.cfg:4: tcp-request"), said.index("a.cfg:8: http-request deny")
    assert first < second < said.index("a.cfg:2: mode http")
    assert said.count("a filter that is not converted") == 2


def test_every_name_and_port_is_asked() -> None:
    """They are printed, over https where there is TLS, and which of them is the homeserver's."""
    said = run("workers.conf").stderr
    for where in ("https://matrix.example.org:443", "https://matrix.example.org:8448", "https://*:443"):
        assert f"    {where}\n" in said
    assert "The homeserver is https://matrix.example.org:443. This is a guess; correct it with --server-name" in said
    told = run("services.cfg", "--server-name", "chat.example.org").stderr
    assert "converted: routes: http://*/.well-known/acme-challenge/**, http://*/**\n" in told
    assert "The homeserver is https://chat.example.org:443.\n" in told


def test_a_frontend_and_a_backend_of_one_name_are_two(tmp_path: Path) -> None:
    """The port of the frontend is asked, and what it sends to its namesake gets there."""
    path = tmp_path / "a.cfg"
    path.write_text(
        "frontend web\n bind :80\n bind [::]:80 v6only\n default_backend main\n"
        "frontend federation\n bind :8448\n default_backend federation\n"
        "backend main\n server m 127.0.0.1:1\nbackend federation\n server f 127.0.0.1:2\n"
    )
    done = runner().invoke(main, ["import", "haproxy", str(path)])
    assert "    http://*:8448\n" in done.stderr
    assert "your proxy: f; sidecar: main; at http://*:8448" in done.stderr
    assert yaml.safe_load(done.stdout)["listen"] == ["tcp:80:interface=\\:\\:", "tcp:8448"]


def test_a_backend_that_is_missing_is_named(tmp_path: Path) -> None:
    """HAProxy does not start with such a file; a part of a configuration may lack it."""
    path = tmp_path / "a.cfg"
    path.write_text(
        "frontend f\n bind :80\n use_backend m if { path /x }\n default_backend lost\nbackend m\n server m a:1\n"
    )
    said = runner().invoke(main, ["import", "haproxy", str(path)]).stderr
    assert "not understood: no file has the backend `lost`" in said


def test_what_has_no_address_is_told_with_its_line(tmp_path: Path) -> None:
    """And the rest starts; where nothing is left, the exit status says so."""
    path = tmp_path / "a.cfg"
    path.write_text("frontend f\n default_backend m\nbackend m\n server m $ADDRESS\n server n 127.0.0.1:1\n")
    partly = runner().invoke(main, ["import", "haproxy", str(path)])
    assert partly.exit_code == 0
    assert "a.cfg:4: m: `$ADDRESS` is not an address until HAProxy fills it in; write the worker's" in partly.stderr
    path.write_text(
        "frontend f\n default_backend m\nbackend m\n server-template m 3 _http._tcp.main.ns.svc. resolvers k\n"
    )
    service = runner().invoke(main, ["import", "haproxy", str(path)])
    assert service.exit_code == 0
    assert "endpoint: 'tcp:main.ns.svc:8008'" in service.stdout
    assert "a.cfg:4: m: its port is in an SRV record in DNS; 8008 is a guess" in service.stderr
    path = tmp_path / "a.conf"
    path.write_text("server { location = /x { proxy_pass http://x; } location / { proxy_pass http://$nobody:80; } }\n")
    nothing = runner().invoke(main, ["import", "nginx", str(path), "-o", str(tmp_path / "sidecar.yaml")])
    checked = runner().invoke(main, ["check", "--no-ask", "-c", str(tmp_path / "sidecar.yaml")])
    assert (nothing.exit_code == 2) is (checked.exit_code == 2)
    assert "`:80` is not an address until nginx fills in its variables" in nothing.stderr
