"""Synapse's configuration files, found and merged as Synapse does it (config/_base.py, read_config_files).

A later file replaces whole top-level keys of the earlier ones; nothing below is merged. Each key remembers the file
that it came from. Must not know what any key means.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from sidecar.document import Document, KeyPath, read_document
from sidecar.errors import Problem, Severity

NO_PLACE = "does not exist, so that it describes no worker"
NO_MAPPING = "the file is empty or no mapping of keys; Synapse ignores it"


@frozen
class Merged:
    """The configuration that one process sees, and the file that each top-level key came from."""

    values: Mapping[Hashable, Any] = field(factory=dict, repr=False)
    origins: Mapping[Hashable, Document] = field(factory=dict, repr=False)
    file: str = ""
    """Where a key is missed: the process's own file, or the first of the shared ones."""

    def get(self, key: str) -> Any:
        """The value of a top-level key; None where it is absent."""
        return self.values.get(key)

    def problem(self, path: KeyPath, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """A problem placed in the file that gave the first key of `path`."""
        origin = self.origins.get(path[0]) if path else None
        return (origin or Document(self.file)).problem(path, message, severity)

    def warning(self, path: KeyPath, message: str) -> Problem:
        """The same, as a warning."""
        return self.problem(path, message, Severity.WARNING)


def merge(documents: Iterable[Document], file: str = "") -> Merged:
    """What a process sees that reads these files in this order. `file`: where a key is missed."""
    values: dict[Hashable, Any] = {}
    origins: dict[Hashable, Document] = {}
    for document in documents:
        if isinstance(document.value, dict):
            values.update(document.value)
            origins.update(dict.fromkeys(document.value, document))
    return Merged(values, origins, file)


def find_files(paths: Sequence[str], *, may_lack: bool = False) -> tuple[list[str], list[Problem]]:
    """Files in the order in which they are merged: of a directory all `*.yaml`, sorted, none of its subdirectories.

    `may_lack`: whether there may well be no file at all, as where there are no workers.
    """
    files: list[str] = []
    problems: list[Problem] = []
    for path in paths:
        if may_lack and not path.endswith(".yaml") and not os.path.lexists(path):
            problems.append(Problem(path, 0, "", NO_PLACE, Severity.WARNING))
            continue
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            names = sorted(name for name in os.listdir(path) if _is_file(os.path.join(path, name), everything=may_lack))
        except OSError as error:
            problems.append(Problem(path, 0, "", f"the directory cannot be listed: {error.strerror}; let us read it"))
            continue
        files.extend(os.path.join(path, name) for name in names if name.endswith(".yaml"))
        problems.extend(_skipped(path, names))
        if not may_lack and not any(name.endswith(".yaml") for name in names):
            problems.append(Problem(path, 0, "", "there is no file `*.yaml` in this directory", Severity.WARNING))
    return files, problems


def _is_file(path: str, *, everything: bool) -> bool:
    """Whether an entry of a directory is to be read: what Synapse reads, and what only seems to be no file.

    `everything`: what has the name of a worker's file stands for a worker, whatever it is now.
    """
    if everything and path.endswith(".yaml"):
        return True
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        # Without permission nobody can tell. Synapse, too, skips a link that leads nowhere.
        return isinstance(error, PermissionError)


def _skipped(path: str, names: Sequence[str]) -> Iterable[Problem]:
    for name in names:
        if name.endswith((".yml", ".YAML", ".YML")):
            message = "Synapse reads only files that end in `.yaml` from a directory, and skips this one; rename it"
            yield Problem(os.path.join(path, name), 0, "", message, Severity.WARNING)


def read_files(files: Iterable[str]) -> tuple[list[Document], list[Problem]]:
    """Read each file once. Like Synapse, take the last of repeated keys and leave out what is no mapping."""
    documents = [read_document(file, repeated=Severity.WARNING) for file in dict.fromkeys(files)]
    problems = [problem for document in documents for problem in document.problems]
    for document in documents:
        if document.usable and not isinstance(document.value, dict):
            problems.append(Problem(document.file, 0, "", NO_MAPPING, Severity.WARNING))
    return documents, problems
