"""Maintenance mode: which requests it concerns, and what they are answered. Pure.

Clients are answered 503 with a text. Other servers are not: each failure makes a server leave this one alone for ten
minutes and longer. Their requests go on as always, and wait where their workers are down.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from attrs import field, frozen

from sidecar.routing.decision import Decision
from sidecar.routing.keys import Fields

DEFAULT_TEXT = "This server is under maintenance. Try again later."
DEFAULT_RETRY = 600
"""Seconds."""
LONGEST_TEXT = 500
"""Characters."""
LONGEST_RETRY = 86_400
"""Seconds."""

Decider = Callable[[bytes, bytes, Fields, str, str], Decision]

_CLIENTS = (b"/_matrix/", b"/_synapse/client/")
_OTHERS = (b"/_matrix/federation/", b"/_matrix/key/")


@frozen(kw_only=True)
class Maintenance:
    """The mode, while it is on."""

    text: str = field(default=DEFAULT_TEXT)
    """What clients are told."""
    retry_after: int = DEFAULT_RETRY
    """Seconds after which they may ask again."""
    by: str = ""
    """Who wanted it."""


def concerns(target: bytes) -> bool:
    """Whether a request is one of a client for the homeserver.

    Not of another server, nor of an administrator (`/_synapse/admin`); and neither `/health`, `/.well-known/` nor other
    paths, where other services answer.
    """
    return target.startswith(_CLIENTS) and not target.startswith(_OTHERS)


def under(maintenance: Maintenance | None, decide: Decider) -> Decider:
    """The decisions while `maintenance` is on. Answers that routes give, and refusals, stay as they are."""
    if maintenance is None:
        return decide
    content = json.dumps({"errcode": "M_UNKNOWN", "error": maintenance.text}).encode()
    headers = (
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("Retry-After", str(maintenance.retry_after)),
    )

    def decided(method: bytes, target: bytes, fields: Fields, peer: str, scheme: str) -> Decision:
        decision = decide(method, target, fields, peer, scheme)
        if decision.action != "forward" or not concerns(target):
            return decision
        if method == b"OPTIONS":
            # So that the page of a web client may read the text.
            return Decision("respond", decision.endpoint, "", status=204, reason="maintenance")
        return Decision(
            "respond",
            decision.endpoint,
            "",
            status=503,
            reason="maintenance",
            headers=headers,
            body=content,
        )

    return decided
