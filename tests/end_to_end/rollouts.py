"""`matrix-sidecar rollout --all` on a real Synapse under a steady load, beside the same restarts without it.

`python -m tests.end_to_end.rollouts --topology split` restarts every process three times: by a rollout, then plainly
behind the sidecar, then plainly behind nginx. Clients never retry.
"""

from __future__ import annotations

import argparse
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from .laboratory import Gateway, Laboratory, running_services, running_sidecar, running_synapse, scratch_directory
from .restarts import USERS
from .rivals import running_rival
from .services import missing
from .signing import signer
from .steady import POLL, Failure, SteadyLoad, user_in, written
from .topology import TOPOLOGIES

COMMAND = f"""#!{sys.executable}
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
control.sendall(sys.argv[2].encode() + b"\\n")
sys.exit(int(control.makefile().readline()))
"""


class Restarter:
    """Restarts the laboratory's processes when the command asks for it, as systemd does; a context manager.

    In the thread that has made it: processes end with the thread that has started them.
    """

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self.restarted: list[str] = []
        root = laboratory.layout.root
        script, control = root / "restart", root / "control.sock"
        script.write_text(COMMAND)
        script.chmod(0o755)
        self.command = [str(script), str(control), "{name}"]
        self._listener = socket.socket(socket.AF_UNIX)
        control.unlink(missing_ok=True)
        self._listener.bind(str(control))
        self._listener.listen()

    def serve(self, rollout: subprocess.Popen[bytes]) -> None:
        """Do what is asked until the rollout ends."""
        self._listener.settimeout(0.1)
        while rollout.poll() is None:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection, connection.makefile("rw") as lines:
                name = lines.readline().strip()
                self.restarted.append(name)
                self._laboratory.restart(name)
                lines.write("0\n")

    def __enter__(self) -> Restarter:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()


@frozen
class Felt:
    """What the clients noticed of restarts."""

    name: str
    seconds: float
    load: SteadyLoad
    twice: Sequence[str]
    absent: Sequence[str]

    @property
    def longest(self) -> float:
        """Seconds of the slowest request that was answered; of a long poll what it took beyond its own time."""
        took = self.load.longest
        return max(seconds - (POLL / 1000 if kind == "long poll" else 0.0) for kind, seconds in took.items())

    def lines(self) -> Iterator[str]:
        load = self.load
        yield (
            f"{self.name}: {load.total} requests in {self.seconds:.0f} s, {len(load.failures)} failed, "
            f"slowest {self.longest:.1f} s; {len(self.twice)} twice, {len(self.absent)} lost"
        )
        for what, count in Counter(f"{each.kind}: {each.status} {_first_line(each)}" for each in load.failures).items():
            yield f"  {count} x {what}"
        yield "  slowest of each kind: " + ", ".join(
            f"{kind} {seconds:.1f}" for kind, seconds in sorted(load.longest.items())
        )


def _first_line(failure: Failure) -> str:
    """What was told, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", failure.told).split())[:90]


def felt(laboratory: Laboratory, name: str, port: int, act: Callable[[SteadyLoad], None]) -> Felt:
    """What clients of this gateway notice of what `act` does, from before it until everything goes on after it."""
    users = [user_in(laboratory) for _ in range(USERS)]
    with SteadyLoad(name, port, users, signer(laboratory.layout)) as load:
        load.goes_on(1)
        began = time.monotonic()
        act(load)
        seconds = time.monotonic() - began
        load.goes_on(1)
    found = written(laboratory)
    return Felt(
        name,
        seconds,
        load,
        twice=[mark for mark in load.marks if found[mark] > 1],
        absent=[mark for mark, told in load.marks.items() if told and not found[mark]],
    )


def plainly(laboratory: Laboratory, names: Sequence[str]) -> Callable[[SteadyLoad], None]:
    """Each process in turn, the next as soon as the one before is back."""

    def act(_: SteadyLoad) -> None:
        for name in names:
            laboratory.restart(name)

    return act


def by_rollout(restarter: Restarter, file: Path, names: Sequence[str], told: list[str]) -> Callable[[SteadyLoad], None]:
    """`rollout` of these; what it printed is added to `told`."""

    def act(_: SteadyLoad) -> None:
        command = [sys.executable, "-m", "sidecar.cli", "rollout", "-c", str(file), *names]
        with tempfile.TemporaryFile() as output:
            rollout = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                restarter.serve(rollout)
            finally:
                rollout.kill()
                status = rollout.wait()
            output.seek(0)
            told.append(output.read().decode())
        assert status == 0, told[-1]

    return act


@contextmanager
def gateway_with_rollout(laboratory: Laboratory) -> Iterator[tuple[Gateway, Restarter, Path]]:
    """A sidecar whose configuration says how the laboratory's processes are restarted."""
    with Restarter(laboratory) as restarter:
        command = restarter.command
        rollout = {"restart": command, "restart_main": command, "state": str(laboratory.layout.root / "rollout.json")}
        settings: dict[str, Any] = {"rollout": rollout}
        with running_sidecar(laboratory, "three_lines", settings=settings, name="rollout") as gateway:
            yield gateway, restarter, laboratory.layout.sidecar_file("rollout")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.rollouts", description=__doc__)
    parser.add_argument("--topology", choices=TOPOLOGIES, default="generic")
    parser.add_argument("--names", help="of processes, with commas between them; else all")
    parser.add_argument("--only", choices=("rollout", "plain", "nginx"), action="append")
    options = parser.parse_args(arguments)
    if absent := missing():
        print(f"the laboratory needs {', '.join(absent)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    everybody = [process.name for process in reversed(TOPOLOGIES[options.topology].processes)]
    names = options.names.split(",") if options.names else everybody
    wanted = options.only or ("rollout", "plain", "nginx")
    told: list[str] = []
    with ExitStack() as stack:
        services = stack.enter_context(running_services(stack.enter_context(scratch_directory())))
        laboratory = stack.enter_context(running_synapse(services, TOPOLOGIES[options.topology]))
        gateway, restarter, file = stack.enter_context(gateway_with_rollout(laboratory))
        rounds = []
        if "rollout" in wanted:
            rounds.append(felt(laboratory, "rollout", gateway.port, by_rollout(restarter, file, names, told)))
        if "plain" in wanted:
            rounds.append(felt(laboratory, "plain", gateway.port, plainly(laboratory, names)))
        if "nginx" in wanted:
            port = stack.enter_context(running_rival(laboratory, "nginx"))
            rounds.append(felt(laboratory, "nginx", port, plainly(laboratory, names)))
    print(*told, sep="\n")
    for one in rounds:
        print(*one.lines(), sep="\n")
    return 1 if any(one.name == "rollout" and one.load.failures for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
