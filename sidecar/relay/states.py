"""The states of a request on its way, in the order in which they come (`sidecar.relay.passage`)."""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where a request is on its way."""

    COALESCE = "is a long poll that is held back, so that more comes in one answer"
    RESOLVE = "waits until it is known who the caller is"
    ADMIT = "waits for its turn at the entrance of the pool"
    LEASE = "waits for a connection to a worker"
    SEND = "is being sent"
    AWAIT = "has been sent and waits for its answer"
    JUDGE = "has an answer that is held back until it is clear what it is"
    RELAY = "is being answered"
    TUNNEL = "has become a tunnel: bytes pass in both directions without being looked at (RFC 9110 7.8)"
    DONE = "has ended"


# Faster than attributes of the enumeration, and every request needs them.
COALESCE: Final = State.COALESCE
RESOLVE: Final = State.RESOLVE
ADMIT: Final = State.ADMIT
LEASE: Final = State.LEASE
SEND: Final = State.SEND
AWAIT: Final = State.AWAIT
RELAY: Final = State.RELAY
TUNNEL: Final = State.TUNNEL
ENDED: Final = State.DONE
