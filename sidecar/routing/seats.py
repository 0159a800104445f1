"""A pool whose keys few of its workers share: which these are, and who is next when one of them is lost.

Such a pool has as many seats as workers share its keys. A key has a seat, and a seat has an order of all workers of the
pool: first who holds it, then those who hold none, then those who hold another. The first seat takes the first worker
of its order, and each further one the first that is not taken yet. The orders are weighted rendezvous hashing, as in
`sidecar.routing.hashing`, of worker names and of the name of the pool and the number of the seat; each second seat has
the order of the one before it from its end, so that two seats seldom want the same worker. It follows that

- who is down or drained hands over the keys of its own seat, all to one worker;
- a worker that holds no seat can come and go, and no key moves;
- with up to two seats and equal weights, one that holds a seat and goes moves the keys of that seat, and no others;
- with more, the seats before its own stay as they are, and seldom does a later one change with it. No function of the
  workers alone does without that: for three seats and five workers there is no such choice;
- one seat more moves keys only to whoever takes it;
- a weight that is changed at run time moves only keys of its worker (`reweighted`).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from sidecar.routing.hashing import fraction, score

Seats = tuple[tuple[str, ...], ...]
"""For each seat the workers in its order, the holder first."""


def seats_of(weights: Mapping[str, float], count: int, name: str) -> Seats:
    """The `count` seats among workers, or one for each if they are fewer; none at all for a worker alone.

    Pools that have the same workers and `name` the same holders.
    """
    able = {worker: weight for worker, weight in weights.items() if weight > 0}
    if len(able) < 2:
        return ()
    orders = [_order(able, name, seat) for seat in range(min(count, len(able)))]
    holders: list[str] = []
    for order in orders:
        holders.append(next(worker for worker in order if worker not in holders))
    return tuple(
        (
            holder,
            *(name for name in order if name not in holders),
            *(name for name in order if _other(name, holder, holders)),
        )
        for holder, order in zip(holders, orders, strict=True)
    )


def _order(weights: Mapping[str, float], name: str, seat: int) -> tuple[str, ...]:
    pair, second = divmod(seat, 2)

    def place(worker: str) -> tuple[float, str]:
        number = fraction(worker, f"{name}\0{pair}")
        return -log(1 - number if second else number) / weights[worker], worker

    return tuple(sorted(weights, key=place))


def _other(name: str, holder: str, holders: Sequence[str]) -> bool:
    return name in holders and name != holder


def reweighted(
    seats: Seats, standing: Mapping[str, float], weights: Mapping[str, float]
) -> tuple[Seats, tuple[float, ...]]:
    """The same seats by other weights than those by which they were given: who has them, and how large each is.

    Nobody takes the seat of another, so that a weight moves no keys but those of its worker. One of weight 0 hands its
    seat over as it is, as if it were down.
    """
    orders = tuple(tuple(name for name in order if weights[name] > 0) for order in seats)
    if sum(weight > 0 for weight in weights.values()) < 2:
        return (), ()
    return orders, tuple(weights[order[0]] or standing[order[0]] for order in seats)


def holders_of(seats: Seats) -> tuple[str, ...]:
    """Who shares the keys while nobody is lost."""
    return tuple(dict.fromkeys(order[0] for order in seats))


def seat_of(seats: Seats, shares: Sequence[float], key: str) -> tuple[str, ...]:
    """The order of workers for a key; each seat has its share of the keys."""
    return min(enumerate(seats), key=lambda seat: score(str(seat[0]), shares[seat[0]], key))[1]
