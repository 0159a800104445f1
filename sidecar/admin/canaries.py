"""Opening and closing the canaries of `doctor`, by path. Knows what answers them only by what it can be told."""

from __future__ import annotations

import re
from typing import Protocol

from attrs import define

from sidecar.admin.answers import Answer, only

_PATH = re.compile(
    r"/api/canary/(?P<name>[^/]+)/(?:(?P<open>open)|(?P<close>close)|hold/(?P<hold>\d{1,4}(?:\.\d{1,3})?))"
)


class Answerer(Protocol):
    """Who answers the requests that carry a canary's name."""

    def open(self, name: str, hold: float = 0.0) -> str | None:
        """Begin; None, or why not."""

    def close(self, name: str) -> bool:
        """End; whether it was open."""


@define(eq=False)
class CanaryOperations:
    """`POST /api/canary/NAME/open`, `…/hold/SECONDS` and `…/close`."""

    answerer: Answerer

    def answer(self, method: str, path: str) -> Answer | None:
        """The answer to a request whose origin is not in doubt; None where another path is meant."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        name, hold = match["name"], float(match["hold"] or 0)
        return only("POST", method, lambda: self._close(name) if match["close"] else self._open(name, hold))

    def _open(self, name: str, hold: float) -> Answer:
        refused = self.answerer.open(name, hold)
        return Answer(200, {"canary": name}) if refused is None else Answer(409, {"error": refused})

    def _close(self, name: str) -> Answer:
        return Answer(200, {"canary": name, "was_open": self.answerer.close(name)})
