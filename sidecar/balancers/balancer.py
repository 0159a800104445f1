"""A balancer that runs: takes clients, finds a server for each, and lets them wait while there is none.

Choosing is `sidecar.balancing.next_server`; here is who there is to choose from, and what a failure leads to. Knows no
files and no operator.
"""

from __future__ import annotations

import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

from attrs import define, field

from sidecar.balancers.pair import Pair
from sidecar.balancers.server import Joint, StreamServer
from sidecar.balancing.next_server import choose
from sidecar.config.balancers import Balancer
from sidecar.observe.telemetry import logger
from sidecar.plurals import counted
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.link import Link
from sidecar.transport.poller import Poller
from sidecar.transport.transport import SocketLink
from sidecar.wire.forwarded import neighbourhood

_log = logger("sidecar.balancers")


class Cut(Enum):
    """Why the balancer itself ended a client's connection."""

    ADDRESS = "address"
    """Its address has too many."""
    FULL = "full"
    """Too many wait."""
    WAIT = "wait"
    """No server took it in time."""
    UNREACHABLE = "unreachable"
    """Every attempt to connect to a server failed."""
    DOWN = "down"
    """Its server went down."""
    IDLE = "idle"
    STOP = "stop"
    """The sidecar stops."""


@define(eq=False)
class RunningBalancer:
    """A balancer, its servers and its clients."""

    name: str
    settings: Balancer
    per_address: int
    """Connections that one address may have."""
    poller: Poller
    deadlines: Deadlines
    clock: Any
    servers: Mapping[str, StreamServer] = field(factory=dict)
    on_change: Callable[[], None] = lambda: None
    """Called when a client has come or gone."""
    accepted: int = 0
    cuts: Counter[Cut] = field(factory=Counter)
    leaving: list[StreamServer] = field(factory=list)
    """Servers that a reload removed or moved, as long as they have connections."""
    _pairs: dict[Pair, StreamServer | None] = field(factory=dict)
    _line: OrderedDict[Pair, None] = field(factory=OrderedDict)
    _addresses: Counter[str] = field(factory=Counter)
    _turn: int = 0

    @property
    def open(self) -> int:
        """Clients that it has."""
        return len(self._pairs)

    @property
    def waiting(self) -> int:
        """Those that have no server, nor is one being connected to."""
        return len(self._line)

    def tell(self, changed: Callable[[], None]) -> None:
        """Call it when a client has come or gone."""
        self.on_change = changed

    # Clients.

    def take(self, accepted: socket.socket, peer: str) -> None:
        """Serve a client at address `peer`; empty: a UNIX peer."""
        settings = self.settings
        self.accepted += 1
        address = neighbourhood(peer) if peer else ""
        if peer and self._addresses[address] >= self.per_address:
            self.cuts[Cut.ADDRESS] += 1
            accepted.close()
            return
        link = SocketLink(self.poller, accepted, peer, half_closeable=True)
        pair = Pair(self, self.deadlines, address, settings.read_ahead, settings.idle)
        self._pairs[pair] = None
        self._addresses[address] += 1
        pair.begin(link, settings.keepalive)
        self._place(pair)
        self.on_change()

    def _place(self, pair: Pair) -> None:
        """Give it a server, or let it wait for one."""
        taking = [server.candidate() for server in self.servers.values() if server.takes]
        name = choose(taking, self.settings.balance, pair.tried)
        if name is not None:
            self._connect(pair, self.servers[name])
        elif len(self._line) >= self.settings.waiting:
            self._cut(pair, Cut.FULL)
        else:
            self._line[pair] = None
            pair.stand_in_line(self.settings.wait)

    def _connect(self, pair: Pair, server: StreamServer) -> None:
        pair.attempt()
        self._pairs[pair] = server
        server.connect(pair, self._next_turn(), self._joined, partial(self._not_joined, server))

    def _joined(self, joint: Joint, link: Link) -> None:
        pair, server = joint.pair, self._pairs.get(joint.pair)
        if link.open and server is not None:
            server.settle(pair)
            pair.join(link, self.settings.keepalive)

    def _not_joined(self, server: StreamServer, joint: Joint, error: BaseException) -> None:
        pair = joint.pair
        if joint.given_up:
            return
        server.note_failure()
        _log.debug("{name}: {server}: {error}", name=self.name, server=server.name, error=error)
        self._part(pair)
        pair.tried.add(server.name)
        if pair.attempts > self.settings.retries:
            self._cut(pair, Cut.UNREACHABLE)
        elif all(each.name in pair.tried for each in self.servers.values() if each.takes):
            pair.tried.clear()
            self.clock.callLater(self.settings.retry_pause, self._again, pair)
        else:
            self._place(pair)
        self._serve_line()

    def _again(self, pair: Pair) -> None:
        if pair in self._pairs and pair.here:
            self._place(pair)

    def _serve_line(self) -> None:
        """Whoever waits longest first, as long as somebody takes them."""
        while self._line:
            taking = [server.candidate() for server in self.servers.values() if server.takes]
            pair = next(iter(self._line))
            name = choose(taking, self.settings.balance, pair.tried)
            if name is None:
                return
            del self._line[pair]
            self._connect(pair, self.servers[name])

    def _part(self, pair: Pair) -> StreamServer | None:
        """It has no server any more; the one that it had."""
        server = self._pairs[pair]
        self._pairs[pair] = None
        if server is not None and server.leave(pair, self._next_turn()):
            self.leaving = [each for each in self.leaving if each.count]
        return server

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def _cut(self, pair: Pair, why: Cut) -> None:
        self.cuts[why] += 1
        pair.abort()

    # A pair tells.

    def moved(self, pair: Pair, *, up: int = 0, down: int = 0) -> None:
        server = self._pairs[pair]
        if server is not None:
            server.note_bytes(up, down)

    def overdue(self, pair: Pair) -> None:
        self._cut(pair, Cut.WAIT if pair.waiting else Cut.IDLE)

    def ended(self, pair: Pair) -> None:
        self._line.pop(pair, None)
        self._part(pair)
        del self._pairs[pair]
        self._addresses[pair.address] -= 1
        if not self._addresses[pair.address]:
            del self._addresses[pair.address]
        self._serve_line()
        self.on_change()

    # Servers.

    def health_changed(self, server: StreamServer) -> None:
        """A server has gone up or down, or its agent says something else."""
        if not server.health.up and self.servers.get(server.name) is server:
            self._leave(server)
        self._serve_line()

    def _leave(self, server: StreamServer) -> None:
        """It is down: who is still on the way to it goes elsewhere, and its connections end where that is wanted."""
        for pair in tuple(server.joints):
            self._part(pair)
            self._place(pair)
        if self.settings.on_down == "close":
            cut = server.cut()
            self.cuts[Cut.DOWN] += cut
            if cut:
                _log.warn(
                    "{cut} of {name} closed, because server {server} is down",
                    cut=counted(cut, "connection"),
                    name=self.name,
                    server=server.name,
                )

    def drain(self, server: StreamServer, draining: bool) -> None:
        """Keep new connections away from a server, or not any more; those that it has go on."""
        server.drain(draining)
        self._serve_line()

    # Change and end.

    def use(self, settings: Balancer, per_address: int, servers: Mapping[str, StreamServer]) -> None:
        """Balance by these from the next connection on. Those that are there keep their server."""
        gone = [each for name, each in self.servers.items() if servers.get(name) is not each]
        self.settings, self.per_address, self.servers = settings, per_address, servers
        for server in gone:
            server.health.stop()
            for pair in tuple(server.joints):
                self._part(pair)
                self._place(pair)
        self.leaving = [each for each in (*self.leaving, *gone) if each.count]
        self._serve_line()
        self.on_change()

    def retire(self) -> None:
        """Nobody comes any more, and nobody is asked how it is."""
        for server in self.servers.values():
            server.health.stop()

    def close_line(self) -> None:
        """Nobody waits any more: the sidecar stops."""
        for pair in tuple(self._line):
            self._cut(pair, Cut.STOP)

    def cut(self) -> None:
        """End every connection: the sidecar stops."""
        for pair in tuple(self._pairs):
            self._cut(pair, Cut.STOP)
