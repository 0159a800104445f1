"""The programs side by side: how each is found, configured, started, pinned and stopped, and the worker behind them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks import load, traffic

ROOT = Path(__file__).parent.parent
TEMPLATES = Path(__file__).parent / "templates"
_START, _STOP = 20.0, 10.0


class ProgramError(Exception):
    """A sentence about why a program is absent, did not start, or does not forward as it should."""


@frozen
class Program:
    """A proxy. In its arguments and in its template, `@NAME@` stands for a value of the run."""

    name: str
    template: str
    command: tuple[str, ...]
    version: tuple[str, ...]


PROGRAMS = (
    Program(
        "sidecar",
        "sidecar.yaml",
        ("twistd", "-n", "--pidfile=", "matrix-sidecar", "--config", "@CONFIG@"),
        (sys.executable, "-c", "from importlib.metadata import version as v; print(v('matrix-sidecar'))"),
    ),
    Program("nginx", "nginx.conf", ("nginx", "-e", "stderr", "-p", "@DIRECTORY@", "-c", "@CONFIG@"), ("nginx", "-v")),
    Program("haproxy", "haproxy.cfg", ("haproxy", "-db", "-f", "@CONFIG@"), ("haproxy", "-v")),
    Program(
        "caddy", "Caddyfile", ("caddy", "run", "--adapter", "caddyfile", "--config", "@CONFIG@"), ("caddy", "version")
    ),
)


@frozen
class Processors:
    """Which processors the proxies run on and which the worker and the clients; the same where there is only one."""

    proxy: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def divided(cls, available: Sequence[int]) -> Processors:
        """The first one for the proxies, the others for everything else."""
        first, *others = available
        return cls(frozenset({first}), frozenset(others or {first}))


@frozen
class Proxy:
    """A program that runs."""

    program: Program
    process: subprocess.Popen[bytes]
    address: tuple[str, int]
    http2: int = 0
    """The port on which it takes HTTP/2, where its template has one."""


@frozen
class Workers:
    """The running worker."""

    path: str

    def held(self) -> int:
        """Long polls that have arrived and wait."""
        return self._ask("counts")["held"]

    def answered(self) -> int:
        """Small requests answered since the start."""
        return self._ask("counts")["answered"]

    def uploaded(self) -> int:
        """Bytes of request bodies taken since the start."""
        return self._ask("counts")["uploaded"]

    def release(self) -> None:
        """Answers every long poll that waits."""
        self._ask("release")

    def _ask(self, what: str) -> dict[str, int]:
        counts: dict[str, int] = json.loads(
            load.ask(self.path, traffic.request("GET", f"/benchmark/{what}", "harness"))
        )
        return counts


@contextmanager
def directory() -> Iterator[Path]:
    """A temporary directory that the proxies' own users may enter, short enough for UNIX socket paths."""
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-", dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@contextmanager
def workers(place: Path, processors: Processors) -> Iterator[Workers]:
    """Starts the worker and stops it after the block."""
    path = str(place / "worker.sock")
    with _running([sys.executable, "-m", "benchmarks.worker", path], place / "worker.log", processors.rest) as process:
        _await_listener(process, path, place / "worker.log")
        yield Workers(path)


@contextmanager
def proxy(program: Program, place: Path, worker: Workers, processors: Processors) -> Iterator[Proxy]:
    """Starts `program` in front of `worker`, verifies that it forwards, and stops it after the block."""
    address = ("127.0.0.1", _free_port())
    config, log = place / f"{program.name}-{address[1]}.config", place / f"{program.name}-{address[1]}.log"
    template, http2 = (TEMPLATES / program.template).read_text(), _free_port()
    values = {"PORT": str(address[1]), "WORKER": worker.path, "DIRECTORY": str(place), "CONFIG": str(config)}
    values["HTTP2"] = str(http2)
    config.write_text(fill(template, values))
    command = [find(program.command[0]), *(fill(argument, values) for argument in program.command[1:])]
    with _running(command, log, processors.proxy) as process:
        _await_listener(process, address, log)
        _verify_forwarding(address)
        yield Proxy(program, process, address, http2 if "@HTTP2@" in template else address[1])


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with every `@NAME@` of `values` replaced."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def find(command: str) -> str:
    """The path of a program: beside this Python, in PATH, or in the directories of system programs.

    Raises ProgramError where there is none.
    """
    if os.path.isabs(command):
        return command
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
    found = shutil.which(command, path=os.pathsep.join(places))
    if found is None:
        raise ProgramError(f"{command} is not installed")
    return found


def version(program: Program) -> str:
    """What the program says of its version, or the empty string."""
    try:
        command = [find(program.version[0]), *program.version[1:]]
        output = subprocess.run(command, capture_output=True, check=True, timeout=_START)
    except (OSError, ProgramError, subprocess.SubprocessError):
        return ""
    words = (output.stdout + output.stderr).decode().replace("/", " ").split()
    return next((word for word in words if word[0].isdigit()), "")


def _verify_forwarding(address: load.Address) -> None:
    """That the worker sees the target as sent and who the client is, as every proxy here is configured to do."""
    target = "/benchmark/head"
    head = load.ask(address, traffic.request("GET", target, "harness")).lower()
    wanted = (f"get {target} http/1.1\r\n", "\r\nx-forwarded-for: 127.0.0.1\r\n", "\r\nx-forwarded-proto: http\r\n")
    for line in wanted:
        if line.encode() not in head:
            raise ProgramError(f"what reached the worker lacks {line.strip()!r}: {head!r}")


@contextmanager
def _running(command: Sequence[str], log: Path, processors: frozenset[int]) -> Iterator[subprocess.Popen[bytes]]:
    place = str(log.parent)
    python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": python_path, "XDG_CONFIG_HOME": place, "XDG_DATA_HOME": place}
    pin: Callable[[], None] = lambda: os.sched_setaffinity(0, processors)  # noqa: E731
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=pin,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_listener(process: subprocess.Popen[bytes], address: load.Address, log: Path) -> None:
    end = time.monotonic() + _START
    while True:
        try:
            load.connect(address).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                lines = log.read_text(errors="replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
                raise ProgramError(f"did not start: {last}") from None
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
