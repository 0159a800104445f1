"""Perl's regular expressions, as nginx and HAProxy use them, in Python's. Knows nothing of either."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

_POSIX = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:upper:]": "A-Z",
    "[:word:]": r"\w",
    "[:xdigit:]": "0-9A-Fa-f",
}
_TOKENS = re.compile(r"\\.|\(\?<(?![=!])|\(\?'(\w+)'|\[:\w+:\]", re.DOTALL)
_ESCAPES = {r"\h": r"[ \t]", r"\z": r"\Z", r"\Z": r"(?=\n?\Z)", r"\/": "/", r"\R": r"(?:\r\n|\n|\r)"}


@lru_cache(4096)
def compiled(text: str, *, ignore_case: bool = False) -> re.Pattern[str] | None:
    """The same expression for text that stands for octets; None where Python has nothing like it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(_TOKENS.sub(_translated, text), re.ASCII | (re.IGNORECASE if ignore_case else 0))
    except (re.error, OverflowError, RecursionError):
        return None


def _translated(found: re.Match[str]) -> str:
    text = found[0]
    if text.startswith("\\"):
        return _ESCAPES.get(text, text)
    if text.startswith("["):
        return _POSIX.get(text, text)
    return "(?P<" if text == "(?<" else f"(?P<{found[1]}>"
