"""The comment at the top of an exported file: its origin, and what the other program does not do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from sidecar.exporting.model import Exported, Group

_EVERYWHERE = (
    "requests do not wait while a worker restarts: clients get an error at once",
    "this program retries requests by its own rules, not by those of Matrix",
    "tokens of the Matrix Authentication Service do not name a user: the tokens of one user can reach several workers",
    "rooms, users and servers are compared byte for byte: another percent-encoding can reach another worker",
    "a room's sends always go to the same event persister, but not always to the one that writes its events",
)


def remarks(exported: Exported, program: str, more: Iterable[str] = ()) -> list[str]:
    """The lines of the comment, without the comment character."""
    lines = [
        f"Written by `matrix-sidecar export {program}` for Synapse {exported.release}. Do not edit it. Export it again",
        f"after each change of workers and each upgrade of Synapse. `matrix-sidecar export {program} --check FILE`",
        "checks whether it is out of date.",
        "",
        f"What the sidecar does, and {program} with this file does not:",
    ]
    absent = [f"worker {name} is left out: {fault}" for name, fault in exported.faulty.items()]
    for remark in (*_EVERYWHERE, *_replaced(exported.groups), *_unchanged(exported), *more, *absent):
        first, *others = wrap(remark, 112)
        lines += [f"- {first}", *(f"  {other}" for other in others)]
    return lines


def _replaced(groups: Iterable[Group]) -> Iterator[str]:
    """One sentence for each group in which the sidecar gives the keys of a worker that is down to a reserve."""
    for group in groups:
        if group.reserve and len(group.first) > 1:
            names = " or ".join(group.reserve)
            yield f"when a worker of {group.name} is down, the others get its keys; in the sidecar, {names} gets them"


def _unchanged(exported: Exported) -> Iterator[str]:
    """Responses that the sidecar changes and the program does not; balancers."""
    if exported.settings.compress is not None:
        yield (
            "responses are not compressed: this file cannot make the exceptions that the sidecar makes for safety, "
            "such as responses to requests with cookies"
        )
    if exported.settings.balancers:
        names = ", ".join(exported.settings.balancers)
        yield f"balancers are left out, because they do not carry HTTP: {names}"
    for group in exported.groups:
        if group.strip or group.add:
            yield f"a Location header from {group.name} is not changed: it has the path without the pool's prefixes"


def stand_ins(groups: Iterable[Group], *, backups: bool) -> Iterator[str]:
    """One sentence for each group whose backups the program does not use.

    `backups`: the program has backup servers, but not together with hashing.
    """
    for group in groups:
        if group.backups and not (backups and group.kind == "none"):
            names = ", ".join(member.name for member in group.backups)
            yield f"no worker replaces {group.name} when all of its workers are down; in the sidecar, {names} does"


def unlisted(exported: Exported) -> Iterator[str]:
    """One sentence for each listener whose address only systemd or a plugin knows."""
    for entry in exported.listens:
        if entry.address.partition(":")[0] not in ("tcp", "tcp6", "unix"):
            yield f"listener {entry.address!r} does not say its address: this file has port 8008 instead"
