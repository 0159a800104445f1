"""What is measured of an exchange while it runs, and noted when it has ended.

Everything here is passed by each request, so it is written for speed: plain attributes, one clock reading at the
beginning, one at the first byte, one at the end. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.metrics.notes import PATIENCE
from sidecar.records.record import NO_ENDPOINT

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.net.downstream import Downstream
    from sidecar.net.gateway import Gateway
    from sidecar.routing.decision import Decision
    from sidecar.wire.head import RequestHead


class Measuring:
    """The part of a course that only looks."""

    __slots__ = (
        *("began", "bytes_down", "bytes_up", "client", "connect", "decision", "downstream", "exchange", "first_byte"),
        *("gateway", "queue", "request_id", "waiting_since", "worker"),
    )

    downstream: Downstream
    gateway: Gateway
    exchange: Exchange | None
    decision: Decision | None
    client: str

    def __init__(self) -> None:
        self.request_id = ""
        """Empty where there is none."""
        self.worker = ""
        """To whom the request went last."""
        self.began = 0.0
        self.first_byte = self.queue = self.connect = 0.0
        """Seconds, as in `Record`."""
        self.waiting_since = 0.0
        self.bytes_up = self.bytes_down = 0

    def named(self, head: RequestHead, forwarded: bytes) -> bytes:
        """Give the request an id; the head that goes on with it."""
        gateway = self.gateway
        ids = gateway.request_ids
        assert ids is not None
        trusted = gateway.forwarded.vouches(self.downstream.peer)
        self.request_id, raw = ids.settle(head, forwarded, trusted=trusted)
        return raw

    def begin_measuring(self, endpoint: str) -> None:
        """A request has come, and it is known where it goes."""
        gateway = self.gateway
        self.began = gateway.deadlines.now()
        self.worker = ""
        self.first_byte = self.queue = self.connect = 0.0
        self.bytes_up = self.bytes_down = 0
        tallies = gateway.notes.tallies
        if tallies is not None:
            tallies.begin(endpoint)

    def answer_begins(self, exchange: Exchange) -> None:
        """The first byte of an answer is here."""
        exchange.begun = True
        if self.gateway.observed:
            self.first_byte = self.gateway.deadlines.now() - self.began

    def tell(self, exchange: Exchange, decision: Decision, status: int, ending: str) -> None:
        """The exchange has ended; `status` is what the client was told, if it was not a worker that answered."""
        response = exchange.response
        if response is not None:
            status = response.status
        worker, candidates, attempts = self.worker, decision.candidates, exchange.attempts
        moved = worker != "" and not (candidates and worker == candidates[0]) and not decision.keyless
        self._note(
            self.client,
            exchange.method,
            decision.endpoint,
            decision.pool,
            decision.kind,
            decision.key,
            worker,
            status,
            self.bytes_up,
            self.bytes_down,
            self.queue,
            self.connect,
            self.first_byte,
            self.began,
            self.gateway.deadlines.now(),
            attempts - 1 if attempts > 1 else 0,
            moved,
            ending,
            self.request_id,
        )

    def tell_refused(self, status: int, ending: str) -> None:
        """What a client sent is no request, so that there is no exchange."""
        now = self.gateway.deadlines.now()
        self._note(
            *(self.downstream.peer or "127.0.0.1", b"-", NO_ENDPOINT, "", "none", None, "", status),
            *(0, 0, 0.0, 0.0, 0.0, now, now, 0, False, ending, self.request_id or "-"),
        )

    def _note(self, *record: Any) -> None:
        """As `Record` has it. By position: names would cost more than all the rest."""
        gateway = self.gateway
        if gateway.observed and gateway.notes.take(record):  # type: ignore[arg-type]
            gateway.deadlines.set(gateway.notes, PATIENCE)
