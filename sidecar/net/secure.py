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
            # Idle, with less patience: before it has shaken hands it can have no request.
            self.relay.expect("idle", self.gateway.timeouts.handshake)

    def handshakeCompleted(self) -> None:
        if not self._lingering:
            self.relay.expect("idle", self.gateway.timeouts.idle)

    @property
    def unsent(self) -> int:
        return unsent_by_tls(self.transport) if self.open else 0

    @property
    def descriptor(self) -> int:
        transport: Any = self.transport
        number: int = transport.fileno()
        return number

    def end_writing(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()
        self.linger()

    def close(self) -> None:
        """As on a plain socket; but until the client has ended too, what it still sends has to be thrown away."""
        super().close()
        if self.open:
            self._lingering = True
            self._linger_left = self.gateway.limits.linger
            self.linger()


class SecureListener(Listener):
    """Makes a `SecureDownstream` for each connection."""

    def buildProtocol(self, addr: object) -> Downstream:
        return SecureDownstream(self)
