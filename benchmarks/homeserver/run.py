"""The run: each homeserver in turn, its people, and in each case every variant in turn, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, frozen
from end_to_end.children import LaboratoryError
from end_to_end.laboratory import running_services, scratch_directory

from benchmarks.homeserver.clients import Load
from benchmarks.homeserver.deployments import SIX, TWELVE, Deployment
from benchmarks.homeserver.measure import Homeserver, homeserver, measured, people_of
from benchmarks.homeserver.population import SIZES, Population, Size
from benchmarks.homeserver.proxies import BY_HAND, HAPROXY, NGINX, OURS, Variant
from benchmarks.homeserver.results import Case, Report, Row
from benchmarks.homeserver.rules import WITHOUT
from benchmarks.load import LoadError
from benchmarks.measure import machine, rotated
from benchmarks.programs import Processors, ProgramError

VARIANTS = (NGINX, HAPROXY, OURS, BY_HAND)
LOADS = {
    "messages": Load(rate=1.0),
    "everything": Load(rate=1.0, sliding=4, initial=10, joins=20, lookups=4, federated=4),
    "look-ups": Load(rate=1.0, sliding=4, initial=2, joins=4, lookups=1, messages=1, federated=4),
}
"""Messages with typing, receipts and `/messages`; and with sliding sync, first syncs, joins, look-ups, federation.
`look-ups` has more of those, because the rules of routing are about them."""


@frozen(kw_only=True)
class Plan:
    """What is measured; times are seconds. `rates` are messages a second for each size: half load, near saturation."""

    deployments: Sequence[Deployment] = (SIX, TWELVE)
    rates: Sequence[tuple[Size, Sequence[float]]] = (
        (SIZES[0], (2.0, 4.0)),
        (SIZES[1], (2.0, 3.0)),
        (SIZES[2], (0.3, 0.6)),
    )
    loads: Sequence[str] = ("messages", "everything")
    variants: Sequence[Variant] = VARIANTS
    rounds: int = 3
    warm_up: float = 6.0
    seconds: float = 30.0


RULES = Plan(
    deployments=(TWELVE,),
    rates=((SIZES[0], (1.8,)),),
    loads=("look-ups",),
    variants=(OURS, *WITHOUT),
)
"""The sidecar alone, with one rule off after the other."""
BRIEF = Plan(deployments=(SIX,), rates=((SIZES[0], (3.0,)),), loads=("messages",), rounds=1, warm_up=4.0, seconds=15.0)


def run(plan: Plan, say: Callable[[str], None]) -> Report:
    """Measure it. Raises ProgramError or LaboratoryError where a homeserver or a program cannot be started."""
    facts = {name: fact for name, fact in machine(Processors.divided([0])).items() if name != "pinned"}
    cases: list[Case] = []
    federates = any(LOADS[load].federated for load in plan.loads)
    for deployment in plan.deployments:
        say(f"{deployment.topology.name} workers: starting")
        with (
            scratch_directory() as root,
            running_services(root) as services,
            homeserver(services, deployment, federates=federates) as running,
        ):
            cases += _cases(plan, running, say)
    return Report(facts, plan.seconds, tuple(cases))


def _cases(plan: Plan, running: Homeserver, say: Callable[[str], None]) -> list[Case]:
    cases = []
    for number, (size, rates) in enumerate(plan.rates):
        say(f"making {size.name}")
        population = people_of(running, size, f"s{number}")
        for load in plan.loads:
            for rate in rates:
                case = Case(running.deployment.topology.name, size.name, load, rate)
                cases.append(_case(plan, running, case, population, say))
    return cases


def _case(plan: Plan, running: Homeserver, case: Case, population: Population, say: Callable[[str], None]) -> Case:
    rows = {variant: Row(variant.name) for variant in plan.variants}
    load = evolve(LOADS[case.load], rate=case.rate)
    for number in range(plan.rounds):
        say(f"{case.title}, round {number + 1} of {plan.rounds}")
        for variant in rotated(list(plan.variants), number):
            if not rows[variant].problem:
                try:
                    numbers = measured(running, variant, population, load, plan.warm_up, plan.seconds)
                    rows[variant] = rows[variant].with_round(numbers)
                except (ProgramError, LoadError, LaboratoryError, OSError) as error:
                    rows[variant] = Row(variant.name, rows[variant].numbers, str(error))
    return evolve(case, rows=tuple(rows.values()))
