"""Private keys and certificates for TLS, as PEM files hold them, and what is wrong or odd with them.

For a start, a reload and `matrix-sidecar check` alike. Needs `cryptography`, which comes with the extra `tls`, only
where a file is read. Knows no connections.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import frozen

from sidecar.config.endpoint_strings import KeyFiles, entrance
from sidecar.config.schema import Settings
from sidecar.document import KeyPath
from sidecar.errors import Problem, Severity, SidecarError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

INSTALL = "TLS needs pyOpenSSL and service-identity; install them with `pip install 'matrix-sidecar[tls]'`"
SOON = timedelta(days=14)
"""`check` warns this long before a certificate expires; automatic renewal happens earlier."""
_LARGEST = 1 << 20


@frozen(eq=False)
class Credentials:
    """A private key with its certificate chain, its own first."""

    key: Any
    """A private key of `cryptography`."""
    chain: tuple[Certificate, ...]

    @property
    def identity(self) -> tuple[bytes, ...]:
        """Equal where the certificates are."""
        return tuple(certificate.signature + certificate.tbs_certificate_bytes for certificate in self.chain)

    @property
    def expires(self) -> datetime:
        """When the first certificate of the chain expires, in UTC."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)


def read_credentials(files: KeyFiles) -> Credentials:
    """Read a key and its certificates. Raises SidecarError with one sentence."""
    try:
        from cryptography import x509
    except ImportError as error:
        raise SidecarError(INSTALL) from error
    key = _key(files.key)
    paths = dict.fromkeys(path for path in (files.certificate, files.chain) if path)
    chain: list[x509.Certificate] = []
    for path in paths:
        try:
            found = x509.load_pem_x509_certificates(_octets(path))
        except ValueError as error:
            raise SidecarError(f"{path}: it holds no certificate in PEM, `-----BEGIN CERTIFICATE-----`") from error
        chain += [certificate for certificate in found if certificate not in chain]
    if key.public_key() != chain[0].public_key():
        others = any(key.public_key() == certificate.public_key() for certificate in chain)
        hint = "put its own certificate first" if others else f"give the certificate that belongs to {files.key}"
        raise SidecarError(f"{files.certificate}: the first certificate is not that of the key; {hint}")
    return Credentials(key, tuple(chain))


def _key(path: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(_octets(path), password=None)
    except TypeError as error:
        told = "the key is encrypted, and nobody is there to give the password; store it without"
        raise SidecarError(f"{path}: {told}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SidecarError(f"{path}: it holds no private key in PEM, `-----BEGIN PRIVATE KEY-----`") from error


def _octets(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            octets = file.read(_LARGEST + 1)
    except OSError as error:
        told = (
            "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        )
        raise SidecarError(f"{path} {told}; give a PEM file that the sidecar's user may read") from error
    if len(octets) > _LARGEST:
        raise SidecarError(f"{path}: it is larger than 1 MiB, which no key or certificate is")
    return octets


def certificate_problems(settings: Settings, now: datetime) -> Iterator[Problem]:
    """What is wrong, or soon will be, with the files that `listen` and `admin` name. `now` is in UTC."""
    entries: list[tuple[KeyPath, str]] = [(("listen", number), text) for number, text in enumerate(settings.listen)]
    if settings.admin is not None:
        entries.append((("admin",), settings.admin))
    for key, text in entries:
        files = entrance(text).tls
        if files is None:
            continue
        try:
            credentials = read_credentials(files)
        except SidecarError as error:
            yield settings.source.problem(key, error.sentence)
            continue
        if os.stat(files.key).st_mode & stat.S_IROTH:
            message = f"{files.key}: everybody on this host may read the private key; write `chmod o-r {files.key}`"
            yield settings.source.problem(key, message, Severity.WARNING)
        expires = credentials.expires
        if expires <= now + SOON:
            tense = "has expired" if expires <= now else "expires"
            message = f"{files.certificate}: the certificate {tense} on {expires:%Y-%m-%d at %H:%M} UTC; renew it"
            yield settings.source.problem(key, message, Severity.WARNING)
