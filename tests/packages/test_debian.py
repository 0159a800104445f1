"""The package on a Debian that has booted, beside a real Synapse with workers: as docs/getting-started.md tells it.

The tests of one release are steps on one machine, in the order of the file; clients that never retry take part in them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from docs.blocks import ROOT, Block, blocks, commands

from . import homeserver, trees
from .booted import Booted

PAGE = ROOT / "docs" / "getting-started.md"
ONLY_HERE = "only a Debian that has booted can, and tests/packages boots one"
INSTALL, UPGRADE = "### 1. Install", "### 7. Upgrade and remove"
STEPS = ("### 2. Write the configuration", "### 3. Check before you send traffic", "### 4. Start it")
CLIENTS = 6
AT_A_TERMINAL = r"printf '\n%.0s' {{1..9}} | script --quiet --return --flush --command {} /dev/null"
SERVICE = "matrix-sidecar.service"
VERSIONS = "http://127.0.0.1:8008/_matrix/client/versions"
FILE = "/etc/matrix-sidecar/sidecar.yaml"


@define(eq=False)
class Crowd:
    """Clients on the machine."""

    process: subprocess.Popen[str]
    requests: int = field(default=0, init=False)

    def lost(self) -> list[str]:
        """What went wrong since the last time, once each client has had an answer more."""
        assert self.process.stdin is not None
        wanted, lost = self.requests + CLIENTS, list[str]()
        while self.requests < wanted:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            lost += self._read()
        return lost

    def end(self) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        lost = self._read()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return lost

    def _read(self) -> list[str]:
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.requests = told["requests"]
        return list(told["failures"])


@define(eq=False)
class Scene:
    """One release: its machine, and what is going on there."""

    suite: str
    machine: Booted
    package: Path
    crowd: Crowd | None = None

    def put(self, package: Path) -> None:
        """Where the page says that it is: in the directory in which its commands are typed."""
        for old in (self.machine.tree / "root").glob("*.deb"):
            old.unlink()
        shutil.copy(package, self.machine.tree / "root")

    def page(self, heading: str) -> Iterator[Block]:
        """The blocks below a heading that are for this machine, in order."""
        lines = PAGE.read_text().splitlines()
        begin = lines.index(heading) + 1
        end = next((n for n, line in enumerate(lines) if n >= begin and line.startswith("##")), len(lines))
        for block in blocks(PAGE):
            alone = heading in (INSTALL, UPGRADE)
            wanted = block.about == ONLY_HERE if alone else block.remark != "not run"
            if begin < block.line <= end and block.language == "sh" and wanted:
                yield block

    def type(self, heading: str) -> str:
        """Type what the page says there; what all of it printed."""
        said = ""
        for block in self.page(heading):
            for command, _ in commands(block):
                typed = AT_A_TERMINAL.format(shlex.quote(command)) if block.remark == "at a terminal" else command
                done = self.machine.run(typed)
                # `init` and `check` exit with 1 where there is anything to tell.
                assert done.status in ((0, 1) if block.remark == "at a terminal" else (0,)), f"{block}: {done.output}"
                said += done.output
        assert said
        return said

    def pid(self) -> int:
        return int(self.machine.does(f"systemctl show --property=MainPID --value {SERVICE}"))

    def begin(self) -> Crowd:
        script = Path(__file__).with_name("crowd.py")
        shutil.copy(script, self.machine.tree / "root")
        command = self.machine.command(
            f"exec python3 /root/crowd.py 8008 {homeserver.RUN}/main.sock '{homeserver.SECRET}' {CLIENTS}"
        )
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.crowd = Crowd(process)
        return self.crowd


@pytest.fixture(
    scope="module", params=[pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in trees.PYTHONS]
)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    reason = trees.impossible()
    if reason:
        pytest.skip(reason)
    suite = request.param
    with trees.workshop() as directory:
        base = trees.base(suite, directory)
        package = trees.build_package(suite, directory, base)
        tree = trees.copy(homeserver.installed(suite, directory, base), directory / f"{suite}-booted")
        try:
            with Booted(tree, directory / f"{suite}.console") as machine:
                homeserver.start(machine)
                yield Scene(suite, machine, package)
        finally:
            shutil.rmtree(tree, ignore_errors=True)


def newer(package: Path, directory: Path) -> Path:
    """The same package with a higher version."""
    trees.run("dpkg-deb", "--raw-extract", package, directory / "content")
    control = directory / "content" / "DEBIAN" / "control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1.1", control.read_text(), flags=re.MULTILINE))
    trees.run("dpkg-deb", "--root-owner-group", "-Znone", "--build", directory / "content", directory / package.name)
    return directory / package.name


@pytest.mark.needs("lintian")
def test_lintian_finds_no_error(scene: Scene) -> None:
    """Nor a warning that is not explained in the package."""
    assert trees.run("lintian", "--allow-root", "--fail-on=error,warning", scene.package) == ""


def test_it_installs_without_network_and_starts_nothing(scene: Scene) -> None:
    """With the command of the page; nothing runs, nothing listens, and nothing is enabled."""
    scene.put(scene.package)
    scene.type(INSTALL)
    machine = scene.machine
    for question, answer in (("is-active", "inactive"), ("is-enabled", "disabled")):
        assert machine.run(f"systemctl {question} matrix-sidecar.socket {SERVICE}").output.split() == [answer] * 2
    machine.does("getent group matrix-synapse")
    assert "dropin.cache" in machine.does("ls /opt/venvs/matrix-sidecar/lib/python3*/site-packages/twisted/plugins")
    assert machine.does("matrix-sidecar --version").startswith("matrix-sidecar 1.")
    machine.does("ls /usr/share/man/man1/matrix-sidecar.1.gz /usr/share/bash-completion/completions/matrix-sidecar")
    bill = json.loads(machine.does("zcat -f /usr/share/doc/matrix-sidecar/sbom.cdx.json*"))
    assert {"twisted", "crossplane", "cryptography", "h2"} <= {each["name"] for each in bill["components"]}


def test_three_lines_and_one_command_serve_a_real_synapse(scene: Scene) -> None:
    """All that the page says to type between the install and the proxy."""
    log = scene.machine.tree / "var" / "log" / "nginx"
    log.mkdir()
    (log / "access.log").write_text(
        '192.0.2.7 - - [01/Jan/2026:00:00:00 +0000] "GET /_matrix/client/v3/sync HTTP/1.1" 200 2 "-" "Element"\n'
    )
    said = "".join(map(scene.type, STEPS))
    assert "wrote /etc/matrix-sidecar/sidecar.yaml" in said
    assert '"versions"' in said
    assert scene.begin().lost() == []


def test_synapse_s_group_reaches_the_operator_s_socket(scene: Scene) -> None:
    """A member sees and drains like root; nobody else gets near it."""
    machine = scene.machine
    asked = "curl -sf --unix-socket /run/matrix-sidecar/admin.sock http://localhost/api"
    machine.does("useradd --groups matrix-synapse member && useradd stranger")
    assert "reader1" in machine.does("runuser -u member -- matrix-sidecar top --once")
    for call in ("drain", "undrain"):
        machine.does(f"runuser -u member -- {asked}/workers/reader1/{call} -X POST")
    assert "reader1" in machine.run("runuser -u member -- matrix-sidecar doctor").output
    assert machine.run(f"runuser -u stranger -- {asked}/status").status == 7
    assert scene.crowd is not None
    assert scene.crowd.lost() == []


def test_no_reload_loses_a_request(scene: Scene) -> None:
    """Nor one of a file with an error, after which the old configuration stays in force."""
    assert scene.crowd is not None
    before = scene.pid()
    for _ in range(5):
        scene.machine.does(f"systemctl reload {SERVICE}")
    scene.machine.does(f"cp {FILE} good && echo 'nonsense: 1' >>{FILE}")
    scene.machine.run(f"systemctl reload {SERVICE}")
    scene.machine.does(f"systemctl is-active {SERVICE} && cp good {FILE}")
    scene.machine.does(f"systemctl reload {SERVICE}")
    assert scene.crowd.lost() == []
    assert scene.pid() == before


def test_no_restart_loses_a_request(scene: Scene) -> None:
    """The clients wait in the socket."""
    assert scene.crowd is not None
    for _ in range(3):
        before = scene.pid()
        scene.machine.does(f"systemctl restart {SERVICE}")
        assert scene.pid() != before
    assert scene.crowd.lost() == []


def test_a_drain_outlives_a_restart(scene: Scene) -> None:
    """It is kept in the state directory that the unit makes, which only its user enters."""
    machine = scene.machine
    asked = "curl -sf --unix-socket /run/matrix-sidecar/admin.sock http://localhost/api"
    drained = f"{asked}/status | jq -r .workers.reader1.state"
    machine.does(f"cp {FILE} good && printf 'operator:\\n  remember_drains: drains.json\\n' >>{FILE}")
    machine.does(f"systemctl reload {SERVICE} && {asked}/workers/reader1/drain -X POST")
    machine.does(f"systemctl restart {SERVICE}")
    assert machine.does(drained) == "draining\n"
    assert "reader1" in machine.does("cat /var/lib/matrix-sidecar/drains.json")
    assert machine.does("stat --dereference --format=%a /var/lib/matrix-sidecar") == "700\n"
    machine.does(f"{asked}/workers/reader1/undrain -X POST && systemctl restart {SERVICE}")
    assert machine.does(drained) == "up\n"
    machine.does(f"cp good {FILE} && systemctl reload {SERVICE}")
    assert scene.crowd is not None
    assert scene.crowd.lost() == []


def test_a_rollout_loses_no_request(scene: Scene) -> None:
    """It restarts the units of every worker and of main, with the commands that are the default."""
    units = [homeserver.unit(worker) for worker in homeserver.WORKERS]
    ask = f"systemctl show --property=InvocationID --value {' '.join(units)} matrix-synapse.service"
    before = scene.machine.does(ask).split()
    said = scene.machine.does("matrix-sidecar rollout --all")
    after = scene.machine.does(ask).split()
    assert len(before) == len(after) == 3
    assert not set(before) & set(after)
    assert scene.machine.does(f"systemctl is-active {' '.join(units)} matrix-synapse.service").split() == ["active"] * 3
    assert scene.crowd is not None
    assert scene.crowd.lost() == []
    print(f"{scene.suite}: {said}")


def test_no_upgrade_loses_a_request(scene: Scene, tmp_path: Path) -> None:
    """As the page tells it; the new process runs from what was installed."""
    assert scene.crowd is not None
    before = scene.pid()
    scene.put(newer(scene.package, tmp_path))
    scene.type(UPGRADE)
    assert scene.machine.does("dpkg-query --show --showformat '${Version}' matrix-sidecar").endswith(".1")
    assert scene.pid() not in (0, before)
    scene.machine.does(f"systemctl is-active {SERVICE}")
    assert scene.crowd.lost() == []


def test_a_process_that_hangs_is_replaced(scene: Scene) -> None:
    """By the watchdog. Only what was under way in that process is lost: at most one request of each client."""
    assert scene.crowd is not None
    drop_in = f"/run/systemd/system/{SERVICE}.d"
    scene.machine.does(f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=3\\n' >{drop_in}/watchdog.conf")
    scene.machine.does(f"systemctl daemon-reload && systemctl restart {SERVICE}")
    assert scene.crowd.lost() == []
    before = scene.pid()
    scene.machine.does(f"kill -STOP {before}")
    restarts = f"systemctl show --property=NRestarts --value {SERVICE}"
    scene.machine.does(f"timeout 60 sh -c 'until [ $({restarts}) = 1 ]; do sleep 0.1; done'")
    scene.machine.does(f"timeout 60 sh -c 'until systemctl is-active {SERVICE}; do sleep 0.1; done'")
    assert scene.pid() not in (0, before)
    assert scene.machine.does(f"curl -sf {VERSIONS}").startswith("{")
    lost = scene.crowd.lost()
    print(f"{scene.suite}: {len(lost)} requests were under way in the process that hung, and are lost")
    assert len(lost) <= CLIENTS
    scene.machine.does(f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart {SERVICE}")
    assert scene.crowd.lost() == []


def test_the_journal_knows_warnings(scene: Scene) -> None:
    """By their priority, and without a second time of day in each line."""
    scene.machine.does(f"cp {FILE} good && echo 'nonsense: 1' >>{FILE}")
    scene.machine.run(f"systemctl reload {SERVICE}")
    scene.machine.does(f"cp good {FILE} && systemctl reload {SERVICE}")
    warned = scene.machine.does("journalctl --unit=matrix-sidecar --priority=warning --output=cat")
    assert "nonsense" in warned
    assert "listening on" not in warned
    told = scene.machine.does("journalctl --unit=matrix-sidecar --output=cat")
    assert "listening on" in told
    assert not re.search(r"^\d{4}-\d\d-\d\dT", told, re.MULTILINE)


def test_a_stop_loses_nothing_that_has_begun(scene: Scene) -> None:
    """The clients have ended before; then the port is closed, and nothing brings it back."""
    assert scene.crowd is not None
    assert scene.crowd.end() == []
    print(f"{scene.suite}: {scene.crowd.requests} requests in all")
    scene.machine.does("systemctl stop matrix-sidecar.socket matrix-sidecar.service")
    assert scene.machine.run("curl -s http://127.0.0.1:8008/").status == 7
    assert scene.machine.run(f"systemctl is-active {SERVICE}").output == "inactive\n"


def test_after_a_reboot_everything_is_there(scene: Scene) -> None:
    """The directory of the sockets, too, before any process of Synapse needs it."""
    scene.machine.reboot()
    scene.machine.does(f"timeout 100 sh -c 'until curl -sf {VERSIONS}; do sleep 0.2; done'")
    assert scene.machine.does(f"systemctl is-active {SERVICE}") == "active\n"
    assert scene.machine.does("stat --format=%U /run/matrix-synapse") == "matrix-synapse\n"


def test_nothing_is_left_of_it(scene: Scene) -> None:
    """Removed, only the configuration is left; purged, nothing but the group, which Synapse's files can belong to."""
    machine = scene.machine
    machine.does("apt-get remove -y matrix-sidecar")
    assert machine.run(f"systemctl is-active {SERVICE} matrix-sidecar.socket").output.split() == ["inactive"] * 2
    machine.does("test -e /etc/matrix-sidecar/sidecar.yaml")
    machine.does("test ! -e /opt/venvs/matrix-sidecar")
    machine.does("apt-get purge -y matrix-sidecar")
    elsewhere = "-path /root -prune -o -path /var/log -prune -o"
    assert machine.does(f"find / -xdev {elsewhere} -name '*matrix-sidecar*' -print") == ""
    machine.does("systemctl is-active matrix-synapse.service")
