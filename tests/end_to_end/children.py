"""Child processes of the laboratory: started together, watched while they get ready, ended without a trace.

Knows nothing of what runs in them.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PROBE_INTERVAL = 0.02
_libc = ctypes.CDLL(None)


class LaboratoryError(Exception):
    """The laboratory could not be brought up; the message says what happened and what was logged."""


class Child:
    """A process in a group of its own, whose output goes to one file and which dies with its parent."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        directory: Path,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        end: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._end = end
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._die_with_parent if sys.platform == "linux" else None,
                **_identity(user),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def _die_with_parent(self) -> None:
        """Runs in the child: even a killed test run leaves no process behind."""
        _libc.prctl(PR_SET_PDEATHSIG, int(self._end))

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait_until(self, ready: Callable[[], bool], limit: float) -> None:
        """Ask `ready` until it says so, for at most `limit` seconds.

        Raises LaboratoryError, with the end of the log, when the process ends or the time is over.
        """
        deadline = time.monotonic() + limit
        while not ready():
            if (status := self._process.poll()) is not None:
                raise LaboratoryError(f"{self.name} ended with status {status}:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise LaboratoryError(f"{self.name} was not ready after {limit:.0f} s:\n{self.last_lines()}")
            time.sleep(PROBE_INTERVAL)

    def last_lines(self, count: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def ends(self, limit: float) -> bool:
        """Whether it has ended, after waiting for that for at most `limit` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(limit)
            return True
        return False

    @staticmethod
    def stop_all(children: Iterable[Child], limit: float = 10.0) -> None:
        """End all at once and politely; after `limit` seconds kill what is left of their groups."""
        children = list(children)
        for child in children:
            child.signal(child._end)
        deadline = time.monotonic() + limit
        for child in children:
            gone = child.ends(max(0.0, deadline - time.monotonic()))
            child.signal(signal.SIGKILL)
            if not gone:
                child._process.wait()


def _identity(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def run(command: Sequence[str | Path], *, directory: Path, user: str | None = None) -> None:
    """Run a command to its end. Raises LaboratoryError with its output when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **_identity(user),
    )
    if done.returncode:
        output = done.stdout.decode(errors="replace")
        raise LaboratoryError(f"{Path(command[0]).name} ended with status {done.returncode}:\n{output[-3000:]}")


def answers(address: Path | tuple[str, int], target: str) -> bool:
    """Whether a GET of `target` at this UNIX socket or TCP address is answered with 200."""
    with suppress(OSError):
        return ask(address, "GET", target)[0] == 200
    return False


def ask(
    address: Path | tuple[str, int],
    method: str,
    target: str,
    content: object = None,
    *,
    token: str = "",
    authorization: str = "",
    patience: float = 5.0,
) -> tuple[int, bytes]:
    """Status and body of one exchange, with content sent as JSON. Raises OSError when there is no answer."""
    connection = _Connection(address, patience)
    body = None if content is None else json.dumps(content)
    fields = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}
    if token or authorization:
        fields["Authorization"] = authorization or f"Bearer {token}"
    try:
        connection.request(method, target, body, fields)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to a UNIX socket or a TCP address."""

    def __init__(self, address: Path | tuple[str, int], patience: float) -> None:
        super().__init__("laboratory", timeout=patience)
        self._address = address

    def connect(self) -> None:
        address = str(self._address) if isinstance(self._address, Path) else self._address
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(address)
