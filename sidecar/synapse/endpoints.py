"""Synapse's endpoints: one row for each, as data in the package. Knows nothing of pools or workers.

The rows are generated from Synapse's own servlets; what servlets cannot tell comes from an overlay written by
hand. See `docs/endpoint-table.md` for how to add a release.
"""

from __future__ import annotations

from attrs import frozen


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
    beside `r0`, an optional part at the end) is several rows with the same name. Where two rows match one path, literals
    and alternatives win over parameters, parameters over `**`, the leftmost difference counts.
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
    `not_mas`, `oidc`, `cas`, `email`, …, and keys below `experimental_features`. Without it every process answers 404."""
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
