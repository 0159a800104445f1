"""What the credentials of a request say about who sent it, without asking anybody.

Reads shapes, verifies nothing: a forged token costs its sender an odd worker and a 401 from Synapse. Does not know
what the answer is used for. Never raises on any octets, and never returns a token.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from hashlib import blake2b
from itertools import islice

from sidecar.synapse.identifiers import localpart, text_of

BEARER = b"Bearer "
NATIVE = b"syt_"
"""Access tokens of Synapse since 1.34: `syt_<base64 of the localpart>_<20 letters>_<checksum>`."""
MACAROON = b"MDAx"
"""Base64 of `001`, with which the first packet of a macaroon begins: tokens before 1.34, and those of all guests."""

_CAVEAT = b"cid user_id = "
_X_MATRIX = b"x-matrix"
_USUAL_ORIGIN = b'X-Matrix origin="'

# RFC 9110 11.2: auth-param = token BWS "=" BWS ( token / quoted-string ). An unquoted value may hold more than a token
# may, because server names hold colons and brackets. A parameter that is none is stepped over. A name begins where no
# name goes on already: otherwise a long word without `=` would be tried from each of its octets.
_NAME = rb"!#-'*+.^-z|~0-9A-Z-"
_PARAMETER = re.compile(
    rb"(?<![" + _NAME + rb"])([" + _NAME + rb']+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.DOTALL
)
_PARAMETERS = 32
"""How many are looked at. X-Matrix has four (server-server API, 3.3)."""
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def bearer_token(authorization: bytes) -> bytes | None:
    """The token of an Authorization value, in the one spelling that Synapse takes (api/auth/base.py)."""
    if not authorization.startswith(BEARER):
        return None
    token = authorization[len(BEARER) :]
    return token if token and b" " not in token else None


def user_of_token(token: bytes) -> str | None:
    """The localpart that a native token or a macaroon names; None for opaque tokens."""
    if token.startswith(NATIVE):
        return _user_of_native(token)
    if token.startswith(MACAROON):
        return _user_of_macaroon(token)
    return None


def token_digest(token: bytes) -> str:
    """A name for an opaque token from which the token cannot be found; equal in every process."""
    return "token-" + blake2b(token, digest_size=16, person=b"matrix-sidecar").hexdigest()


def origin_of(authorization: bytes) -> str | None:
    """The server name in an X-Matrix value, in lower case, whatever its quoting; None where there is none."""
    if authorization.startswith(_USUAL_ORIGIN) and b"\\" not in authorization:
        origin = authorization[len(_USUAL_ORIGIN) :].partition(b'"')[0]
        return text_of(origin.lower()) or None
    scheme, _, rest = authorization.replace(b"\t", b" ").partition(b" ")
    if scheme.lower() != _X_MATRIX:
        return None
    for match in islice(_PARAMETER.finditer(rest), _PARAMETERS):
        name, quoted, plain = match.groups(b"")
        if name.lower() == b"origin":
            value = plain or _QUOTED_PAIR.sub(rb"\1", quoted)
            return text_of(value.lower()) or None
    return None


def _user_of_native(token: bytes) -> str | None:
    parts = token.split(b"_")
    if len(parts) != 4:
        return None
    try:
        name = b64decode(_padded(parts[1].replace(b" ", b"+")), validate=True)
    except ValueError:
        return None
    return text_of(name) or None


def _user_of_macaroon(token: bytes) -> str | None:
    try:
        packets = urlsafe_b64decode(_padded(token))
    except ValueError:
        return None
    start = packets.find(_CAVEAT)
    if start < 0:
        return None
    user_id = packets[start + len(_CAVEAT) :].partition(b"\n")[0]
    return localpart(text_of(user_id))


def _padded(text: bytes) -> bytes:
    return text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
