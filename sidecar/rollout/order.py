"""In which order Synapse's processes are restarted, and what each restart costs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum

from attrs import field, frozen

from sidecar.config.amounts import write_duration
from sidecar.routing.parts import PoolPart, Takes, drained


class Way(Enum):
    """How a process is restarted."""

    DRAINED = "drained"
    """Others take its requests meanwhile."""
    SILENT = "silent"
    """It gets no requests from the sidecar."""
    HELD = "held"
    """Some of its requests only it may take; they wait."""


@frozen(kw_only=True)
class RolloutMember:
    """A process that can be restarted."""

    name: str
    is_main: bool = False
    silent: bool = False
    """It has no listener for requests."""
    command: tuple[str, ...] = ()


@frozen(kw_only=True)
class RestartStep:
    """One restart."""

    member: RolloutMember
    way: Way
    costs: tuple[str, ...] = field(factory=tuple)
    """What becomes of its requests meanwhile, in sentences."""

    @property
    def name(self) -> str:
        return self.member.name


_RANK = {Way.DRAINED: 0, Way.SILENT: 1, Way.HELD: 2}


def steps(
    members: Iterable[RolloutMember],
    parts: Sequence[PoolPart],
    takes: Takes,
    patience: Callable[[str], float],
    *,
    main_first: bool = False,
) -> list[RestartStep]:
    """The restarts in their order: first those that nobody notices, then those for which requests wait, then main.

    `patience`: seconds that a request of this pool waits.
    """
    made = [_step(member, parts, takes, patience) for member in members]
    last = -1 if main_first else 3
    return sorted(made, key=lambda step: last if step.member.is_main else _RANK[step.way])


def _step(
    member: RolloutMember, parts: Sequence[PoolPart], takes: Takes, patience: Callable[[str], float]
) -> RestartStep:
    if member.silent:
        return RestartStep(member=member, way=Way.SILENT, costs=("The sidecar sends it no requests.",))
    waits = any(not turn.workers for _, turn in drained(parts, takes, member.name))
    costs = tuple(_costs(member.name, parts, takes, patience))
    return RestartStep(member=member, way=Way.HELD if waits else Way.DRAINED, costs=costs)


def way_now(name: str, parts: Sequence[PoolPart], takes: Takes) -> Way:
    """How a process with a listener is restarted at this moment, when others may be down."""
    waits = any(not turn.workers for _, turn in drained(parts, takes, name))
    return Way.HELD if waits else Way.DRAINED


def _costs(name: str, parts: Sequence[PoolPart], takes: Takes, patience: Callable[[str], float]) -> Iterator[str]:
    outcomes: dict[str, list[str]] = {}
    for part, turn in drained(parts, takes, name):
        if turn.workers:
            told = f"{_listed(turn.workers)} {'takes' if len(turn.workers) == 1 else 'take'} its requests"
        else:
            longest = write_duration(patience(part.pool))
            told = f"its requests wait until it is back; those that have waited {longest} get 503"
        outcomes.setdefault(told, []).append(part.name)
    for told, names in outcomes.items():
        yield f"{_listed(names)}: {told}."
    if not outcomes:
        yield "It gets no requests now."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
