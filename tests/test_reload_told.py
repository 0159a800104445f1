"""What a refused reload and a refused start say, everywhere: a real process, its workers, and whoever asks it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from busy import AnsweringWorker
from click.testing import CliRunner
from processes import PATIENCE, Running, connect, environment, exchange, run
from test_reload_faults import FAULTS, NAMES, REQUESTS, write_all
from test_systemd_units import Listening

from sidecar.app.outcome_file import NAME, keep, kept
from sidecar.cli import main

TO_SIGHUP = "signal.signal(signal.SIGHUP, %s); print(flush=True); signal.pause()"


def write_with_sockets(root: Path) -> list[Path]:
    """The homeserver of ten, with sockets that are there, and an operator's listener."""
    files = write_all(root)
    for file in files:
        file.write_text(file.read_text().replace("/run/none/", f"{root}/"))
    values = yaml.safe_load(files[0].read_text())
    files[0].write_text("# ours\n" + yaml.safe_dump({**values, "admin": f"unix:{root}/admin.sock"}, sort_keys=False))
    return files


@contextmanager
def workers(root: Path) -> Iterator[None]:
    made = [AnsweringWorker(root, name) for name in ("main", *NAMES)]
    yield
    for worker in made:
        worker.close()
        assert worker.failure is None


def answers(address: tuple[str, int]) -> list[bytes]:
    """Who answers each request."""
    with connect(address) as client:
        return [
            exchange(
                client,
                f"{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
                "Content-Length: 0\r\n\r\n".encode(),
            ).partition(b"\r\n\r\n")[2]
            for method, target, token in REQUESTS
            if target != "/own"
        ]


def told(root: Path, path: str) -> str:
    """What the operator's listener answers."""
    with socket.socket(socket.AF_UNIX) as operator:
        operator.connect(str(root / "admin.sock"))
        operator.settimeout(PATIENCE)
        operator.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        with operator.makefile("rb") as file:
            return file.read().decode().partition("\r\n\r\n")[2]


def reload(pid: int, root: Path) -> subprocess.CompletedProcess[str]:
    """What the units run for `systemctl reload`."""
    line = [sys.executable, "-m", "sidecar.cli", "reload", "--pid", str(pid), "--timeout", str(PATIENCE)]
    where = environment(RUNTIME_DIRECTORY=str(root / "runtime"))
    return subprocess.run(line, env=where, capture_output=True, text=True, check=False)


CHOSEN = {
    "no_file": "sync1.yaml",
    "truncated": "workers.yaml",
    "emptied": "typing1.yaml",
    "removed": "event1.yaml",
    "renamed": "workers.yaml",
    "recoded": "homeserver.yaml",
    "tab": "media1.yaml",
    "repeated": "sync2.yaml",
}


def test_a_refused_reload_is_told_everywhere(tmp_path: Path) -> None:
    """The same process answers each request, and all who could look at it are told the same reason."""
    files = write_with_sockets(tmp_path)
    (tmp_path / "runtime").mkdir()
    notify = tmp_path / "notify"
    systemd = Listening(str(notify))
    more: dict[str, Any] = {"RUNTIME_DIRECTORY": str(tmp_path / "runtime"), "NOTIFY_SOCKET": str(notify)}
    with workers(tmp_path), Running(["-c", str(files[0])], tmp_path, **more) as sidecar:
        address = sidecar.address()
        assert systemd.hears("READY")["STATUS"] == "serving 9 workers, Synapse 1.163"
        before = answers(address)
        assert len(set(before)) > 6
        for fault, name in CHOSEN.items():
            (file,) = (each for each in files if each.name == name)
            content = file.read_bytes()
            FAULTS[fault](file, 0.6)
            asked = reload(sidecar.pid, tmp_path)
            assert asked.returncode == 2, (fault, asked)
            first = asked.stderr.splitlines()[0].removeprefix("not reloaded, nothing has changed: ")
            assert answers(address) == before, fault
            outcome = json.loads(told(tmp_path, "/api/status"))["reload"]
            assert outcome["accepted"] is False
            assert outcome["problems"][0] == first
            assert "matrix_sidecar_reload_successful 0" in told(tmp_path, "/metrics")
            assert "The last reload was refused" in told(tmp_path, "/")
            systemd.hears("RELOADING")
            assert systemd.hears("READY")["STATUS"].endswith(f"; reload refused: {first}")
            sidecar.says(re.escape(f"not reloaded, nothing has changed: {first}"))
            assert json.loads(told(tmp_path, "/ready"))["ready"] is True
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
            file.write_bytes(content)
            mended = reload(sidecar.pid, tmp_path)
            assert (mended.returncode, mended.stdout) == (0, "reloaded: nothing is different\n"), (fault, mended)
            systemd.hears("RELOADING")
            assert systemd.hears("READY")["STATUS"] == "serving 9 workers, Synapse 1.163"
            assert answers(address) == before
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0
    systemd.close()


def test_a_start_without_a_workers_file(tmp_path: Path) -> None:
    """The others serve; the worker is down, for the reason that its file has, and nothing is ready for its stream."""
    files = write_with_sockets(tmp_path)
    (file,) = (each for each in files if each.name == "typing1.yaml")
    content = file.read_bytes()
    FAULTS["tab"](file, 0.3)
    with workers(tmp_path), Running(["-c", str(files[0])], tmp_path, RUNTIME_DIRECTORY=str(tmp_path)) as sidecar:
        address = sidecar.address()
        status = json.loads(told(tmp_path, "/api/status"))
        assert status["workers"]["typing1"]["state"] == "down"
        assert str(file) in status["workers"]["typing1"]["reason"]
        ready = json.loads(told(tmp_path, "/ready"))
        assert ready["ready"] is False
        assert "typing1" in " ".join(ready["reasons"])
        assert 'matrix_sidecar_worker_up{worker="typing1"} 0' in told(tmp_path, "/metrics")
        file.write_bytes(content)
        sidecar.signal(signal.SIGHUP)
        sidecar.says("reloaded: workers altered: typing1")
        # At once, not when it has been asked again.
        assert b"typing1" in answers(address)


@pytest.mark.parametrize("name", ["sidecar.yaml", "homeserver.yaml", "workers.yaml"])
def test_a_start_that_is_refused(name: str, tmp_path: Path) -> None:
    """Status 78, which the units do not restart on, and the first fault for `systemctl status`."""
    files = write_with_sockets(tmp_path)
    (file,) = (each for each in files if each.name == name)
    FAULTS["tab"](file, 0.5)
    notify = tmp_path / "notify"
    systemd = Listening(str(notify))
    with Running(["-c", str(files[0])], tmp_path, NOTIFY_SOCKET=str(notify)) as sidecar:
        assert sidecar.ends() == os.EX_CONFIG
        assert f"{file}:" in sidecar.said
        assert "Traceback" not in sidecar.said
    assert systemd.hears("STATUS")["STATUS"].startswith(f"not started: {file}:")
    systemd.close()


# The command by itself.


def test_without_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is missing, and sends no signal."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    result = CliRunner().invoke(main, ["reload", "--pid", str(os.getpid())])
    assert result.exit_code == 2
    assert "RUNTIME_DIRECTORY is not set" in result.output


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("", "cannot be asked to reload: No such process"),
        (
            TO_SIGHUP % "lambda *_: sys.exit()",
            "ended while it was",
        ),
        (
            TO_SIGHUP % "signal.SIG_IGN",
            "did not report within 0.3 s",
        ),
    ],
)
def test_a_process_that_does_not_answer(code: str, sentence: str, tmp_path: Path) -> None:
    """Whoever waits is told why in vain; an old outcome is none."""
    keep(str(tmp_path), True, ["old"], 1)
    child = subprocess.Popen([sys.executable, "-c", f"import signal, sys\n{code}"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    if not code:
        child.wait()
    arguments = ["reload", "--pid", str(child.pid), "--timeout", "0.3" if "SIG_IGN" in code else "30"]
    line = [sys.executable, "-m", "sidecar.cli", *arguments]
    asking = subprocess.Popen(line, env=environment(RUNTIME_DIRECTORY=str(tmp_path)), stderr=subprocess.PIPE, text=True)
    if "sys.exit" in code:
        child.wait()
    said = asking.communicate(timeout=PATIENCE)[1]
    assert asking.returncode == 2
    assert sentence in said
    child.kill()
    child.communicate()


def test_the_file_of_an_outcome(tmp_path: Path) -> None:
    """It is there as a whole, or there is none."""
    assert kept(str(tmp_path)) is None
    keep(str(tmp_path), False, ["a", "b"], 7)
    ended = kept(str(tmp_path))
    assert ended is not None
    assert (ended.accepted, list(ended.sentences), ended.began) == (False, ["a", "b"], 7)
    for text in ("", "{}", "[]", '{"accepted": 1, "sentences": 2, "began": 3}'):
        (tmp_path / NAME).write_text(text)
        assert kept(str(tmp_path)) is None


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """The reload counts all the same."""
    files = write_with_sockets(tmp_path)
    with Running(["-c", str(files[0])], tmp_path, RUNTIME_DIRECTORY=str(tmp_path / "none")) as sidecar:
        sidecar.address()
        sidecar.signal(signal.SIGHUP)
        sidecar.says("reloaded: nothing is different")
        sidecar.says("how the reload ended cannot be written to .*none: .*No such file")


# `check --json`.


@pytest.mark.parametrize(("fault", "severity", "status"), [("tab", "error", 2), ("emptied", "warning", 1)])
def test_check_for_programs(fault: str, severity: str, status: int, tmp_path: Path) -> None:
    """Each finding with its parts; the exit status is that of `check`."""
    files = write_with_sockets(tmp_path)
    (tmp_path / "workers" / "extra.yaml").write_text("worker_app: x\na: 1\nb: 2\n")
    FAULTS[fault](tmp_path / "workers" / "extra.yaml", 0.1)
    arguments = ["check", "--no-ask", "-c", str(files[0])]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == CliRunner().invoke(main, arguments).exit_code == status
    problems = json.loads(result.stdout)["problems"]
    assert all(set(each) == {"severity", "file", "line", "key", "text"} for each in problems)
    (found,) = (each for each in problems if each["file"].endswith("extra.yaml"))
    assert found["severity"] == severity
    assert found["line"] == (3 if fault == "tab" else 0)


def test_check_for_programs_of_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """It is one more finding."""
    result = CliRunner().invoke(main, ["check", "--json", "-c", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    (found,) = json.loads(result.stdout)["problems"]
    assert (found["severity"], found["file"]) == ("error", str(tmp_path / "none.yaml"))


def test_a_faulty_start_in_words(tmp_path: Path) -> None:
    """Every fault is printed, not only the first."""
    files = write_with_sockets(tmp_path)
    for name in ("homeserver.yaml", "workers.yaml"):
        FAULTS["tab"](next(each for each in files if each.name == name), 0.5)
    status, said = run("-c", str(files[0]), cwd=tmp_path)
    assert status == os.EX_CONFIG
    assert "homeserver.yaml:" in said
    assert "workers.yaml:" in said
