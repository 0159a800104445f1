"""Notices that a worker does not know an endpoint which main knows, so that main can be asked instead.

That is the mark of a request that was sent to the wrong process, after an upgrade for example: nothing was done there,
so that it can be repeated elsewhere, whatever its method. The same words can be those of another server, which a worker
passes on when it has done its work; they are believed. Knows no connections; only what the decision says of main.
"""

from __future__ import annotations

import re

from attrs import define, field

from sidecar.exchange.exchange import Exchange
from sidecar.observe.telemetry import Counters, logger
from sidecar.routing.decision import Decision
from sidecar.synapse.unrecognized import LONGEST, is_unrecognized, mounts, release_in
from sidecar.wire.framing import CHUNKED, UNTIL_CLOSE
from sidecar.wire.head import ResponseHead

DOUBTFUL = frozenset((404, 405))
"""Statuses with which Synapse says that it does not know a path, or its method there (http/server.py)."""
_ENOUGH = 2 * LONGEST
"""Bytes, with those of chunks, beyond which an answer is not the one that is looked for."""

_ONE_CHUNK = re.compile(rb"[0-9A-Fa-f]+\r\n(.*)\r\n0\r\n\r\n", re.DOTALL)

_log = logger("sidecar.selfcheck")


@define(eq=False)
class Doubt:
    """An answer that is held back until it is clear what it is."""

    head: ResponseHead
    pieces: list[bytes] = field(factory=list)

    def hear(self, pieces: list[bytes]) -> None:
        """So much more of it is here."""
        self.pieces += pieces

    @property
    def decided(self) -> bool:
        """Enough of it is here."""
        return sum(map(len, self.pieces)) > _ENOUGH

    @property
    def unrecognized(self) -> bool:
        """All of the answer is here, and it says that there is no such endpoint."""
        octets = b"".join(self.pieces)
        if self.head.length == CHUNKED:
            match = _ONE_CHUNK.fullmatch(octets)
            return match is not None and is_unrecognized(match[1])
        return len(octets) == self.head.length and is_unrecognized(octets)


def can_be_judged(head: ResponseHead, method: bytes) -> bool:
    """Whether the answer has content that can be looked at before it goes on."""
    return method != b"HEAD" and head.length not in (0, UNTIL_CLOSE)


def has_endpoint(exchange: Exchange, decision: Decision, worker: str, head: ResponseHead) -> bool | None:
    """Whether a worker that says it has no such endpoint may have it all the same; None where nobody can tell."""
    if worker in decision.strangers:
        return False
    release = release_in(head.fields.get(b"server"))
    path = exchange.target.partition(b"?")[0]
    return None if release is None else mounts(release, decision.endpoint, exchange.method, path)


def misrouted(counters: Counters, endpoint: str, worker: str) -> None:
    """Count a request that this worker did not know; tell of it once for each endpoint."""
    counters.misrouted += 1
    known = counters.misroutes.get((endpoint, worker), 0)
    counters.misroutes[endpoint, worker] = known + 1
    if not known:
        _log.warn(
            "worker {worker} does not know the endpoint {endpoint}, which main serves; such requests are repeated "
            "on main. Is synapse.version right, and does the worker run the same release as main?",
            worker=worker,
            endpoint=endpoint,
        )
