"""What is measured of an exchange while it runs, and noted when it has ended.

Everything here is passed by each request, so it is written for speed: plain attributes, one clock reading at the
beginning, one at the first byte, one at the end. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.records.record import NO_ENDPOINT

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.net.downstream import Downstream
    from sidecar.net.gateway import Gateway
    from sidecar.records.request_id import RequestIds
    from sidecar.routing.decision import Decision
    from sidecar.wire.head import RequestHead


class Measuring:
    """The part of a course that only looks."""

    __slots__ = (
        *("began", "bytes_down", "bytes_up", "client", "connect", "decision", "downstream", "exchange", "first_byte"),
        *("gateway", "moved", "queue", "request_id", "waiting_since", "worker"),
    )

    downstream: Downstream
    gateway: Gateway
    exchange: Exchange | None
    decision: Decision | None
    client: str

    def __init__(self) -> None:
        self.request_id = ""
        """Empty as long as nobody was told one."""
        self.worker = ""
        """To whom the request went last."""
        self.moved = False
        """It has gone elsewhere than to the first worker of its key."""
        self.began = 0.0
        self.first_byte = self.queue = self.connect = 0.0
        """Seconds, as in `Record`."""
        self.waiting_since = 0.0
        self.bytes_up = self.bytes_down = 0

    @property
    def id(self) -> str:
        """What the request is called where somebody is told; empty where requests have no ids."""
        ids = self.gateway.request_ids
        if not self.request_id and ids is not None:
            self.request_id = ids.make()
        return self.request_id

    def named(self, head: RequestHead, forwarded: bytes, ids: RequestIds) -> bytes:
        """Take over the id of the request, or give it the one that Synapse is sent; the head that goes on with it."""
        trusted = self.gateway.forwarded.vouches(self.downstream.peer)
        self.request_id, raw = ids.settle(head, forwarded, trusted=trusted)
        return raw

    def begin_measuring(self) -> None:
        """A request has come, and it is known where it goes."""
        self.began = self.gateway.deadlines.now()
        self.worker = ""
        self.moved = False
        self.first_byte = self.queue = self.connect = 0.0
        self.bytes_up = self.bytes_down = 0

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
        gateway = self.gateway
        gateway.notes.take(
            (
                self.client,
                exchange.method,
                decision.kind,
                decision.key,
                decision.endpoint,
                decision.pool,
                self.worker,
                status,
                self.bytes_up,
                self.bytes_down,
                self.queue,
                self.connect,
                self.first_byte,
                self.began,
                gateway.deadlines.now(),
                exchange.attempts,
                self.moved,
                ending,
                self.request_id,
            )
        )

    def tell_refused(self, status: int, ending: str) -> None:
        """What a client sent is no request, so that there is no exchange."""
        gateway = self.gateway
        if gateway.observed:
            now = gateway.deadlines.now()
            nobody = (self.downstream.peer or "127.0.0.1", b"-", "none", None, NO_ENDPOINT, "", "")
            gateway.notes.take((*nobody, status, 0, 0, 0.0, 0.0, 0.0, now, now, 0, False, ending, self.id or "-"))
