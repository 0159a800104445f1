"""Everything about one system at once: measured, explained, and summed up for the page."""

from __future__ import annotations

from attrs import frozen

from sidecar.importing.asked import Proxy

from .differences import Case, Reason, cases, explained
from .keeping import Affinity, Class, classes, unexplained
from .page import Result
from .systems import Measured, System, measure, place, read_proxy


@frozen(eq=False)
class Findings:
    """What was measured, and what it means."""

    measured: Measured
    proxy: Proxy
    """Its configuration, as our own reader has it."""
    reasons: dict[Reason | None, list[Case]]
    classes: list[Class]
    split: dict[Affinity | None, list[Class]]

    def result(self) -> Result:
        """For the page."""
        return Result(
            self.measured.system.name,
            len(self.measured.requests),
            {reason: found for reason, found in self.reasons.items() if reason is not None},
            self.classes,
            {reason: found for reason, found in self.split.items() if reason is not None},
        )


def find_out(system: System) -> Findings:
    """Measure and explain; takes several seconds."""
    with place() as directory:
        measured = measure(system, directory)
        proxy = read_proxy(system, directory)
    found = classes(measured, proxy)
    return Findings(
        measured,
        proxy,
        dict(explained(system, cases(measured))),
        found,
        dict(unexplained(system.name, found)),
    )
