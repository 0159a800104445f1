"""How a failed exchange ends: what the client is told, who ended it, and whether an administrator should look.

The only table of that. The relay picks the failure, `replies` makes the answer, the records keep the ending.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

Party = Literal["client", "worker", "sidecar"]


class Failure(Enum):
    """Why an exchange cannot go on.

    Each has a sentence for the client, a status (None: no reply is possible), who ended the exchange, and whether an
    administrator should look, because neither the client nor the configuration is the reason.
    """

    CLIENT_CUT = "the request ended before it was complete", 400, "client", False
    CLIENT_SLOW_HEAD = "the request head did not arrive in time", 408, "sidecar", False
    CLIENT_SLOW_BODY = "the request body stopped arriving", 408, "sidecar", False
    BODY_TOO_LARGE = "the request body is larger than this server accepts", 413, "sidecar", False
    HEAD_TOO_LARGE = "the request head is larger than this server accepts", 431, "sidecar", False
    NO_WORKER = "the process that serves this request is not available", 503, "sidecar", True
    QUEUE_FULL = "too many requests are waiting for the process that serves this one", 429, "sidecar", True
    NO_TURN = (
        "too many requests of this kind are being served; this one has waited for its turn in vain",
        *(429, "sidecar", True),
    )
    WORKER_CUT = (
        "the process that serves this request closed the connection without an answer",
        *(502, "worker", True),
    )
    WORKER_INVALID = "the process that serves this request sent an invalid answer", 502, "sidecar", True
    WORKER_SILENT = "the process that serves this request did not answer in time", 504, "sidecar", True
    WORKER_STALLED = "the process that serves this request stopped reading it", 504, "sidecar", True
    CLIENT_GONE = "the client went away", None, "client", False
    CLIENT_STALLED = "the client stopped reading the answer", None, "sidecar", False
    ANSWER_CUT = "the answer broke off", None, "worker", True

    def __init__(self, sentence: str, status: int | None, by: Party, fault: bool) -> None:
        self.sentence = sentence
        self.status = status
        self.by = by
        self.fault = fault
        self.ending = self.name.lower()
        """What records call it."""

    @property
    def reason(self) -> str:
        """The sentence for the client."""
        return self.sentence[:1].upper() + self.sentence[1:]

    @property
    def in_vain(self) -> bool:
        """The client gets no answer although its request was good: a pool may show its own page instead."""
        return self.status is not None and self.fault
