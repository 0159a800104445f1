"""`log:`, as frozen values with their defaults, and what of it refers to something outside of the file.

A part of the schema of its own. Opens no file but the one with the secret, when it is asked to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import field, frozen

from sidecar.config import kinds
from sidecar.config.amounts import MIB
from sidecar.document import KeyPath
from sidecar.errors import nearest_name


def _read_part(value: Any, _base: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise kinds.RefusedError("must be a number from 0 to 1: write for example `0.1`")
    if not 0 <= value <= 1:
        raise kinds.RefusedError(f"must be from 0 to 1, not {kinds.shown(value)}; `0.1` is every tenth")
    return float(value)


_PART = kinds.Kind("from 0 to 1", "0.1", _read_part, "{:g}".format, {"type": "number", "minimum": 0, "maximum": 1})
Part = Annotated[float, _PART]
Format = Annotated[Literal["text", "json"], kinds.choice("format", ("text", "json"))]
Told = Annotated[
    Literal["all", "sampled", "faults", "none"], kinds.choice("lines", ("faults", "sampled", "all", "none"))
]

_LEAST_SECRET = 16
_LONGEST_SECRET = 4096


@frozen(kw_only=True)
class Log:
    """`log:`. What is logged, and how much of it."""

    level: kinds.Level = field(default="info", metadata=kinds.doc("Least important level that is logged."))
    access: kinds.Flag = field(
        default=False,
        metadata=kinds.doc("Whether the access log is on. It has one line for each request, however the request ends."),
    )
    format: Format = field(
        default="text", metadata=kinds.doc("Format of the access log: `text` for people, `json` for machines.")
    )
    file: kinds.Path | None = field(
        default=None,
        metadata=kinds.doc(
            "File for the access log. Lines are appended, and a reload opens the file again. Absent: standard "
            "output, which systemd sends to the journal."
        ),
    )
    sample: Part = field(
        default=1.0,
        metadata=kinds.doc(
            "Part of the successful requests that is logged: `0.1` is one in ten, for each endpoint. Requests "
            "that failed through no fault of the client are always logged."
        ),
    )
    endpoints: Mapping[kinds.Glob, Told] = field(
        factory=dict,
        metadata=kinds.doc(
            "Which requests of an endpoint are logged. Keys are names of endpoints or globs, and the first "
            "match counts. Values are `all`, `sampled` (the part that `sample` says), `faults` (only failures), "
            "or `none`. Absent: `sampled`."
        ),
    )
    secret_file: kinds.Path | None = field(
        default=None,
        metadata=kinds.doc(
            "File with the secret for the hashes of affinity keys in the access log. With it, the hashes are "
            "the same in all processes and after a restart. Absent: each process makes its own secret."
        ),
    )
    refusals: kinds.CountOrZero = field(
        default=10,
        metadata=kinds.doc(
            "Lines per minute in the ordinary log that say which rule a refused request broke (answers such as "
            "400). The next line says how many were left out. 0: none."
        ),
    )
    ordinary: Format = field(
        default="text",
        metadata=kinds.doc(
            "Format of the ordinary log: `text` for people, `json` for machines. To change it, restart the sidecar."
        ),
    )
    waiting: kinds.Size = field(
        default=4 * MIB,
        metadata=kinds.doc(
            "Bytes of the access log that may wait to be written. Further lines are dropped and counted, "
            "because a slow reader of the log must not delay requests."
        ),
    )


def read_secret(log: Log) -> bytes | None:
    """What `secret_file` holds, without blanks around it; None where there is none.

    Raises ValueError with a sentence that does not repeat it.
    """
    if log.secret_file is None:
        return None
    try:
        with Path(log.secret_file).open("rb") as file:
            secret = file.read(_LONGEST_SECRET + 1).strip()
    except OSError as error:
        raise ValueError(f"{log.secret_file} cannot be read: {error.strerror}") from error
    if not _LEAST_SECRET <= len(secret) <= _LONGEST_SECRET:
        raise ValueError(
            f"{log.secret_file} must hold from {_LEAST_SECRET} to {_LONGEST_SECRET} bytes; write for example what "
            "`openssl rand -base64 32` prints"
        )
    return secret


def unknown_endpoints(log: Log, names: Set[str]) -> Iterator[tuple[KeyPath, str]]:
    """Entries of `endpoints` that match no endpoint of the table, with what to write instead."""
    for pattern in log.endpoints:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = nearest_name(pattern, sorted(names))
            hint = f"did you mean `{near}`?" if near else "`matrix-sidecar routes` lists the names"
            yield ("log", "endpoints", pattern), f"no endpoint has the name `{pattern}`; {hint}"
