"""`--demo`: stand-in workers on UNIX sockets in a temporary directory, in front of which the real sidecar runs.

They answer every request with their name and what they saw of it. Nothing else of the sidecar is a stand-in.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

CONFIGURATION = """\
listen: "tcp:{port}:interface=127.0.0.1"
workers:
  main: {{endpoint: "unix:main.sock", serves: [client, federation, media]}}
  sync1: {{endpoint: "unix:sync1.sock", serves: [client]}}
  sync2: {{endpoint: "unix:sync2.sock", serves: [client]}}
  client1: {{endpoint: "unix:client1.sock", serves: [client]}}
  federation1: {{endpoint: "unix:federation1.sock", serves: [federation]}}
  typing1: {{endpoint: "unix:typing1.sock", serves: [client], writes: [typing]}}
pools:
  sync: {{workers: ["sync*"]}}
  client: {{workers: [client1]}}
  rooms: {{workers: [client1]}}
"""
WORKERS = ("main", "sync1", "sync2", "client1", "federation1", "typing1")

INTRODUCTION = """\

matrix-sidecar answers at http://127.0.0.1:{port}/ in front of {count} stand-in workers. Try:

  curl -s http://127.0.0.1:{port}/_matrix/client/versions
  curl -s -H 'Authorization: Bearer syt_YWxpY2U_abcdefghijklmnopqrst_0abcde' http://127.0.0.1:{port}/_matrix/client/v3/sync
  curl -s -X PUT http://127.0.0.1:{port}/_matrix/client/v3/rooms/%21room/typing/@alice:example.org

Each answer names the worker that gave it. Ctrl-C ends the demonstration and removes what it made.
"""


class StandIn(Resource):
    """Answers like a worker that knows only its name."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"server", b"stand-in")
        seen = {
            "worker": self._name,
            "method": request.method.decode("ascii"),
            "target": request.uri.decode("ascii"),
            "client": (request.getHeader("x-forwarded-for") or ""),
        }
        return json.dumps(seen).encode() + b"\n"


class QuietSite(Site):
    """Logs nothing: what the sidecar does is to be seen."""

    noisy = False

    def log(self, request: Request) -> None:
        """Every answer says where it came from; that is the log."""


class DemoWorkers(Service):
    """The stand-in workers and the directory that holds their sockets and the configuration."""

    def __init__(self, reactor: IReactorUNIX, port: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="matrix-sidecar-demo-"))
        self.configuration = self.directory / "sidecar.yaml"
        self.configuration.write_text(CONFIGURATION.format(port=port))
        self.introduction = INTRODUCTION.format(port=port, count=len(WORKERS))
        self._reactor = reactor
        self._ports: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        for name in WORKERS:
            site: Any = QuietSite(StandIn(name))
            self._ports.append(self._reactor.listenUNIX(str(self.directory / f"{name}.sock"), site))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._remove())

    async def _remove(self) -> None:
        """Stop listening, which removes each socket a turn later, and only then remove the directory."""
        stopped: Any = gatherResults([maybeDeferred(port.stopListening) for port in self._ports])
        await stopped
        shutil.rmtree(self.directory, ignore_errors=True)
