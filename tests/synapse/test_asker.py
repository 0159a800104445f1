"""Asking a process for its version over real sockets, and making sense of whatever comes back."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.synapse.asker import HEADERS, PATH, ask_version, version_in
from sidecar.synapse.listeners import escape

FOREVER = 30.0
"""Seconds that no test takes."""


def told(version: str) -> bytes:
    return json.dumps({"server": {"name": "Synapse", "version": version}}).encode()


def response(content: bytes, *, status: str = "200 OK", server: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *([f"Server: {server}"] if server else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Process:
    """Takes one connection, reads a request head, and answers with these octets; None: with nothing, until the end."""

    def __init__(self, listening: socket.socket, octets: bytes | None) -> None:
        self.head = b""
        self.over = Event()
        self._listening = listening
        self._octets = octets
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection:
            while not self.head.endswith(b"\r\n\r\n"):
                self.head += connection.recv(65536)
            if self._octets is None:
                self.over.wait(FOREVER)
            else:
                connection.sendall(self._octets)

    def end(self) -> None:
        self.over.set()
        self._thread.join(FOREVER)


@contextmanager
def on_unix(path: Path, octets: bytes | None) -> Iterator[Process]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        process = Process(listening, octets)
        yield process
        process.end()


@contextmanager
def on_tcp(octets: bytes, family: socket.AddressFamily, host: str) -> Iterator[int]:
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError as error:
            pytest.skip(f"no {host} here: {error}")
        listening.listen()
        process = Process(listening, octets)
        yield listening.getsockname()[1]
        process.end()


@pytest.mark.parametrize(
    ("octets", "version"),
    [
        (response(told("1.163.2")), "1.163.2"),
        (response(told("1.163.0rc1 (b=main,abcdef)")), "1.163.0rc1"),
        (response(b"{}", status="404 Not Found", server="Synapse/1.157.1"), "1.157.1"),
        (response(told("9.9.9"), status="404 Not Found"), None),
        (response(b"no JSON", server="Synapse/1.150.0"), "1.150.0"),
        (response(b"no JSON", server="nginx"), None),
        (response(b""), None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"", None),
        (response(told("1.163.2"))[:-8], None),
    ],
)
def test_a_process_on_a_unix_socket(tmp_path: Path, octets: bytes, version: str | None) -> None:
    """The version is in the JSON, or in the Server field of a refusal; whatever else comes tells none."""
    with on_unix(tmp_path / "main.sock", octets) as process:
        assert ask_version(f"unix:{tmp_path}/main.sock", FOREVER) == version
    assert process.head.startswith(f"GET {PATH} HTTP/1.1\r\n".encode())
    assert all(f"\r\n{name}: {value}\r\n".encode() in process.head for name, value in HEADERS.items())
    assert process.head.count(b"Host:") == 1


@pytest.mark.parametrize("form", ["unix:{}", "unix:path={}", "unix:{}:timeout=3:lockfile=0", "unix:timeout=3:path={}"])
def test_every_form_of_a_unix_endpoint(tmp_path: Path, form: str) -> None:
    """A path by position or by name, with colons, equal signs and backslashes escaped as Twisted wants them."""
    path = tmp_path / r"a:b=c\d.sock"
    with on_unix(path, response(told("1.163.2"))):
        assert ask_version(form.format(escape(str(path))), FOREVER) == "1.163.2"


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "localhost"), (socket.AF_INET6, "::1")]
)
@pytest.mark.parametrize("form", ["tcp:{}:{}", "tcp:host={}:port={}", "tcp:{}:{}:timeout=3:bindAddress=127.0.0.1"])
def test_a_process_on_a_port(family: socket.AddressFamily, host: str, form: str) -> None:
    """Processes elsewhere are asked over TCP, by name, IPv4 or IPv6."""
    with on_tcp(response(told("1.130.0")), family, host) as port:
        assert ask_version(form.format(escape(host), port), FOREVER) == "1.130.0"


def test_one_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    """A process that hangs holds a start up for `timeout` seconds and no longer."""
    with on_unix(tmp_path / "main.sock", None) as process:
        assert ask_version(f"unix:{tmp_path}/main.sock", 0.05) is None
        assert not process.over.is_set()


@pytest.mark.parametrize(
    "endpoint",
    ["unix:{}/nobody.sock", "unix:{}", "unix:{}/" + 200 * "a", "tcp:127.0.0.1:1", "tcp:127.0.0.1:99999", "unix:\0"],
)
def test_nobody_there(tmp_path: Path, endpoint: str) -> None:
    """A process that is down, or an address that cannot be one, tells no version and breaks nothing."""
    assert ask_version(endpoint.format(tmp_path), FOREVER) is None


@pytest.mark.parametrize(
    "endpoint", ["", "unix", "unix:", "tcp:", "tcp:h", "tcp:h:p", "tcp:port=1", "ssl:h:443", "x:y"]
)
def test_endpoints_of_other_kinds_are_not_asked(endpoint: str) -> None:
    """What is neither a UNIX socket nor a port is left alone."""
    assert ask_version(endpoint, FOREVER) is None


@given(st.integers(0, 600), st.text(max_size=20), st.binary(max_size=40))
@example(200, "", b"[" * 60_000)
@example(200, "", b"\xff")
@example(200, "", b'{"server": []}')
@example(200, "", b'{"server": {"version": null}}')
def test_garbage_is_no_version(status: int, server: str, content: bytes) -> None:
    """Whatever a stranger answers, there is no exception, and a version only where it stands written."""
    version = version_in(status, server, content)
    assert version is None or version in server + content.decode("latin-1")


@given(st.integers(1, 99), st.integers(0, 999), st.integers(0, 99), st.sampled_from(["", "rc1", "rc12"]))
def test_what_is_told_is_found(major: int, minor: int, patch: int, candidate: str) -> None:
    """Releases and candidates are found whole, in the content before the Server field."""
    version = f"{major}.{minor}.{patch}{candidate}"
    assert version_in(200, "Synapse/1.2.3", told(version)) == version
    assert version_in(200, "Synapse/1.2.3", told(version + " (b=release-v1)")) == version
    assert version_in(404, f"Synapse/{version}", told("1.2.3")) == version
    assert version_in(200, f"Synapse/{version} (b=x)", b"") == version
