"""Commands that the configuration names, as lists of arguments. No shell reads them.

Knows nothing of what they do, and runs nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from sidecar.config.kinds import Kind, RefusedError, shown

_EXAMPLE = "systemctl restart matrix-synapse-worker@{name}"


def filled(command: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The arguments with each `{key}` replaced. What is put in is never split, replaced again or read by a shell."""
    places = re.compile("|".join(re.escape("{" + key + "}") for key in values))
    return tuple(places.sub(lambda found: values[found[0][1:-1]], argument) for argument in command)


def names_one_of(command: Iterable[str], keys: Iterable[str]) -> bool:
    """Whether any argument has the place of one of these keys."""
    arguments = tuple(command)
    return any("{" + key + "}" in argument for key in keys for argument in arguments)


def _read(value: Any, _base: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            arguments = shlex.split(value)
        except ValueError:
            raise RefusedError(f"{shown(value)} has a quote that is not closed") from None
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        arguments = value
    else:
        raise RefusedError(f"must be a command, as one text or as a list of texts: write for example `{_EXAMPLE}`")
    if not arguments or not arguments[0]:
        raise RefusedError(f"names no program; write for example `{_EXAMPLE}`")
    if any("\0" in argument for argument in arguments):
        raise RefusedError("must not contain a NUL character")
    return tuple(arguments)


Command = Annotated[
    tuple[str, ...],
    Kind(
        "command",
        _EXAMPLE,
        _read,
        shlex.join,
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    ),
]
