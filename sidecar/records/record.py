"""One exchange that has ended, as it is told of: nothing in it can hold a token, a query or an id.

Says who ended an exchange, and whether somebody should look at it. Knows no format and no file.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Party = Literal["client", "worker", "sidecar"]

DONE = "done"
"""How an exchange ends in which the client got the whole answer of a worker."""
ENDED_BY: dict[str, Party] = {
    DONE: "worker",
    "answer_cut": "worker",
    "worker_cut": "worker",
    "client_cut": "client",
    "client_gone": "client",
}
"""Who ended an exchange, by how it ended. In all other cases the sidecar did: by a deadline, a limit, a route."""

_FAULTS = frozenset(
    (
        "answer_cut",
        "no_turn",
        "no_worker",
        "queue_full",
        "worker_cut",
        "worker_invalid",
        "worker_silent",
        "worker_stalled",
    )
)
"""Endings of which neither the client nor the configuration is the reason."""


class Record(NamedTuple):
    """What is noted of an exchange. Its order is known to all who take one apart: the tallies and the lines.

    The way of a request makes a plain tuple of this shape: naming its values costs as much as writing the line.
    """

    client: str
    """Address."""
    method: bytes
    kind: str
    """Of the affinity key: `user`, `room`, …, `none`."""
    key: str | None
    """The affinity key as it was sent. Only its keyed hash is written."""
    endpoint: str
    """Name in the endpoint table; the request-target itself is never told. `NO_ENDPOINT`: it was no request."""
    pool: str
    worker: str
    """To whom the request went last; empty: to nobody."""
    status: int
    """What the client was told; 0: nothing."""
    bytes_up: int
    """Sent to the worker, heads included."""
    bytes_down: int
    """Received from it and passed on, heads included."""
    queue: float
    """Seconds in line for a connection to a worker, `connect` included."""
    connect: float
    """Seconds that the connection took to be made; 0: it was there."""
    first_byte: float
    """Seconds from the head of the request to the first byte of the worker's answer; 0: none came."""
    began: float
    """When the head of the request was there, in seconds of a clock that is never set."""
    ended: float
    """When all was over, by the same clock."""
    attempts: int
    """How often the request was sent."""
    moved: bool
    """Its affinity key has another worker as its first."""
    ending: str
    """`done`, or why it ended otherwise."""
    request_id: str


NO_ENDPOINT = "-"


def span(first: str, last: str) -> slice:
    """Where these fields, and those between them, stand in a record."""
    return slice(Record._fields.index(first), Record._fields.index(last) + 1)


def ended_by(ending: str) -> Party:
    """Who ended the exchange."""
    return ENDED_BY.get(ending, "sidecar")


def is_fault(status: int, ending: str) -> bool:
    """Whether the client got less than it asked for, and not by its own doing."""
    return status >= 500 or (ending != DONE and ending in _FAULTS)
