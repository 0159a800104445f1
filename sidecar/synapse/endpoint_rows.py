"""Synapse's endpoints: one row for each, as data in the package. Knows nothing of pools or workers.

The rows are generated from Synapse's own servlets; what servlets cannot tell comes from an overlay written by
hand. See `docs/endpoint-table.md` for how to add a release.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from attrs import frozen

from sidecar.synapse.patterns import paths_of
from sidecar.synapse.releases import Release, release_of, text_of


@frozen(slots=True, kw_only=True)
class Endpoint:
    """One endpoint of Synapse under one shape of path.

    `path` holds the raw segments after the first slash, as they stand between slashes and undecoded, because Synapse
    matches the raw path. A segment is one of:

    - a literal, `"sync"`; the empty literal `""` stands for a slash at the end;
    - alternatives, each a literal of one segment, `"{r0|v3|unstable}"`;
    - a parameter that stands for exactly one segment, empty or not, `"{room_id}"` (Synapse: `[^/]*`);
    - a parameter that stands for exactly one segment that is not empty, `"{delay_id+}"` (Synapse: `[^/]+`);
    - `"**"`, only as the last one, which stands for one or more segments of any kind: `("health", "**")` is
      `/health/` and `/health/a/b`, not `/health`.

    Paths are matched whole and case-sensitively. An endpoint that Synapse registers under several shapes (`api/v1`
    beside `r0`, an optional part at the end) is several rows with the same name. Where two rows match one path,
    literals and alternatives win over parameters, parameters over `**`; the leftmost difference counts.
    """

    name: str
    group: str
    """Built-in pool; `main` where only the main process may answer, whatever `worker_resources` says."""
    methods: frozenset[str]
    """HEAD wherever GET is. Never OPTIONS, which every process answers alike on any path."""
    path: tuple[str, ...]
    resources: frozenset[str]
    """Listener resources of a main process that serve it."""
    worker_resources: frozenset[str]
    """Listener resources of a generic worker that serve it; empty: main only."""
    needs: frozenset[str]
    """Configuration under which it exists, all of them: `media_repo` (of the very process that answers), `mas`,
    `not_mas`, `oidc`, `email`, …, and keys below `experimental_features`; in `cas|oidc|saml2` any one will do.
    Without it every process answers 404."""
    stream: str | None
    """Stream writer that it belongs to."""
    hard: bool
    """Only a writer of `stream` can answer it; elsewhere, main included, it fails."""
    affinity: str
    """user, room, origin, source, session, path or none."""
    key: str | None
    """Parameter of `path` that holds the affinity key (a room id, a media id), without braces and `+`. None with
    `session`: all such requests of the group have one key in common, so that one process gets them all."""
    since: str | None
    until: str | None
    """First release that has it, and first release that has it no more; None: older or newer than all known."""
    replayable: bool
    """May be sent again, to another worker too, after its bytes may have been acted on."""
    cost: str
    """light, normal or heavy."""
    reason: str
    """One sentence: why this group and affinity; empty where nothing special was decided."""


@frozen(kw_only=True)
class EndpointTable:
    """The rows in force for one release of Synapse."""

    endpoints: tuple[Endpoint, ...]
    release: str
    """Whose rows these are, such as `1.163`."""
    asked: str | None
    """The version that was asked for; None: the newest known."""
    oldest: str
    newest: str

    @property
    def gap(self) -> str:
        """A sentence where no release known here is the one asked for, for the caller to warn with; else empty."""
        if self.asked is None or release_of(self.asked) == release_of(self.release):
            return ""
        where = "after" if release_of(self.asked) > release_of(self.release) else "before"
        return (
            f"Synapse {self.asked} came {where} the endpoints known here ({self.oldest} to {self.newest}); "
            f"those of {self.release} are used, and a path that it does not have goes to main."
        )


def load_endpoints(version: str | None = None) -> EndpointTable:
    """The endpoints of Synapse `version` (`1.163.2`, `1.163.0rc1`); None: of the newest known.

    A version between two that are known has the rows of the older one, a version outside those of the nearest (see
    `EndpointTable.gap`). Raises ValueError, with a sentence, if `version` is no version.
    """
    document = json.loads(resources.files("sidecar.synapse").joinpath("data/endpoints.json").read_bytes())
    known = document["releases"]
    if version is None:
        release = release_of(known[-1])
    else:
        asked = release_of(version)
        release = max((each for each in map(release_of, known) if each <= asked), default=release_of(known[0]))
    return EndpointTable(
        endpoints=tuple(each for row in document["endpoints"] if _in_force(row, release) for each in endpoints_of(row)),
        release=text_of(release),
        asked=version,
        oldest=known[0],
        newest=known[-1],
    )


def _in_force(row: Mapping[str, Any], release: Release) -> bool:
    since, until = row.get("since"), row.get("until")
    return (since is None or release_of(since) <= release) and (until is None or release < release_of(until))


def endpoints_of(row: Mapping[str, Any]) -> Iterator[Endpoint]:
    """The endpoints that one row of the file stands for: one for each shape of its path."""
    methods = frozenset(row["methods"].split())
    key = row.get("key")
    for path in paths_of(row["path"]):
        yield Endpoint(
            name=row["name"],
            group=row["group"],
            methods=methods | {"HEAD"} if "GET" in methods else methods,
            path=path,
            resources=frozenset(row.get("main", "").split()),
            worker_resources=frozenset(row.get("worker", "").split()),
            needs=frozenset(row.get("needs", "").split()),
            stream=row.get("stream"),
            hard=row.get("hard", False),
            affinity=row["affinity"],
            key=key if f"{{{key}}}" in path or f"{{{key}+}}" in path else None,
            since=row.get("since"),
            until=row.get("until"),
            replayable=row.get("replayable", False),
            cost=row["cost"],
            reason=row.get("reason", ""),
        )
