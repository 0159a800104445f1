"""Lets large bodies go past the process, in either direction, and keeps count of what went by.

Knows what is left of a body and who is at its two ends; nothing of what is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.net.resolving import Resolving
from sidecar.net.splicing import begin_splice

if TYPE_CHECKING:
    from sidecar.net.upstream import Upstream


class Passing(Resolving):
    """The part of a course in which a body is passed on by the kernel."""

    __slots__ = ()

    def splice_up(self) -> None:
        """Let the rest of the request body go past us, unless something is in the way."""
        exchange, upstream, downstream = self.exchange, self.upstream, self.downstream
        if exchange is None or upstream is None or self.splice is not None or exchange.begun or self.clogged:
            return
        # A worker that has closed may have answered before: what it sent is read first, and then its end.
        octets = downstream.reader.body_left
        self.splice = begin_splice(downstream, upstream, octets, self._moved_up, self.upstream_clogged)
        if self.splice is not None:
            exchange.bypass()

    def _moved_up(self, octets: int) -> None:
        self.gateway.counters.bytes_up += octets
        self.bytes_up += octets
        if self.downstream.reader.skip(octets):
            self.end_splice()
            self.request_end()
        elif not self.clogged:
            self.expect_body(octets)

    def splice_down(self, upstream: Upstream) -> None:
        """The same for the rest of a response body."""
        if self.splice is None:
            octets = upstream.reader.body_left
            self.splice = begin_splice(upstream, self.downstream, octets, self._moved_down, self.client_vanished)

    def _moved_down(self, octets: int) -> None:
        upstream = self.upstream
        assert upstream is not None
        self.gateway.counters.bytes_down += octets
        self.bytes_down += octets
        if upstream.reader.skip(octets):
            self.end_splice()
            self.finish(upstream)
        elif not self.downstream.clogged:
            self.expect("answer body", self.gateway.timeouts.answer_body)
