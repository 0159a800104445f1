"""Kinds of value for what the sidecar writes itself: header values, where a redirect leads, prefixes of paths.

Like `sidecar.config.kinds`: knows no key, no file and no line.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from sidecar.config.kinds import Kind, RefusedError, read_line, shown

_URL = re.compile(r"(?:[!#-;=?-Z\[\]_a-z~]|\{target\}|\{host\})+", re.ASCII)
"""The characters of RFC 3986, and what stands for parts of the request."""
_LEADS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]+|/[^/]")
"""What cannot become another host, whatever path comes behind it."""
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+", re.ASCII)
"""Segments of RFC 3986, none empty."""


def _read_field_value(value: Any, base: str) -> str:
    text = read_line(value, base)
    if not text.isascii():
        raise RefusedError(f"{shown(text)} cannot stand in a header, which holds ASCII only; write it in ASCII")
    return text


def _read_location(value: Any, base: str) -> str:
    """Where a redirect leads: to a host, or to a path of this one, and never where only the request says."""
    text = read_line(value, base)
    if not _URL.fullmatch(text):
        raise RefusedError(f"{shown(text)} is no URL; write `{{target}}` and `{{host}}`, and all else percent-encoded")
    before, placeholder, _ = text.partition("{target}")
    if placeholder and not _LEADS.match(before):
        # A target may begin with two slashes, after which a browser looks for a host.
        raise RefusedError(
            f"{shown(text)} lets the client choose the host, by a path such as `//evil.example`; put a host in front: "
            "`https://{host}{target}`"
        )
    return text


def _read_prefix(value: Any, base: str) -> str:
    text = read_line(value, base)
    if not _PATH.fullmatch(text):
        raise RefusedError(f"{shown(text)} is no prefix of paths; write it without a slash at the end: `/livekit/jwt`")
    if not {".", ".."}.isdisjoint(text.split("/")):
        raise RefusedError(f"{shown(text)} has a segment of dots, with which it would be another path")
    return text


FieldValue = Annotated[str, Kind("field value", "text/plain", _read_field_value)]
Location = Annotated[str, Kind("URL", "https://{host}{target}", _read_location)]
Prefix = Annotated[str, Kind("prefix", "/livekit/jwt", _read_prefix, json={"type": "string", "pattern": "^/"})]
