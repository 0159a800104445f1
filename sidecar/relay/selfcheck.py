"""Notices that a worker does not know an endpoint which main knows, so that main can be asked instead.

That happens when a request goes to the wrong process, after an upgrade for example. Nothing was done there, so the
request can be repeated elsewhere, whatever its method. A worker may also pass the same words on from another server;
they are taken at face value. Knows no connections; only what the decision says about main.
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
"""Bytes, including chunk framing, beyond which an answer is another one."""

_ONE_CHUNK = re.compile(rb"[0-9A-Fa-f]+\r\n(.*)\r\n0\r\n\r\n", re.DOTALL)

_log = logger("sidecar.selfcheck")


@define(eq=False)
class Doubt:
    """An answer that is held back until it is clear what it is."""

    head: ResponseHead
    pieces: list[bytes] = field(factory=list)

    def hear(self, pieces: list[bytes]) -> None:
        """More of it has come."""
        self.pieces += pieces

    @property
    def decided(self) -> bool:
        """Enough of it has come."""
        return sum(map(len, self.pieces)) > _ENOUGH

    @property
    def unrecognized(self) -> bool:
        """The answer is complete, and says that there is no such endpoint."""
        octets = b"".join(self.pieces)
        if self.head.length == CHUNKED:
            match = _ONE_CHUNK.fullmatch(octets)
            return match is not None and is_unrecognized(match[1])
        return len(octets) == self.head.length and is_unrecognized(octets)


def can_be_judged(head: ResponseHead, method: bytes) -> bool:
    """Whether the answer has content that can be read before it goes on."""
    return method != b"HEAD" and head.length not in (0, UNTIL_CLOSE)


def has_endpoint(exchange: Exchange, decision: Decision, worker: str, head: ResponseHead) -> bool | None:
    """Whether a worker that says it has no such endpoint may have it all the same; None if unknown."""
    if worker in decision.strangers:
        return False
    release = release_in(head.fields.get(b"server"))
    path = exchange.target.partition(b"?")[0]
    return None if release is None else mounts(release, decision.endpoint, exchange.method, path)


def misrouted(counters: Counters, endpoint: str, worker: str) -> None:
    """Count a request that this worker did not know; log it once for each endpoint."""
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
