"""What a request costs over HTTP/2: the sidecar, nginx and HAProxy side by side, asked by `h2load` (nghttp2).

Clients speak it without TLS, by prior knowledge; workers get HTTP/1.1 from all of them. Each round asks every program
over HTTP/1.1 as well, with the same client.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from attrs import evolve, field, frozen
from h2.config import H2Configuration
from h2.connection import H2Connection

from benchmarks import load, processes, programs, traffic
from benchmarks.measure import SETTLE, machine, rotated
from benchmarks.programs import PROGRAMS, Processors, Program, Proxy, Workers
from benchmarks.tables import table

TEMPLATES = {"sidecar": "http2.yaml", "nginx": "http2-nginx.conf", "haproxy": "haproxy.cfg"}
"""HAProxy sees by itself what a client without TLS speaks."""
_BY_ITSELF = tuple(evolve(each, template=TEMPLATES[each.name]) for each in PROGRAMS if each.name in TEMPLATES)
STREAMS = 100
"""Requests at once on one connection, of the long polls."""


@frozen(kw_only=True)
class Sizes:
    """How much is measured: `requests` of one round, over `connections` with `at_once` each; `polls` in all."""

    rounds: int = 5
    connections: int = 16
    at_once: int = 10
    requests: int = 8000
    polls: int = 3000


QUICK = Sizes(rounds=1, requests=400, polls=200)


@frozen
class Multiplexed:
    """CPU in µs for each request, a value for each round; memory in KiB for each waiting one."""

    facts: Mapping[str, str]
    http2: Mapping[str, list[float]] = field(factory=dict)
    http1: Mapping[str, list[float]] = field(factory=dict)
    poll: Mapping[str, float] = field(factory=dict)


def measure(sizes: Sizes, say: Callable[[str], None]) -> Multiplexed:
    """Run it. Raises ProgramError or LoadError where it cannot be measured."""
    programs.find("h2load")
    processors = Processors.divided(sorted(os.sched_getaffinity(0)))
    facts = machine(processors)
    os.sched_setaffinity(0, processors.rest)
    gc.freeze()
    http2: dict[str, list[float]] = {program.name: [] for program in _BY_ITSELF}
    http1: dict[str, list[float]] = {program.name: [] for program in _BY_ITSELF}
    poll = {}
    with programs.directory() as place, programs.workers(place, processors) as worker:
        targets = _targets(place)
        with ExitStack() as stack:
            running = [stack.enter_context(programs.proxy(each, place, worker, processors)) for each in _BY_ITSELF]
            for number in range(sizes.rounds + 1):
                say(f"round {number} of {sizes.rounds}, the first of which warms up")
                for proxy in rotated(running, number):
                    for numbers, more in ((http2, ()), (http1, ("--h1",))):
                        spent = _spent(proxy, targets, sizes, *more)
                        if number:
                            numbers[proxy.program.name].append(spent)
        for program in _BY_ITSELF:
            say(f"{sizes.polls} long polls through {program.name}")
            poll[program.name] = _memory(program, place, worker, processors, sizes.polls)
    return Multiplexed(facts, http2, http1, poll)


def _targets(place: Path) -> Path:
    """A file with the small requests, each once, and the fields of a browser as options of h2load."""
    path = place / "targets"
    path.write_text("".join(f"{request.split()[1].decode()}\n" for request in traffic.small_requests()))
    return path


def _fields(request: bytes) -> list[tuple[str, str]]:
    lines = request.decode().split("\r\n")[2:-2]
    pairs = [line.split(": ", 1) for line in lines]
    return [(name.lower(), value) for name, value in pairs if name.lower() != "connection"]


def _spent(proxy: Proxy, targets: Path, sizes: Sizes, *more: str) -> float:
    """µs of processor time for each request."""
    port = proxy.address[1] if more else proxy.http2
    command = [programs.find("h2load"), *more, "-n", str(sizes.requests), "-c", str(sizes.connections)]
    # HTTP/1.1 has one request at a time on a connection: as many connections as there would be streams.
    if more:
        command[-1] = str(sizes.connections * sizes.at_once)
    else:
        command += ["-m", str(sizes.at_once)]
    for name, value in _fields(traffic.small_requests(1)[0]):
        command += ["-H", f"{name}: {value}"]
    command += ["-i", str(targets), "-B", f"http://127.0.0.1:{port}"]
    before = processes.usage(proxy.process.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    spent = processes.usage(proxy.process.pid).since(before)
    found = re.search(r"(\d+) succeeded, (\d+) failed", done.stdout)
    if found is None or int(found[1]) != sizes.requests:
        raise load.LoadError(f"h2load through {proxy.program.name}: {done.stdout or done.stderr}")
    return spent.total / sizes.requests * 1e6


def _memory(program: Program, place: Path, worker: Workers, processors: Processors, polls: int) -> float:
    """KiB for each request that waits, on a process that was started for it and has served some."""
    with programs.proxy(program, place, worker, processors) as proxy:
        load.closed_loop(proxy.address, traffic.small_requests(), 32, 0.2)
        time.sleep(SETTLE)
        before = processes.memory(proxy.process.pid)
        with _long_polls(proxy.http2, polls, worker.held):
            time.sleep(SETTLE)
            after = processes.memory(proxy.process.pid)
            worker.release()
        return (after - before) / polls / 1024


@contextmanager
def _long_polls(port: int, count: int, held: Callable[[], int]) -> Iterator[None]:
    """Keep `count` long polls open, STREAMS of them on each connection."""
    polls = traffic.long_polls()
    with ExitStack() as stack:
        for done in range(0, count, STREAMS):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            frames = H2Connection(H2Configuration())
            frames.initiate_connection()
            sock.sendall(frames.data_to_send())
            while not frames.receive_data(sock.recv(65536)):
                pass
            for number in range(min(STREAMS, count - done)):
                request = next(polls)
                pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "matrix.example.org")]
                target = (":path", request.split()[1].decode())
                frames.send_headers(number * 2 + 1, [*pseudo, target, *_fields(request)], end_stream=True)
            sock.sendall(frames.data_to_send())
            load.await_held(held, min(done + STREAMS, count))
        yield


def report(measured: Multiplexed) -> str:
    """A table of the programs."""
    names = list(measured.http2)
    lines: list[Sequence[str]] = [["", *names]]
    for title, numbers in (("HTTP/2", measured.http2), ("HTTP/1.1", measured.http1)):
        cells = [f"{median(numbers[name]):.0f} ({min(numbers[name]):.0f}-{max(numbers[name]):.0f})" for name in names]
        lines.append([f"CPU per request over {title}, µs", *cells])
    lines.append(["memory per waiting request, KiB", *(f"{measured.poll[name]:.1f}" for name in names)])
    facts = ", ".join(f"{name} {value}" for name, value in measured.facts.items())
    return f"{table(lines)}\n\n{len(next(iter(measured.http2.values())))} rounds, {facts}.\n"
