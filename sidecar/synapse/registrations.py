"""What a tree of Synapse's resources answers: methods and path patterns, as they would arrive from the wire.

Walks Twisted resources and must not import Synapse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

from attrs import field, frozen
from twisted.web.resource import Resource

from sidecar.synapse.patterns import PatternError, notation_of, paths_of


class ProbeError(Exception):
    """What was registered cannot be put into the table; the message says what and why."""


Recorded = tuple[str, str, str, Callable[..., Any] | None]
"""Method, regex, name of the servlet, and what answers."""


@frozen
class Registration:
    """One method of one servlet or resource, as a process mounts it."""

    method: str
    notation: str
    servlet: str
    callback: Callable[..., Any] | None = field(default=None, eq=False, repr=False)
    """What answers it."""


def registrations(root: Resource, recorded: Mapping[int, list[Recorded]]) -> Iterator[Registration]:
    """What the tree below `root` answers. `recorded`: by the identity of a resource."""
    mounts: dict[Registration, list[tuple[str, ...]]] = {}
    for mount, resource in _tree(root, ()):
        if id(resource) in recorded:
            for method, regex, servlet, callback in recorded[id(resource)]:
                mounts.setdefault(Registration(method, notation_of(regex), servlet, callback), []).append(mount)
        else:
            yield from _plain(mount, resource)
    yield from (each for each, places in mounts.items() if _reachable(each.notation, places))


def registered(root: Resource) -> tuple[Registration, ...]:
    """What the tree below `root` answers in a Synapse that runs: its own servlets, as it keeps them.

    A servlet of somebody else whose expression the notation has no words for is left out. Raises ProbeError.
    """
    recorded: dict[int, list[Recorded]] = {}
    for _, resource in _tree(root, ()):
        # With `compress`, Synapse puts a wrapper around the resource (twisted.web.resource.EncodingResourceWrapper).
        routes: Mapping[Any, Mapping[bytes, Any]] | None
        routes = getattr(getattr(resource, "original", resource), "_routes", None)
        if routes is not None:
            recorded[id(resource)] = [
                (method.decode("ascii"), pattern.pattern, entry.servlet_classname, None)
                for pattern, methods in routes.items()
                if _has_notation(pattern.pattern)
                for method, entry in methods.items()
            ]
    return tuple(registrations(root, recorded))


def _has_notation(regex: str) -> bool:
    try:
        return bool(paths_of(notation_of(regex)))
    except PatternError:
        return False


def _tree(resource: Resource, mount: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Resource]]:
    if mount:
        yield mount, resource
    if not resource.isLeaf:
        for name, child in resource.children.items():
            yield from _tree(child, (*mount, name.decode()))


def _plain(mount: tuple[str, ...], resource: Resource) -> Iterator[Registration]:
    """A resource without expressions; it answers below its own path if it is a leaf or makes children on demand."""
    whole = resource.isLeaf or type(resource).getChild is not Resource.getChild
    notation = "/" + "/".join(mount) + ("[/**]" if whole else "")
    for method in ("GET", "PUT", "POST", "DELETE"):
        callback = getattr(resource, f"_async_render_{method}", getattr(resource, f"render_{method}", None))
        if callback is not None:
            yield Registration(method, notation, type(resource).__name__, callback)


def _reachable(notation: str, mounts: list[tuple[str, ...]]) -> bool:
    """Whether requests for `notation` arrive at one of `mounts`; Synapse registers some where none ever does."""
    starts = [start for path in paths_of(notation) for start in _literal_starts(path, min(map(len, mounts)))]
    reached = [any(start == mount[: len(start)] for mount in mounts) for start in starts]
    if any(reached) != all(reached):
        raise ProbeError(f"{notation} is mounted only in part, at {mounts}; the table has no row for that")
    return all(reached)


def _literal_starts(path: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return product(*(segment.strip("{}").split("|") for segment in path[:length]))


def name_of(servlet: str, notation: str) -> str:
    """`RoomMessageListRestServlet` becomes `room_message_list`; classes of the admin API and of media are marked."""
    stem = re.sub(r"(RestServlet|Servlet|RestResource|Resource|Server)(?=(V\d)?$)", "", servlet)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stem).lower()
    area = "admin" if notation.startswith("/_synapse/admin/") else "media" if "/media/" in notation else ""
    return name if area in name.split("_") or not area else f"{area}_{name}"
