"""The path that nginx compares with its locations: decoded once, slashes merged, dot segments resolved.

After ngx_http_parse_complex_uri. Text stands for octets.
"""

from __future__ import annotations

import re

_ENCODED = re.compile(r"%(..|.?$)", re.DOTALL)
_HEX = frozenset("0123456789abcdefABCDEF")


def normalized(path: str, *, merge_slashes: bool = True) -> str | None:
    """The path as nginx has it in `$uri`; None where it answers 400."""
    plain = path.partition("#")[0]
    if any(len(pair) != 2 or not _HEX.issuperset(pair) or pair == "00" for pair in _ENCODED.findall(plain)):
        return None
    # A slash or a dot that was encoded divides and resolves like any other.
    decoded = _ENCODED.sub(lambda found: chr(int(found[1], 16)), plain)
    if not decoded.startswith("/"):
        return None
    kept: list[str] = []
    segments = decoded[1:].split("/")
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment not in ("", ".") or (segment == "" and not merge_slashes):
            kept.append(segment)
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)
