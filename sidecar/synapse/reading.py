"""Reads Synapse's own files into a topology, with everything that is wrong with them.

The files are never written to, and nothing is connected to. Must not know how requests are distributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import evolve

from sidecar.errors import Problem, Severity
from sidecar.synapse.appservices import read_appservices
from sidecar.synapse.contradictions import contradictions
from sidecar.synapse.files import NO_MAPPING, NO_PLACE, Merged, find_files, read_files
from sidecar.synapse.topology import Stated, Topology, assemble, state_workers


def read_topology(
    config: Sequence[str], workers: Sequence[str], stated: Mapping[str, Stated] | None = None
) -> Topology:
    """Read Synapse's files; never raises, what is wrong is in `Topology.problems`.

    `config` are homeserver.yaml and what Synapse merges over it, `workers` the workers' own files; either may be
    directories. `stated` are the workers of `sidecar.yaml`, which add to the ones read or override them.
    """
    shared_files, shared_problems = find_files(config)
    worker_files, worker_problems = find_files(workers, may_lack=True)
    shared, shared_faults = read_files(shared_files)
    own, own_faults = read_files(file for file in worker_files if file not in shared_files)
    topology = assemble(shared, own) if config or workers else Topology()
    topology = state_workers(topology, stated or {})
    main = next((process.config for process in (*topology.processes, *topology.silent) if process.is_main), Merged())
    appservices, registrations, faults = read_appservices(main, topology.server_name)
    unreadable = tuple(_unreadable(config, (*shared_problems, *shared_faults)))
    found = (*unreadable, *shared_problems, *worker_problems, *shared_faults, *own_faults)
    if not unreadable:  # else whatever else is wrong may follow from that
        found = (*found, *topology.problems, *faults, *contradictions(topology))
    return evolve(
        topology,
        appservices=appservices,
        files=(*topology.files, *(document.file for document in registrations)),
        named=(*config, *workers),
        registrations=tuple(registrations),
        missing=tuple(problem for problem in worker_problems if problem.message == NO_PLACE),
        unreadable=unreadable,
        problems=tuple(dict.fromkeys(found)),
    )


def _unreadable(config: Sequence[str], problems: Iterable[Problem]) -> Iterator[Problem]:
    """A file that is named and empty is one that somebody was about to write."""
    for problem in problems:
        if problem.severity is Severity.ERROR or (problem.message == NO_MAPPING and problem.file in config):
            yield evolve(problem, severity=Severity.ERROR)
