"""The comment at the top of an exported file: what it was made from, and what its language cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from sidecar.exporting.model import Exported, Group

_EVERYWHERE = (
    "requests do not wait while a worker restarts: the client gets an error at once",
    "requests are not sent again by the rules of Matrix, only as this program does by itself",
    "tokens of the Matrix Authentication Service do not name a user: each token goes its own way",
    "a room, a user or a server is compared as it is spelled: another percent-encoding can reach another worker",
    "a room's sends do not go to the very persister of its events, only always to the same one",
)


def remarks(exported: Exported, program: str, more: Iterable[str] = ()) -> list[str]:
    """The lines of the comment, without the sign that begins a comment."""
    lines = [
        f"Made by `matrix-sidecar export {program}` for Synapse {exported.release}. Do not edit it: make it anew after",
        f"each change of the workers and each upgrade of Synapse. `matrix-sidecar export {program} --check FILE`",
        "checks whether it is out of date.",
        "",
        f"What the sidecar does and {program} cannot, or not with this file:",
    ]
    absent = [f"worker {name} is left out: {fault}" for name, fault in exported.faulty.items()]
    for remark in (*_EVERYWHERE, *_replaced(exported.groups), *_unchanged(exported), *more, *absent):
        first, *others = wrap(remark, 112)
        lines += [f"- {first}", *(f"  {other}" for other in others)]
    return lines


def _replaced(groups: Iterable[Group]) -> Iterator[str]:
    """One sentence for each group where the sidecar gives the keys of a worker that is down to one that had none."""
    for group in groups:
        if group.reserve and len(group.first) > 1:
            names = " or ".join(group.reserve)
            yield f"when a worker of {group.name} is down, the others get its keys; in the sidecar {names} does"


def _unchanged(exported: Exported) -> Iterator[str]:
    """What of an answer goes on here as it came."""
    if exported.settings.compress is not None:
        yield (
            "answers are not compressed: what the sidecar leaves out for safety, such as answers to requests with "
            "cookies, cannot be left out here"
        )
    if exported.settings.balancers:
        names = ", ".join(exported.settings.balancers)
        yield f"balancers are not written: {names}; what they pass on is no HTTP"
    for group in exported.groups:
        if group.strip or group.add:
            yield f"a Location that a service of {group.name} answers with is not changed to the path outside"


def stand_ins(groups: Iterable[Group], *, backups: bool) -> Iterator[str]:
    """One sentence for each group whose requests nobody takes over here when all of its workers are down.

    `backups`: the program has them, but not beside hashing.
    """
    for group in groups:
        if group.backups and not (backups and group.kind == "none"):
            names = ", ".join(member.name for member in group.backups)
            yield f"nobody takes over for {group.name} when all of its workers are down; in the sidecar that is {names}"


def unlisted(exported: Exported) -> Iterator[str]:
    """One sentence for each listener whose address only systemd or a plugin knows."""
    for entry in exported.listens:
        if entry.address.partition(":")[0] not in ("tcp", "tcp6", "unix"):
            yield f"listener {entry.address!r} has no address of its own: port 8008 of this host stands in its place"
