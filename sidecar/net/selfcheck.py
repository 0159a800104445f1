"""Notices that a worker does not know an endpoint which main knows, and asks main instead.

That is the mark of a request that was sent to the wrong process, after an upgrade for example: nothing was done there,
so that it can be repeated elsewhere, whatever its method. Knows no routes; only what the decision says of main.
"""

from __future__ import annotations

from attrs import define, field

from sidecar.net.dispatch import Dispatch
from sidecar.telemetry import logger
from sidecar.wire.framing import UNTIL_CLOSE
from sidecar.wire.head import ResponseHead

DOUBTFUL = frozenset((404, 405))
"""Statuses with which Synapse says that it does not know a path, or its method there (http/server.py)."""
_UNRECOGNIZED = b'"M_UNRECOGNIZED"'
_ENOUGH = 2048
"""Bytes of an answer in which the errcode stands if it is there at all."""

_log = logger("sidecar.selfcheck")


@define(eq=False)
class Doubt:
    """An answer that is held back until it is clear what it is."""

    head: ResponseHead
    pieces: list[bytes] = field(factory=list)

    @property
    def decided(self) -> bool:
        """Enough of it is here."""
        return self.unrecognized or sum(map(len, self.pieces)) > _ENOUGH

    @property
    def unrecognized(self) -> bool:
        """The process says that it has no such endpoint."""
        return _UNRECOGNIZED in b"".join(self.pieces)


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
        if not doubt.unrecognized:
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
