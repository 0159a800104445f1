"""Whether an answer is Synapse's own word that it has no such endpoint, or that of another server which it passes on.

Both have the same octets: Synapse passes on the status and the errcode of whom it asked (`ProxiedRequestError` in
api/errors.py), and whom it asked may be a Synapse. What tells them apart is whether a worker of that release mounts
the endpoint, for then it has not said this by itself. Pure but for reading the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints
from sidecar.synapse.releases import release_of

_SAID = {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}
"""All of it (UnrecognizedRequestError in api/errors.py)."""
LONGEST = 256
"""Bytes beyond which an answer is not this one."""

_SERVER = re.compile(rb"Synapse/([0-9]{1,4}\.[0-9]{1,4})(?![0-9])[ -~]*")


def is_unrecognized(content: bytes) -> bool:
    """Whether this is the answer, word for word, with which Synapse says that it has no such endpoint."""
    if len(content) > LONGEST:
        return False
    try:
        return bool(json.loads(content) == _SAID)
    except (ValueError, RecursionError):
        return False


def release_in(server: bytes | None) -> str | None:
    """The release in a Server field of Synapse, such as `1.163`; None for any other program."""
    match = None if server is None else _SERVER.fullmatch(server)
    return None if match is None else match[1].decode("ascii")


def mounts(release: str, endpoint: str, method: bytes, path: bytes) -> bool | None:
    """Whether workers of a release have an endpoint by this method and path; None where the release is not known."""
    rows = _worker_rows(release)
    if rows is None:
        return None
    asked = "GET" if method == b"HEAD" else method.decode("ascii", "replace")
    segments = path.split(b"/")[1:]
    return any(asked in row.methods and _matches(row.path, segments) for row in rows.get(endpoint, ()))


@lru_cache(8)
def _worker_rows(release: str) -> Mapping[str, Sequence[Endpoint]] | None:
    table = load_endpoints(release)
    if release_of(table.release) != release_of(release):
        return None
    rows: dict[str, list[Endpoint]] = {}
    for row in table.endpoints:
        if row.worker_resources:
            rows.setdefault(row.name, []).append(row)
    return rows


def _matches(pattern: Sequence[str], segments: Sequence[bytes]) -> bool:
    if pattern[-1:] == ("**",):
        pattern, segments = pattern[:-1], segments[: len(pattern) - 1] if len(segments) >= len(pattern) else []
    return len(pattern) == len(segments) and all(map(_is, pattern, segments))


def _is(pattern: str, segment: bytes) -> bool:
    if not pattern.startswith("{"):
        return pattern.encode() == segment
    if "|" in pattern:
        return segment in pattern[1:-1].encode().split(b"|")
    return bool(segment) or not pattern.endswith("+}")
