"""Real processes for tests: the sidecar as `twistd` runs it, from the checkout, and clients with plain sockets."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent
TWISTD = Path(sys.executable).parent / "twistd"
PATIENCE = 30.0
"""Seconds after which a process that does not do what it should has failed."""

HAND_ON = """
import fcntl, os, sys
passed = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",")]
for place, number in enumerate(passed):
    os.dup2(number, 3 + place)
names = ":".join(["http"] * len(passed))
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=names)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does with a socket between fork and exec (sd_listen_fds(3))."""


def environment(**more: str) -> dict[str, str]:
    """Where the checkout is found, and its plugin, installed or not."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(TWISTD), "-n", "--pidfile=", "matrix-sidecar", *arguments]


def run(*arguments: str, prefix: Sequence[str] = (), cwd: Path) -> tuple[int, str]:
    """Start the sidecar where it should end by itself; its exit status and all that it said."""
    done = subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout.decode()


class Running:
    """A running sidecar, whose output is read as it comes; ended with the block."""

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        prefix: Sequence[str] | None = None,
        *,
        listener: socket.socket | Sequence[socket.socket] | None = None,
        output: int = subprocess.PIPE,
        **more: str,
    ) -> None:
        """`listener` is handed on as systemd does it, under the name `http`; `more` goes into the environment.

        With `output` what it says goes to this descriptor and is not read here.
        """
        self.said = ""
        self._changed = threading.Condition()
        line = command(*arguments) if prefix is None else [*prefix, *arguments]
        listeners = () if listener is None else (listener,) if isinstance(listener, socket.socket) else listener
        passed = tuple(each.fileno() for each in listeners)
        if passed:
            line = [sys.executable, "-c", HAND_ON, ",".join(map(str, passed)), *line]
        self._process = subprocess.Popen(
            # A shell's job in the background, or `nohup`, leaves the tests with signals that are ignored.
            ["env", "--default-signal=INT,HUP", *line],
            cwd=cwd,
            env=environment(**more),
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            for line in output:
                with self._changed:
                    self.said += line.decode()
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something that matches."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: re.search(pattern, self.said) or not self._reader.is_alive(), timeout=PATIENCE
            )
        assert isinstance(found, re.Match), f"{pattern!r} was not said:\n{self.said}"
        return found

    def address(self) -> tuple[str, int]:
        """Where it listens, as soon as it does."""
        return "127.0.0.1", int(self.says(r"listening on 127\.0\.0\.1:(\d+)")[1])

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end; the exit status."""
        status = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def memory(self) -> int:
        """Bytes that it has in memory now."""
        return _status(self.pid, "VmRSS")

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.ends()


def _status(pid: int, name: str) -> int:
    line = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert line is not None
    return int(line[1]) * 1024


def connect(address: tuple[str, int]) -> socket.socket:
    """A connection that fails rather than hangs."""
    return socket.create_connection(address, timeout=PATIENCE)


def read_until(connection: socket.socket, condition: Callable[[bytes], bool]) -> bytes:
    """What comes until `condition` holds of all of it; the end of the connection is a failure."""
    got = b""
    while not condition(got):
        piece = connection.recv(65536)
        assert piece, got
        got += piece
    return got


def heads_on(connection: socket.socket) -> Iterator[bytes]:
    """The head of each request that comes, without its empty line; a body with a Content-Length is skipped."""
    ahead = b""
    while True:
        while b"\r\n\r\n" not in ahead:
            piece = connection.recv(65536)
            if not piece:
                return
            ahead += piece
        head, _, ahead = ahead.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        while size > len(ahead):
            piece = connection.recv(65536)
            assert piece, "the body ended early"
            ahead += piece
        ahead = ahead[size:]
        yield head


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """A request, and its answer, which has a Content-Length."""
    connection.sendall(request)
    head = read_until(connection, lambda got: b"\r\n\r\n" in got)
    length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head, re.IGNORECASE)
    assert length is not None, head
    whole = head.index(b"\r\n\r\n") + 4 + int(length[1])
    return head if len(head) >= whole else head + read_until(connection, lambda got: len(head) + len(got) >= whole)


def stuck(connection: socket.socket, for_seconds: float = 0.1) -> bool:
    """Nobody takes what this connection would send, and has not for a while."""
    return not select.select([], [connection], [], for_seconds)[1]


class PlainWorker:
    """A worker in a thread, on a UNIX socket, a port of loopback, or a socket of its own; `serve` gets connections."""

    def __init__(self, at: Path | socket.socket | None, serve: Callable[[socket.socket], None]) -> None:
        if isinstance(at, socket.socket):
            self._listener = at
        else:
            self._listener = socket.socket(socket.AF_INET if at is None else socket.AF_UNIX)
            self._listener.bind(("127.0.0.1", 0) if at is None else str(at))
        self._listener.listen(50)
        self._address: Any = self._listener.getsockname()
        self._serve = serve
        self.failure: BaseException | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._serve(connection)
            except (ConnectionError, TimeoutError):
                return
            except BaseException as failure:
                self.failure = failure

    @property
    def port(self) -> int:
        """Where it listens, or has listened, if not on a path."""
        return int(self._address[1])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def await_listener(port: int, process: Running, host: str = "127.0.0.1") -> None:
    """Wait until somebody listens. No other program says when it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.runs:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port}: {process.said}")
