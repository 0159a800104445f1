"""All balancers of a process, and where they listen: begun, changed by a reload, and ended.

What a reload names again stays as it is: a listener its socket, a server its connections and what is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

from sidecar.balancers.balancer import RunningBalancer
from sidecar.balancers.checks import AgentSpeaks, AnswersOverHttp, Ask, TakesConnections, asker
from sidecar.balancers.server import StreamServer
from sidecar.balancers.standing import Note, ServerHealth
from sidecar.config.balancers import BalancedServer, Balancer
from sidecar.config.endpoint_strings import client_parts
from sidecar.config.schema import Settings
from sidecar.entrance.accepting import Accepting
from sidecar.entrance.listening import address, listen_where_possible
from sidecar.errors import SidecarError
from sidecar.observe.telemetry import logger
from sidecar.plurals import counted
from sidecar.synapse.listeners import escape
from sidecar.transport.deadlines import Deadlines
from sidecar.transport.poller import Poller
from sidecar.upstream.connecting import WorkerEndpoint, worker_endpoint
from sidecar.upstream.resolving import Names

_log = logger("sidecar.balancers")


class _NoProtocol(Factory):
    """Twisted's port only keeps the socket open; we accept."""

    noisy = False


@define(eq=False)
class StreamDoor:
    """One entry of `listen`, which lets clients in to the balancer that has it now."""

    ports: list[IListeningPort]
    accepting: Accepting
    balancer: RunningBalancer

    def lead_to(self, balancer: RunningBalancer) -> None:
        """Its clients are this balancer's from now on."""
        self.balancer = balancer

    def take(self, accepted: Any, peer: str) -> None:
        """Serve an accepted socket."""
        self.balancer.take(accepted, peer)


@define(eq=False)
class Fleet:
    """The balancers that run, by name."""

    reactor: Any
    names: Names
    poller: Poller
    deadlines: Deadlines
    note: Note = lambda _kind, _name, _reason: None
    running: dict[str, RunningBalancer] = field(factory=dict)
    leaving: list[RunningBalancer] = field(factory=list)
    """Those that a reload removed, as long as they have clients."""
    _doors: dict[str, StreamDoor] = field(factory=dict)
    """By their entry of `listen`."""
    _opened: dict[str, list[IListeningPort]] = field(factory=dict)
    """What was opened and is not in use yet."""
    _drained: Deferred[None] | None = None
    _hurried: bool = False

    # Begin and change.

    def open(self, settings: Settings) -> None:
        """Listen where `settings` say so and nobody does yet. Raises SidecarError, and then listens nowhere new."""
        problems: list[str] = []
        for name, balancer in settings.balancers.items():
            for text in balancer.listen:
                if text not in self._doors:
                    try:
                        self._opened[text] = listen_where_possible(self.reactor, text, _NoProtocol(), first=True)
                    except SidecarError as error:
                        place = ("balancers", name, "listen")
                        hint = f"{error}; stop it, or write another port"
                        problems.append(str(settings.source.problem(place, hint)))
        if problems:
            for ports in self._opened.values():
                _stop(ports)
            self._opened.clear()
            raise SidecarError("; ".join(problems))

    def use(self, settings: Settings) -> None:
        """Balance as `settings` say, which `open` was told before."""
        before = self.running
        self.running = {
            name: self._balancer(name, balancer, settings, before.get(name))
            for name, balancer in settings.balancers.items()
        }
        gone = [each for name, each in before.items() if name not in self.running]
        wanted = {text: name for name, each in settings.balancers.items() for text in each.listen}
        for text in tuple(self._doors):
            if text not in wanted:
                self._shut(self._doors.pop(text))
        for text, name in wanted.items():
            self._lead(text, self.running[name])
        for each in gone:
            each.retire()
        self.leaving = [each for each in (*self.leaving, *gone) if each.open]

    def _balancer(
        self, name: str, settings: Balancer, everything: Settings, known: RunningBalancer | None
    ) -> RunningBalancer:
        usual = everything.limits.connections_per_address
        per_address = settings.connections_per_address or usual
        balancer = known or RunningBalancer(name, settings, per_address, self.poller, self.deadlines, self.reactor)
        servers = {each: self._server(balancer, settings, each, server) for each, server in settings.servers.items()}
        balancer.tell(partial(self._changed, balancer))
        balancer.use(settings, per_address, servers)
        return balancer

    def _server(self, balancer: RunningBalancer, settings: Balancer, name: str, stated: BalancedServer) -> StreamServer:
        """The server that is there, as it is to be; a new one if it is new or elsewhere."""
        endpoint = self._endpoint(stated.endpoint, settings.connect, half_closeable=True)
        known = balancer.servers.get(name)
        if known is not None and known.settings.endpoint == stated.endpoint:
            same = (known.settings, balancer.settings.check) == (stated, settings.check)
            known.use(stated, endpoint)
            known.health.use(settings.check)
            if not same:
                known.health.start(*self._questions(settings, stated))
            return known
        told: list[StreamServer] = []
        health = ServerHealth(
            f"{balancer.name}/{name}", self.reactor, settings.check, lambda: balancer.health_changed(told[0]), self.note
        )
        server = StreamServer(name, stated, endpoint, health)
        told.append(server)
        if known is not None and known.draining:
            server.drain(True)
        health.start(*self._questions(settings, stated))
        return server

    def _endpoint(self, text: str, timeout: float, *, half_closeable: bool = False) -> WorkerEndpoint:
        found, _ = worker_endpoint(self.names, self.poller, text, timeout, half_closeable=half_closeable)
        return found

    def _questions(self, settings: Balancer, server: BalancedServer) -> tuple[Ask, Ask | None]:
        """How a server is asked, and its agent, if it has one."""
        check = settings.check
        patience = check.timeout or min(settings.connect, check.interval)
        place = at_port(server.endpoint, check.port)
        host = client_parts(place)[1].get("host", "localhost")
        http = check.http
        make = TakesConnections if http is None else partial(AnswersOverHttp, http, host, check.expect)
        own = asker(make, self._endpoint(place, patience), self.reactor, patience)
        if check.agent is None:
            return own, None
        beside = self._endpoint(at_port(server.endpoint, check.agent), patience)
        return own, asker(AgentSpeaks, beside, self.reactor, patience)

    # Doors.

    def _lead(self, text: str, balancer: RunningBalancer) -> None:
        door = self._doors.get(text)
        if door is not None:
            door.lead_to(balancer)
        else:
            accepting = Accepting(self.reactor, lambda: made.balancer.open)
            made = door = self._doors[text] = StreamDoor(self._opened.pop(text), accepting, balancer)
            for port in door.ports:
                accepting.open(port, self.poller, door.take)
                _log.info("balancer {name} is listening on {host}", name=balancer.name, host=address(port))
        door.accepting.use(balancer.settings.connections)
        door.accepting.changed()

    def _shut(self, door: StreamDoor) -> None:
        door.accepting.stop()
        _stop(door.ports)

    def _changed(self, balancer: RunningBalancer) -> None:
        for door in self._doors.values():
            if door.balancer is balancer:
                door.accepting.changed()
        if balancer not in self.running.values() and not balancer.open:
            self.leaving = [each for each in self.leaving if each is not balancer]
        if self._drained is not None and not self.open_now:
            drained, self._drained = self._drained, None
            drained.callback(None)

    # What is there.

    @property
    def open_now(self) -> int:
        """Clients of all balancers."""
        return sum(each.open for each in self._all())

    def listening(self, name: str) -> Iterator[str]:
        """Where a balancer listens."""
        for door in self._doors.values():
            if door.balancer.name == name:
                yield from map(address, door.ports)

    def _all(self) -> Iterable[RunningBalancer]:
        return (*self.running.values(), *self.leaving)

    # Stop.

    async def drain(self) -> None:
        """Take nobody any more; end what is left after `drain` of each balancer."""
        for door in self._doors.values():
            self._shut(door)
        self._doors.clear()
        for each in self._all():
            each.close_line()
        if self._hurried:
            self.cut()
        limits = [self.reactor.callLater(each.settings.drain, each.cut) for each in self._all()]
        if self.open_now:
            _log.info("waiting for {connections} of balancers to end", connections=counted(self.open_now, "connection"))
            self._drained = Deferred()
            await self._drained
        for limit in limits:
            if limit.active():
                limit.cancel()
        for each in self._all():
            each.retire()

    def cut(self) -> None:
        """The sidecar stops, and somebody is in a hurry: end everything now, or when its turn has come."""
        self._hurried = True
        if not self._doors:
            for each in self._all():
                each.cut()


def at_port(endpoint: str, port: int | None) -> str:
    """The same place, at another port."""
    kind, values = client_parts(endpoint)
    return endpoint if port is None or kind == "unix" else f"tcp:{escape(values['host'])}:{port}"


def _stop(ports: Iterable[Any]) -> None:
    for port in ports:
        port.stopListening()
