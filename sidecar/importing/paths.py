"""Places of other proxies as path patterns of ours: prefixes, and expressions that are hardly more. Knows no proxy."""

from __future__ import annotations

import re

_LITERAL = re.compile(
    r"\^((?:[A-Za-z0-9_/~%@-]|\\[./-]|\.)+?)(/?)(\$|\(/\|\$\)|\(\$\|/\)|\(/\.\*\)\?\$|\.\*\$?|/\.\*\$?|)"
)
_SAFE = re.compile(r"[!-~]*")


def of_prefix(text: str) -> list[str] | None:
    """Patterns for what begins with `text`, divided at slashes; None for all paths, which is no condition."""
    if not text.startswith("/") or not _SAFE.fullmatch(text) or set(text) & set("{}*?#"):
        return None
    if text == "/":
        return None
    return [f"{text}**"] if text.endswith("/") else [text, f"{text}/**"]


def of_exact(text: str) -> list[str] | None:
    """The pattern for this path alone."""
    return [text] if text.startswith("/") and _SAFE.fullmatch(text) and not set(text) & set("{}*?#") else None


def of_expression(text: str) -> list[str] | None:
    """Patterns for an expression that is a literal prefix, with or without an end; None for any other."""
    match = _LITERAL.fullmatch(text)
    if match is None:
        return None
    literal = match[1].replace("\\", "")
    if match[3] == "$":
        return of_exact(literal + match[2])
    return of_prefix(literal + (match[2] if match[3] in ("", ".*", ".*$") else ""))
