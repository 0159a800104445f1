"""What is between a port and HTTP: a PROXY header if one is expected, then TLS if it is configured."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory

from sidecar.config.endpoint_strings import entrance
from sidecar.entrance.libraries import HTTP2_MISSING
from sidecar.entrance.proxied import Complaints, Preamble
from sidecar.entrance.tls import HTTP1, HTTP2, Identities, Identity, tls_protocols
from sidecar.errors import SidecarError
from sidecar.relay.gateway import Gateway
from sidecar.relay.session import Listener, Session
from sidecar.transport.link import Handler, Link
from sidecar.transport.poller import Poller
from sidecar.transport.secure import TlsTransport
from sidecar.transport.transport import SocketLink
from sidecar.transport.twisted_link import HalfCloseableLink, SecureLink


class Entrance(Factory):
    """Makes the handler of each accepted socket.

    For Twisted it is a factory, for endpoints whose connections are no plain sockets; those have no PROXY header.
    """

    noisy = False

    def __init__(
        self,
        listener: Listener,
        reactor: Any,
        poller: Poller,
        *,
        identity: Identity | None = None,
        everywhere: bool = True,
        here: bool = False,
        http2: bool = False,
    ) -> None:
        """`identity`: our certificate for TLS; None: no TLS.

        `here`: this entry of `listen` expects a PROXY header; `everywhere`: no entry names it. `http2`: clients may use
        HTTP/2. Raises SidecarError if a library for TLS or HTTP/2 is not installed.
        """
        self._spoken: Callable[[str | None], Handler] = partial(Session, listener)
        if http2:
            self._spoken = partial(_arrival(), listener, poller)
        self.listener = listener
        self._poller = poller
        self._tls = None if identity is None else tls_protocols(identity, reactor)
        self._here = here
        self._expecting = here or everywhere
        self._complaints = Complaints()

    def take(self, accepted: socket.socket, peer: str) -> None:
        """Serve a connection from `peer`; empty: a UNIX peer."""
        link = SocketLink(self._poller, accepted, peer, half_closeable=self._tls is None)
        if self._expecting and self._announces(peer):
            link.begin(Preamble(self.listener, self._complaints, self._served))
        else:
            link.begin(self._served())

    def _served(self, scheme: str | None = None) -> Handler:
        """The handler of a connection whose client used `scheme` with a balancer; None: there is no balancer."""
        if self._tls is not None:
            return TlsTransport(self._inside_tls)
        # No TLS here; only the header can say whether the client used TLS with the balancer.
        return self._spoken(scheme)

    def _inside_tls(self, link: Link) -> IProtocol:
        assert self._tls is not None
        return self._tls(SecureLink(self._spoken(None), link))

    def _announces(self, peer: str) -> bool:
        # UNIX peers are on this host and trusted, but send no header on a plain `unix:`.
        return self.listener.gateway.forwarded.announces(peer) if peer else self._here

    def buildProtocol(self, addr: object) -> Any:
        handler = self._spoken(None)
        return HalfCloseableLink(handler) if self._tls is None else self._tls(SecureLink(handler))


def _arrival() -> Callable[..., Handler]:
    """The class that detects HTTP/2; raises SidecarError if the library for it is not installed."""
    try:
        from sidecar.streams.arrival import Arrival
    except ImportError as error:
        raise SidecarError(HTTP2_MISSING) from error
    return Arrival


@frozen(eq=False)
class Door:
    """One entry of `listen`."""

    address: str
    """An endpoint string of Twisted's."""
    entrance: Entrance

    @property
    def listener(self) -> Listener:
        """Counts its connections."""
        return self.entrance.listener


def doors(
    descriptions: Sequence[str], gateway: Gateway, identities: Identities, reactor: Any, poller: Poller
) -> Iterator[Door]:
    """One for each entry of `listen`. Raises SidecarError if a certificate cannot be read."""
    entrances = [entrance(text) for text in descriptions]
    everywhere = not any(each.announced for each in entrances)
    for each in entrances:
        listener = Listener(gateway, secure=each.tls is not None)
        try:
            protocols = HTTP2 if each.http2 else HTTP1
            identity = None if each.tls is None else identities.identity(each.tls, protocols)
            made = Entrance(
                listener,
                reactor,
                poller,
                identity=identity,
                everywhere=everywhere,
                here=each.announced,
                http2=each.http2,
            )
        except SidecarError as error:
            means = " with TLS" if each.tls is not None else ""
            raise SidecarError(f"cannot listen on {each.address}{means}: {error}") from error
        yield Door(each.address, made)
