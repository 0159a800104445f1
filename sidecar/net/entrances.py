"""What stands between a port and HTTP: a PROXY header where one is expected, then TLS where it is spoken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IProtocolFactory

from sidecar.config.endpoints import entrance
from sidecar.errors import SidecarError
from sidecar.net.gateway import Gateway
from sidecar.net.proxied import Proxied
from sidecar.net.session import Listener
from sidecar.net.tls import Identities, secured


@frozen(eq=False)
class Door:
    """One entry of `listen`."""

    address: str
    """An endpoint string of Twisted's."""
    listener: Listener
    factory: IProtocolFactory
    """Leads to `listener`."""


def doors(descriptions: Sequence[str], gateway: Gateway, identities: Identities, reactor: Any) -> Iterator[Door]:
    """One for each entry of `listen`. Raises SidecarError where its certificate cannot be read."""
    entrances = [entrance(text) for text in descriptions]
    everywhere = not any(each.announced for each in entrances)
    for each in entrances:
        listener = Listener(gateway, secure=each.tls is not None)
        factory: Any = listener
        if each.tls is not None:
            try:
                factory = secured(identities.identity(each.tls), listener, reactor)
            except SidecarError as error:
                raise SidecarError(f"cannot listen on {each.address} with TLS: {error}") from error
        yield Door(each.address, listener, Proxied(listener, factory, everywhere=everywhere, here=each.announced))
