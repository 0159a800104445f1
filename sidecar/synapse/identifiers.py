"""Matrix identifiers as they stand in paths and queries: decoded copies for deciding, one spelling for each.

Works on single segments and query strings; does not know which endpoint has an identifier where. Never raises on
any octets, because what it reads comes from strangers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_DIGITS = "0123456789abcdefABCDEF"
_OCTETS = {f"%{high}{low}".encode(): bytes((int(high + low, 16),)) for high in _DIGITS for low in _DIGITS}


def text_of(octets: bytes) -> str:
    """UTF-8 octets as text; an octet that is none becomes `\\xNN`, so that unequal octets stay unequal."""
    return octets.decode("utf-8", "backslashreplace")


def percent_decoded(octets: bytes) -> bytes:
    """Percent-encoding undone once; a `%` that begins none stays.

    As urllib.parse.unquote_to_bytes does, which takes milliseconds where a stranger sends ten thousand lone `%`.
    """
    return _ESCAPE.sub(_octet, octets) if b"%" in octets else octets


def _octet(escape: re.Match[bytes]) -> bytes:
    return _OCTETS[escape[0]]


def decode_segment(segment: bytes) -> str:
    """A path segment without percent-encoding, decoded once as Synapse does; `+` is no blank here."""
    return text_of(percent_decoded(segment))


def localpart(user_id: str) -> str | None:
    """`alice` of `@alice:example.org`, or of `@alice`; None for what is no user id."""
    if user_id[:1] != "@":
        return None
    return user_id[1:].partition(":")[0] or None


def query_pairs(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Decoded names and values in their order, split at `&` and `;` as Twisted's parse_qs does."""
    for part in query.replace(b";", b"&").split(b"&"):
        name, _, value = part.partition(b"=")
        yield _form_decoded(name), _form_decoded(value)


def query_value(query: bytes, name: bytes) -> bytes | None:
    """The first value of the query parameter `name`, None where there is none."""
    return next((value for found, value in query_pairs(query) if found == name), None)


def _form_decoded(octets: bytes) -> bytes:
    return percent_decoded(octets.replace(b"+", b" "))
