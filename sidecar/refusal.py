"""Why a deployment that could be used must not take the place of the one in force. Pure.

A fault that the one in force has as well is no reason: what works by it goes on working. One that is new, or something
that is gone without a word, would make less of what works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from sidecar.deployment import Deployment
from sidecar.errors import Problem, Severity
from sidecar.synapse.losses import cut_short, documents, losses
from sidecar.synapse.topology import Topology

_OF_PROCESSES = ("processes", "silent", "writers", "features", "appservices", "server_name", "max_upload_size")
"""What of a topology decides where requests go."""


def refusals(before: Deployment, found: Deployment) -> tuple[Problem, ...]:
    """Every reason; empty where `found` can be used."""
    reasons = (*new_errors(before.problems, found.problems), *_cut(before, found))
    return tuple(dict.fromkeys((*reasons, *losses(before.topology, found.topology))))


def new_errors(before: Sequence[Problem], found: Sequence[Problem]) -> Iterator[Problem]:
    """The errors that were not there before, wherever in the file they stand now."""
    known = {_same(problem) for problem in before}
    return (problem for problem in found if problem.severity is Severity.ERROR and _same(problem) not in known)


def _same(problem: Problem) -> Any:
    return attrs.evolve(problem, line=0)


def _cut(before: Deployment, found: Deployment) -> Iterator[Problem]:
    """Half-written files. One that ends with a whole line is one only where something is different by it."""
    old, new = ((each.settings.source, *documents(each.topology)) for each in (before, found))
    for problem, certain in cut_short(old, new):
        if certain or (_differ(before, found) and not _removed(before.topology, found.topology)):
            yield problem


def _differ(before: Deployment, found: Deployment) -> bool:
    old, new = before.topology, found.topology
    return before.settings != found.settings or any(getattr(old, name) != getattr(new, name) for name in _OF_PROCESSES)


def _removed(before: Topology, found: Topology) -> bool:
    """Whether a worker's own file is gone as well, so that the rest was shortened on purpose."""
    files = {document.file for document in found.own}
    return any(document.file not in files for document in before.own)
