"""Matrix identifiers as they stand in paths and queries: decoded copies for deciding, one spelling for each.

Works on single segments and query strings; does not know which endpoint has an identifier where. Never raises on
any octets, because what it reads comes from strangers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_PLUS, _PERCENT = 0x2B, 0x25
"""As numbers: Python looks for one octet of a number at once, but not for octets."""
_NAMED = {0x20: b"[ +]", 0x25: rb"%(?![0-9A-Fa-f]{2})"}
"""How a blank and a `%` can stand in a form without being encoded."""


def text_of(octets: bytes) -> str:
    """UTF-8 octets as text; an octet that is none becomes `\\xNN`, so that unequal octets stay unequal."""
    return octets.decode("utf-8", "backslashreplace")


def percent_decoded(octets: bytes) -> bytes:
    """Percent-encoding undone once; a `%` that begins none stays.

    As urllib.parse.unquote_to_bytes does, but in a fixed number of steps, however many a stranger sends.
    """
    if _PERCENT not in octets:
        return octets
    # What nearly always is there: the colon of an id, and one octet in front.
    usual = octets.replace(b"%3A", b":").replace(b"%40", b"@").replace(b"%21", b"!")
    if _PERCENT not in usual:
        return usual
    parts = _ESCAPE.split(octets)
    decoded = bytes.fromhex(b"".join(parts[1::2]).decode("ascii"))
    # Single bytes between the texts in front of them and the last text.
    return (
        b"".join(chain.from_iterable(zip(parts[::2], map(bytes, zip(decoded, strict=True)), strict=False))) + parts[-1]
    )


def decode_segment(segment: bytes) -> str:
    """A path segment without percent-encoding, decoded once as Synapse does; `+` is no blank here."""
    return text_of(percent_decoded(segment))


def localpart(user_id: str) -> str | None:
    """`alice` of `@alice:example.org`, or of `@alice`; None for what is no user id."""
    if user_id[:1] != "@":
        return None
    return user_id[1:].partition(":")[0] or None


def query_value(query: bytes, name: bytes) -> bytes | None:
    """The decoded value of the first query parameter `name`, however it is spelled; None where there is none.

    Divided at `&` and `;` as Twisted's parse_qs does.
    """
    match = _parameter(name).search(b"&" + query)
    return None if match is None else _form_decoded(match[1] or b"")


def query_pattern(name: bytes, value: bytes | None = None) -> re.Pattern[bytes]:
    """Finds a query parameter, with this value or with any, in a query with `&` in front."""
    if value is None:
        return _parameter(name)
    end = rb"(?:=)?" if value == b"" else rb"=" + _spelled(value, b"&;")
    return re.compile(rb"[&;]" + _spelled(name) + end + rb"(?=[&;]|\Z)", re.DOTALL)


@lru_cache(256)
def _parameter(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"[&;]" + _spelled(name) + rb"(?:=([^&;]*)|(?=[&;]|\Z))", re.DOTALL)


def _spelled(text: bytes, divides: bytes = b"&;=") -> bytes:
    """An expression for all that a form decodes to `text`, but for what `divides` there."""
    return b"".join(_spellings(octet, divides) for octet in text)


def _spellings(octet: int, divides: bytes) -> bytes:
    digits = "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in f"{octet:02x}")
    encoded = b"%" + digits.encode()
    if octet in divides or octet == _PLUS:
        return encoded
    plain = _NAMED.get(octet) or re.escape(bytes([octet]))
    return b"(?:%b|%b)" % (plain, encoded)


def _form_decoded(octets: bytes) -> bytes:
    return percent_decoded(octets.replace(b"+", b" "))
