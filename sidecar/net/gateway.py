"""What all connections share: the decider, the pools, the limits, the deadlines, the counters.

A value that a reload replaces as a whole; connections read it once for each exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field

from sidecar.config.schema import Limits, Timeouts
from sidecar.net.deadlines import Deadlines
from sidecar.net.pool import WorkerPool
from sidecar.routing.decision import Decision
from sidecar.telemetry import Counters
from sidecar.wire.fields import FieldSection
from sidecar.wire.forwarded import ForwardedPolicy
from sidecar.wire.reader import ReaderLimits

Decide = Callable[[bytes, bytes, FieldSection, str], Decision]


def request_limits(limits: Limits) -> ReaderLimits:
    """The bounds of a reader of requests."""
    return ReaderLimits(
        head=limits.request_head,
        target=limits.request_target,
        fields=limits.request_fields,
        chunk_line=limits.chunk_line,
        chunk_extensions=limits.chunk_extensions,
        trailers=limits.trailers,
    )


def response_limits(limits: Limits) -> ReaderLimits:
    """The bounds of a reader of responses."""
    return ReaderLimits(
        head=limits.response_head,
        fields=limits.response_fields,
        chunk_line=limits.chunk_line,
        chunk_extensions=limits.chunk_extensions,
        trailers=limits.trailers,
    )


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
    draining: bool = False
    """Every response from now on closes its connection."""
