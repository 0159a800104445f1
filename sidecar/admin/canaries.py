"""Opening and closing the canaries of `doctor`, by path. Knows what answers them only by its methods."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from attrs import define

from sidecar.admin.operator_answer import OperatorAnswer, only

_SECONDS = re.compile(r"\d{1,4}(?:\.\d{1,3})?", re.ASCII)


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

    def answer(self, method: str, parts: Sequence[str]) -> OperatorAnswer | None:
        """The answer to a request whose origin is not in doubt; None for another path."""
        match parts:
            case ["api", "canary", name, "open"]:
                return only("POST", method, lambda: self._open(name, 0.0))
            case ["api", "canary", name, "close"]:
                return only("POST", method, lambda: self._close(name))
            case ["api", "canary", name, "hold", seconds] if _SECONDS.fullmatch(seconds):
                return only("POST", method, lambda: self._open(name, float(seconds)))
        return None

    def _open(self, name: str, hold: float) -> OperatorAnswer:
        refused = self.answerer.open(name, hold)
        return OperatorAnswer(200, {"canary": name}) if refused is None else OperatorAnswer(409, {"error": refused})

    def _close(self, name: str) -> OperatorAnswer:
        return OperatorAnswer(200, {"canary": name, "was_open": self.answerer.close(name)})
