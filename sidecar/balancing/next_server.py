"""Which server of a balancer gets a new connection. Pure: the same counts give the same server.

As HAProxy chooses by `balance leastconn` (src/lb_fwlc.c) and `balance first` (src/lb_fas.c).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from attrs import frozen

BalanceWay = Literal["least_connections", "first"]


@frozen(kw_only=True)
class Candidate:
    """A server that takes connections."""

    name: str
    connections: int = 0
    """Those that it has, and those that are being made."""
    weight: float = 1.0
    """How many it should have beside the others; 0: none."""
    most: int | None = None
    """How many it may have."""
    turn: int = 0
    """Grows whenever a connection of any server begins or ends; the number of its last one."""


def choose(candidates: Sequence[Candidate], way: BalanceWay, avoided: Collection[str] = ()) -> str | None:
    """The name of the server; None where all are full, or none is there.

    `candidates` are in the order of the file. One that is `avoided` is chosen only if no other can be.
    """
    free = [each for each in candidates if each.weight > 0 and (each.most is None or each.connections < each.most)]
    preferred = [each for each in free if each.name not in avoided] or free
    if not preferred:
        return None
    return preferred[0].name if way == "first" else min(preferred, key=_load).name


def _load(candidate: Candidate) -> tuple[float, int]:
    """Of two with the same load, the one that has not changed for longer is next: so equals take turns."""
    connections = candidate.connections
    return (connections + 1) / candidate.weight if connections else 0.0, candidate.turn
