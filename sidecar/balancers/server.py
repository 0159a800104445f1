"""One server of a balancer: its connections, and what is counted of it. Knows no other server and no client."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define, field

from sidecar.balancers.pair import Pair
from sidecar.balancers.standing import ServerHealth
from sidecar.balancing.next_server import Candidate
from sidecar.config.balancers import BalancedServer
from sidecar.transport.link import Handler, Link
from sidecar.transport.transport import SocketLink
from sidecar.upstream.connecting import WorkerEndpoint


class Joint:
    """A connection to a server that is being made; as a handler only until it is there."""

    def __init__(self, pair: Pair, joined: Callable[[Joint, Link], None]) -> None:
        self.pair = pair
        self._joined = joined
        self.given_up = False
        """Nobody wants it any more."""

    def give_up(self) -> None:
        """It is of no use any more."""
        self.given_up = True

    def connected(self, link: Link) -> None:
        if self.given_up or not self.pair.here:
            link.abort()
        else:
            assert isinstance(link, SocketLink)
            link.hand_over(self.pair.server)
        self._joined(self, link)

    # Until it is somebody's.

    def received(self, octets: bytes) -> None:
        """Nobody asked for it."""

    def half_closed(self) -> None:
        """It is aborted anyway."""

    def lost(self, *, clean: bool) -> None:
        """It was aborted."""

    def writing_ended(self) -> None:
        """Never told: nothing was sent."""

    def shaken(self) -> None:
        """Never told: there is no TLS."""

    def filled(self) -> None:
        """Never told: nothing was sent."""

    def drained(self) -> None:
        """Never told: nothing was sent."""


@define(eq=False)
class StreamServer:
    """One server."""

    name: str
    settings: BalancedServer
    endpoint: WorkerEndpoint
    health: ServerHealth
    pairs: set[Pair] = field(factory=set)
    """Those whose connection is there."""
    joints: dict[Pair, Joint] = field(factory=dict)
    """Those whose connection is being made."""
    turn: int = 0
    draining: bool = False
    """An operator keeps new connections away."""
    connects: int = 0
    failures: int = 0
    """Connections that could not be made."""
    closed: int = 0
    """Connections that were closed because it went down."""
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def count(self) -> int:
        """Connections that it has, or will have."""
        return len(self.pairs) + len(self.joints)

    @property
    def most(self) -> int | None:
        """Connections that it may have."""
        agent = self.health.agent.most
        own = self.settings.connections
        return own if agent is None else agent if own is None else min(own, agent)

    @property
    def weight(self) -> float:
        """What its agent leaves of its weight."""
        share = self.health.agent.share
        return self.settings.weight if share is None else self.settings.weight * share

    @property
    def takes(self) -> bool:
        """It gets new connections, unless it is full."""
        return self.health.takes and not self.draining

    @property
    def state(self) -> str:
        """For people: `up`, `down`, `draining`, or `new` before its first check."""
        if self.draining:
            return "draining"
        if not self.health.known:
            return "new"
        return "up" if self.health.takes else "draining" if self.health.up else "down"

    def candidate(self) -> Candidate:
        """How it stands beside the others."""
        return Candidate(name=self.name, connections=self.count, weight=self.weight, most=self.most, turn=self.turn)

    def connect(
        self, pair: Pair, turn: int, joined: Callable[[Joint, Link], None], failed: Callable[..., None]
    ) -> None:
        """Make a connection for `pair`; one of the two is told."""
        self.turn = turn
        joint = self.joints[pair] = Joint(pair, joined)
        made: Callable[[], Handler] = lambda: joint  # noqa: E731
        self.endpoint.connect(made, partial(failed, joint))

    def leave(self, pair: Pair, turn: int) -> bool:
        """`pair` has nothing to do with it any more; whether it had."""
        joint = self.joints.pop(pair, None)
        if joint is not None:
            joint.give_up()
        had = joint is not None or pair in self.pairs
        self.pairs.discard(pair)
        if had:
            self.turn = turn
        return had

    def settle(self, pair: Pair) -> None:
        """The connection of `pair` is there."""
        del self.joints[pair]
        self.pairs.add(pair)
        self.connects += 1

    def note_failure(self) -> None:
        """It could not be connected to."""
        self.failures += 1

    def note_bytes(self, up: int, down: int) -> None:
        """So many bytes went to it, or came."""
        self.bytes_up += up
        self.bytes_down += down

    def cut(self) -> int:
        """Cut the connections that are there, because it is down; how many there were."""
        cut = tuple(self.pairs)
        for pair in cut:
            pair.abort()
        self.closed += len(cut)
        return len(cut)

    def drain(self, draining: bool) -> None:
        """Keep new connections away, or not any more."""
        self.draining = draining

    def use(self, settings: BalancedServer, endpoint: WorkerEndpoint) -> None:
        """Connect as these say from now on."""
        self.settings, self.endpoint = settings, endpoint
