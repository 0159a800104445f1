"""What is noted of an exchange while it runs, and told of it when it has ended: to the tallies and to the access log.

Everything here is passed by each request, so it is written for speed: plain attributes, one clock reading at the
beginning, one at the first byte, one at the end. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.records.record import DONE

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.metrics.tally import EndpointTally
    from sidecar.net.downstream import Downstream
    from sidecar.net.gateway import Gateway
    from sidecar.routing.decision import Decision
    from sidecar.wire.head import RequestHead


class Measuring:
    """The part of a course that only looks."""

    __slots__ = (
        *("began", "bytes_down", "bytes_up", "client", "connect", "decision", "downstream", "exchange", "first_byte"),
        *("gateway", "queue", "request_id", "tally", "waiting_since", "worker"),
    )

    downstream: Downstream
    gateway: Gateway
    exchange: Exchange | None
    decision: Decision | None
    client: str
    tally: EndpointTally

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
        if gateway.tallies is not None:
            self.tally = gateway.tallies.begin(endpoint)

    def answer_begins(self, exchange: Exchange) -> None:
        """The first byte of an answer is here."""
        exchange.begun = True
        if self.gateway.observed:
            self.first_byte = self.gateway.deadlines.now() - self.began

    def tell(self, exchange: Exchange, decision: Decision, status: int, ending: str) -> None:
        """The exchange has ended; `status` is what the client was told, if it was not a worker that answered."""
        gateway = self.gateway
        response = exchange.response
        if response is not None:
            status = response.status
        total = gateway.deadlines.now() - self.began
        worker, pool = self.worker, decision.pool
        tallies = gateway.tallies
        if tallies is not None:
            cell = tallies.settle(
                self.tally, pool, worker, status, self.bytes_up, self.bytes_down, self.first_byte, total
            )
            if exchange.attempts > 1:
                cell.retries += exchange.attempts - 1
            candidates = decision.candidates
            if worker and (not candidates or worker != candidates[0]) and not decision.keyless:
                cell.moved += 1
            if ending is not DONE:
                tallies.failed(pool, ending)
        log = gateway.access_log
        if log is not None and (share := log.share(decision.endpoint, status, ending)):
            told = (
                *(self.client, exchange.method, decision.endpoint, pool, decision.kind, decision.key, worker, status),
                *(self.bytes_up, self.bytes_down, self.queue, self.connect, self.first_byte, total),
                *(max(0, exchange.attempts - 1), ending, self.request_id),
            )
            log.tell(share, status, ending, told)

    def tell_refused(self, status: int, ending: str) -> None:
        """What a client sent is no request, so that there is no exchange."""
        tallies, log = self.gateway.tallies, self.gateway.access_log
        if tallies is not None:
            tallies.failed("", ending)
        if log is not None and (share := log.share("-", status, ending)):
            client = self.downstream.peer or "127.0.0.1"
            nothing = (0.0, 0.0, 0.0, 0.0, 0)
            told = (client, b"-", "-", "", "none", None, "", status, 0, 0, *nothing, ending, self.request_id or "-")
            log.tell(share, status, ending, told)
