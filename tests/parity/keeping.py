"""What a proxy keeps on one server, and whether the sidecar keeps it on one worker.

The keys of a proxy are those that `sidecar.importing` works out from its configuration; that they are right is seen
from where the real proxy sent the requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from sidecar.importing.asked import Proxy

from .systems import Measured, asked


@frozen
class Affinity:
    """Why requests that a proxy keeps on one server are not all on one worker here."""

    name: str
    system: str
    key: re.Pattern[str]
    why: str


AFFINITIES: tuple[Affinity, ...] = (
    Affinity(
        "all other rooms",
        "docker-nginx",
        re.compile(r"hash not_room"),
        "Whatever has no room with a domain in it has one key in common, so that one room worker gets all of it. Here "
        "each room has a key of its own.",
    ),
)


@frozen
class Class:
    """Requests that have one key in one upstream: the servers that got them there, the workers that got them here."""

    upstream: str
    key: str
    requests: int
    servers: frozenset[str]
    workers: frozenset[str]

    @property
    def kept(self) -> bool:
        return len(self.workers) == 1


def classes(measured: Measured, proxy: Proxy) -> list[Class]:
    """The classes, of two requests or more, of all requests that both sent to the same group."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for sent, theirs, ours in zip(measured.requests, measured.theirs, measured.ours, strict=True):
        verdict = proxy.verdict(asked(measured.system, sent))
        if verdict.key is not None and theirs.group == ours.group:
            found.setdefault((verdict.pool, verdict.key), []).append((theirs.worker, ours.worker))
    return [
        Class(
            upstream,
            key,
            len(pairs),
            frozenset(server for server, _ in pairs),
            frozenset(worker for _, worker in pairs),
        )
        for (upstream, key), pairs in found.items()
        if len(pairs) > 1
    ]


def unexplained(name: str, found: Sequence[Class]) -> Mapping[Affinity | None, list[Class]]:
    """The classes that are not kept together here, by the reason for it."""
    split: dict[Affinity | None, list[Class]] = {}
    for each in found:
        if not each.kept:
            reason = next((one for one in AFFINITIES if one.system == name and one.key.fullmatch(each.key)), None)
            split.setdefault(reason, []).append(each)
    return split
