"""Which exchanges are told of: by endpoint, and of those that went well only a part.

What went wrong is told of unless its endpoint is silenced altogether. Knows no format.
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

    The part is exact and no dice are thrown: of each endpoint every so-manyth exchange is told of, so a rare endpoint
    is not lost among the frequent ones.
    """

    sample: float = 1.0
    """Which part of what went well is told of, 0 to 1."""
    endpoints: Mapping[str, Told] = field(factory=dict)
    """By name or glob; the first that matches counts. Others are `sampled`."""
    _told: dict[str, Told] = field(factory=dict, init=False)
    _due: dict[str, float] = field(factory=dict, init=False)

    @property
    def all(self) -> bool:
        """Whether every exchange is told of."""
        return self.sample == 1.0 and not self.endpoints

    def share(self, endpoint: str, fault: bool) -> float:
        """0: it is not told of; otherwise of how large a part of such exchanges it is one."""
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
        """Endpoints have the names of the table, so these dictionaries do not grow beyond it."""
        matching = (told for pattern, told in self.endpoints.items() if fnmatchcase(endpoint, pattern))
        told: Told = next(matching, "sampled")
        self._told[endpoint] = told
        return told
