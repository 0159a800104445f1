"""What is sent again when a worker's connection ends without an answer, or a worker does not know an endpoint.

The only place with that rule. Pure: given what has happened so far, it says yes or why not.

After a connection has ended, the first line of this table that holds decides:

| what has happened | the request |
| --- | --- |
| a byte of an answer came (`ANSWERED`) | is not sent again: the client may have seen a part of it |
| it was sent as often as `limits.replays_each` allows (`TRIED_ENOUGH`) | is not sent again |
| not all of it is kept (`NOT_KEPT`) | cannot be sent again |
| nothing of it was sent, or the worker has certainly not acted on it, or it may be repeated | is sent again … |
| … but `limits.replays` others are being sent again (`NO_BUDGET`) | is not sent again |
| otherwise (`UNSAFE`) | is not sent again: it might be done twice |

Whether a request may be repeated depends on the endpoint table, else on its method (RFC 9110 9.2.2).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol

# RFC 9110 9.2.2. PATCH and POST are not; what Matrix makes idempotent beyond HTTP comes from the endpoint table.
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


class Progress(Protocol):
    """What the rule asks about an exchange."""

    @property
    def begun(self) -> bool:
        """A byte of an answer came."""

    @property
    def sent(self) -> bool:
        """Bytes of the request were sent to a worker."""

    @property
    def attempts(self) -> int:
        """How often it has been given to a worker."""

    @property
    def replays(self) -> int:
        """How often it may be sent again."""

    @property
    def replayed(self) -> bool:
        """It has been sent again, so it counts in the budget already."""

    @property
    def idempotent(self) -> bool:
        """It may be repeated."""

    @property
    def kept(self) -> bool:
        """All of it that has come is kept."""

    @property
    def whole(self) -> bool:
        """All of it has come, and is kept."""


class Verdict(Enum):
    """Whether a request is sent again, or why not."""

    AGAIN = "again"
    ANSWERED = "answered"
    TRIED_ENOUGH = "tried enough"
    NOT_KEPT = "not kept"
    NO_BUDGET = "no budget"
    UNSAFE = "unsafe"


AGAIN: Final = Verdict.AGAIN


def after_a_cut(progress: Progress, *, unexecuted: bool = False, budget: bool = True) -> Verdict:
    """The verdict after the worker's connection has ended.

    `unexecuted`: the worker is known not to have acted on the request. `budget`: one more may be sent again now.
    """
    if progress.begun:
        return Verdict.ANSWERED
    if progress.attempts > progress.replays:
        return Verdict.TRIED_ENOUGH
    if not progress.kept:
        return Verdict.NOT_KEPT
    if progress.sent and not (progress.idempotent or unexecuted):
        return Verdict.UNSAFE
    return AGAIN if budget or progress.replayed else Verdict.NO_BUDGET


def may_be_elsewhere(progress: Progress, *, mounted: bool | None) -> bool:
    """Whether another worker may get a request whose worker says that it does not know the endpoint.

    `mounted`: the worker has the endpoint after all, and may have acted before it passed on another server's answer;
    None: unknown.
    """
    return progress.idempotent if mounted is None else not mounted


def on_main(progress: Progress, *, up: bool, budget: bool) -> bool:
    """Whether such a request can be given to main.

    `up`: main takes requests. `budget`: main may take over one more request.
    """
    return progress.whole and up and budget


QUESTION_ATTEMPTS = 2
"""How often a question is asked if connections end without an answer. Questions change nothing in Synapse."""
