"""A certificate authority for one test, and the certificates that it gives to servers. Knows no server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pem import SIGNS

_DAY = timedelta(days=1)


@define
class Authority:
    """Signs certificates; `root` is what clients have to trust."""

    directory: Path
    _key: ec.EllipticCurvePrivateKey = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()), init=False)
    root: Path = field(init=False)
    _certificate: x509.Certificate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._certificate = self._signed(_name("authority of a test"), self._key.public_key(), None)
        self.root = self.directory / "authority.pem"
        self.root.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def server(self, host: str) -> tuple[Path, Path]:
        """The files with the key and the certificate of a server at this address or name."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alternative: x509.GeneralName = x509.IPAddress(ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        certificate = self._signed(_name(host), key.public_key(), alternative)
        files = self.directory / f"{host}.key.pem", self.directory / f"{host}.pem"
        files[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files[1].write_bytes(certificate.public_bytes(Encoding.PEM))
        return files

    def _signed(
        self, subject: x509.Name, subject_key: ec.EllipticCurvePublicKey, alternative: x509.GeneralName | None
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder(
            issuer_name=_name("authority of a test"),
            subject_name=subject,
            public_key=subject_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - _DAY,
            not_valid_after=now + _DAY,
        ).add_extension(x509.BasicConstraints(ca=alternative is None, path_length=None), critical=True)
        # Python 3.13 looks for these.
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if alternative is None:
            builder = builder.add_extension(SIGNS, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
        if alternative is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
