"""A reload: what it changes, what it leaves alone, and that nobody notices one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from busy import AnsweringWorker, BusyClients, sync_of
from net.turns import logged_failures, reactor, staged
from processes import Running
from twisted.python.failure import Failure

from sidecar.app.reload import Reload, ReloadOutcome
from sidecar.app.service import SidecarService
from sidecar.app.version_watch import VersionWatch
from sidecar.app.work import work_of
from sidecar.loading.altered import changes
from sidecar.loading.deployment import Deployment, for_version, read_deployment

RELOADS = 50
WORKERS = ("main", "sync1", "sync2", "sync3")


def configuration(number: int, *, broken: bool = False, listen: str = "tcp:0:interface=127.0.0.1") -> str:
    """The `number`th: one worker comes or goes, another weighs more, a limit is another. Broken: a key is unknown."""
    present = [name for name in WORKERS if name != f"sync{number % 3 + 1}"]
    workers = "".join(
        f'  {name}: {{endpoint: "unix:{name}.sock", serves: [client], weight: {1 + (number + index) % 4}}}\n'
        for index, name in enumerate(present)
    )
    return (
        f'listen: "{listen}"\nsynapse: {{version: "1.163.2"}}\nworkers:\n{workers}'
        f"pools:\n  sync: {{workers: [{', '.join(present[1:])}]}}\n"
        f"limits:\n  {f'nonsense{number}' if broken else 'waiting'}: {1000 + number}\n"
    )


def test_reloads_under_load(tmp_path: Path) -> None:
    """Busy clients that never retry notice none of 50 reloads, every other one of which has a broken file."""
    path = tmp_path / "sidecar.yaml"
    path.write_text(configuration(0))
    workers = [AnsweringWorker(tmp_path, name) for name in WORKERS]
    with Running(["-c", str(path)], tmp_path) as sidecar:
        address = sidecar.address()
        with BusyClients(20, address, sync_of) as clients:
            clients.more(100)
            for number in range(1, RELOADS + 1):
                broken = number % 2 == 1
                path.write_text(configuration(number, broken=broken))
                sidecar.signal(signal.SIGHUP)
                if broken:
                    sidecar.says(rf"not reloaded, nothing has changed: .*sidecar\.yaml:\d+: limits\.nonsense{number}: ")
                else:
                    sidecar.says(rf"reloaded: workers added: .*limits\.waiting: {1000 + number} \(before: ")
                clients.more(20)
        assert not clients.failures
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0
        assert "Traceback" not in sidecar.said
    assert all(worker.answered for worker in workers[1:])
    for worker in workers:
        worker.close()
        assert worker.failure is None


def test_an_included_file_is_read_again(tmp_path: Path) -> None:
    """A change and a new file apply; a mistake in one of them, or one that is named and gone, changes nothing."""
    path, parts = tmp_path / "sidecar.yaml", tmp_path / "conf.d"
    parts.mkdir()
    path.write_text('include: ["conf.d/*.yaml", "${SITE}.yaml"]\n' + configuration(0).partition("limits:")[0])
    (tmp_path / "site.yaml").write_text("limits: {waiting: 7}\n")
    with Running(["-c", str(path)], tmp_path, SITE="site") as sidecar:
        sidecar.address()
        (tmp_path / "site.yaml").write_text("limits: {waiting: 8}\n")
        (parts / "a.yaml").write_text("timeouts: {wait: 5s}\n")
        sidecar.signal(signal.SIGHUP)
        said = sidecar.says(r"reloaded: .*limits\.waiting: 8 \(before: 7\).*")
        assert "timeouts.wait: 5" in said.group(0)
        (parts / "a.yaml").write_text("timeouts: {wait: 5s}\nlimits: {waiting: 9}\n")
        sidecar.signal(signal.SIGHUP)
        sidecar.says(
            r"not reloaded, nothing has changed: .*site\.yaml:1: limits\.waiting: .*conf\.d/a\.yaml:2 sets this too"
        )
        (parts / "a.yaml").write_text("")
        sidecar.signal(signal.SIGHUP)
        sidecar.says(r"not reloaded, nothing has changed: .*conf\.d/a\.yaml: the file is empty now")
        (parts / "a.yaml").unlink()
        (tmp_path / "site.yaml").unlink()
        sidecar.signal(signal.SIGHUP)
        sidecar.says(r"not reloaded, nothing has changed: .*sidecar\.yaml:1: include\[1\]: .*site\.yaml does not exist")


# In this process.


class Threads:
    """A reactor whose threads do their work when the test says so."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[bool, Any], None], Callable[[], Any]]] = []

    def seconds(self) -> float:
        return 0.0

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(self, told: Callable[[bool, Any], None], work: Callable[[], Any]) -> None:
        self._waiting.append((told, work))

    def callFromThread(self, action: Callable[..., None], *arguments: Any) -> None:
        action(*arguments)

    def work(self) -> None:
        (told, work), self._waiting = self._waiting[0], self._waiting[1:]
        try:
            result = work()
        except Exception:
            told(False, Failure())
        else:
            told(True, result)

    @property
    def idle(self) -> bool:
        return not self._waiting


class Reloadable:
    """A sidecar that is not listening, with the file that it is made from."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "sidecar.yaml"
        self.write(configuration(0))
        self.threads = Threads()
        deployment = read_deployment(str(self.path))
        self.sidecar = SidecarService(work_of(deployment), reactor)
        self.reload = Reload(self.sidecar, deployment, partial(read_deployment, str(self.path)), self.threads)
        self.reload.startService()

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def reloaded(self, text: str) -> ReloadOutcome:
        self.write(text)
        self.reload.reload()
        self.threads.work()
        assert self.reload.outcome is not None
        return self.reload.outcome

    async def strike(self) -> None:
        self.reload.stopService()
        await self.sidecar.stopService()


@staged(Reloadable)
async def test_what_a_reload_changes(scene: Reloadable) -> None:
    """Workers that are new get pools, those that stay keep theirs with new limits, those that go are retired."""
    before = dict(scene.sidecar.gateway.pools)
    assert scene.reload.look().reloaded is None
    outcome = scene.reloaded(configuration(1))
    after = scene.sidecar.gateway.pools
    assert outcome.accepted
    assert outcome.sentences[:3] == ("workers added: sync1", "workers removed: sync2", "workers altered: main, sync3")
    assert outcome.sentences[-1] == "limits.waiting: 1001 (before: 1000)"
    assert list(after) == ["main", "sync1", "sync3"]
    assert after["main"] is before["main"]
    assert after["main"].limits.waiting == 1001
    assert before["sync2"].retired
    assert scene.reload.look().plan is scene.reload.deployment.plan
    assert scene.reload.look().reloaded


@staged(Reloadable)
async def test_a_worker_that_moves(scene: Reloadable) -> None:
    """A worker at another address gets another pool, and is drained still if it was."""
    before = scene.sidecar.gateway.pools["main"]
    before.drain()
    outcome = scene.reloaded(configuration(0).replace("main.sock", "other.sock"))
    after = scene.sidecar.gateway.pools["main"]
    assert "workers altered: main" in outcome.sentences
    assert before.retired
    assert (after.socket_path, after.draining) == (str(scene.path.parent / "other.sock"), True)


@staged(Reloadable)
async def test_a_listener_does_not_change(scene: Reloadable) -> None:
    """A changed `listen` or `admin` is refused with its line, and the rest applies."""
    changed = configuration(3, listen="tcp:1:interface=127.0.0.1") + 'admin: "tcp:2:interface=127.0.0.1"\n'
    outcome = scene.reloaded(changed)
    assert outcome.accepted
    assert outcome.sentences[-2:] == tuple(
        f"{scene.path}:{line}: {key}: warning: has changed, which needs a restart; what it was before holds"
        for line, key in ((1, "listen"), (len(changed.splitlines()), "admin"))
    )
    assert scene.sidecar.settings.limits.waiting == 1003
    assert scene.sidecar.settings.listen == ("tcp:0:interface=127.0.0.1",)
    assert any("needs a restart" in str(problem) for problem in scene.reload.look().problems)


@staged(Reloadable)
async def test_a_broken_file_changes_nothing(scene: Reloadable) -> None:
    """Every fault is told with its line, and what ran runs on."""
    gateway, deployment = scene.sidecar.gateway, scene.reload.deployment
    outcome = scene.reloaded(configuration(1, broken=True))
    assert not outcome.accepted
    assert outcome.sentences[0].startswith(f"{scene.path}:10: limits.nonsense1: unknown key")
    assert scene.sidecar.gateway is gateway
    assert scene.reload.deployment is deployment
    scene.path.unlink()
    scene.reload.reload()
    scene.threads.work()
    assert "the file does not exist" in scene.reload.look().sentences[0]


@staged(Reloadable)
async def test_reading_that_fails(scene: Reloadable) -> None:
    """A fault of ours while reading is logged, changes nothing, and does not prevent the next reload."""

    def fail(**_: Any) -> Deployment:
        raise ZeroDivisionError

    read, scene.reload.read = scene.reload.read, fail
    with logged_failures() as failures:
        outcome = scene.reloaded(configuration(1))
    assert failures[0].check(ZeroDivisionError)
    failures.clear()
    assert outcome == ReloadOutcome(False, ("ZeroDivisionError",))
    scene.reload.read = read
    assert scene.reloaded(configuration(1)).accepted


@staged(Reloadable)
async def test_nothing_is_different(scene: Reloadable) -> None:
    """A reload of the same files says so, and keeps every pool."""
    before = dict(scene.sidecar.gateway.pools)
    assert scene.reloaded(configuration(0)).sentences == ("nothing is different",)
    assert scene.sidecar.gateway.pools == before


@staged(Reloadable)
async def test_asked_while_reading(scene: Reloadable) -> None:
    """Whoever asks during a reload gets another one after it, so that the last state of the files is what holds."""
    scene.reload.reload()
    scene.reload.reload()
    scene.reload.reload()
    scene.threads.work()
    scene.write(configuration(4))
    assert scene.sidecar.settings.limits.waiting == 1000
    scene.threads.work()
    assert scene.sidecar.settings.limits.waiting == 1004
    assert scene.threads.idle


@staged(Reloadable)
async def test_stopped_while_reading(scene: Reloadable) -> None:
    """What was read for a sidecar that is stopping is not used, and nothing more is read."""
    gateway = scene.sidecar.gateway
    scene.write(configuration(4))
    scene.reload.reload()
    scene.reload.stopService()
    scene.threads.work()
    assert scene.sidecar.gateway is gateway
    scene.reload.reload()
    assert scene.threads.idle


@staged(Reloadable)
async def test_another_version(scene: Reloadable) -> None:
    """The rows of another Synapse are used without reading the files, which may be in the middle of a change."""
    watch = VersionWatch(scene.reload, reactor)
    watch.startService()
    main = scene.sidecar.gateway.pools["main"]
    assert main.on_new_life is None
    assert scene.reloaded(configuration(0).replace('synapse: {version: "1.163.2"}\n', "")).accepted
    assert main.on_new_life is not None
    scene.write("nonsense")
    scene.reload.use(for_version(scene.reload.deployment, "1.140.0"))
    assert scene.reload.deployment.table.release == "1.140"
    assert scene.sidecar.gateway.pools["main"] is main
    outcome = scene.reloaded(configuration(0).replace("1.163.2", "1.150.0"))
    assert outcome.sentences == ("endpoints of Synapse 1.150 instead of 1.140",)
    assert main.on_new_life is None
    watch.stopService()


def test_what_is_told(tmp_path: Path) -> None:
    """Every section that differs is told by its keys, with both values, in the units that the file has."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    worker = 'workers: {main: {endpoint: "unix:/main.sock"}}\nsynapse: {version: "1.163.2"}\n'
    first.write_text(worker)
    second.write_text(
        f"{worker}timeouts: {{wait: 500ms}}\naccess: {{admin: [10.0.0.0/8]}}\nforwarded: {{proto: https}}\n"
        "routes: [{path: /a, respond: {}}]\nlog: {access: true}\n"
    )
    told = changes(read_deployment(str(first)), read_deployment(str(second)))
    assert told == [
        "routes: 1 now, 0 before",
        "timeouts.wait: 0.5 (before: 30)",
        "forwarded.proto: https (before: None)",
        "access.admin: 10.0.0.0/8 (before: none)",
        "log.access: True (before: False)",
    ]
