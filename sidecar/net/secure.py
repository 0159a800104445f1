"""A client's connection inside TLS: where ending and waiting are other than on a plain socket.

Knows neither certificates nor the layout of TLS.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHandshakeListener
from zope.interface import implementer

from sidecar.net.downstream import Downstream, Listener
from sidecar.net.transport import unsent_by_tls


@implementer(IHandshakeListener)
class SecureDownstream(Downstream):
    """One client connection inside TLS.

    TLS has no half of a close: a client that says it has ended is gone. What we end is ended when the client says so
    too, or after `timeouts.linger`.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        if not self._lingering:
            self.relay.expect("handshake", self.gateway.timeouts.handshake)

    def handshakeCompleted(self) -> None:
        if self.relay.deadline == "handshake":
            self.relay.expect("idle", self.gateway.timeouts.idle)

    @property
    def unsent(self) -> int:
        return unsent_by_tls(self.transport) if self.open else 0

    def end_writing(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()

    def close(self) -> None:
        """As on a plain socket; but until the client has ended too, what it still sends has to be thrown away."""
        super().close()
        if self.open:
            self._lingering = True
            self._linger_left = self.gateway.limits.linger
            if not self._left:
                self.relay.expect("linger", self.gateway.timeouts.linger)


class SecureListener(Listener):
    """Makes a `SecureDownstream` for each connection."""

    def buildProtocol(self, addr: object) -> Downstream:
        return SecureDownstream(self)
