"""The lines for the proxy in front: the real programs take them, and they lead to where the sidecar listens."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from front_files import checking, program, write_whole

from sidecar.install.fronts import NAMES, PLACES, Wanted, detect, lines, reached_at

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("socket", ["", "/run/matrix-sidecar/http.sock"])
@pytest.mark.parametrize("kind", NAMES)
def test_the_program_takes_the_lines(kind: str, socket: str, tmp_path: Path) -> None:
    """At the place that is told, for a port and for a UNIX socket."""
    found = program(kind)
    if found is None:
        pytest.skip(f"{kind} is not installed")
    file = write_whole(kind, lines(kind, Wanted("matrix.example.org", socket=socket)), 1, tmp_path)
    command = [found, *checking(kind, file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_the_front_page_shows_the_same_lines() -> None:
    """README.md has those for nginx and Caddy."""
    page = (ROOT / "README.md").read_text("utf-8")
    for kind in ("nginx", "caddy"):
        (shown,) = re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        assert shown == lines(kind, Wanted("matrix.example.org"))


def test_sizes_and_times_are_those_that_are_wanted() -> None:
    """Synapse's upload limit, the sidecar's patience, and the address in brackets where it has colons."""
    wanted = Wanted("h", address="::1", port=8009, upload=12_345_678, seconds=61)
    nginx = lines("nginx", wanted)
    assert "proxy_pass http://[::1]:8009;" in nginx
    assert "client_max_body_size 12345678;" in nginx
    assert "proxy_read_timeout 61s;" in nginx
    assert "nocanon timeout=61\n" in lines("apache", wanted)
    assert "timeout server 61s" in lines("haproxy", wanted)


def test_no_line_for_nginx_has_a_uri_behind_the_port() -> None:
    """With one, nginx decodes and encodes the path anew, and signatures of federation break."""
    assert re.search(r"proxy_pass http://127\.0\.0\.1:8008;", lines("nginx", Wanted("h")))


def test_proxies_are_known_by_their_directories(tmp_path: Path) -> None:
    """The first directory of each counts."""
    assert detect(str(tmp_path)) == {}
    for directory in ("etc/nginx", "usr/local/nginx/conf", "etc/httpd", "etc/caddy", "etc/haproxy"):
        (tmp_path / directory).mkdir(parents=True)
    assert detect(str(tmp_path)) == {
        "nginx": "/etc/nginx",
        "apache": "/etc/httpd",
        "caddy": "/etc/caddy",
        "haproxy": "/etc/haproxy",
    }
    assert set(PLACES) == set(NAMES)


@pytest.mark.parametrize(
    ("listen", "reached"),
    [
        ("tcp:8009:interface=127.0.0.1", ("127.0.0.1", 8009, "")),
        ("tcp:8009", ("127.0.0.1", 8009, "")),
        ("tcp:8009:interface=10.0.0.1", ("10.0.0.1", 8009, "")),
        (r"tcp6:8009:interface=2001\:db8\:\:1", ("2001:db8::1", 8009, "")),
        ("unix:/run/x.sock:mode=660", ("", 0, "/run/x.sock")),
        ("systemd:domain=INET:name=http", ("127.0.0.1", 8008, "")),
    ],
)
def test_where_the_sidecar_is_reached(listen: str, reached: tuple[str, int, str]) -> None:
    """From the endpoint string that it listens on."""
    assert reached_at(listen) == reached
