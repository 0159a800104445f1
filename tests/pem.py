"""Keys and certificates for tests, made in a moment: a test authority, and what it signs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)
SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    **dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    ),
    encipher_only=False,
    decipher_only=False,
)
"""What Python 3.13 expects of an authority."""


def pem_of(key: Key, password: str = "") -> bytes:
    """A private key in PEM, encrypted if there is a password."""
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


class Authority:
    """A certificate authority that nobody trusts but who is given `certificate`."""

    def __init__(self, name: str = "Test authority", issuer: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.issuer = issuer or self
        builder = self.issuer.building(self.name, self.key, 100.0).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        builder = builder.add_extension(SIGNS, critical=True)
        self.certificate = self.issuer.signed(builder)

    def building(self, name: x509.Name, key: Key, days: float) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        return (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * DAY)
            .not_valid_after(now + days * DAY)
            # Python 3.13 asks for both, as RFC 5280 does.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

    def signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def write(self, directory: Path) -> Path:
        """The certificate that clients have to trust."""
        path = directory / "authority.pem"
        path.write_bytes(self.certificate)
        return path

    def issue(self, *names: str, days: float = 90.0, weak: bool = False) -> tuple[bytes, bytes]:
        """A key and a certificate for these host names and addresses, expiring in so many days."""
        key: Key = rsa.generate_private_key(65537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        return pem_of(key), self.signed(self.building(subject, key, days).add_extension(alternatives, critical=False))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
