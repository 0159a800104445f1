"""Weighted rendezvous hashing over worker names, and the choice among workers by load.

The mapping is part of what operators rely on: the same key goes to the same worker in every sidecar, on every host,
after every restart. It is fixed by golden vectors in the tests:

    h     = the first 8 bytes of BLAKE2b-64(worker name, a zero byte, key), both in UTF-8, as a big-endian number
    u     = (h / 2^12 rounded down + 1/2) / 2^52, strictly between 0 and 1
    score = -ln(u) / weight; the lowest score is the first candidate

Each score is an exponential variable with the worker's weight as its rate. Therefore the first candidate is a worker
with the probability of its share of the weights, and a worker's score changes with nothing but its own weight: removing
one moves only its keys. Knows nothing of pools, requests or time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import ceil, log


def fraction(worker: str, key: str) -> float:
    """The number `u` of a worker for a key. As even as 1 - `u`, which gives the opposite order."""
    text = f"{worker}\0{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
    return ((number >> 12) + 0.5) / (1 << 52)


def score(worker: str, weight: float, key: str) -> float:
    """How far back `worker` stands in the order for `key`; `weight` is above zero."""
    return -log(fraction(worker, key)) / weight


def ranked(weights: Mapping[str, float], key: str) -> tuple[str, ...]:
    """The workers of `weights` in the order in which `key` would try them; those of weight 0 are left out."""
    if len(weights) == 1:
        return tuple([name for name, weight in weights.items() if weight > 0])
    scored = [(score(name, weight, key), name) for name, weight in weights.items() if weight > 0]
    scored.sort()
    return tuple([name for _, name in scored])


def rotations(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The names in sorted order, begun at each of them: the orders among which keyless requests are spread."""
    order = tuple(sorted(names))
    return tuple(order[start:] + order[:start] for start in range(len(order)))


def least_busy(candidates: tuple[str, ...], in_flight: Mapping[str, int], weights: Mapping[str, float]) -> str:
    """The candidate with the fewest requests in flight for its weight; among equals the first."""
    return min(candidates, key=lambda name: in_flight.get(name, 0) / weights.get(name, 1.0))


def bounded(
    candidates: tuple[str, ...],
    in_flight: Mapping[str, int],
    weights: Mapping[str, float],
    factor: float,
    sharing: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The candidates with those moved behind the others that hold more than `factor` times their fair part.

    The fair part of a worker is its share by weight of all requests in flight in the pool, the new one included. Where
    only the workers of `sharing` share the keys, they share these as well, and nobody else bears more than they do.
    With `factor` of at least 1 one worker at least stays in front (Mirrokni, Thorup, Zadimoghaddam 2016).
    """
    whole = sum(weights.get(name, 1.0) for name in sharing or candidates)
    total = 1 + sum(in_flight.get(name, 0) for name in candidates)
    # Rounded up: a worker that is idle is never too busy.
    most = {name: ceil(factor * total * weights.get(name, 1.0) / whole) for name in candidates}
    free = [name for name in candidates if in_flight.get(name, 0) < most[name]]
    return (*free, *(name for name in candidates if name not in free))
