"""`--demo`: it runs, what it tells people to try works, and it leaves nothing behind."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
from pathlib import Path

import pytest
from net.turns import port_of, reactor, spin, turns
from processes import Running, connect, exchange
from twisted.application.service import MultiService
from twisted.python.usage import UsageError

from sidecar import __version__, tap
from sidecar.app.demo import WORKERS
from sidecar.app.service import SidecarService


def as_request(line: str) -> bytes:
    """The request that curl would send for a line of the introduction."""
    words = shlex.split(line)[1:]
    method, fields, url = "GET", [], ""
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            fields.append(words.pop(0))
        elif not word.startswith("-"):
            url = word
    found = re.fullmatch(r"http://([^/]+)(/.*)", url)
    assert found is not None
    lines = [f"{method} {found[2]} HTTP/1.1", f"Host: {found[1]}", *fields]
    return "".join(f"{one}\r\n" for one in [*lines, ""]).encode()


def test_the_demonstration(tmp_path: Path) -> None:
    """It prints its address and three lines to try, which different workers answer; SIGINT removes what it made."""
    with Running(["--demo"], tmp_path) as sidecar:
        address = sidecar.address()
        sidecar.says("Ctrl-C ends")
        assert f"http://127.0.0.1:{address[1]}/ in front of {len(WORKERS)} stand-in workers" in sidecar.said
        lines = re.findall(r"^  (curl .*)$", sidecar.said, re.MULTILINE)
        assert len(lines) == 3
        workers = set()
        with connect(address) as client:
            for line in lines:
                head, _, content = exchange(client, as_request(line)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                seen = json.loads(content)
                assert seen["client"] == "127.0.0.1"
                workers.add(seen["worker"])
        assert len(workers) == 3
        assert workers <= set(WORKERS)
        directories = {
            directory
            for directory in Path("/tmp").glob("matrix-sidecar-demo-*")
            if (directory / "sidecar.yaml").exists()
            and f"tcp:{address[1]}:" in (directory / "sidecar.yaml").read_text()
        }
        assert directories
        sidecar.signal(signal.SIGINT)
        sidecar.ends()
        assert not any(directory.exists() for directory in directories)
        assert "Traceback" not in sidecar.said


def test_in_this_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The stand-ins answer with their name and what they saw, behind the real service."""
    monkeypatch.setattr(reactor, "seconds", reactor.seconds)
    options = tap.Options()
    options.parseOptions(["--demo"])

    async def scenario() -> None:
        services = tap.makeService(options)
        assert isinstance(services, MultiService)
        services.startService()
        demo, _signals, sidecar = list(services)[:3]
        assert isinstance(sidecar, SidecarService)
        assert demo.configuration.exists()
        with socket.create_connection(("127.0.0.1", port_of(sidecar.ports[0]))) as client:
            client.sendall(b"GET /_matrix/media/v3/config?a=%21 HTTP/1.1\r\nHost: x\r\n\r\n")
            client.setblocking(False)
            got = b""
            while not got.endswith(b"}\n"):
                await turns(1)
                try:
                    got += client.recv(10_000)
                except BlockingIOError:
                    continue
        seen = json.loads(got.partition(b"\r\n\r\n")[2])
        assert seen == {
            "worker": "main",
            "method": "GET",
            "target": "/_matrix/media/v3/config?a=%21",
            "client": "127.0.0.1",
        }
        await services.stopService()
        assert not demo.directory.exists()

    spin(scenario())
    assert "curl" in capfd.readouterr().out


def test_the_demonstration_takes_no_configuration() -> None:
    """It would not be what somebody asked for."""
    with pytest.raises(UsageError, match="--demo makes its own configuration"):
        tap.Options().parseOptions(["--demo", "--config", "other.yaml"])


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """And not only Twisted's."""
    with pytest.raises(SystemExit) as ended:
        tap.Options().parseOptions(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"matrix-sidecar {__version__}\n")
