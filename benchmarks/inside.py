"""What it costs to run the sidecar inside Synapse: the latency of main, and that of what passes by main, both ways.

`python -m benchmarks.inside` brings up a real Synapse (docs/laboratory.md) whose only worker is a stand-in that costs
next to nothing, sends requests for that worker through the sidecar at a fixed rate, and meanwhile asks main something
directly, at its own socket. Once with the sidecar in a process of its own, once inside main.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path

import yaml
from attrs import evolve, frozen
from end_to_end.children import Child, answers
from end_to_end.laboratory import (
    Laboratory,
    free_port,
    register,
    running_services,
    running_synapse,
    scratch_directory,
)
from end_to_end.topology import MONOLITH

from benchmarks import load, traffic

WHOAMI = "/_matrix/client/v3/account/whoami"
PROBES = 25.0
"""Questions to main a second."""
CONNECTIONS = 64
BUSY = 4
"""Clients that keep main busy, where they are to leave it no rest."""


@frozen
class Case:
    """Requests a second through the sidecar, and to main beside the probe; infinity: four that never rest."""

    through: float
    to_main: float


CASES = tuple(Case(through, to_main) for to_main in (0, 100, math.inf) for through in (0, 250, 1000))


def ask_main(path: str, token: str, rate: float, seconds: float) -> list[float]:
    """Ask main who we are, at this rate; seconds from when each question was due to its answer."""
    latencies: list[float] = []
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        connection.sock = sock
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}
        begin = time.perf_counter()
        dues = itertools.takewhile(seconds.__gt__, (number / rate for number in itertools.count()))
        for due in (begin + each for each in dues) if rate < math.inf else _at_once(begin + seconds):
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("GET", WHOAMI, headers=headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise load.LoadError(f"main answered {response.status}")
            latencies.append(time.perf_counter() - due)
    return latencies


def _at_once(end: float) -> Iterator[float]:
    while (now := time.perf_counter()) < end:
        yield now


def ask_worker(port: int, rate: float, seconds: float) -> list[float]:
    """Send small requests for the worker through the sidecar."""
    requests = [traffic.request("GET", f"/_matrix/client/v3/sync?since=s{n}", f"u{n}") for n in range(64)]
    return load.paced(("127.0.0.1", port), requests, CONNECTIONS, rate, seconds)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def gateway(place: str, root: Path, worker: Path) -> Iterator[tuple[Laboratory, int, list[Child]]]:
    """Synapse with the sidecar `inside` or `separate`; the port of the sidecar, and the processes that matter."""
    port = free_port()
    settings = {
        "listen": f"tcp:{port}:interface=127.0.0.1",
        "workers": {"fast": {"endpoint": f"unix:{worker}", "serves": ["client"]}},
        "pools": {"sync": {"workers": ["fast"]}},
    }
    file = root / f"{place}.yaml"
    module = {"module": "sidecar.synapse_module.Sidecar", "config": {"file": str(file)}}
    with ExitStack() as stack:
        services = stack.enter_context(running_services(root))
        etc = root / place / "etc"
        separate = {**settings, "synapse": {"config": [str(etc / "homeserver.yaml"), str(etc / "conf.d")]}}
        file.write_text(yaml.safe_dump(settings if place == "inside" else separate))
        shared = {"modules": [module]} if place == "inside" else {}
        laboratory = stack.enter_context(running_synapse(services, evolve(MONOLITH, name=place), shared))
        processes = [laboratory.children["main"]]
        if place == "separate":
            command: list[str | Path] = [
                Path(sys.executable).parent / "twistd",
                "-n",
                "--pidfile=",
                "matrix-sidecar",
                "--config",
                file,
            ]
            sidecar = Child("sidecar", command, root / "sidecar.log", directory=root)
            stack.callback(Child.stop_all, [sidecar])
            processes.append(sidecar)
        processes[-1].wait_until(lambda: answers(("127.0.0.1", port), "/_matrix/client/versions"), 60)
        yield laboratory, port, processes


def measured(place: str, seconds: float) -> Iterator[str]:
    """A line for each case."""
    with scratch_directory() as root:
        path = root / "fast.sock"
        worker = subprocess.Popen([sys.executable, "-m", "benchmarks.worker", str(path)])
        try:
            with (
                gateway(place, root, path) as (laboratory, port, processes),
                ProcessPoolExecutor(2 + BUSY, get_context("spawn")) as pool,
            ):
                main = laboratory.layout.socket("main")
                token = register(main, "alice")
                for case in CASES:
                    before = [cpu(process.pid) for process in processes]
                    probe = pool.submit(ask_main, str(main), token, PROBES, seconds)
                    count = 0 if not case.to_main else BUSY if case.to_main == math.inf else 1
                    others = [pool.submit(ask_main, str(main), token, case.to_main, seconds) for _ in range(count)]
                    through = pool.submit(ask_worker, port, case.through, seconds) if case.through else None
                    told = [_told(probe.result()), _told(through.result()) if through else "-"]
                    for other in others:
                        other.result()
                    used = [(cpu(one.pid) - then) / seconds for one, then in zip(processes, before, strict=True)]
                    busy = " + ".join(f"{share:.0%}" for share in used)
                    yield f"| {place} | {case.through:g} | {_rate(case.to_main)} | {told[0]} | {told[1]} | {busy} |"
        finally:
            worker.terminate()
            worker.wait()


def _rate(rate: float) -> str:
    return "all it can" if rate == math.inf else f"{rate:g}"


def _told(latencies: Sequence[float]) -> str:
    parts = statistics.quantiles(latencies, n=100)
    return " / ".join(f"{1000 * parts[at - 1]:.1f}" for at in (50, 95, 99))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of docs/in-process.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inside", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each case")
    options = parser.parse_args(arguments)
    print(
        "| sidecar | through it, 1/s | to main, 1/s | main answers, ms (p50 / p95 / p99) | worker answers, ms | CPU |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for place in ("separate", "inside"):
        for line in measured(place, options.seconds):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
