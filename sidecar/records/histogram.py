"""Histograms of durations: integers to which the way of a request adds, quantiles and sums for whoever asks.

Knows no clock and no metric's name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from attrs import define, field

# From what a worker's memory answers to what an initial sync takes; in the middle the 30 s of a long poll.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds in seconds; a bucket includes its bound."""


@define(eq=False)
class Histogram:
    """How many durations fell into each bucket, and what they add up to."""

    counts: list[int] = field(factory=lambda: [0] * (len(DURATIONS) + 1))
    """For each bound, then one for what is longer than all."""
    sum: float = 0.0
    """Seconds."""
    peak: float = 0.0
    """The longest since `take_peak`."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(DURATIONS, seconds)] += 1
        self.sum += seconds
        if seconds > self.peak:
            self.peak = seconds

    def take_peak(self) -> float:
        """The longest since this was last asked, by the one who asks: a bucket does not tell it."""
        peak, self.peak = self.peak, 0.0
        return peak

    def take(self, other: Histogram) -> None:
        """Count all that `other` counted, too."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """For each bound how many are not longer, then all."""
        return list(accumulate(self.counts))

    def since(self, before: Histogram) -> Histogram:
        """What was added after `before`, an earlier state of the same."""
        return Histogram(
            [now - then for now, then in zip(self.counts, before.counts, strict=True)], self.sum - before.sum
        )

    def copy(self) -> Histogram:
        """The state of this moment."""
        return Histogram(self.counts.copy(), self.sum)

    def quantile(self, part: float) -> float | None:
        """The duration that `part` (0 to 1) of all do not exceed, as Prometheus estimates it; None if there are none.

        Within a bucket they are taken for evenly spread, and what is longer than all bounds for the last bound.
        """
        return quantile(self.counts, part)


def quantile(counts: Sequence[int], part: float) -> float | None:
    """As `Histogram.quantile`, of the counts alone."""
    total = sum(counts)
    if not total:
        return None
    wanted, below, lower = part * total, 0, 0.0
    for count, bound in zip(counts, DURATIONS, strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * max(0.0, wanted - below) / count
        below += count
        lower = bound
    return DURATIONS[-1]


def total(histograms: Iterable[Histogram]) -> Histogram:
    """All of them in one."""
    result = Histogram()
    for histogram in histograms:
        result.take(histogram)
    return result
