"""What metrics and access log cost: the sidecar without them, with metrics, and with both, turn by turn in one run."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from attrs import evolve, frozen

from benchmarks import load, processes, programs, traffic
from benchmarks.measure import machine, rotated
from benchmarks.programs import PROGRAMS, Processors, Program, Proxy
from benchmarks.tables import table

BUDGET = 0.15
"""Most that metrics and access log together may add to the processor time of a small request."""

_PLAIN = next(program for program in PROGRAMS if program.name == "sidecar")
VARIANTS: Mapping[str, Program] = {
    "neither": _PLAIN,
    "metrics": evolve(_PLAIN, name="metrics", template="metrics.yaml"),
    "metrics, log as text": evolve(_PLAIN, name="text", template="text.yaml"),
    "metrics, log as JSON": evolve(_PLAIN, name="json", template="json.yaml"),
}


@frozen(kw_only=True)
class Sizes:
    """How much is measured; `seconds` is one round of one variant."""

    rounds: int = 20
    connections: int = 32
    warm_up: float = 1.0
    seconds: float = 1.5


QUICK = Sizes(rounds=2, warm_up=0.2, seconds=0.3)


@frozen
class Observed:
    """CPU in µs for each small request, a value for each round, by variant; the rounds of all belong together."""

    facts: Mapping[str, str]
    micro: Mapping[str, Sequence[float]]

    def cost(self, variant: str) -> float:
        """What the variant adds, as a part of what is spent without: the median over the rounds, each by itself."""
        plain = self.micro["neither"]
        return median(mine / theirs - 1 for mine, theirs in zip(self.micro[variant], plain, strict=True))


def observe(sizes: Sizes, say: Callable[[str], None]) -> Observed:
    """Run it. Raises ProgramError or LoadError where it cannot be measured."""
    processors = Processors.divided(sorted(os.sched_getaffinity(0)))
    facts = machine(processors)
    os.sched_setaffinity(0, processors.rest)
    gc.freeze()
    requests = traffic.small_requests()
    micro: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with programs.directory() as place, programs.workers(place, processors) as worker, ExitStack() as stack:
        running = [
            (variant, stack.enter_context(programs.proxy(program, place, worker, processors)))
            for variant, program in VARIANTS.items()
        ]
        for _, proxy in running:
            load.closed_loop(proxy.address, requests, sizes.connections, sizes.warm_up)
        for number in range(sizes.rounds):
            say(f"round {number + 1} of {sizes.rounds}")
            for variant, proxy in rotated(running, number):
                micro[variant].append(_spent(proxy, requests, sizes))
    return Observed(facts, micro)


def _spent(proxy: Proxy, requests: Sequence[bytes], sizes: Sizes) -> float:
    before = processes.usage(proxy.process.pid)
    count = load.closed_loop(proxy.address, requests, sizes.connections, sizes.seconds)
    return processes.usage(proxy.process.pid).since(before).total / count * 1e6


def report(observed: Observed) -> str:
    """A table of the variants, and whether the budget is kept."""
    lines = [["", "CPU per small request, µs", "added"]]
    for variant, values in observed.micro.items():
        spread = f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"
        lines.append([variant, spread, "" if variant == "neither" else f"{observed.cost(variant):+.1%}"])
    dearest = max(observed.cost(variant) for variant in VARIANTS)
    verdict = "kept" if dearest <= BUDGET else "missed"
    facts = ", ".join(f"{name} {value}" for name, value in observed.facts.items())
    rounds = len(observed.micro["neither"])
    return f"{table(lines)}\n\nBudget: at most {BUDGET:.0%}; {verdict}. {rounds} rounds, {facts}.\n"
