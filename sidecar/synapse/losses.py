"""What Synapse's files said and do not say any more, where nothing tells that it is meant: why a reload is refused.

A topology by itself cannot show this, because what is gone leaves no trace in it; so it is held against the one in
force. Pure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidecar.document import Document
from sidecar.errors import Problem
from sidecar.synapse.files import Merged
from sidecar.synapse.names import MAIN
from sidecar.synapse.processes import Process
from sidecar.synapse.topology import Topology

_NAMING = (
    "instance_map",
    "stream_writers",
    "federation_sender_instances",
    "pusher_instances",
    "media_instance_running_background_jobs",
    "notify_appservices_from_worker",
    "update_user_directory_from_worker",
    "run_background_tasks_on",
)
"""Keys of Synapse's configuration that name workers."""
_FEW = 5
_GONE = object()


def losses(before: Topology, after: Topology) -> Iterator[Problem]:
    """Why `after` has lost what `before` had: places, shared files, workers, and keys that are now given twice."""
    yield from (problem for problem in after.missing if problem not in before.missing and _looked_at(before, problem))
    yield from _shared_files(before, after)
    yield from _workers(before, after)
    yield from _directories(before, after)
    yield from repeated_keys(documents(before), documents(after))


def documents(topology: Topology) -> tuple[Document, ...]:
    """Everything that was read of Synapse."""
    return (*topology.shared, *topology.own, *topology.registrations)


def repeated_keys(before: Sequence[Document], after: Sequence[Document]) -> Iterator[Problem]:
    """Keys that are given twice since: the last one counts for Synapse, but hardly for whoever wrote the first."""
    known = {document.file: document.repeated for document in before}
    for document in after:
        for path in document.repeated:
            if path not in known.get(document.file, ()):
                yield document.problem(path, "is given more than once; remove all but one")


def cut_short(before: Document, after: Document) -> Problem | None:
    """A file that ends where it went on before; None where no more than comments is gone, or what was no good."""
    old, new = before.content, after.content
    if not new or len(new) >= len(old) or not old.startswith(new) or before.repeated or not before.usable:
        return None
    if before.value == after.value:
        return None
    line, last = (content.count(b"\n") + (not content.endswith(b"\n")) for content in (new, old))
    message = (
        f"the file ends here, but it had {last} lines before: it looks half written. Write the whole file; if the "
        "end was removed on purpose, add a comment as the last line, for example `# end`"
    )
    return Problem(after.file, line, "", message)


def entries_lost(before: Any, after: Any, depth: int = 2) -> int:
    """How many keys and items of `before`, `depth` levels deep, are gone or different."""
    if before == after:
        return 0
    if depth and isinstance(before, dict) and isinstance(after, dict):
        return sum(entries_lost(value, after.get(key, _GONE), depth - 1) for key, value in before.items())
    if depth and isinstance(before, list) and isinstance(after, list):
        rest = [*after, *[_GONE] * len(before)]
        return sum(entries_lost(*pair, depth - 1) for pair in zip(before, rest, strict=False))
    return 1


def _looked_at(topology: Topology, problem: Problem) -> bool:
    return problem.file in topology.named


def _main(topology: Topology) -> Merged:
    return next((each.config for each in _all(topology) if each.is_main), Merged())


def _all(topology: Topology) -> tuple[Process, ...]:
    return (*topology.processes, *topology.silent)


def _given(documents: Sequence[Document]) -> Mapping[str, Document]:
    """Those that say anything."""
    return {document.file: document for document in documents if isinstance(document.value, dict) and document.value}


def _is_named(file: str, topology: Topology) -> bool:
    return file in topology.named or any(os.path.dirname(file) == os.path.normpath(place) for place in topology.named)


def _shared_files(before: Topology, after: Topology) -> Iterator[Problem]:
    """Files that are gone or empty, and whose keys nobody gives as they were."""
    origins, values, left = _main(before).origins, _main(after).values, _given(after.shared)
    files = [document.file for document in after.shared]
    for file in _given(before.shared):
        if file in left or not _is_named(file, after):
            continue
        given = {key: _main(before).values[key] for key, origin in origins.items() if origin.file == file}
        lost = [str(key) for key, value in given.items() if values.get(key, _GONE) != value]
        if lost:
            how = "the file is empty now" if file in files else "the file is gone"
            message = (
                f"{how}, and with it {_listed([f'`{key}`' for key in lost])}: restore it, or write the same keys into "
                "another file; if you removed them on purpose, restart the sidecar"
            )
            yield Problem(file, 0, "", message)


def _workers(before: Topology, after: Topology) -> Iterator[Problem]:
    """Workers that no file describes any more while something still names them, or whose file is there and empty."""
    there = {process.name for process in _all(after)}
    said, files = _given(after.own), {document.file for document in after.own}
    for process in _all(before):
        if process.name in there or process.is_main or not process.file or not _is_named(process.file, after):
            continue
        if process.file in files and "worker_app" not in (said[process.file].value if process.file in said else ()):
            message = (
                f"no longer describes `{process.name}`: restore its content, or remove the file to remove the worker"
            )
            yield Problem(process.file, 0, "", message)
            continue
        config = _main(after)
        for key in _NAMING:
            if process.name in _names(config.get(key)):
                message = (
                    f"this names `{process.name}`, but no file describes it any more; {process.file} did: restore that "
                    f"file, or remove `{process.name}` here too"
                )
                yield config.problem((key,), message)
                break


def _names(value: Any) -> Iterator[Any]:
    """All names in a value of one of the keys above."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _names(each) if isinstance(each, (list, str)) else ()
    elif isinstance(value, list):
        yield from value
    else:
        yield value


def _directories(before: Topology, after: Topology) -> Iterator[Problem]:
    """Directories out of which all files are gone at once, such as one that is not mounted any more."""
    left = {os.path.dirname(document.file) for document in (*after.own, *after.shared)}
    gone: dict[str, list[str]] = {}
    for process in _all(before):
        place = os.path.dirname(process.file)
        if process.name != MAIN and process.file and place not in left and _is_named(process.file, after):
            gone.setdefault(place, []).append(process.name)
    for place, names in gone.items():
        if len(names) > 1 and not any(problem.file == place for problem in after.missing):
            message = (
                f"the directory has no file any more; its files described {_listed(names)}: restore them; if you "
                "removed all of them on purpose, restart the sidecar"
            )
            yield Problem(place, 0, "", message)


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _FEW
    return ", ".join(words[:_FEW]) + (f" and {more} more" if more > 0 else "")
