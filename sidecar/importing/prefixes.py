"""What other proxies make of a path, where that is another beginning of it: what goes, and what comes there.

Knows neither proxy.
"""

from __future__ import annotations

import re

Prefixes = tuple[str, str]
"""`strip_prefix` and `add_prefix`; either may be empty."""
NO_PREFIXES: Prefixes = ("", "")

_PLAIN = r"(?:/[A-Za-z0-9._~-]+)+"
_EXPRESSION = re.compile(rf"\^?({_PLAIN})(?:/\(\.[*+]\)|\(/\.[*+]\)|(/))\$?", re.ASCII)
_REPLACEMENT = re.compile(rf"({_PLAIN})?(?:/[$\\]1|[$\\]1|(/))", re.ASCII)


def of_replacement(expression: str, replacement: str) -> Prefixes | None:
    """`^/a/(.*)` and `/b/$1`: `/a` goes and `/b` comes. None for what is more than that."""
    path, other = _EXPRESSION.fullmatch(expression), _REPLACEMENT.fullmatch(replacement)
    if path is None or other is None or _slash(expression) is not _slash(replacement):
        return None
    if (path[2] is None) is not (other[2] is None):
        return None
    return path[1], other[1] or ""


def _slash(text: str) -> bool:
    """Whether the slash stands before what is kept of the path, and not in it."""
    return re.search(r"/(?:\(\.[*+]\)\$?|[$\\]1)$", text) is not None


def of_places(outside: str, inside: str) -> Prefixes | None:
    """All below one place becomes the same below another, both as prefixes of paths; None where it does not."""
    if outside.endswith("/") is not inside.endswith("/"):
        return None
    found = outside.removesuffix("/"), inside.removesuffix("/")
    return found if all(not each or re.fullmatch(_PLAIN, each, re.ASCII) for each in found) else None
