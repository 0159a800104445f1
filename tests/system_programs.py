"""Where programs of the system are looked for: those of administrators are on nobody else's path."""

from __future__ import annotations

import os
import shutil

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def find(name: str) -> str | None:
    """The path of a program; None where it is not installed."""
    return shutil.which(name, path=_PATH)
