"""`twistd matrix-sidecar` as a process: how it starts, how it refuses to, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from net.peers import Worker
from net.turns import port_of, reactor, spin, turns
from processes import ROOT, PlainWorker, Running, command, connect, exchange, read_until, run
from twisted.application.service import MultiService
from twisted.plugin import getPlugins

from sidecar import tap
from sidecar.app.service import SidecarService

GET = b"GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONFIGURATION = """\
listen: "tcp:{port}:interface=127.0.0.1"
synapse: {{version: "1.163.2"}}
workers:
  main: {{endpoint: "unix:main.sock"}}
"""


def written(directory: Path, text: str = CONFIGURATION, port: int = 0) -> str:
    path = directory / "sidecar.yaml"
    path.write_text(text.format(port=port))
    return str(path)


def sentences(output: str) -> list[str]:
    """What was said beyond what twistd says of itself."""
    return [line for line in output.splitlines() if "UnixAppLogger#info" not in line and "Log opened" not in line]


# Starts that fail.


def test_busy_port(tmp_path: Path) -> None:
    """A busy port is told in one sentence, with status 1, and nothing listens."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        status, output = run("-c", written(tmp_path, port=port), cwd=tmp_path)
    assert status == 1
    (sentence,) = sentences(output)
    assert f"matrix-sidecar: cannot listen on tcp:{port}:interface=127.0.0.1: Address already in use; `ss " in sentence


def test_faulty_file(tmp_path: Path) -> None:
    """Every fault of a file is told at once, with its line, and the status is that of a configuration."""
    text = 'listen: "tcp:0"\nworkers:\n  main: {{endpont: "unix:a"}}\nlimits: {{waiting: many}}\n'
    status, output = run("-c", written(tmp_path, text), cwd=tmp_path)
    assert status == os.EX_CONFIG
    assert "sidecar.yaml:3: workers.main.endpont: " in output
    assert "sidecar.yaml:4: limits.waiting: " in output
    assert "Traceback" not in output


def test_missing_file(tmp_path: Path) -> None:
    """A file that does not exist is named."""
    status, output = run("-c", str(tmp_path / "none.yaml"), cwd=tmp_path)
    assert status == os.EX_CONFIG
    assert "none.yaml" in output
    assert "Traceback" not in output


# What root may do beyond others; without it root is like anybody.
POWERS = "-dac_override,-dac_read_search,-net_bind_service"
WITHOUT_POWERS = ("setpriv", "--inh-caps", POWERS, "--bounding-set", POWERS, "--") if os.geteuid() == 0 else ()


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that may not be read is told as such."""
    path = written(tmp_path)
    Path(path).chmod(0)
    status, output = run("-c", path, prefix=WITHOUT_POWERS, cwd=tmp_path)
    assert status == os.EX_CONFIG
    assert "ermission" in output
    assert "Traceback" not in output


@pytest.mark.skipif(
    int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1, reason="every port is free to all here"
)
def test_missing_permission(tmp_path: Path) -> None:
    """A port that may not be listened on is told in one sentence."""
    status, output = run("-c", written(tmp_path, port=1), prefix=WITHOUT_POWERS, cwd=tmp_path)
    assert status == 1
    (sentence,) = sentences(output)
    assert sentence.endswith("cannot listen on tcp:1:interface=127.0.0.1: Permission denied")


# A life.


def test_term_drains(tmp_path: Path) -> None:
    """SIGTERM closes idle connections, lets the running exchange end, and then ends the process."""

    def serve(connection: socket.socket) -> None:
        head = read_until(connection, lambda got: b"\r\n\r\n" in got)
        assert head.startswith(b"GET")
        asked.sendall(b"x")
        answer.recv(1)
        connection.sendall(OK)
        connection.recv(1)

    asking, asked = socket.socketpair()
    answering, answer = socket.socketpair()
    worker = PlainWorker(tmp_path / "main.sock", serve)
    with Running(["-c", written(tmp_path)], tmp_path) as sidecar:
        address = sidecar.address()
        with connect(address) as idle, connect(address) as client:
            client.sendall(GET)
            asking.recv(1)
            sidecar.signal(signal.SIGTERM)
            sidecar.says("waiting for . connections? to end")
            assert idle.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                connect(address)
            answering.sendall(b"x")
            reply = exchange(client, b"")
            assert reply.endswith(b"\r\nConnection: close\r\n\r\nok")
            assert client.recv(1) == b""
        assert sidecar.ends() in (0, -signal.SIGTERM)
        assert "Traceback" not in sidecar.said
    worker.close()
    assert worker.failure is None
    for one in (asking, asked, answering, answer):
        one.close()


CLOCK = """
import signal, sys, time
wall, ahead = time.time, [0.0]
time.time = lambda: wall() + ahead[0]
def step(*_):
    ahead[0] += 3600.0
    print("the clock was stepped", flush=True)
signal.signal(signal.SIGUSR2, step)
from twisted.scripts.twistd import run
sys.argv = ["twistd", "-n", "--pidfile=", "matrix-sidecar", *sys.argv[1:]]
run()
"""


def test_stepped_clock(tmp_path: Path) -> None:
    """When the wall clock is stepped by an hour, no deadline passes early (F-19)."""
    waiting: list[socket.socket] = []
    came, coming = socket.socketpair()

    def serve(connection: socket.socket) -> None:
        while True:
            head = read_until(connection, lambda got: b"\r\n\r\n" in got)
            if b"/sync" in head:
                waiting.append(connection)
                coming.sendall(b"x")
                connection.recv(1)
                return
            connection.sendall(OK)

    worker = PlainWorker(tmp_path / "main.sock", serve)
    prefix = [sys.executable, "-c", CLOCK]
    with Running(["-c", written(tmp_path)], tmp_path, prefix) as sidecar:
        address = sidecar.address()
        with connect(address) as polling, connect(address) as begun, connect(address) as client:
            polling.sendall(b"GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\n\r\n")
            came.recv(1)
            begun.sendall(GET[:10])
            assert exchange(client, GET) == OK
            sidecar.signal(signal.SIGUSR2)
            sidecar.says("the clock was stepped")
            for _ in range(20):
                assert exchange(client, GET) == OK
            begun.sendall(GET[10:])
            assert exchange(begun, b"") == OK
            waiting[0].sendall(OK)
            assert exchange(polling, b"") == OK
    worker.close()
    for one in (came, coming):
        one.close()


# In this process.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the reactor its own time back afterwards."""
    monkeypatch.setattr(reactor, "seconds", reactor.seconds)


def made(*arguments: str) -> Any:
    options = tap.Options()
    options.parseOptions(list(arguments))
    return tap.makeService(options)


def the_sidecar(services: MultiService) -> SidecarService:
    return next(service for service in services if isinstance(service, SidecarService))


@pytest.mark.usefixtures("clock")
def test_service_from_options(tmp_path: Path) -> None:
    """What the command line says overrides the file, and the plan decides."""

    async def scenario() -> None:
        path = written(tmp_path, port=1)
        services = made("-c", path, "--listen", "tcp:0:interface=127.0.0.1", "--admin", "tcp:9:interface=127.0.0.1")
        sidecar = the_sidecar(services)
        assert sidecar.settings.listen == ("tcp:0:interface=127.0.0.1",)
        assert sidecar.settings.admin == "tcp:9:interface=127.0.0.1"
        (main,) = sidecar.work.workers.values()
        assert (main.name, main.endpoint) == ("main", f"unix:{tmp_path}/main.sock")
        worker = Worker(tmp_path / "main.sock").start()
        services.startService()
        with socket.create_connection(("127.0.0.1", port_of(sidecar.ports[0]))) as client:
            client.sendall(GET + b"GET /_synapse/admin/v1/x HTTP/1.1\r\nHost: x\r\n\r\n")
            connection = await worker.connection()
            await connection.head()
            connection.send(OK)
            await turns(10)
            assert b"HTTP/1.1 403 Forbidden" in client.recv(10_000)
        await services.stopService()
        await worker.stop()

    spin(scenario())


@pytest.mark.usefixtures("clock")
def test_start_that_fails(tmp_path: Path) -> None:
    """A service that cannot listen ends the process with a sentence."""

    async def scenario() -> None:
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            services = made("-c", written(tmp_path, port=busy.getsockname()[1]))
            with pytest.raises(SystemExit) as raised:
                services.startService()
        assert str(raised.value).startswith("matrix-sidecar: cannot listen on tcp:")
        await turns(10)

    spin(scenario())


@pytest.mark.usefixtures("clock")
def test_file_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A faulty file ends the process with a sentence before anything starts."""
    with pytest.raises(SystemExit) as ended:
        made("-c", written(tmp_path, "listne: []\n"))
    assert ended.value.code == os.EX_CONFIG
    assert "sidecar.yaml:1: " in capsys.readouterr().err


def test_free_port() -> None:
    """The preferred port is taken if it is free, else another one, else there is a sentence."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert tap._free_port(port) not in (0, port)
    assert tap._free_port(port) == port
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sidecar.tap.socket.socket", _NoSocket)
        with pytest.raises(SystemExit, match="no free port"):
            tap._free_port()


class _NoSocket(socket.socket):
    def bind(self, address: object) -> None:
        raise OSError("none left")


def test_plugin() -> None:
    """twistd finds the command, and does not import what it runs to find it."""
    from twisted import plugins
    from twisted.application.service import IServiceMaker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "__path__", [*plugins.__path__, str(ROOT / "twisted" / "plugins")])
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        makers: dict[str, Any] = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
    assert makers["matrix-sidecar"].module == "sidecar.tap"


ONLY_IPV4 = 'ip link set lo up; sysctl -q -w net.ipv6.conf.lo.disable_ipv6=1; exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a network of its own: root")
@pytest.mark.parametrize("addresses", [("127.0.0.1", "\\:\\:1"), ("\\:\\:1",)])
def test_a_host_without_ipv6_does_without(tmp_path: Path, addresses: tuple[str, ...]) -> None:
    """The default listens on `::1` too, which is no reason not to start; but there has to be something."""
    lines = "".join(f"  - tcp:0:interface={address}\n" for address in addresses)
    (tmp_path / "sidecar.yaml").write_text(f"listen:\n{lines}workers: {{main: {{endpoint: 'unix:main.sock'}}}}\n")
    prefix = ["unshare", "-n", "sh", "-c", ONLY_IPV4, "sh"]
    if len(addresses) == 1:
        status, said = run("-c", "sidecar.yaml", prefix=prefix, cwd=tmp_path)
        assert status != 0
        assert "cannot listen on tcp:0:interface=\\:\\:1: Cannot assign requested address" in said
    else:
        with Running(command("-c", "sidecar.yaml"), tmp_path, prefix) as running:
            running.says(r"not listening on tcp:0:interface=\\:\\:1: this host has no ::1")
            assert running.address()[0] == "127.0.0.1"
