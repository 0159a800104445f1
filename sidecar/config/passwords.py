"""Passwords of the operator as they are kept: in a file, or as `$scrypt$ln=14,r=8,p=1$SALT$HASH`, passlib's format.

Knows nobody who asks. Working a hash out takes about 40 ms and 16 MiB, so it is not done in the reactor.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from binascii import Error
from hashlib import scrypt, sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_bytes

from attrs import field, frozen

from sidecar.errors import Severity

COST = 14
"""Binary logarithm of scrypt's N (RFC 7914 2), with r = 8 and p = 1: what OWASP asks for at least, at 16 MiB."""
UNKNOWN = "$scrypt$ln=14,r=8,p=1$GVhUi95C2dXv11AvfWmN8g$WwmtKOc29uHppSiLTRmfn1dpu4nup5HY1ss2NE4WKf4"
"""The hash of a password that nobody knows, as an example that is safe to copy."""
_MOST_MEMORY = 256 * 1024 * 1024
_FORM = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})")


_LONGEST = 1024
_PUBLIC = ("everybody on this machine can read the file; forbid it with `chmod o-r`", Severity.WARNING)


@frozen
class PlainPassword:
    """A password as it is."""

    octets: bytes = field(repr=False)
    slow = False

    def matches(self, password: bytes) -> bool:
        """Whether this is the password; takes the same time for each of one length."""
        return compare_digest(sha256(self.octets).digest(), sha256(password).digest())


@frozen
class PasswordHash:
    """A password that cannot be read."""

    cost: int
    blocks: int
    lanes: int
    salt: bytes = field(repr=False)
    octets: bytes = field(repr=False)
    slow = True
    """Not for the reactor."""

    def matches(self, password: bytes) -> bool:
        """Whether this is the password; takes its time, and the same for each."""
        return compare_digest(self.octets, self._work_out(password))

    def _work_out(self, password: bytes) -> bytes:
        return scrypt(
            password,
            salt=self.salt,
            n=1 << self.cost,
            r=self.blocks,
            p=self.lanes,
            maxmem=2 * _MOST_MEMORY,
            dklen=len(self.octets),
        )

    def __str__(self) -> str:
        return f"$scrypt$ln={self.cost},r={self.blocks},p={self.lanes}${_text(self.salt)}${_text(self.octets)}"


Secret = PlainPassword | PasswordHash


def secret_of(written: str | None, file_name: str | None) -> tuple[Secret | None, list[tuple[str, Severity]]]:
    """The password behind `operator.password_hash` and `operator.password_file`, and what is wrong with the file.

    None where neither is given, and where the file cannot be used.
    """
    if file_name is None:
        return None if written is None else parse_hash(written), []
    try:
        with Path(file_name).open("rb") as file:
            public = os.fstat(file.fileno()).st_mode & 0o004
            return _secret(file.read(_LONGEST + 1)), [_PUBLIC] if public else []
    except OSError as error:
        return None, [(f"{file_name} cannot be read: {error.strerror}", Severity.ERROR)]
    except ValueError as error:
        return None, [(str(error), Severity.ERROR)]


def _secret(text: bytes) -> Secret:
    """What the first line says. Raises ValueError with a sentence that does not repeat it."""
    line = text.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise ValueError("its first line is empty; write the password there, or what `matrix-sidecar password` prints")
    if len(line) > _LONGEST:
        raise ValueError(f"its first line has more than {_LONGEST} bytes")
    known = parse_hash(line.decode("latin-1").rstrip())
    if known is None and line.startswith(b"$scrypt$"):
        raise ValueError("its first line begins like a hash, but is none; write what `matrix-sidecar password` prints")
    return known or PlainPassword(line)


def hashed(password: bytes) -> PasswordHash:
    """The hash of a password, with a salt of its own."""
    empty = PasswordHash(COST, 8, 1, token_bytes(16), bytes(32))
    return PasswordHash(COST, 8, 1, empty.salt, empty._work_out(password))


def parse_hash(text: str) -> PasswordHash | None:
    """The hash that `text` writes; None where it is none, or one that costs more than 256 MiB to look at."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    cost, blocks, lanes = int(match[1]), int(match[2]), int(match[3])
    if not (cost and blocks and lanes) or 128 * blocks * lanes << cost > _MOST_MEMORY:
        return None
    try:
        salt, octets = _octets(match[4]), _octets(match[5])
    except Error:
        return None
    return PasswordHash(cost, blocks, lanes, salt, octets)


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii").rstrip("=")


def _octets(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
