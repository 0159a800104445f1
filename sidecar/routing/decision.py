"""The answer of the router to one request. A value: it does nothing and knows nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from attrs import field, frozen

from sidecar.config.schema import Pool
from sidecar.exchange.changing import Changes

Action = Literal["forward", "refuse", "respond", "redirect"]

DEFAULTS: Final = Pool()
"""The settings of a pool that the file does not mention."""


@frozen(slots=True)
class Decision:
    """What happens to one request, and in which order workers are tried.

    `candidates` are worker names in the order in which they would be tried if all were up; `fallback` are
    those that take it when every candidate is down (empty where falling back would be wrong).
    With an action other than `forward`, `status` is set and `candidates` is empty.
    """

    action: Action
    endpoint: str
    pool: str
    kind: str = "none"
    key: str | None = None
    candidates: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    status: int | None = None
    reason: str = ""
    settings: Pool = DEFAULTS
    """What the file says of the pool."""
    sharing: tuple[str, ...] = ()
    """The candidates that share the keys, where the others only replace them; empty: all do."""
    caller_at: int = -1
    """In which segment of the divided path the caller's own id stands (`sidecar.synapse.token_owner.caller_at`)."""
    replayable: bool | None = None
    """The request may be sent again after its bytes may have been acted on (a PUT with a transaction id, …), or may
    not (a PUT that makes a second room); None: nothing is known of the endpoint, and its method decides."""
    body_limit: int | None = None
    """Bytes: what the pool takes, else what its workers take; None: `limits.request_body`."""
    federation: bool = False
    """Another server asks, which takes a failure harder than a client."""
    coalesce: float = 0.0
    """Seconds for which a long poll of a burst is held back (`pools.NAME.coalesce`)."""
    main_knows: bool = False
    """The endpoint is one that main serves, too: a worker that does not know it is the wrong one."""
    changes: Changes | None = None
    """What is changed of the request and its answer; None: nothing, as nearly always."""
    strangers: tuple[str, ...] = ()
    """Workers to which a route sends the endpoint although their listeners do not serve it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Field lines of an authored response (`respond`, `redirect`)."""
    body: bytes = b""
    after: float = 0.0
    """Seconds for which an authored response is held back."""
    of_user: Callable[[str], Decision] | None = field(default=None, eq=False, repr=False)
    """Where the key is a token that does not tell whose it is: from the localpart of its owner to the decision for any
    token that names that user."""

    @property
    def keyless(self) -> bool:
        """No affinity applies, so the least busy candidate may be taken instead of the first."""
        return self.key is None

    @property
    def opaque(self) -> bool:
        """The key is a token that does not tell whose it is."""
        return self.of_user is not None
