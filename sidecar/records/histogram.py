"""Histograms of durations: integer counters, quantiles and sums.

Knows no clock and no metric's name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from attrs import define, field

# From an answer out of a worker's cache to an initial sync; with the 30 s of a long poll in between.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds in seconds; a bucket includes its bound."""


@define(eq=False)
class Histogram:
    """How many durations fell into each bucket, and their sum."""

    counts: list[int] = field(factory=lambda: [0] * (len(DURATIONS) + 1))
    """One for each bound, then one for longer durations."""
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
        """The longest since the last call. Only one caller may use it."""
        peak, self.peak = self.peak, 0.0
        return peak

    def take(self, other: Histogram) -> None:
        """Add the counts of `other`."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """For each bound, how many are not longer; then how many there are."""
        return list(accumulate(self.counts))

    def since(self, before: Histogram) -> Histogram:
        """What was added since `before`, an earlier state."""
        return Histogram(
            [now - then for now, then in zip(self.counts, before.counts, strict=True)], self.sum - before.sum
        )

    def copy(self) -> Histogram:
        """The state of this moment."""
        return Histogram(self.counts.copy(), self.sum)

    def quantile(self, part: float) -> float | None:
        """The quantile `part` (0 to 1), estimated as Prometheus does; None if there are no durations.

        Assumes an even distribution in each bucket; longer durations count as the last bound.
        """
        return quantile(self.counts, part)


def quantile(counts: Sequence[int], part: float) -> float | None:
    """As `Histogram.quantile`, from the counts alone."""
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
    """The sum of several histograms."""
    result = Histogram()
    for histogram in histograms:
        result.take(histogram)
    return result
