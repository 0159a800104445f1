"""Processes as routing wants them: from `workers:` of the configuration alone, or from a topology read elsewhere.

Reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, evolve, field, frozen

from sidecar.config.schema import Settings, Worker
from sidecar.errors import ConfigError, Problem
from sidecar.routing.auth_service import Service
from sidecar.synapse.names import MAIN
from sidecar.synapse.processes import Process
from sidecar.synapse.topology import Topology


def _wherever_it_stands(process: Process) -> Process:
    """What of a process makes it another one: its facts, but not which file has them."""
    return evolve(process, file="", listener=None, others=())


@frozen(kw_only=True)
class PlannedWorker:
    """A process as routing wants it. What it does not work out itself is left where it was read."""

    name: str
    endpoint: str
    """A Twisted client endpoint string."""
    serves: frozenset[str]
    """Listener resources that can be reached at `endpoint`."""
    writes: frozenset[str] = frozenset()
    """Streams."""
    media: bool = True
    """It may have the media repository loaded (`enable_media_repo`), which some resources need."""
    is_main: bool = False
    settings: Worker = field(default=Worker())
    """What `workers:` says of it."""
    weight: float = field(default=Factory(lambda self: self.settings.weight, takes_self=True))
    """In force: the file's, or what an operator wants instead (`sidecar.routing.overrides`)."""
    maximum: int | None = field(default=Factory(lambda self: self.settings.maximum, takes_self=True))
    """The same of its requests at once; None: `limits.worker_connections`."""
    process: Process = field(
        default=Factory(lambda self: Process(name=self.name), takes_self=True), eq=_wherever_it_stands, repr=False
    )
    """What Synapse's files say of it."""

    @property
    def share(self) -> float:
        """Its weight in force. The main process cannot be taken out, because some requests have nowhere else."""
        return self.weight or float(self.is_main)

    @property
    def standing(self) -> float:
        """The weight by which it is a member and holds seats: the file's, so that a change at run time moves its keys
        only. Where the file has it out, it comes with a weight of 1."""
        return self.settings.weight or float(self.is_main or self.weight > 0)


@frozen(kw_only=True)
class Facts:
    """What is known of the homeserver as a whole."""

    known: bool = False
    """Whether the topology was read from Synapse's own configuration; otherwise everything may exist."""
    features: frozenset[str] = frozenset()
    """What of `Endpoint.needs` is configured, except `media_repo`, which belongs to each process."""
    writers: Mapping[str, tuple[str, ...]] = field(factory=dict)
    """Names of the writers of each stream, those that cannot be reached included. The order of `events` counts. A
    stream that is missing is written by the workers that say so, in their order, else by main."""
    media: tuple[str, ...] = ()
    """Workers that Synapse's files give the media repository to, those that cannot be reached included."""
    appservices: Mapping[str, str] = field(factory=dict, repr=False)
    """User id of the sender for each `as_token`."""
    mas: Service | None = None
    """The Matrix Authentication Service; None: there is none, or nobody knows where."""


GENERIC_SERVES = frozenset(("client", "federation", "media", "keys", "openid", "health"))
"""Listener resources that a generic worker can have (replication and metrics are not for clients)."""
MAIN_SERVES = GENERIC_SERVES | {"consent", "static", "metrics"}


def planned_workers(settings: Settings) -> tuple[PlannedWorker, ...]:
    """Processes from `workers:` alone; one that does not say what it serves serves whatever its kind can."""
    says_media = any("media" in (worker.serves or ()) for name, worker in settings.workers.items() if name != MAIN)
    return tuple(
        PlannedWorker(
            name=name,
            endpoint=worker.endpoint or "",
            serves=_served(worker.serves, is_main=name == MAIN),
            writes=frozenset(worker.writes or ()),
            media=_has_media(worker.serves, main_besides_media_worker=name == MAIN and says_media),
            is_main=name == MAIN,
            settings=worker,
        )
        for name, worker in settings.workers.items()
    )


def workers_of(topology: Topology, settings: Settings) -> tuple[tuple[PlannedWorker, ...], Facts]:
    """What routing takes from a topology that was read from Synapse's files, with `workers:` laid over it."""
    by_hand = {worker.name: worker for worker in planned_workers(settings)}
    processes = [_planned(process, by_hand.get(process.name)) for process in topology.processes]
    facts = Facts(
        known=topology.known,
        features=topology.features,
        writers=topology.writers,
        media=topology.media,
        appservices=topology.appservices,
    )
    return tuple(processes), facts


def _planned(process: Process, by_hand: PlannedWorker | None) -> PlannedWorker:
    if by_hand is not None and not process.file:
        return evolve(by_hand, writes=process.writes, process=process)
    return PlannedWorker(
        name=process.name,
        endpoint=process.endpoint,
        # Synapse ignores the resource `media` of a process whose media repository is disabled.
        serves=process.serves if process.media else process.serves - {"media"},
        writes=process.writes,
        media=process.media,
        is_main=process.is_main,
        settings=Worker() if by_hand is None else by_hand.settings,
        process=process,
    )


def with_main(workers: tuple[PlannedWorker, ...], settings: Settings) -> tuple[PlannedWorker, ...]:
    """The workers, one of them main; a worker alone takes its place. Raises ConfigError where several have no main."""
    if any(worker.is_main for worker in workers):
        return workers
    if len(workers) == 1:
        return (evolve(workers[0], is_main=True, serves=workers[0].serves | MAIN_SERVES),)
    message = (
        "no process is known as the main process, which answers what no worker can; name it under `workers` as "
        '`main: {endpoint: "unix:/run/matrix-synapse/main.sock"}`, or give `synapse.config`'
    )
    problem = Problem(settings.path, 0, "workers.main" if workers else "workers", message)
    raise ConfigError((problem,))


def _has_media(stated: Sequence[str] | None, *, main_besides_media_worker: bool) -> bool:
    """Main has no media repository beside a worker that was given it, because Synapse wants it switched off there."""
    return not main_besides_media_worker if stated is None else "media" in stated


def _served(stated: Sequence[str] | None, *, is_main: bool) -> frozenset[str]:
    if stated is not None:
        return frozenset(stated)
    return MAIN_SERVES if is_main else GENERIC_SERVES
