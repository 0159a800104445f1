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
    """`tokens:`. How the sidecar finds the user of a token that does not name its user.

    The Matrix Authentication Service (MAS) issues such tokens ([tokens.md](tokens.md)).
    """

    resolve: Resolving = field(
        default="auto",
        metadata=doc(
            "Whether the sidecar asks Synapse which user such a token belongs to (`/account/whoami`). A user "
            "then stays on the same worker when the token changes. `auto`: only if Synapse's configuration "
            "enables matrix_authentication_service."
        ),
    )
    remembered: Count = field(
        default=100_000,
        metadata=doc(
            "Maximum number of tokens that are remembered, as hashes, with their users. Each takes at most 500 "
            "bytes. The least recently used is forgotten first."
        ),
    )
    deadline: DurationOrZero = field(
        default=1.0,
        metadata=doc(
            "How long a request waits until its user is known. Then its worker is chosen by its token. 0: no "
            "request waits, and the answer is used from the next request on."
        ),
    )
    patience: Duration = field(
        default=10.0,
        metadata=doc(
            "How long Synapse may take to answer a call to whoami. Then the sidecar gives up and closes the connection."
        ),
    )
    asking: Count = field(
        default=64,
        metadata=doc(
            "Maximum number of calls to whoami at the same time. More requests get their worker by their token, "
            "without a call."
        ),
    )
    lifetime: Duration = field(
        default=3600.0,
        metadata=doc(
            "How long a user is remembered before the sidecar asks again, if no answer said how long the token "
            "is valid. Requests do not wait for this."
        ),
    )
    stale: DurationOrZero = field(
        default=86400.0,
        metadata=doc(
            "If the sidecar asks again and gets no answer, how much longer it remembers the user. Then the user "
            "is forgotten."
        ),
    )
    refused: Duration = field(
        default=10.0,
        metadata=doc(
            "How long the sidecar waits before it asks again about a token that Synapse does not know. The time "
            "doubles with each refusal, up to 32 times this value."
        ),
    )
    answer: Size = field(
        default=8 * KIB,
        metadata=doc(
            "Largest answer to whoami, login or registration that the sidecar reads to learn a user. It ignores "
            "a larger one."
        ),
    )
