"""The run: every program at once behind the same worker, taking turns in each round. Returns a report."""

from __future__ import annotations

import gc
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import asdict, define, evolve, field, frozen

from benchmarks import load, processes, programs, traffic
from benchmarks.programs import Processors, Program, ProgramError, Proxy, Workers
from benchmarks.results import OBSERVED, PAIR, Report, Row

_T = TypeVar("_T")

SETTLE = 1.0
"""Seconds that a program is left alone before its memory is read."""


@frozen(kw_only=True)
class Sizes:
    """How much is measured. Times are seconds, `rate` is requests a second, `bodies` are 64 MiB each."""

    rounds: int = 5
    connections: int = 32
    warm_up: float = 1.0
    closed_loop: float = 2.0
    rate: float = 2000.0
    paced: float = 3.0
    bodies: int = 16
    polls: int = 3000
    poll_rounds: int = 3


QUICK = Sizes(rounds=2, warm_up=0.2, closed_loop=0.4, paced=0.5, bodies=1, polls=200, poll_rounds=1)


@define
class _Tally:
    """What is known of one program so far."""

    program: Program
    numbers: dict[str, list[float]] = field(factory=dict)
    problem: str = ""
    absent: bool = False

    def add(self, **values: float) -> None:
        for metric, value in values.items():
            self.numbers.setdefault(metric, []).append(value)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """A failure inside the block becomes this program's problem and ends its part in the run."""
        try:
            yield
        except (ProgramError, load.LoadError, OSError) as error:
            self.problem = f"{what}: {error}"

    def row(self) -> Row:
        numbers = {metric: tuple(values) for metric, values in self.numbers.items()}
        version = "" if self.absent else programs.version(self.program)
        return Row(self.program.name, version, self.problem, self.absent, numbers)


Proxies = tuple[Proxy, ...]
_Running = tuple[_Tally, Proxies]


@define
class Run:
    """One run of `chosen` with `sizes`; `say` is given a line of progress now and then."""

    chosen: Sequence[Program]
    sizes: Sizes
    say: Callable[[str], None]
    processors: Processors = field(init=False)
    requests: tuple[bytes, ...] = field(init=False)
    media: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.processors = Processors.divided(sorted(os.sched_getaffinity(0)))
        self.requests = traffic.small_requests()
        self.media = traffic.media()

    def report(self) -> Report:
        """Measures everything; takes part of the machine for itself (processor affinity, open files)."""
        facts = machine(self.processors)
        _raise_open_files(3 * self.sizes.polls)
        os.sched_setaffinity(0, self.processors.rest)
        gc.freeze()
        tallies = [_Tally(program) for program in self.chosen]
        beside = [_Tally(program) for program in _other_ways(self.chosen)]
        with programs.directory() as place, programs.workers(place, self.processors) as worker:
            with ExitStack() as stack:
                running = [(tally, self._start(tally, place, worker, stack)) for tally in tallies]
                more = [(tally, self._start(tally, place, worker, stack)) for tally in beside]
                self._side_by_side([(tally, proxy) for tally, proxy in running if proxy], more, worker)
            for _ in range(self.sizes.poll_rounds):
                for tally in tallies:
                    if not tally.problem:
                        self._long_polls(tally, place, worker)
        return Report(facts, asdict(self.sizes), tuple(tally.row() for tally in (*tallies, *beside)))

    def _start(self, tally: _Tally, place: Path, worker: Workers, stack: ExitStack) -> Proxies:
        """None of it where the program is absent or fails; of a pair two."""
        try:
            programs.find(tally.program.command[0])
        except ProgramError as error:
            tally.problem, tally.absent = str(error), True
            return ()
        count = 2 if tally.program.name == PAIR else 1
        with tally.noting("start"):
            started = [programs.proxy(tally.program, place, worker, self.processors) for _ in range(count)]
            return tuple([stack.enter_context(each) for each in started])
        return ()

    def _side_by_side(self, running: Sequence[_Running], more: Sequence[_Running], worker: Workers) -> None:
        """`more` take part in small requests only."""
        for tally, proxies in (*running, *more):
            with tally.noting("warm-up"):
                self._closed_loop(self.sizes.warm_up, *proxies)
        for tally, proxies in running:
            with tally.noting("warm-up"):
                load.download(proxies[0].address, 1, self.media)
        phases: dict[str, tuple[Sequence[_Running], Callable[..., None]]] = {
            "small requests": ((*running, *more), partial(self._small, worker)),
            "fixed rate": (running, self._paced),
            "media": (running, partial(self._bodies, worker)),
        }
        for what, (those, phase) in phases.items():
            for number in range(self.sizes.rounds):
                self.say(f"{what}, round {number + 1} of {self.sizes.rounds}")
                for tally, proxies in rotated(those, number):
                    if not tally.problem:
                        with tally.noting(what):
                            phase(tally, *proxies)

    def _closed_loop(self, seconds: float, *proxies: Proxy) -> int:
        first, *others = (proxy.address for proxy in proxies)
        return load.closed_loop(first, self.requests, self.sizes.connections * len(proxies), seconds, *others)

    def _small(self, worker: Workers, tally: _Tally, *proxies: Proxy) -> None:
        before = [processes.usage(proxy.process.pid) for proxy in proxies]
        answered, begin = worker.answered(), time.perf_counter()
        count = self._closed_loop(self.sizes.closed_loop, *proxies)
        elapsed = time.perf_counter() - begin
        spent = [processes.usage(proxy.process.pid).since(then) for proxy, then in zip(proxies, before, strict=True)]
        if worker.answered() - answered != count:
            raise load.LoadError(f"{count} answers, of which the worker gave {worker.answered() - answered}")
        micro = 1e6 / count
        tally.add(small=sum(each.total for each in spent) * micro, system=sum(each.system for each in spent) * micro)
        tally.add(rate=count / elapsed, waited=max(each.waited for each in spent) / elapsed * 100)

    def _paced(self, tally: _Tally, proxy: Proxy) -> None:
        before, sizes = processes.usage(proxy.process.pid), self.sizes
        latencies = load.paced(proxy.address, self.requests, sizes.connections, sizes.rate, sizes.paced)
        spent = processes.usage(proxy.process.pid).since(before).total
        percentiles = statistics.quantiles(latencies, n=100)
        tally.add(paced=spent / len(latencies) * 1e6, p50=percentiles[49] * 1e3, p99=percentiles[98] * 1e3)

    def _bodies(self, worker: Workers, tally: _Tally, proxy: Proxy) -> None:
        count = self.sizes.bodies
        gibibytes = count * traffic.MEDIA_SIZE / traffic.GIB
        start = processes.usage(proxy.process.pid).total
        load.download(proxy.address, count)
        middle, taken = processes.usage(proxy.process.pid).total, worker.uploaded()
        load.upload(proxy.address, self.media, count)
        end = processes.usage(proxy.process.pid).total
        if worker.uploaded() - taken != count * traffic.MEDIA_SIZE:
            raise load.LoadError(f"{count} uploads brought {worker.uploaded() - taken} bytes to the worker")
        tally.add(download=(middle - start) / gibibytes, upload=(end - middle) / gibibytes)

    def _long_polls(self, tally: _Tally, place: Path, worker: Workers) -> None:
        """On a fresh process, because memory that an earlier round freed would be counted as nothing."""
        polls = self.sizes.polls
        self.say(f"{polls} long polls through {tally.program.name}")
        with tally.noting("long polls"), programs.proxy(tally.program, place, worker, self.processors) as proxy:
            self._closed_loop(self.sizes.warm_up, proxy)
            time.sleep(SETTLE)
            before = processes.memory(proxy.process.pid)
            with load.long_polls(proxy.address, polls, worker.held):
                time.sleep(SETTLE)
                after = processes.memory(proxy.process.pid)
                if worker.held() != polls:
                    raise load.LoadError(f"the worker holds {worker.held()} long polls of {polls}")
                worker.release()
            tally.add(poll=(after - before) / polls / 1024)


def _other_ways(chosen: Iterable[Program]) -> Sequence[Program]:
    """The sidecar as it runs in production, and two processes of it, where it is compared at all."""
    sidecar = next((program for program in chosen if program.name == "sidecar"), None)
    if sidecar is None:
        return ()
    return evolve(sidecar, name=OBSERVED, template="json.yaml"), evolve(sidecar, name=PAIR)


def machine(processors: Processors) -> Mapping[str, str]:
    """What the numbers depend on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    pinned = f"proxies on {sorted(processors.proxy)}, worker and clients on {sorted(processors.rest)}"
    return {
        "processor": model,
        "pinned": pinned,
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "Linux": platform.release(),
        "Python": sys.version.split()[0],
    }


def rotated(turns: Sequence[_T], by: int) -> Sequence[_T]:
    """Another one begins each round, so that none always comes after the same neighbour."""
    return (*turns[by % len(turns) :], *turns[: by % len(turns)]) if turns else ()


def _raise_open_files(needed: int) -> None:
    """Lifts the soft limit; each long poll takes one file here, two in a proxy, one in the worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
