"""Synapse's version numbers. Knows nothing else."""

from __future__ import annotations

import re

Release = tuple[int, int]

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4})(?:rc(\d{1,4}))?)?(?:\+[0-9A-Za-z.]+)?")


def release_of(version: str) -> Release:
    """The minor release of `1.163.2`, `1.163.0rc1` or `1.163`: endpoints come and go with minor releases only.

    Raises ValueError, with a sentence, for anything else.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no Synapse version; write it like 1.163.2, 1.163.0rc1 or 1.163")
    return int(match[1]), int(match[2])


def text_of(release: Release) -> str:
    """`1.163`."""
    return f"{release[0]}.{release[1]}"
