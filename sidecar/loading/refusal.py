"""Why a deployment that could be used must not take the place of the one in force. Pure.

A fault that the one in force has as well is no reason: what works by it goes on working. One that is new, or something
that is gone without a word, would make less of what works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from sidecar.document import Document
from sidecar.errors import ConfigError, Problem, Severity
from sidecar.loading.deployment import Deployment, UnusableError
from sidecar.synapse.losses import cut_short, documents, entries_lost, losses
from sidecar.synapse.topology import Topology

_OF_FILES = ("files", "named", "shared", "own", "registrations", "missing", "unreadable", "problems")
"""What of a topology is about its files. The rest decides where requests go, and how."""
_EMPTY = (
    "the file is empty now, and was not before: restore its content, or remove it; to keep it empty, write a comment "
    "into it, for example `# empty`"
)


def refusals(before: Deployment, found: Deployment) -> tuple[Problem, ...]:
    """Every reason; empty where `found` can be used."""
    reasons = (*new_errors(before.problems, found.problems), *_cut(before, found))
    return tuple(dict.fromkeys((*reasons, *losses(before.topology, found.topology))))


def reasons_of(before: Deployment, error: ConfigError) -> tuple[Problem, ...]:
    """Why files cannot be used that are not even a deployment; what is gone may be the cause of the rest."""
    gone = losses(before.topology, error.topology) if isinstance(error, UnusableError) else ()
    reasons = (*gone, *new_errors(before.problems, error.problems))
    return tuple(dict.fromkeys(reasons)) or error.problems


def new_errors(before: Sequence[Problem], found: Sequence[Problem]) -> Iterator[Problem]:
    """The errors that were not there before, wherever in the file they stand now."""
    known = {_same(problem) for problem in before}
    return (problem for problem in found if problem.severity is Severity.ERROR and _same(problem) not in known)


def _same(problem: Problem) -> Any:
    return attrs.evolve(problem, line=0)


def _cut(before: Deployment, found: Deployment) -> Iterator[Problem]:
    """Half-written files, and files of ours that are empty now.

    One that ends in the middle of a line is half written for certain. One that ends with a line can be meant: ours
    where one thing was taken out of it; one of Synapse's where nothing is different by it, or a worker's own file is
    gone as well.
    """
    for old, new in _in_both(before.settings.source.files, found.settings.source.files):
        problem = cut_short(old, new)
        if problem is not None and (_in_a_line(new) or entries_lost(old.value, new.value) > 1):
            yield problem
        elif old.value and not new.content:
            yield Problem(new.file, 0, "", _EMPTY)
    meant = not _differ(before, found) or _removed(before.topology, found.topology)
    for old, new in _in_both(documents(before.topology), documents(found.topology)):
        problem = cut_short(old, new)
        if problem is not None and (_in_a_line(new) or not meant):
            yield problem


def _in_both(before: Sequence[Document], found: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    known = {document.file: document for document in before}
    return (
        (known[document.file], document)
        for document in {each.file: each for each in found}.values()
        if document.file in known
    )


def _in_a_line(document: Document) -> bool:
    return not document.content.endswith(b"\n")


def _differ(before: Deployment, found: Deployment) -> bool:
    old, new = before.topology, found.topology
    names = (each for each in attrs.fields_dict(Topology) if each not in _OF_FILES)
    return any(getattr(old, name) != getattr(new, name) for name in names)


def _removed(before: Topology, found: Topology) -> bool:
    """Whether a worker's own file is gone as well, so that the rest was shortened on purpose."""
    files = {document.file for document in found.own}
    return any(document.file not in files for document in before.own)
