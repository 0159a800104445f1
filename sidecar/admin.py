"""The operator's listener: health, status, and the few things that can be done to a running sidecar, over HTTP.

Never on the public port, and without authentication: its endpoint is a loopback address or a UNIX socket. An answer is
JSON unless it says otherwise. Knows the data path only by `sidecar.status` and the drain of a pool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from sidecar.net.listening import address, listen
from sidecar.net.pool import WorkerPool
from sidecar.status import View, state, status, unready
from sidecar.telemetry import logger

_log = logger("sidecar.admin")


@frozen
class Answer:
    """A status and what is made JSON, or octets of the media type `kind`."""

    status: int
    content: dict[str, Any] | list[Any] | bytes
    allow: str = ""
    kind: str = "application/json"


@define(eq=False)
class Operations:
    """What can be asked, by its path. `look` gives what runs at this moment."""

    look: Callable[[], View]

    def answer(self, method: str, path: str) -> Answer:
        """The answer to a request whose origin is not in doubt."""
        parts = [unquote(part) for part in path.split("/")[1:]]
        match parts:
            case ["health"]:
                return _only("GET", method, self._health)
            case ["ready"]:
                return _only("GET", method, self._ready)
            case ["api", "status"]:
                return _only("GET", method, lambda: Answer(200, status(self.look())))
            case ["api", "workers", name, "drain" | "undrain" as action]:
                return _only("POST", method, lambda: self._drain(name, action == "drain"))
        return Answer(404, {"error": "There is nothing here; see /health, /ready and /api/status."})

    def _health(self) -> Answer:
        return Answer(200, {"healthy": True})

    def _ready(self) -> Answer:
        reasons = unready(self.look())
        return Answer(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})

    def _drain(self, name: str, drain: bool) -> Answer:
        pools = self.look().gateway.pools
        pool = pools.get(name)
        if pool is None:
            return Answer(404, {"error": _unknown(name, pools)})
        if pool.draining != drain:
            _log.info("worker {name} is {what}", name=name, what="drained" if drain else "in service again")
            (pool.drain if drain else pool.undrain)()
            if not drain:
                _look_again(pools.values())
        told = "gets no new requests" if drain else "gets new requests"
        running = f"; {pool.leased} of its requests still run" if drain and pool.leased else ""
        sentence = f"The worker {name} {told}{running}."
        return Answer(
            200,
            {"worker": name, "state": state(pool), "leased": pool.leased, "waiting": pool.waiting, "told": sentence},
        )


def _only(allowed: str, method: str, act: Callable[[], Answer]) -> Answer:
    if method == allowed or (allowed == "GET" and method == "HEAD"):
        return act()
    error = f"This takes {allowed}, not {method}."
    return Answer(405, {"error": error}, "GET, HEAD" if allowed == "GET" else allowed)


def _unknown(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, names, 1)
    known = f"do you mean {near[0]}?" if near else f"there are {', '.join(names)}."
    return f"There is no worker {name}; {known}"


def _look_again(pools: Iterable[WorkerPool]) -> None:
    """Who waits for another worker that is drained may have somewhere to go now."""
    for pool in pools:
        if pool.draining:
            pool.drain()


def is_foreign(origin: str | None, host: str | None) -> bool:
    """Whether a page of another site makes the browser ask (`Origin`, RFC 6454 7)."""
    return origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower()


class Pages(Resource):
    """HTTP for `Operations`."""

    isLeaf = True

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self._operations = operations

    def render(self, request: Request) -> bytes:
        method = request.method.decode("latin-1")
        path = request.path.decode("latin-1")
        if method not in ("GET", "HEAD") and is_foreign(request.getHeader("origin"), request.getHeader("host")):
            answer = Answer(403, {"error": "Pages of other sites may not do this."})
        else:
            answer = self._operations.answer(method, path)
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", answer.kind)
        request.setHeader("Cache-Control", "no-store")
        if answer.allow:
            request.setHeader("Allow", answer.allow)
        content = answer.content
        return content if isinstance(content, bytes) else json.dumps(content, indent=1).encode() + b"\n"


class _QuietSite(Site):
    noisy = False

    def log(self, request: Request) -> None:
        """What monitoring asks every few seconds is no news."""


@define(eq=False)
class OperatorListener(Service):
    """Listens for the operator from the start to the end of the last drained exchange."""

    reactor: Any
    endpoint: str
    """A Twisted server endpoint string."""
    operations: Operations
    port: IListeningPort | None = field(default=None, init=False)

    def startService(self) -> None:
        """Raises SidecarError where it cannot listen."""
        site: Any = _QuietSite(Pages(self.operations))
        self.port = listen(self.reactor, self.endpoint, site)
        super().startService()
        _log.info("the operator is listened to on {address}", address=address(self.port))

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening if port is not None else lambda: None)
