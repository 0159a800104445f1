"""The sidecar as a guest: a stand-in for Synapse's objects in this process, with a site on a real socket.

`tests/end_to_end/test_inside.py` does the same in a real Synapse.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from net.peers import connected
from net.turns import reactor, spin, turns
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import Site
from zope.interface import implementer

from sidecar.app.operating import operator_services
from sidecar.config.endpoint_strings import address_of
from sidecar.config.inside import Inside
from sidecar.config.load import keys_of
from sidecar.guest.guest import MODULE, Guest, _is_at
from sidecar.observe.telemetry import log_into
from sidecar.synapse_module import Sidecar
from sidecar.transport.monotonic import MonotonicReactor

LISTEN = "tcp:0:interface=127.0.0.1"
SYNC = "GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\n\r\n"


@implementer(ILogObserver)
class Said:
    """What the sidecar logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))
        if "log_failure" in event:
            self.lines.append(event["log_failure"].getErrorMessage())

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def __contains__(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)


@pytest.fixture(autouse=True)
def said() -> Iterator[Said]:
    observer = Said()
    log_into(observer)
    yield observer
    log_into(globalLogPublisher)


class Servlets(Resource):
    """As Synapse's JsonResource keeps its servlets; answers anything with its name."""

    isLeaf = True

    def __init__(self, *regexes: str) -> None:
        super().__init__()
        entry = SimpleNamespace(servlet_classname="SomeRestServlet")
        self._routes = {re.compile(regex): {b"GET": entry} for regex in regexes}

    def render_GET(self, request: Any) -> bytes:
        return b"synapse"


class Host:
    """The reactor as Synapse has it, but that the test plays its end."""

    def __init__(self) -> None:
        self.triggers: list[Callable[[], Deferred[None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def addSystemEventTrigger(self, phase: str, event: str, action: Callable[[], Deferred[None]]) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.triggers.append(action)


class Homeserver:
    """What the guest knows of Synapse's HomeServer: its files, its name, its reactor, its version."""

    version_string = "Synapse/1.163.2"

    def __init__(self, directory: Path, config: Any, *, worker: str = "", resources: tuple[str, ...] = ()) -> None:
        self.directory, self.worker, self.module_config = directory, worker, config
        self.host = Host()
        self.shutdown: list[Callable[[], Deferred[None]]] = []
        socket = str(directory / "main.sock")
        listener = {"type": "http", "path": socket, "x_forwarded": True, "resources": [{"names": ["client"]}]}
        shared = {
            "server_name": "example.org",
            "report_stats": False,
            "listeners": [listener],
            "modules": [{"module": MODULE, "config": config}],
        }
        own = {"worker_app": "synapse.app.generic_worker", "worker_name": worker, "worker_listeners": [listener]}
        self._write("homeserver.yaml", {**shared, **({"listeners": []} if worker else {})})
        self._write("worker.yaml", own)
        names = ["homeserver.yaml", "worker.yaml"] if worker else ["homeserver.yaml"]
        self.config = SimpleNamespace(config_files=[str(directory / name) for name in names])
        root, matrix = Resource(), Resource()
        root.putChild(b"_matrix", matrix)
        matrix.putChild(b"client", EncodingResourceWrapper(Servlets(*resources), []))
        site: Any = Site(root)
        site.noisy = False
        self._port = reactor.listenUNIX(socket, site)

    def _write(self, name: str, content: Any) -> None:
        (self.directory / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def get_reactor(self) -> Host:
        return self.host

    def get_instance_name(self) -> str:
        return self.worker or "master"

    def get_instance_id(self) -> str:
        return "an id"

    def register_async_shutdown_handler(self, *, phase: str, eventType: str, shutdown_func: Any) -> None:
        self.shutdown.append(shutdown_func)

    async def close(self) -> None:
        await self._port.stopListening()


Hangups = list[tuple[Any, ...]]


@pytest.fixture(params=["hs", "homeserver_instance_id", "func"])
def hangups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Hangups:
    """What is registered for SIGHUP with one of the three forms that Synapse's function has had."""
    heard: Hangups = []
    functions: dict[str, Callable[..., None]] = {
        "hs": lambda hs, func: heard.append((hs, func)),
        "homeserver_instance_id": lambda homeserver_instance_id, func: heard.append((homeserver_instance_id, func)),
        "func": lambda func: heard.append((func,)),
    }
    module = ModuleType("synapse.app._base")
    module.register_sighup = functions[request.param]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "synapse.app._base", module)
    return heard


def hosted(directory: Path, config: Any, play: Any, **options: Any) -> None:
    """Run `play(guest)` with a guest that was started, and end both."""

    async def scenario() -> None:
        homeserver = Homeserver(directory, config, **options)
        guest = Guest(homeserver, config)
        try:
            guest.start()
            await play(guest)
        finally:
            await guest.stop()
            await homeserver.close()

    spin(scenario())


async def asked(guest: Guest, request: str = SYNC) -> bytes:
    """What a client of the guest is answered; to the end of the connection."""
    assert guest.reload is not None
    peer = await connected(guest.reload.sidecar.ports[0])
    peer.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
    answer = await peer.end()
    peer.close()
    await peer.vanishes()
    return answer


def test_a_guest(tmp_path: Path, said: Said, hangups: Hangups) -> None:
    """It serves by Synapse's files and version, on a clock of its own, and ends with the homeserver."""

    async def play(guest: Guest) -> None:
        assert guest.reload is not None
        assert (await asked(guest)).endswith(b"synapse")
        deployment = guest.reload.deployment
        assert deployment.table.asked == "1.163.2"
        assert deployment.settings.timeouts.drain == 5.0
        assert isinstance(guest.reload.sidecar.reactor, MonotonicReactor)
        assert hangups[0][-1] == guest.reload.reload
        homeserver = guest.homeserver
        assert hangups[0][:-1] in ((homeserver,), ("an id",), ())
        assert homeserver.host.triggers == homeserver.shutdown == [guest.stop]
        ended = homeserver.host.triggers[0]()
        assert guest.stop() is ended
        await ended
        assert not guest.reload.running
        assert not guest.reload.sidecar.ports

    hosted(tmp_path, {"listen": LISTEN}, play)
    assert "Traceback" not in said


def test_a_worker_as_host(tmp_path: Path, said: Said) -> None:
    """A worker that `processes` names; its own file is told from the shared ones, and its servlets make the table."""
    regexes = ("^/_matrix/client/(api/v1|r0|v3)/sync$", "^/_matrix/client/v3/rooms/(a|b)(c|d)$")

    async def play(guest: Guest) -> None:
        assert guest.reload is not None
        plan = guest.reload.deployment.plan
        assert set(plan.workers) == {"main", "w1"}
        rows = {row.endpoint.name: row for row in plan.rows}
        assert "sync" in rows
        assert guest.reload.deployment.table.endpoints
        assert "the servlets of w1 differ from the endpoints of 1.163: 1 more, [0-9]+ fewer" in said

    (tmp_path / "sidecar.yaml").write_text("workers: {main: {endpoint: unix:elsewhere.sock}}\ntimeouts: {drain: 1s}\n")
    config = {"listen": [LISTEN], "processes": ["main", "w1"], "file": str(tmp_path / "sidecar.yaml")}
    hosted(tmp_path, config, play, worker="w1", resources=regexes)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"lisen": LISTEN}, r"homeserver\.yaml:\d+: modules\[0\]\.config\.lisen: unknown key; did you mean `listen`"),
        ({"listen": "tpc:1"}, r"homeserver\.yaml:\d+: modules\[0\]\.config\.listen: .* it must begin with"),
        ({"processes": "master"}, r"`master` is how Synapse calls its main process; here its name is `main`"),
        (["listen"], r"modules\[0\]\.config: must be a mapping with keys such as `listen:`, not a list"),
        ({"file": "nowhere.yaml"}, r"nowhere\.yaml: the file does not exist"),
        ({"listen": "unix:/proc/none/sock"}, "cannot listen on unix:/proc/none/sock: "),
        ({"listen": LISTEN, "admin": "unix:/proc/none/sock"}, "cannot listen on unix:/proc/none/sock: "),
    ],
)
def test_what_is_wrong(tmp_path: Path, said: Said, config: Any, sentence: str) -> None:
    """It is told with its line, nothing is listened to, and no exception reaches Synapse."""

    async def play(guest: Guest) -> None:
        assert guest.reload is None or not guest.reload.sidecar.ports

    hosted(tmp_path, config, play)
    assert f"Synapse runs without its sidecar: .*{sentence}" in said


def test_what_nobody_foresaw(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is logged with its traceback, at the start as at the end."""

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    async def play(guest: Guest) -> None:
        assert guest.reload is not None

    monkeypatch.setattr("sidecar.guest.guest.operator_services", fail)
    hosted(tmp_path, {"listen": LISTEN, "admin": LISTEN}, play)
    assert "which failed to start" in said
    assert "a fault of ours" in said
    monkeypatch.setattr("sidecar.guest.guest.operator_services", operator_services)
    monkeypatch.setattr("sidecar.app.reload.Reload.stopService", fail)
    hosted(tmp_path, {"listen": LISTEN, "admin": LISTEN}, play)
    assert "did not stop in good order" in said


def test_a_synapse_that_is_unlike_any_known(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its objects have changed, the sidecar does with less: the table of the release, and no reload on SIGHUP."""
    monkeypatch.setattr("sidecar.guest.guest.registered", lambda root: root.nonsense)
    module = ModuleType("synapse.app._base")
    monkeypatch.setitem(sys.modules, "synapse.app._base", module)
    monkeypatch.delattr(Homeserver, "register_async_shutdown_handler")

    async def play(guest: Guest) -> None:
        assert guest.reload is not None
        assert (await asked(guest)).endswith(b"synapse")

    hosted(tmp_path, {"listen": LISTEN}, play)
    assert "the servlets of this Synapse could not be read, so those of its release count" in said
    assert "the sidecar will not be reloaded with Synapse" in said


def test_a_process_without_a_listener(tmp_path: Path) -> None:
    """A worker for background jobs serves nothing, and can be host all the same."""

    async def play(guest: Guest) -> None:
        assert guest.reload is not None
        assert "w1" not in guest.reload.deployment.plan.workers

    homeserver = Homeserver._write
    config = {"listen": LISTEN, "processes": "w1", "workers": [], "file": str(tmp_path / "sidecar.yaml")}
    (tmp_path / "sidecar.yaml").write_text("workers: {main: {endpoint: unix:main.sock}}\n")

    def write(self: Homeserver, name: str, content: Any) -> None:
        homeserver(self, name, {**content, "worker_listeners": []} if name == "worker.yaml" else content)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Homeserver, "_write", write)
        hosted(tmp_path, config, play, worker="w1")


def test_a_module_s_configuration_that_is_in_no_file(tmp_path: Path, said: Said) -> None:
    """As where somebody has edited the file since Synapse started: the first file is named."""

    async def play(guest: Guest) -> None:
        other = Guest(guest.homeserver, {"lisen": 1})
        other.start()
        guest.homeserver.config.config_files = []
        other.start()
        await other.stop()

    hosted(tmp_path, {"listen": LISTEN}, play)
    assert r"/homeserver\.yaml: modules\.sidecar\.synapse_module\.Sidecar\.lisen: unknown key" in said
    assert r"sidecar: homeserver\.yaml: modules" in said


def test_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the descriptors are left to Synapse: each of our connections may need two."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))

    async def play(guest: Guest) -> None:
        assert guest.reload is not None
        assert guest.reload.deployment.settings.limits.connections == 256

    hosted(tmp_path, {"listen": LISTEN}, play)
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)

    async def unlimited(guest: Guest) -> None:
        assert guest.reload is not None
        assert guest.reload.deployment.settings.limits.connections == 10_000

    hosted(tmp_path, {"listen": LISTEN}, unlimited)


@pytest.mark.parametrize(
    ("host", "endpoint", "same"),
    [
        (UNIXAddress(b"/run/a.sock"), "unix:/run/a.sock", True),
        (UNIXAddress("/run/a.sock"), "unix:/run/b.sock", False),
        (IPv4Address("TCP", "0.0.0.0", 8008), "tcp:127.0.0.1:8008", True),
        (IPv4Address("TCP", "127.0.0.1", 8008), "tcp:127.0.0.1:8009", False),
        (IPv4Address("TCP", "127.0.0.1", 8008), "unix:8008", False),
    ],
)
def test_the_listener_that_requests_come_to(host: Any, endpoint: str, same: bool) -> None:
    """Only the servlets behind it count; of a TCP listener the port tells it from the others of the process."""
    wanted = address_of(endpoint)
    assert wanted is not None
    assert _is_at(host, wanted) is same


# The module itself.


@pytest.mark.parametrize(
    ("config", "worker", "meant"),
    [
        ({}, "", True),
        ({}, "w1", False),
        ({"processes": "w1"}, "", False),
        ({"processes": ["w1", "w2"]}, "w2", True),
        ({"processes": ["master"]}, "", True),
        ({"processes": ["master"]}, "w1", False),
        ({"processes": {}}, "", True),
        ({"processes": [1]}, "", True),
        (["listen"], "", True),
        (None, "w1", False),
    ],
)
def test_the_module(tmp_path: Path, caplog: pytest.LogCaptureFixture, config: Any, worker: str, *, meant: bool) -> None:
    """It begins in the next turn of the reactor, in the processes that are meant; in main, where that is unclear.

    And logs where Synapse does.
    """

    async def scenario() -> None:
        homeserver = Homeserver(tmp_path, config, worker=worker)
        Sidecar(Sidecar.parse_config(config), SimpleNamespace(_hs=homeserver))
        await turns()
        await homeserver.close()
        for stop in homeserver.host.triggers:
            await stop()

    (tmp_path / "sidecar.yaml").write_text("workers: {main: {endpoint: unix:main.sock}}\n")
    if isinstance(config, dict):
        config = {"listen": LISTEN, "file": str(tmp_path / "sidecar.yaml"), **config}
    with caplog.at_level("INFO", "sidecar"):
        spin(scenario())
    assert ("the sidecar runs inside" not in caplog.text) is meant
    assert bool(re.search("listening on|without its sidecar", caplog.text)) is meant


def test_a_module_that_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """Not even an unknown Synapse is prevented from starting."""
    Sidecar({}, SimpleNamespace())
    assert "Synapse runs without its sidecar, which could not be made" in caplog.text


def test_the_documentation_knows_every_key() -> None:
    """The table of docs/in-process.md has the keys of the module, and no other."""
    page = (Path(__file__).parents[1] / "docs" / "in-process.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)) == set(keys_of(Inside))
