"""Requests of `doctor` that the sidecar answers itself with what it received of them: so a change on the way is seen.

The operator gives each canary its name, 32 hexadecimal digits that nobody else can guess; a request with that name in
its target is told its own method, target and forwarded fields as they came. Without an open canary nothing of this is
in the way of a request. Part of the service layer: it may know everything.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import define, evolve, field
from twisted.internet.interfaces import IDelayedCall

from sidecar.app.service import SidecarService
from sidecar.observe.telemetry import logger
from sidecar.relay.gateway import Decide, Gateway
from sidecar.routing.decision import Decision
from sidecar.wire.fields import FieldSection

_log = logger("sidecar.canary")

LIFETIME = 60.0
"""Seconds after which a canary is gone, besides the time that its answers are held back."""
LONGEST_HOLD = 600.0
"""Seconds for which an answer can be held back, to see how long a proxy in front waits."""
MOST = 4
"""Canaries at once; one `doctor` needs two."""
ANSWERS = 200
"""Requests that one canary answers; `doctor` sends about twenty, and again where several instances share a port."""
HELD_ANSWERS = 4
"""The same where each answer is held back."""

_NAME = re.compile(r"[0-9a-f]{32}")
_TOLD = (
    *(b"host", b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"via", b"content-length", b"transfer-encoding"),
    *(b"connection", b"expect"),
)
"""Fields whose values are told. Of the others, which may hold secrets of the proxy, the names are."""


@define(eq=False)
class _Canary:
    hold: float
    left: int
    end: IDelayedCall


@define(eq=False)
class Canaries:
    """Those that are open, by name."""

    sidecar: SidecarService
    reactor: Any
    _open: dict[bytes, _Canary] = field(factory=dict, init=False)
    _watched: tuple[Gateway, Decide] | None = field(default=None, init=False)
    """The gateway whose decisions pass here, and who made them before."""

    def open(self, name: str, hold: float = 0.0) -> str | None:
        """Answer requests that carry `name`, after `hold` seconds each; None, or in one sentence why not.

        One that is open already begins anew; after a reload it has to be opened again.
        """
        if not _NAME.fullmatch(name):
            return "The name of a canary is 32 hexadecimal digits in lower case."
        if not 0 <= hold <= LONGEST_HOLD:
            return f"An answer is held back for at most {LONGEST_HOLD:.0f} seconds."
        self.close(name)
        if len(self._open) >= MOST:
            return f"{MOST} canaries are open, which is the most; they end by themselves within minutes."
        end = self.reactor.callLater(LIFETIME + hold, self.close, name)
        self._open[name.encode()] = _Canary(hold, HELD_ANSWERS if hold else ANSWERS, end)
        self._watch()
        _log.info("a canary of the operator is answered for {seconds:.0f} s", seconds=LIFETIME + hold)
        return None

    def close(self, name: str) -> bool:
        """Answer it no more; whether it was open."""
        canary = self._open.pop(name.encode(), None)
        if canary is None:
            return False
        if canary.end.active():
            canary.end.cancel()
        if not self._open:
            self._unwatch()
        return True

    def _watch(self) -> None:
        gateway = self.sidecar.gateway
        if self._watched is None or self._watched[0] is not gateway:
            self._unwatch()
            self._watched = gateway, gateway.decide
            gateway.decide_by(self._decide)

    def _unwatch(self) -> None:
        if self._watched is not None:
            gateway, decide = self._watched
            gateway.decide_by(decide)
            self._watched = None

    def _decide(self, method: bytes, target: bytes, fields: FieldSection, client: str, scheme: str, /) -> Decision:
        assert self._watched is not None
        for name, canary in self._open.items():
            if name in target and canary.left > 0:
                canary.left -= 1
                return _answer(name, canary.hold, method, target, fields, client, scheme)
        return self._watched[1](method, target, fields, client, scheme)


_DECISION = Decision(
    action="respond",
    endpoint="canary",
    pool="",
    status=200,
    headers=(("Content-Type", "application/json"), ("Cache-Control", "no-store")),
)


def _answer(
    name: bytes, hold: float, method: bytes, target: bytes, fields: FieldSection, client: str, scheme: str
) -> Decision:
    told = {
        "canary": name.decode(),
        "method": method.decode("latin-1"),
        "target": target.decode("latin-1"),
        "client": client,
        "scheme": scheme,
        "names": [each.decode("latin-1") for each in fields.names],
        "fields": {each.decode(): [value.decode("latin-1") for value in fields.get_all(each)] for each in _TOLD},
    }
    return evolve(_DECISION, body=json.dumps(told).encode() + b"\n", after=hold)
