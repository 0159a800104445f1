"""Notices that a worker does not know an endpoint which main knows, and asks main instead.

That is the mark of a request that was sent to the wrong process, after an upgrade for example: nothing was done there,
so that it can be repeated elsewhere, whatever its method. The same words can be those of another server, which a worker
passes on when it has done its work; they are believed. Knows no routes; only what the decision says of main.
"""

from __future__ import annotations

import re

from attrs import define, field

from sidecar.net.dispatch import Dispatch
from sidecar.synapse.unrecognized import LONGEST, is_unrecognized, mounts, release_in
from sidecar.telemetry import logger
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


class SelfCheck(Dispatch):
    """The part of a course in which an answer is looked at before it is believed."""

    __slots__ = ()

    def doubts(self, head: ResponseHead) -> bool:
        """Hold an answer back whose status is one of `DOUBTFUL`, if it can be a worker's in place of main's."""
        exchange, decision = self.exchange, self.decision
        assert exchange is not None
        assert decision is not None
        is_main = self.worker == self.gateway.main
        if is_main and not self.repeated:
            return False
        if not decision.main_knows or exchange.method == b"HEAD" or head.length in (0, UNTIL_CLOSE):
            return False
        self.doubt = Doubt(head)
        return True

    def is_elsewhere(self, doubt: Doubt, *, ended: bool) -> bool:
        """Whether the request is repeated on main instead of passing this answer on. `ended`: it is here as a whole."""
        exchange, upstream, gateway = self.exchange, self.upstream, self.gateway
        assert exchange is not None
        assert upstream is not None
        if self.repeated:
            if not doubt.unrecognized:
                self.misrouted(self.repeated)
            self.repeated = ""
            return False
        if not doubt.unrecognized or not self._may_repeat(doubt.head):
            return False
        main = gateway.pools.get(gateway.main)
        if main is None or not exchange.whole or not main.health.up or not self._within_budget(main):
            self.misrouted(self.worker)
            return False
        self.repeated = self.worker
        self.upstream = None
        if ended and doubt.head.persistent and exchange.http11 and not upstream.reader.excess:
            upstream.pool.release(upstream)
        else:
            upstream.pool.discard(upstream)
        exchange.begin_anew()
        self.lease_from(main)
        if self.upstream is not None:
            self.go_on()
        return True

    def _may_repeat(self, head: ResponseHead) -> bool:
        """The worker has done nothing, because it has no such endpoint; or it does not matter whether it has."""
        exchange, decision = self.exchange, self.decision
        assert exchange is not None
        assert decision is not None
        if self.worker in decision.strangers:
            return True
        release = release_in(head.fields.get(b"server"))
        path = exchange.target.partition(b"?")[0]
        mounted = None if release is None else mounts(release, decision.endpoint, exchange.method, path)
        return exchange.idempotent if mounted is None else not mounted

    def misrouted(self, worker: str) -> None:
        """Count a request that this worker did not know; tell of it once for each endpoint."""
        decision, counters = self.decision, self.gateway.counters
        assert decision is not None
        counters.misrouted += 1
        known = counters.misroutes.get((decision.endpoint, worker), 0)
        counters.misroutes[decision.endpoint, worker] = known + 1
        if not known:
            _log.warn(
                "worker {worker} does not know the endpoint {endpoint}, which main serves; such requests are repeated "
                "on main. Is synapse.version right, and does the worker run the same release as main?",
                worker=worker,
                endpoint=decision.endpoint,
            )
