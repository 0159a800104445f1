"""The record of one exchange that has ended. Nothing in it can hold a token or a query.

Also says who ended an exchange, and whether it is a fault. Knows no format and no file.
"""

from __future__ import annotations

from attrs import define

from sidecar.exchange.failures import Failure, Party

DONE = "done"
"""The ending of an exchange with a complete answer of a worker."""
ENDED_BY: dict[str, Party] = {DONE: "worker", **{failure.ending: failure.by for failure in Failure}}
"""Who ended an exchange, by its ending. In all other cases it was the sidecar, with a route or a refusal."""

_FAULTS = frozenset(failure.ending for failure in Failure if failure.fault)
"""Endings caused by neither the client nor the configuration."""


@define(eq=False)
class Record:
    """What is noted of an exchange. For what is no request, only the values without a default."""

    client: str
    """Address."""
    method: bytes
    endpoint: str
    """Name in the endpoint table, never the request-target. `NO_ENDPOINT`: it was no request."""
    status: int
    """The status that the client got; 0: none."""
    began: float
    """When the head of the request was there, in seconds of a clock that is never set."""
    ended: float
    """When it ended, by the same clock."""
    ending: str
    """`done`, or why it ended otherwise."""
    request_id: str
    kind: str = "none"
    """Of the affinity key: `user`, `room`, …, `none`."""
    key: str | None = None
    """The affinity key as it was sent. Only its keyed hash is written."""
    pool: str = ""
    worker: str = ""
    """The worker that the request went to last; empty: none."""
    bytes_up: int = 0
    """Sent to the worker, heads included."""
    bytes_down: int = 0
    """Sent to the client, heads included."""
    queue: float = 0.0
    """Seconds in line for a connection to a worker, `connect` included."""
    connect: float = 0.0
    """Seconds that the connection took to be made; 0: an idle one was used."""
    first_byte: float = 0.0
    """Seconds from the head of the request to the first byte of the worker's answer; 0: none came."""
    attempts: int = 0
    """How often the request was sent."""
    moved: bool = False
    """It did not go to the first worker of its affinity key."""
    uncompressed: int = 0
    """Bytes of content before compression; 0: it was not compressed."""
    trace: str = ""
    """The value of `traceparent`, if it is valid."""


NO_ENDPOINT = "-"


def ended_by(ending: str) -> Party:
    """Who ended the exchange."""
    return ENDED_BY.get(ending, "sidecar")


def is_fault(status: int, ending: str) -> bool:
    """Whether the client got less than it asked for, and did not cause that itself."""
    return status >= 500 or (ending != DONE and ending in _FAULTS)
