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
    """`log:`. What is written, and how much of it."""

    level: kinds.Level = field(default="info", metadata=kinds.doc("Least important level that is written."))
    access: kinds.Flag = field(
        default=False, metadata=kinds.doc("The access log: one line for each exchange, however it ends.")
    )
    format: Format = field(
        default="text", metadata=kinds.doc("Lines of the access log: `text` for people, `json` for machines.")
    )
    file: kinds.Path | None = field(
        default=None,
        metadata=kinds.doc(
            "File to which the access log is appended; a reload opens it anew. Absent: standard output, which systemd "
            "gives to its journal."
        ),
    )
    sample: Part = field(
        default=1.0,
        metadata=kinds.doc(
            "Which part of the exchanges that went well has a line: `0.1` is every tenth, of each endpoint. Those that "
            "failed through no fault of the client have one in any case."
        ),
    )
    endpoints: Mapping[kinds.Glob, Told] = field(
        factory=dict,
        metadata=kinds.doc(
            "Names of endpoints or globs, the first that matches counts: `all` of their exchanges have a line, a part "
            "as `sample` says (`sampled`), only `faults`, or `none`. Absent: `sampled`."
        ),
    )
    secret_file: kinds.Path | None = field(
        default=None,
        metadata=kinds.doc(
            "File with the secret by which affinity keys are hashed in the access log, so that their hashes are the "
            "same in all processes and after a restart. Absent: each process makes one of its own."
        ),
    )
    refusals: kinds.CountOrZero = field(
        default=10,
        metadata=kinds.doc(
            "Lines a minute of the ordinary log that say which rule a request broke (answers 400 and the like); "
            "how many were left out stands in the next. 0: none."
        ),
    )
    ordinary: Format = field(
        default="text",
        metadata=kinds.doc(
            "Lines of the ordinary log: `text` for people, `json` for machines. A change needs a restart."
        ),
    )
    waiting: kinds.Size = field(
        default=4 * MIB,
        metadata=kinds.doc(
            "Bytes of the access log that may wait to be written; lines beyond are dropped and counted, because a "
            "slow reader of the log must not hold up requests."
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
