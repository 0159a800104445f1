"""What an agent says of the server beside it: the words of HAProxy's `agent-check`. Pure.

Source: HAProxy's configuration manual, section 5.2, `agent-check`. Words are divided by spaces, tabs or commas; only
the first line counts. What is not known is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from attrs import evolve, frozen

from sidecar.errors import printable

Standing = Literal["ready", "drain", "maint"]

MOST_OCTETS = 1024
"""Bytes of an answer that are looked at."""

_STANDINGS: Mapping[str, Standing] = {"ready": "ready", "drain": "drain", "maint": "maint"}
_PERCENT = re.compile(r"(\d{1,5})%", re.ASCII)
_MOST = re.compile(r"maxconn:(\d{1,9})", re.ASCII)
_MOST_REASON = 100


@frozen(kw_only=True)
class AgentAnswer:
    """What one answer says; None: nothing of that."""

    up: bool | None = None
    reason: str = ""
    """Why it is not up, as the agent has it."""
    share: float | None = None
    """The part of its weight that it should have."""
    most: int | None = None
    """Connections that it may have."""
    standing: Standing | None = None
    """`drain`: no new connections. `maint`: none at all. `ready`: neither."""

    def over(self, before: AgentAnswer) -> AgentAnswer:
        """What holds after this one, where `before` did until now."""
        told = {name: value for name in ("share", "most", "standing") if (value := getattr(self, name)) is not None}
        health = {} if self.up is None else {"up": self.up, "reason": self.reason}
        return evolve(before, **told, **health)  # type: ignore[arg-type]


def read_agent(octets: bytes) -> AgentAnswer:
    """The meaning of what came from an agent before it ended the line, or the connection."""
    line, _, reason = octets.partition(b"\n")[0].decode("latin-1").partition("#")
    answer = AgentAnswer()
    for word in re.split(r"[ \t,\r]+", line.strip().lower()):
        percent, most = _PERCENT.fullmatch(word), _MOST.fullmatch(word)
        if percent is not None:
            answer = evolve(answer, share=int(percent[1]) / 100)
        elif most is not None:
            answer = evolve(answer, most=int(most[1]))
        elif word in _STANDINGS:
            answer = evolve(answer, standing=_STANDINGS[word])
        elif word in ("up", "down", "stopped", "fail", "failed"):
            said = printable(" ".join(reason.split()))[:_MOST_REASON]
            answer = evolve(answer, up=word == "up", reason="" if word == "up" else said or f"its agent says {word}")
    return answer
