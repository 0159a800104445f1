"""One exchange that has ended, as it is told of: nothing in it can hold a token, a query or an id.

Says who ended an exchange, and whether somebody should look at it. Knows no format and no file.
"""

from __future__ import annotations

from attrs import define

from sidecar.exchange.failures import Failure, Party

DONE = "done"
"""How an exchange ends in which the client got the whole answer of a worker."""
ENDED_BY: dict[str, Party] = {DONE: "worker", **{failure.ending: failure.by for failure in Failure}}
"""Who ended an exchange, by how it ended. In all other cases the sidecar did: by a route, or because it refused."""

_FAULTS = frozenset(failure.ending for failure in Failure if failure.fault)
"""Endings of which neither the client nor the configuration is the reason."""


@define(eq=False)
class Record:
    """What is noted of an exchange; of what is no request, the values without a default."""

    client: str
    """Address."""
    method: bytes
    endpoint: str
    """Name in the endpoint table; the request-target itself is never told. `NO_ENDPOINT`: it was no request."""
    status: int
    """What the client was told; 0: nothing."""
    began: float
    """When the head of the request was there, in seconds of a clock that is never set."""
    ended: float
    """When all was over, by the same clock."""
    ending: str
    """`done`, or why it ended otherwise."""
    request_id: str
    kind: str = "none"
    """Of the affinity key: `user`, `room`, …, `none`."""
    key: str | None = None
    """The affinity key as it was sent. Only its keyed hash is written."""
    pool: str = ""
    worker: str = ""
    """To whom the request went last; empty: to nobody."""
    bytes_up: int = 0
    """Sent to the worker, heads included."""
    bytes_down: int = 0
    """Sent to the client, heads included."""
    queue: float = 0.0
    """Seconds in line for a connection to a worker, `connect` included."""
    connect: float = 0.0
    """Seconds that the connection took to be made; 0: it was there."""
    first_byte: float = 0.0
    """Seconds from the head of the request to the first byte of the worker's answer; 0: none came."""
    attempts: int = 0
    """How often the request was sent."""
    moved: bool = False
    """Its affinity key has another worker as its first."""
    uncompressed: int = 0
    """Bytes of content that the worker sent and the client was sent compressed; 0: it was not."""
    trace: str = ""
    """What the request said in `traceparent`, where that is valid."""


NO_ENDPOINT = "-"


def ended_by(ending: str) -> Party:
    """Who ended the exchange."""
    return ENDED_BY.get(ending, "sidecar")


def is_fault(status: int, ending: str) -> bool:
    """Whether the client got less than it asked for, and not by its own doing."""
    return status >= 500 or (ending != DONE and ending in _FAULTS)
