#!/usr/bin/python3
"""Stands in for systemctl where no systemd runs: units are enabled by the real one, and started by their files.

A service is started with its ExecStart line, as root, with the socket of its unit, and is waited for until it has said
READY=1; nothing else of the unit is in force. Verbs are those that the pages use; other units than ours are left alone.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

UNITS = Path("/etc/systemd/system")
PIDS = Path("/run/stand-in")
PATIENCE = 60.0
HAND_ON = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
"""What systemd does between fork and exec, where the socket is descriptor 3 already."""


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit with its drop-ins, each with all its values; an empty one removes those before it."""
    instance = re.sub(r"^[^@]*@?|\.[^.]*$", "", name)
    files = [UNITS / re.sub(r"@[^.]+\.", "@.", name), *sorted((UNITS / f"{name}.d").glob("*.conf"))]
    values: dict[str, list[str]] = {}
    for line in "\n".join(file.read_text() for file in files).replace("\\\n", " ").splitlines():
        key, mark, value = line.partition("=")
        if mark and not line.startswith("#"):
            values[key] = [*values.get(key, []), value.replace("%i", instance)] if value else []
    return values


def listen() -> dict[str, str]:
    """Make the socket, as descriptor 3; what the service is told of it."""
    unit = settings("matrix-sidecar.socket")
    host, _, port = unit["ListenStream"][-1].rpartition(":")
    os.dup2(socket.create_server((host, int(port)), reuse_port=True).detach(), 3)
    return {"LISTEN_FDS": "1", "LISTEN_FDNAMES": unit["FileDescriptorName"][-1]}


def start(name: str) -> int:
    if running(name) or not name.endswith(".service"):
        return 0
    unit = settings(name)
    for directory in unit.get("RuntimeDirectory", []):
        (Path("/run") / directory).mkdir(exist_ok=True)
    variables = {**os.environ, **listen(), **directories(unit), "NOTIFY_SOCKET": f"@notices-{name}"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"\0notices-{name}")
        notices.settimeout(PATIENCE)
        launch(name, unit["ExecStart"][-1].split(), variables)
        try:
            while b"READY=1" not in notices.recv(4096):
                pass
        except TimeoutError:
            sys.exit(f"{name} did not start:\n{log_of(name).read_text()}")
    return 0


def directories(unit: dict[str, list[str]]) -> dict[str, str]:
    """As systemd makes and names them (systemd.exec(5))."""
    made = [Path("/var/lib") / each for each in unit.get("StateDirectory", [])]
    for directory in made:
        directory.mkdir(mode=0o700, exist_ok=True)
    state = {"STATE_DIRECTORY": ":".join(map(str, made))} if made else {}
    return {"RUNTIME_DIRECTORY": ":".join(f"/run/{each}" for each in unit.get("RuntimeDirectory", [])), **state}


def launch(name: str, command: list[str], variables: dict[str, str]) -> None:
    python = Path(variables["DOCS_PYTHON"])
    # Where no page has installed anything, the checkout is what runs.
    program = command[0] if Path(command[0]).exists() else str(python.with_name(Path(command[0]).name))
    with log_of(name).open("ab") as log:
        process = subprocess.Popen(
            [python, "-c", HAND_ON, program, *command[1:]],
            env=variables,
            pass_fds=[3],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    PIDS.mkdir(exist_ok=True)
    (PIDS / name).write_text(str(process.pid))


def log_of(name: str) -> Path:
    return Path(f"/var/log/{name}.log")


def running(name: str) -> int:
    """Its process; 0 if there is none."""
    try:
        pid = int((PIDS / name).read_text())
        os.kill(pid, 0)
    except OSError:
        return 0
    return pid


def stop(name: str) -> int:
    if pid := running(name):
        end = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        ended, _, _ = select.select([end], [], [], PATIENCE)
        (PIDS / name).unlink()
        return 0 if ended else 1
    return 0


def restart(name: str) -> int:
    return stop(name) or start(name)


def reload(name: str) -> int:
    """By ExecReload, which waits for the outcome."""
    if pid := running(name):
        unit = settings(name)
        command = unit["ExecReload"][-1].replace("$MAINPID", str(pid)).split()
        program = command[0] if Path(command[0]).exists() else Path(command[0]).name
        with log_of(name).open("ab") as log:
            environment = {**os.environ, **directories(unit)}
            return subprocess.run([program, *command[1:]], env=environment, stdout=log).returncode
    return 0


def status(name: str) -> int:
    print(f"{name}: {'active (running)' if running(name) else 'inactive (dead)'}")
    return 0 if running(name) else 3


VERBS = {"start": start, "stop": stop, "restart": restart, "reload": reload, "status": status}


def main(verb: str, *words: str) -> int:
    names = [word if "." in word else f"{word}.service" for word in words if not word.startswith("-")]
    if verb in ("enable", "disable", "daemon-reload"):
        command = ["/usr/bin/systemctl", verb, *(word for word in words if word != "--now")]
        done = subprocess.run(command, env={**os.environ, "SYSTEMD_OFFLINE": "1"})
        if done.returncode or "--now" not in words:
            return done.returncode
        verb = {"enable": "start", "disable": "stop"}[verb]
    if verb not in VERBS:
        sys.exit(f"systemctl {verb}: only a real systemd can do that")
    return max([VERBS[verb](name) for name in names if name.startswith("matrix-sidecar")], default=0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
