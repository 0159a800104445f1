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
    """What is told, in the order in which `Lines.line` takes it.

    The way of a request makes no record: naming its values costs as much as writing the line.
    """

    client: str
    """Address."""
    method: bytes
    endpoint: str
    """Name in the endpoint table; the request-target itself is never told."""
    pool: str
    kind: str
    """Of the affinity key: `user`, `room`, …, `none`."""
    key: str | None
    """The affinity key as it was sent. Only its keyed hash is written."""
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
    total: float
    """Seconds from the head of the request to the end."""
    retries: int
    """How often the request was sent again."""
    ending: str
    """`done`, or why it ended otherwise."""
    request_id: str


def ended_by(ending: str) -> Party:
    """Who ended the exchange."""
    return ENDED_BY.get(ending, "sidecar")


def is_fault(status: int, ending: str) -> bool:
    """Whether the client got less than it asked for, and not by its own doing."""
    return status >= 500 or (ending != DONE and ending in _FAULTS)
