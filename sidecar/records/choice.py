"""Which exchanges are logged: by endpoint, and only a sample of those without a fault.

Faults are logged, unless their endpoint is not logged at all. Knows no format.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal

from attrs import define, field

Told = Literal["all", "sampled", "faults", "none"]


@define(eq=False)
class LogChoice:
    """Decides for one exchange after the other.

    The sample is not random: it takes every nth exchange of each endpoint, so that rare endpoints are not lost.
    """

    sample: float = 1.0
    """The part of exchanges without a fault that is logged, 0 to 1."""
    endpoints: Mapping[str, Told] = field(factory=dict)
    """By name or glob; the first that matches counts. Others are `sampled`."""
    _told: dict[str, Told] = field(factory=dict, init=False)
    _due: dict[str, float] = field(factory=dict, init=False)

    @property
    def all(self) -> bool:
        """Whether every exchange is logged."""
        return self.sample == 1.0 and not self.endpoints

    def share(self, endpoint: str, fault: bool) -> float:
        """0: not logged; otherwise the part of such exchanges that is logged."""
        told = self._told.get(endpoint) or self._look(endpoint)
        if told == "sampled" and not fault:
            return self.sample if self.sample == 1.0 or self._is_due(endpoint) else 0.0
        if told == "all" or (fault and told != "none"):
            return 1.0
        return 0.0

    def _is_due(self, endpoint: str) -> bool:
        due = self._due.get(endpoint, 1.0 - self.sample) + self.sample
        self._due[endpoint] = due - int(due)
        return due >= 1.0

    def _look(self, endpoint: str) -> Told:
        """Endpoints are those of the table, so these dictionaries are bounded."""
        matching = (told for pattern, told in self.endpoints.items() if fnmatchcase(endpoint, pattern))
        told: Told = next(matching, "sampled")
        self._told[endpoint] = told
        return told
