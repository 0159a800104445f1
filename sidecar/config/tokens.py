"""`tokens:`, as a frozen value with its defaults. A part of the schema of its own.

Durations are seconds (`float`), sizes are bytes (`int`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from sidecar.config.amounts import KIB
from sidecar.config.kinds import Count, Duration, DurationOrZero, Size, choice, doc

Resolving = Annotated[Literal["auto", "always", "never"], choice("resolving", ("auto", "always", "never"))]


@frozen(kw_only=True)
class Tokens:
    """`tokens:`. How the user is found whose token names nobody, as MAS issues them ([tokens.md](tokens.md))."""

    resolve: Resolving = field(
        default="auto",
        metadata=doc(
            "Whether the sidecar asks Synapse which user such a token belongs to (`/account/whoami`), so that a user "
            "stays on one worker when the token changes. `auto`: if Synapse's configuration enables "
            "matrix_authentication_service."
        ),
    )
    remembered: Count = field(
        default=100_000,
        metadata=doc(
            "Tokens whose users are remembered, by a hash, in at most 500 bytes each; the longest unused goes."
        ),
    )
    deadline: DurationOrZero = field(
        default=1.0,
        metadata=doc(
            "Longest that a request waits for its user to be known; then it is placed by its token. 0: none waits, and "
            "the answer counts for the next one."
        ),
    )
    patience: Duration = field(
        default=10.0, metadata=doc("From a question to its answer; then it is given up, and its connection closed.")
    )
    asking: Count = field(
        default=64, metadata=doc("Questions at once; beyond them requests are placed by their tokens without asking.")
    )
    lifetime: Duration = field(
        default=3600.0,
        metadata=doc(
            "After which a user is asked for again, where no answer said how long the token is valid. Requests do not "
            "wait for that."
        ),
    )
    stale: DurationOrZero = field(
        default=86400.0,
        metadata=doc("How much longer a user counts that could not be asked for again; then it is forgotten."),
    )
    refused: Duration = field(
        default=10.0,
        metadata=doc("Until a token that Synapse does not know is asked for again; twice as long each time, up to 32."),
    )
    answer: Size = field(
        default=8 * KIB,
        metadata=doc("Largest answer to whoami, login or registration that is read for a user; a larger one is not."),
    )
