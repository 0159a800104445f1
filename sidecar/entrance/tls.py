"""TLS for clients: versions and ciphers, and certificates that can change while connections are open.

Needs pyOpenSSL, which comes with the extra `tls`; it is imported where the first listener speaks TLS. Knows no files'
layout and no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from zope.interface import implementer

from sidecar.config.endpoint_strings import KeyFiles
from sidecar.entrance.certificates import INSTALL, Credentials, read_credentials
from sidecar.errors import SidecarError
from sidecar.observe.telemetry import logger

if TYPE_CHECKING:
    from OpenSSL import SSL

HTTP1 = (b"http/1.1",)
HTTP2 = (b"h2", *HTTP1)
"""Protocols inside TLS, the preferred one first (RFC 7301)."""
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing else. No key below 112 bits."""

_log = logger("sidecar")


@frozen(eq=False)
class Secrets:
    """A key with its certificates, made ready for OpenSSL."""

    credentials: Credentials
    context: SSL.Context


@frozen
class Face:
    """Equal for TLS listeners with the same files and protocols."""

    files: KeyFiles
    protocols: tuple[bytes, ...] = HTTP1


@implementer(IOpenSSLServerConnectionCreator)
@define(eq=False)
class Identity:
    """The certificate for new TLS connections; open ones keep the one before."""

    secrets: Secrets

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        from OpenSSL import SSL

        return SSL.Connection(self.secrets.context, None)


@define(eq=False)
class Identities:
    """All identities, by their files."""

    known: dict[Face, Identity] = field(factory=dict)

    def identity(self, files: KeyFiles, protocols: tuple[bytes, ...] = HTTP1) -> Identity:
        """Read `files` unless they are known. Raises SidecarError with one sentence."""
        face = Face(files, protocols)
        if face not in self.known:
            self.known[face] = Identity(read_secrets(face))
        return self.known[face]

    def read_again(self) -> Mapping[Face, Secrets]:
        """Read all files again; the identities that have changed. May run in a thread. Raises SidecarError."""
        found = {face: read_credentials(face.files) for face in self.known}
        return {
            face: Secrets(credentials, context_of(credentials, face.protocols))
            for face, credentials in found.items()
            if credentials.identity != self.known[face].secrets.credentials.identity
        }

    def use(self, fresh: Mapping[Face, Secrets]) -> list[str]:
        """Use these for new connections; one sentence for each that has changed."""
        for face, secrets in fresh.items():
            self.known[face].secrets = secrets
        told = {
            face.files: f"{face.files.certificate}: another certificate is in use, until "
            f"{secrets.credentials.expires:%Y-%m-%d}"
            for face, secrets in fresh.items()
        }
        return list(told.values())


def read_secrets(face: Face) -> Secrets:
    """Read and prepare a key with its certificates. Raises SidecarError."""
    credentials = read_credentials(face.files)
    return Secrets(credentials, context_of(credentials, face.protocols))


def context_of(credentials: Credentials, protocols: tuple[bytes, ...] = HTTP1) -> SSL.Context:
    """TLS 1.2 and 1.3, forward secrecy, no compression, no renegotiation, no state kept of ended connections."""
    try:
        from OpenSSL import SSL
    except ImportError as error:
        raise SidecarError(INSTALL) from error

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    try:
        context.set_alpn_select_callback(partial(_choose, protocols))
    except MemoryError:
        # C cannot call Python if written memory cannot be executed (systemd's MemoryDenyWriteExecute=). Then the client
        # gets no answer about protocols, which means HTTP/1.1, too.
        if protocols != HTTP1:
            _log.warn(
                "clients inside TLS get HTTP/1.1 only: HTTP/2 has to be agreed on in the handshake (ALPN), and "
                "MemoryDenyWriteExecute= of the unit forbids that; write MemoryDenyWriteExecute=no with "
                "`systemctl edit matrix-sidecar`"
            )
    own, *others = credentials.chain
    try:
        context.use_certificate(own)
        for certificate in others:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(credentials.key)
        context.check_privatekey()
    except SSL.Error as error:
        raise SidecarError(f"OpenSSL does not take the certificate or its key: {_reason(error)}") from error
    return context


def _reason(error: Exception) -> str:
    queue = error.args[0] if error.args else ()
    return str(queue[-1][-1]) if queue else "it does not say why"


def _choose(protocols: tuple[bytes, ...], _connection: Any, offered: Sequence[bytes]) -> bytes:
    """The preferred one of the offered protocols; without a common one, the client gets an alert (RFC 7301 3.2)."""
    from OpenSSL import SSL

    for protocol in protocols:
        if protocol in offered:
            return protocol
    raise SSL.Error([("", "", "no application protocol in common")])


def tls_protocols(identity: Identity, reactor: Any) -> Callable[[IProtocol], IProtocol]:
    """Makes TLS around each new protocol. Raises SidecarError."""
    try:
        from twisted.protocols.tls import TLSMemoryBIOFactory
    except ImportError as error:
        raise SidecarError(INSTALL) from error
    factory = TLSMemoryBIOFactory(identity, False, Factory(), reactor)

    def around(inner: IProtocol) -> IProtocol:
        protocol: IProtocol = factory.protocol(factory, inner)
        return protocol

    return around


def secured(identity: Identity, factory: IProtocolFactory, reactor: Any) -> IProtocolFactory:
    """A factory for connections with TLS around what `factory` makes. Raises SidecarError."""
    try:
        from twisted.protocols.tls import TLSMemoryBIOFactory
    except ImportError as error:
        raise SidecarError(INSTALL) from error
    return TLSMemoryBIOFactory(identity, False, _Inner(factory), reactor)


class _Inner(Factory):
    """Passes on only what TLS needs of a factory; otherwise Twisted would use the factory's own protocols."""

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.doStart = factory.doStart  # type: ignore[method-assign]
        self.doStop = factory.doStop  # type: ignore[method-assign]

    def buildProtocol(self, addr: Any) -> Any:
        return self._factory.buildProtocol(addr)
