"""How the last reload ended, in a file for whoever asked for it: `matrix-sidecar reload`, which systemd runs.

A signal has no answer, and an operator's listener need not be there; a runtime directory of systemd is. Knows nothing
of what a reload is. Needs no Twisted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

NAME = "reload.json"


@frozen
class Ended:
    """A reload that has ended."""

    accepted: bool
    sentences: Sequence[str]
    began: int
    """When it began to read: nanoseconds of CLOCK_MONOTONIC, which all processes share."""


def directory_of(environment: Mapping[str, str]) -> str:
    """The directory that systemd made for the unit (systemd.exec(5), RuntimeDirectory=); empty: there is none."""
    return environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def keep(directory: str, accepted: bool, sentences: Sequence[str], began: int) -> None:
    """Write the file as a whole or not at all. Raises OSError."""
    path = os.path.join(directory, NAME)
    told = {"accepted": accepted, "sentences": list(sentences), "began": began}
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(told, file)
    os.replace(f"{path}.new", path)


def kept(directory: str) -> Ended | None:
    """What the file says; None where there is none, or none that this program has written."""
    try:
        with open(os.path.join(directory, NAME), encoding="utf-8") as file:
            told: Any = json.load(file)
        return Ended(bool(told["accepted"]), [str(each) for each in told["sentences"]], int(told["began"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
