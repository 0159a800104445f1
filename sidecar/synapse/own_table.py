"""The endpoint table corrected by what one running process has really registered.

The table says what each release of Synapse has; a process that was patched, or is newer than the table, knows better
about itself, and about the others of its kind, which run the same code. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from attrs import evolve, frozen

from sidecar.synapse.endpoint_rows import Endpoint, EndpointTable, endpoints_of
from sidecar.synapse.overlay import Overlay
from sidecar.synapse.patterns import paths_of, shape_of
from sidecar.synapse.processes import Process
from sidecar.synapse.registrations import Registration, name_of
from sidecar.synapse.table import Fact, Span, row_of

Key = tuple[str, tuple[str, ...]]
"""Method and path, without alternatives, in which the names of parameters do not count."""


@frozen(kw_only=True)
class Corrected:
    """The table as it is in this process, and how many methods of endpoints that added to it and took away."""

    table: EndpointTable
    added: int = 0
    missing: int = 0


def corrected(
    table: EndpointTable, registered: Sequence[Registration], process: Process, overlay: Overlay
) -> Corrected:
    """The rows of `table`, changed for `process` and its kind by what it has `registered` behind its listener.

    What a worker has and no row gives it becomes a row as `overlay` judges it, where it does. Main needs none: it gets
    what no row has.
    """
    own = {
        (each.method, _shape(plain))
        for each in registered
        for path in paths_of(each.notation)
        for plain in _plain(path)
    }
    given = {key for row in table.endpoints if _expects(process, row) for key in _keys(row)}
    new: dict[Key, Endpoint] = {}
    if not process.is_main:
        new.update(_new_rows(registered, process, given, table, overlay))
    rows = list(new.values())
    for row in table.endpoints:
        rows.extend(_changed(row, own, set(new), process))
    return Corrected(
        table=evolve(table, endpoints=tuple(row for row in rows if row.methods)),
        added=len(new),
        missing=len(given - own),
    )


def _changed(row: Endpoint, own: set[Key], new: set[Key], process: Process) -> Iterator[Endpoint]:
    """The row as it was; or one for each of its paths that could differ."""
    keys = set(_keys(row))
    if keys.isdisjoint(new) and (keys <= own or not _expects(process, row)):
        yield row
        return
    for path in _plain(row.path):
        shape = _shape(path)
        known = frozenset(method for method in row.methods if (_read(method), shape) not in new)
        yield from _parted(evolve(row, path=path, methods=known), own, process)


def _expects(process: Process, row: Endpoint) -> bool:
    """Whether such a process should have the row, as it is configured."""
    resources = row.resources if process.is_main else row.worker_resources
    if not resources & process.serves or ("media_repo" in row.needs and not process.media):
        return False
    return all(not process.features.isdisjoint(need.split("|")) for need in row.needs if need != "media_repo")


def _shape(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(shape_of(segment) for segment in path)


def _read(method: str) -> str:
    """HEAD is wherever GET is, and nobody registers it."""
    return "GET" if method == "HEAD" else method


def _keys(row: Endpoint) -> Iterator[Key]:
    for path in _plain(row.path):
        shape = _shape(path)
        yield from ((method, shape) for method in row.methods - {"HEAD"})


def _plain(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths without alternatives that `path` stands for."""
    yield from product(*(segment.strip("{}").split("|") if "|" in segment else (segment,) for segment in path))


def _parted(row: Endpoint, own: set[Key], process: Process) -> Iterator[Endpoint]:
    """The methods of a row that are there; and those that are not, for main, where it was a worker that lacks them."""
    if not _expects(process, row):
        yield row
        return
    shape = _shape(row.path)
    there = frozenset(method for method in row.methods if (_read(method), shape) in own)
    yield evolve(row, methods=there)
    if row.resources and not process.is_main:
        reason = "No worker of this homeserver has registered it."
        yield evolve(row, methods=row.methods - there, group="main", worker_resources=frozenset(), reason=reason)


def _new_rows(
    registered: Sequence[Registration], process: Process, given: set[Key], table: EndpointTable, overlay: Overlay
) -> Iterator[tuple[Key, Endpoint]]:
    """Only what belongs to Matrix: what modules mount elsewhere may well have its state in one process."""
    of_main = {key: row.resources for row in table.endpoints for key in _keys(row) if row.resources}
    for each in registered:
        judgement = overlay.judge(each.method, each.notation)
        if judgement.group is None or not each.notation.startswith("/_matrix/"):
            continue
        fact = Fact(each.method, each.notation, name_of(each.servlet, each.notation), worker=process.serves)
        for row in endpoints_of(row_of(Span(fact, None, None), judgement)):
            for path in _plain(row.path):
                key = (each.method, _shape(path))
                if key not in given:
                    yield key, evolve(row, path=path, resources=of_main.get(key, process.serves))
