"""What of a worker's answers goes to the client: all but an answer that comes as a whole, which needs nothing of this.

Reads the events of an answer, compresses its content, and holds back one that may be a worker's in place of main's
(`sidecar.relay.selfcheck`). Sends nothing and takes no connection; `sidecar.relay.passage` does that.
"""

from __future__ import annotations

from sidecar.exchange.exchange import Exchange
from sidecar.exchange.retries import may_be_elsewhere, on_main
from sidecar.relay.choosing import within_budget
from sidecar.relay.gateway import Gateway
from sidecar.relay.lessons import Lesson
from sidecar.relay.selfcheck import DOUBTFUL, Doubt, can_be_judged, has_endpoint, misrouted
from sidecar.routing.decision import Decision
from sidecar.upstream.pool import WorkerPool
from sidecar.upstream.upstream import Upstream
from sidecar.wire.head import ResponseHead
from sidecar.wire.reader import END


class AnswerRelay:
    """The answers to one request: interim ones, the final one, and main's after a worker's."""

    __slots__ = ("_decision", "_exchange", "_gateway", "_lesson", "_unknown_to", "doubt")

    def __init__(self, gateway: Gateway, exchange: Exchange, decision: Decision, lesson: Lesson | None) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._decision = decision
        self._lesson = lesson
        self._unknown_to = ""
        """The worker that did not know the endpoint, while main is asked; else empty."""
        self.doubt: Doubt | None = None
        """The answer that is held back at this moment."""

    def read(self, upstream: Upstream, octets: bytes) -> tuple[list[bytes], bool]:
        """What goes on of an answer, and whether it has ended. Raises WireError."""
        down: list[bytes] = []
        ended = False
        exchange = self._exchange
        events = upstream.reader.feed(octets)
        if self._lesson is not None:
            self._lesson.hear(events)
        for event in events:
            if event.__class__ is bytes:
                if exchange.coder is None:
                    down.append(event)
                else:
                    exchange.coder.take(event)
            elif event is END:
                ended = True
            elif event.__class__ is ResponseHead:
                if event.status in DOUBTFUL and self._is_doubtful(event, upstream):
                    self.doubt = Doubt(event)
                else:
                    down.append(self.head(event, upstream))
        if exchange.coder is not None:
            down.append(exchange.coder.give(ended=ended))
            if ended:
                self.end_coding()
        return down, ended

    def head(self, head: ResponseHead, upstream: Upstream) -> bytes:
        """What goes on of the head of an answer, interim or final. Raises WireError."""
        exchange, gateway = self._exchange, self._gateway
        if head.status < 200 and head.interim:
            return exchange.pass_interim(head, gateway.limits.interim_responses)
        if self._unknown_to:
            # Main knows what the worker did not.
            self._count_misrouted(self._unknown_to)
            self._unknown_to = ""
        counters = gateway.counters
        if exchange.changing is not None and counters.compressing >= gateway.limits.compressing:
            exchange.changing.leave_uncompressed()
        octets = exchange.pass_final(head, request_sent=not upstream.link.unsent)
        if exchange.coder is not None:
            counters.compressing += 1
            counters.compressed += 1
        return octets

    def end_coding(self) -> None:
        """Count what was compressed of an answer, if it was."""
        if self._exchange.coder is not None:
            coder, counters = self._exchange.end_coding(), self._gateway.counters
            counters.compressing -= 1
            counters.compressed_from += coder.taken
            counters.compressed_to += coder.given

    # JUDGE.

    def _is_doubtful(self, head: ResponseHead, upstream: Upstream) -> bool:
        """Whether an answer with this status can be a worker's in place of main's."""
        if upstream.pool.name == self._gateway.main and not self._unknown_to:
            return False
        return self._decision.main_knows and can_be_judged(head, self._exchange.method)

    def judge(self, pieces: list[bytes], *, ended: bool) -> Doubt | None:
        """Hold these back, too; once that is enough to judge the answer, or all of it, the answer as far as it is here.

        `ended`: it is here as a whole.
        """
        doubt = self.doubt
        assert doubt is not None
        doubt.hear(pieces)
        if not (ended or doubt.decided):
            return None
        self.doubt = None
        return doubt

    def elsewhere(self, doubt: Doubt, upstream: Upstream, *, falling_back: bool) -> WorkerPool | None:
        """Main, if the request is repeated there instead of passing this answer on. `falling_back`: it counts as that
        already."""
        exchange, gateway, worker = self._exchange, self._gateway, upstream.pool.name
        if self._unknown_to:
            if not doubt.unrecognized:
                self._count_misrouted(self._unknown_to)
            self._unknown_to = ""
            return None
        if not doubt.unrecognized or not may_be_elsewhere(
            exchange, mounted=has_endpoint(exchange, self._decision, worker, doubt.head)
        ):
            return None
        main = gateway.pools.get(gateway.main)
        if main is None or not on_main(
            exchange, up=main.health.up, budget=within_budget(gateway, main, falling_back=falling_back)
        ):
            self._count_misrouted(worker)
            return None
        self._unknown_to = worker
        return main

    def _count_misrouted(self, worker: str) -> None:
        misrouted(self._gateway.counters, self._decision.endpoint, worker)
