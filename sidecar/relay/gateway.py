"""What all connections share: the decider, the pools, the limits, the deadlines, the counters.

A value that a reload replaces as a whole; connections read it once for each exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import Factory, define, evolve, field

from sidecar.callers.whoami import Whoami
from sidecar.config.schema import Limits, Timeouts
from sidecar.observe.rationed import Ration
from sidecar.observe.telemetry import Counters, logger
from sidecar.records.notes import Notes
from sidecar.records.request_id import RequestIds
from sidecar.relay.admission import Gate
from sidecar.relay.held_back import HeldBack
from sidecar.routing.decision import Decision
from sidecar.routing.hashing import bounded, least_busy
from sidecar.synapse.names import MAIN
from sidecar.transport.deadlines import Deadlines
from sidecar.upstream.pool import WorkerPool
from sidecar.wire.fields import FieldSection
from sidecar.wire.forwarded import ForwardedPolicy
from sidecar.wire.reader import ReaderLimits

_log = logger("sidecar.relay")


class Decide(Protocol):
    """Where a request goes: method, target, fields, the client's address, and the scheme that it used."""

    def __call__(self, method: bytes, target: bytes, fields: FieldSection, peer: str, scheme: str, /) -> Decision: ...


def request_limits(limits: Limits) -> ReaderLimits:
    """The bounds of a reader of requests."""
    return evolve(
        response_limits(limits),
        head=limits.request_head,
        target=limits.request_target,
        fields=limits.request_fields,
    )


def response_limits(limits: Limits) -> ReaderLimits:
    """The bounds of a reader of responses."""
    return ReaderLimits(
        head=limits.response_head,
        fields=limits.response_fields,
        options=limits.connection_options,
        chunk_line=limits.chunk_line,
        chunk_extensions=limits.chunk_extensions,
        trailers=limits.trailers,
    )


@define(eq=False)
class WaitingTotal:
    """What waits in all queues together: requests, and bytes of their bodies."""

    count: int = 0
    octets: int = 0

    def join(self) -> None:
        """One more request waits."""
        self.count += 1

    def part(self) -> None:
        """One fewer."""
        self.count -= 1

    def weigh(self, octets: int) -> None:
        """Count waiting bytes; a negative number takes them off."""
        self.octets += octets


@define(eq=False, kw_only=True)
class Gateway:
    """The state of a running sidecar that the data path needs."""

    decide: Decide
    pools: Mapping[str, WorkerPool]
    forwarded: ForwardedPolicy
    limits: Limits
    timeouts: Timeouts
    deadlines: Deadlines
    counters: Counters = field(factory=Counters)
    gates: Mapping[str, Gate] = field(factory=dict)
    """Of each pool, how many requests it serves at once."""
    main: str = MAIN
    """Name of the main process, which takes over only so many requests at once (`limits.fallback`)."""
    line: WaitingTotal = field(factory=WaitingTotal)
    held_back: HeldBack = field(default=Factory(lambda self: HeldBack(self.deadlines), takes_self=True))
    """Long polls that wait for a moment, so that one answer has more."""
    weights: Mapping[str, float] = field(factory=dict)
    """The weight of each worker, if it is not 1."""
    whoami: Whoami | None = None
    """Finds the users of tokens that do not name them; None: not configured."""
    changes: bool = False
    """Some requests are changed on their way (`Decision.changes`)."""
    notes: Notes = field(default=Factory(lambda self: Notes(self.deadlines.now, self.deadlines.set), takes_self=True))
    """Takes a record of each exchange that has ended."""
    request_ids: RequestIds | None = None
    """None if nothing reads them."""
    observed: bool = field(init=False)
    """Exchanges are counted or logged."""
    complaints: Ration = field(factory=Ration)
    """Bounds the log lines about requests that broke a rule."""
    draining: bool = False
    """Each response closes its connection."""
    plain: bool = field(init=False)
    """No request is changed and no user is looked up, so nothing has to be prepared."""

    def __attrs_post_init__(self) -> None:
        self.observed = self.notes.wanted
        self.plain = not self.changes and self.whoami is None

    def decide_by(self, decide: Decide) -> None:
        """Let this decide about the next request and all later ones."""
        self.decide = decide

    def drain(self) -> None:
        """Close each connection with its next response."""
        self.draining = True

    def ask(self, whoami: Whoami | None) -> None:
        """From the next request on, find users of tokens that do not name them with this."""
        self.whoami = whoami
        self.plain = not self.changes and whoami is None

    def tell_rule(self, peer: str, status: int, rule: str) -> None:
        """Log which rule a client broke, unless there are too many such lines. Logs nothing of what it sent."""
        omitted = self.complaints.take(self.deadlines.now())
        if omitted is not None:
            more = f" ({omitted} more like this were not logged)" if omitted else ""
            _log.info("{peer} was answered {status}: {rule}{more}", peer=peer, status=status, rule=rule, more=more)

    def candidates(self, decision: Decision) -> tuple[str, ...]:
        """The candidates of `decision` in their order now: by load if there is no key, or if the pool is bounded."""
        names = decision.candidates
        bound = decision.settings.bounded
        if len(names) < 2 or not (decision.key is None or bound):
            return names
        in_flight = {name: self.pools[name].leased + self.pools[name].waiting for name in names}
        if bound and decision.key is not None:
            return bounded(names, in_flight, self.weights, bound, decision.sharing)
        first = least_busy(decision.sharing or names, in_flight, self.weights)
        return (first, *(name for name in names if name != first))
