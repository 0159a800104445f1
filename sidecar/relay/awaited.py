"""What a client connection waits for, and what it means when that does not happen in time.

A connection has one deadline at a time. Those without a failure concern the connection and not its request.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from sidecar.exchange.failures import Failure


class Awaited(Enum):
    """What is to happen next."""

    # Between requests.
    IDLE = "the next request", None
    HEAD = "the rest of a head", None
    LINGER = "the client's end of a connection that we have ended", None
    # While a request waits.
    COALESCED = "the end of the time for which a long poll is held back", Failure.NO_TURN
    CALLER = "the user behind a token", None
    TURN = "a turn at the entrance of the pool", Failure.NO_TURN
    WAIT = "a connection to a worker", Failure.NO_WORKER
    # While it is sent.
    BODY = "more of the request's body", Failure.CLIENT_SLOW_BODY
    UPLOAD = "that the worker goes on reading", Failure.WORKER_STALLED
    # While it is answered.
    ANSWER = "the answer of the worker", Failure.WORKER_SILENT
    HELD = "the end of the time for which an answer of ours is held back", None
    ANSWER_BODY = "more of the answer", Failure.ANSWER_CUT
    STALL = "that the client goes on reading", Failure.CLIENT_STALLED
    TUNNEL = "anything in a tunnel, in either direction", None

    def __init__(self, what: str, failure: Failure | None) -> None:
        self.what = what
        self.failure = failure
        """How the request fails when it does not happen in time."""


# Faster than attributes of the enumeration, and every request needs them.
IDLE: Final = Awaited.IDLE
HEAD: Final = Awaited.HEAD
ANSWER: Final = Awaited.ANSWER
ANSWER_BODY: Final = Awaited.ANSWER_BODY
