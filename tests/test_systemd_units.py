"""What systemd is given and told: the units hold together, expose little, and the process speaks to systemd."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import ROOT, Running, run
from twisted.internet.task import Clock

from sidecar import cli, tap
from sidecar.app.sd_notify import SystemdNotice, reloading, tell, watchdog_interval
from sidecar.config.schema import Limits, Timeouts
from sidecar.entrance.descriptors import RESERVE
from sidecar.loading.deployment import DEFAULT_PATH

UNITS = ROOT / "systemd"
SERVICES = ["matrix-sidecar.service", "matrix-sidecar@.service"]
MOST_EXPOSURE = 2.0

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def values(unit: str, key: str) -> list[str]:
    """What a unit says for a key, in order; continued lines are joined."""
    text = (UNITS / unit).read_text().replace("\\\n", " ")
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def one(unit: str, key: str) -> str:
    (value,) = values(unit, key)
    return value


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_exposure(unit: str, tmp_path: Path) -> None:
    """`systemd-analyze security` finds little that a broken sidecar could do."""
    shutil.copy(UNITS / unit, tmp_path / unit)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("unit", SERVICES)
def test_the_command_of_a_unit(unit: str) -> None:
    """The command line is one that the sidecar takes, and names the socket as the socket's unit does."""
    line = shlex.split(one(unit, "ExecStart"))
    options = tap.Options()
    options.parseOptions(line[line.index("matrix-sidecar") + 1 :])
    name = one("matrix-sidecar.socket", "FileDescriptorName")
    assert options["listen"] == [f"systemd:domain=INET:name={name}"]
    assert options["config"] == DEFAULT_PATH


@pytest.mark.parametrize("unit", SERVICES)
def test_the_reload_of_a_unit(unit: str) -> None:
    """It is a command that waits for the outcome, finds it where the unit has a directory, and gets the process."""
    line = shlex.split(one(unit, "ExecReload"))
    command = cli.main.commands[line[1]]
    context = command.make_context(line[1], [word.replace("$MAINPID", "7") for word in line[2:]])
    assert context.params["pid"] == 7
    assert one(unit, "RuntimeDirectory")
    assert one(unit, "Type") == "notify"


@pytest.mark.parametrize("unit", SERVICES)
@pytest.mark.parametrize(
    ("status", "others", "closed"), [(os.EX_CONFIG, False, True), (os.EX_CONFIG, True, False), (1, False, False)]
)
def test_a_configuration_that_cannot_be_used(
    unit: str, status: int, others: bool, closed: bool, tmp_path: Path
) -> None:
    """systemd does not try again; the socket is closed, but not under the feet of another instance."""
    assert int(one(unit, "RestartPreventExitStatus")) == os.EX_CONFIG
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\ncase $1 in is-active) exit {0 if others else 3};; esac\necho "$@" >>{tmp_path}/said\n'
    )
    systemctl.chmod(0o755)
    line = shlex.split(one(unit, "ExecStopPost").removeprefix("+"))
    where = {"EXIT_STATUS": str(status), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(line, env=where, check=False).returncode == 0
    said = tmp_path / "said"
    assert said.exists() is closed
    if closed:
        assert said.read_text() == "--no-block stop matrix-sidecar.socket\n"


@pytest.mark.parametrize("unit", SERVICES)
def test_the_numbers_of_a_unit(unit: str) -> None:
    """systemd waits longer than a drain takes, and allows the descriptors that the default limits need."""
    assert int(one(unit, "TimeoutStopSec")) > Timeouts().drain
    assert int(one(unit, "LimitNOFILE")) >= 2 * Limits().connections + RESERVE


def test_the_services_differ_where_they_must() -> None:
    """What one process has of its own, and nothing else, is different where there are several."""
    single, several = (set((UNITS / unit).read_text().partition("[Unit]")[2].splitlines()) for unit in SERVICES)
    different = {line.strip().partition("=")[0] for line in single ^ several if not line.startswith("#")}
    arguments = {key for key in different if key.startswith("--")}
    assert len(arguments) == 2
    assert different - arguments == {
        *("DefaultInstance", "Description", "RuntimeDirectory", "Sockets", "StateDirectory", "SyslogIdentifier"),
    }


def test_memory_that_is_written_is_never_executed(tmp_path: Path) -> None:
    """The sidecar starts where MemoryDenyWriteExecute= is in force (PR_SET_MDWE, Linux 6.3)."""
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    status, said = run("-c", "nowhere.yaml", prefix=[sys.executable, "-c", deny], cwd=tmp_path)
    assert status == os.EX_CONFIG
    assert "nowhere.yaml" in said


# What the process tells systemd.


class Listening:
    """The end of sd_notify(3) that systemd has."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.settimeout(30)

    def hears(self, key: str) -> dict[str, str]:
        """The next message with `key`, of those that are not signs of life."""
        while True:
            message = dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())
            if key in message:
                return message
            assert "WATCHDOG" in message, message

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Listening]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@matrix-sidecar-test-{os.getpid()}"
    listening = Listening(address)
    yield address, listening
    listening.close()


def test_a_life_as_systemd_hears_it(systemd: tuple[str, Listening], tmp_path: Path) -> None:
    """READY when it serves, signs of life, RELOADING and READY again whether the file is good or not, STOPPING."""
    address, listening = systemd
    path = tmp_path / "sidecar.yaml"
    good = (
        'listen: "tcp:0:interface=127.0.0.1"\nsynapse: {version: "1.163.2"}\n'
        'workers: {main: {endpoint: "unix:main.sock"}}\n'
    )
    path.write_text(good)
    with Running(["-c", str(path)], tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as sidecar:
        serving = "serving 0 workers, Synapse 1.163"
        assert listening.hears("READY") == {"READY": "1", "STATUS": serving}
        for _ in range(3):
            assert listening.hears("WATCHDOG") == {"WATCHDOG": "1"}
        refused = f"{serving}; reload refused: {path}:4: nonsense: "
        for text, told_then in ((good, serving), (good + "nonsense: 1\n", refused), (good, serving)):
            path.write_text(text)
            sidecar.signal(signal.SIGHUP)
            told = listening.hears("RELOADING")
            assert told["RELOADING"] == "1"
            assert 0 < int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            status = listening.hears("READY")["STATUS"]
            assert status.startswith(told_then)
            assert ("refused" in status) is ("refused" in told_then)
        sidecar.signal(signal.SIGTERM)
        assert listening.hears("STOPPING")["STOPPING"] == "1"
        assert sidecar.ends() == 0


def test_systemd_does_not_answer(tmp_path: Path) -> None:
    """A socket of systemd that is gone is a line in the log, and nothing else."""
    (tmp_path / "sidecar.yaml").write_text(
        'listen: "tcp:0:interface=127.0.0.1"\nsynapse: {version: "1.163.2"}\n'
        'workers: {main: {endpoint: "unix:main.sock"}}\n'
    )
    gone = str(tmp_path / "gone")
    with Running(["-c", str(tmp_path / "sidecar.yaml")], tmp_path, NOTIFY_SOCKET=gone) as sidecar:
        sidecar.says("cannot notify systemd of READY=1[^:]*: .*No such file")
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0


def test_in_this_process(systemd: tuple[str, Listening], monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life come at half the interval from the start until the process is gone, a stop or not."""
    address, listening = systemd
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    clock = Turning()
    notice = SystemdNotice(clock, lambda: "serving")
    notice.startService()
    assert listening.hears("READY")
    assert listening.hears("WATCHDOG")
    notice.stopService()
    assert listening.hears("STOPPING")
    clock.advance(5)
    assert listening.hears("WATCHDOG")
    tell(reloading())
    assert listening.hears("RELOADING")


class Turning(Clock):
    def callWhenRunning(self, action: Callable[[], None]) -> None:
        action()


@pytest.mark.parametrize(
    ("settings", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_whether_signs_of_life_are_expected(
    settings: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where systemd set an interval, and for this process."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert watchdog_interval() == interval


def test_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told where nobody listens, and a socket that is gone does no harm."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    clock = Turning()
    notice = SystemdNotice(clock, lambda: "serving")
    notice.startService()
    notice.stopService()
    assert not clock.getDelayedCalls()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    tell("READY=1")
