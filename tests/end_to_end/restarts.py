"""Ends the processes of a real Synapse one after another under a steady load, and counts what its clients notice.

`python -m tests.end_to_end.restarts --topology split --signal SIGKILL --rivals` does it by hand, with nginx and HAProxy
beside the sidecar in front of the same processes; the tests do it for the sidecar alone.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from attrs import frozen

from .children import LaboratoryError
from .laboratory import Laboratory, running_services, running_sidecar, running_synapse, scratch_directory
from .rivals import RIVALS, running_rival
from .services import missing
from .signing import signer
from .steady import Failure, SteadyLoad, user_in, written
from .topology import TOPOLOGIES

SIDECAR = "sidecar"
USERS = 3


@frozen
class Noticed:
    """What the clients of one gateway noticed of all the ends together."""

    name: str
    requests: int
    failures: Sequence[Failure]
    twice: Sequence[str]
    """What was written once, and is there more than once."""
    absent: Sequence[str]
    """What is not there, although its client was told that it is."""

    @property
    def safe(self) -> list[Failure]:
        """Failures of requests that could have been sent again."""
        return [failure for failure in self.failures if failure.safe]

    @property
    def unclear(self) -> list[Failure]:
        """Failures that do not say in Matrix's words what happened; those that hang are among them."""
        return [failure for failure in self.failures if not failure.is_clear]

    def lines(self) -> Iterator[str]:
        unsafe = len(self.failures) - len(self.safe)
        yield f"{self.name}: {self.requests} requests, failed: {len(self.safe)} that could be repeated, {unsafe} other"
        yield f"  {len(self.twice)} marks are there twice, {len(self.absent)} are not; {len(self.unclear)} are unclear"
        for what, count in Counter(_kind_of(failure) for failure in self.failures).most_common():
            yield f"  {count} x {what}"


def _kind_of(failure: Failure) -> str:
    return f"{failure.kind}: {failure.status or failure.told.partition(':')[0]}"


def rolling(
    laboratory: Laboratory, ports: Mapping[str, int], names: Sequence[str], number: signal.Signals
) -> dict[str, Noticed]:
    """End each of these processes with this signal and start it again, while clients use each of these gateways.

    The next one ends when every kind of request has been answered again. Only the first gateway gets transactions.
    """
    users = [user_in(laboratory) for _ in range(USERS)]
    sign = signer(laboratory.layout)
    first = next(iter(ports))
    loads = [SteadyLoad(name, port, users, sign, transactions=name == first) for name, port in ports.items()]
    with ExitStack() as stack:
        for load in loads:
            stack.enter_context(load)
        for load in loads:
            load.goes_on(1)
        for name in names:
            laboratory.restart(name, number)
            for load in loads:
                load.goes_on(1)
    found = written(laboratory)
    return {load.name: _noticed(load, found) for load in loads}


def _noticed(load: SteadyLoad, found: Counter[str]) -> Noticed:
    return Noticed(
        load.name,
        load.total,
        load.failures,
        twice=[mark for mark in load.marks if found[mark] > 1],
        absent=[mark for mark, told in load.marks.items() if told and not found[mark]],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.restarts", description=__doc__)
    parser.add_argument("--topology", choices=TOPOLOGIES, default="generic")
    parser.add_argument("--signal", choices=("SIGTERM", "SIGKILL"), default="SIGTERM")
    parser.add_argument("--rivals", action="store_true", help="nginx and HAProxy, too, in front of the same Synapse")
    options = parser.parse_args(arguments)
    if absent := missing():
        print(f"the laboratory needs {', '.join(absent)}", file=sys.stderr)
        return 2
    topology = TOPOLOGIES[options.topology]
    names = [process.name for process in topology.processes]
    with ExitStack() as stack:
        services = stack.enter_context(running_services(stack.enter_context(scratch_directory())))
        try:
            laboratory = stack.enter_context(running_synapse(services, topology))
            ports = {SIDECAR: stack.enter_context(running_sidecar(laboratory, "three_lines")).port}
            for name in RIVALS if options.rivals else ():
                ports[name] = stack.enter_context(running_rival(laboratory, name))
        except LaboratoryError as error:
            print(error, file=sys.stderr)
            return 1
        noticed = rolling(laboratory, ports, names, signal.Signals[options.signal])
    for one in noticed.values():
        print(*one.lines(), sep="\n")
    ours = noticed[SIDECAR]
    return 1 if ours.safe or ours.twice or ours.absent or ours.unclear else 0


if __name__ == "__main__":
    sys.exit(main())
