"""Synapse's endpoints: one row for each, as data in the package. Knows nothing of pools or workers.

The rows are generated from Synapse's own servlets; what servlets cannot tell comes from an overlay written by
hand. See `docs/endpoint-table.md` for how to add a release.
"""

from __future__ import annotations

from attrs import frozen


@frozen(slots=True, kw_only=True)
class Endpoint:
    """One endpoint of Synapse.

    `path` holds the raw segments after the first slash; each is a literal (`"sync"`), alternatives
    (`"{r0|v3|unstable}"`), or a parameter (`"{room_id}"`) that stands for exactly one non-empty segment; a
    last segment `"**"` stands for any rest, empty or not.
    """

    name: str
    group: str
    methods: frozenset[str]
    path: tuple[str, ...]
    resources: frozenset[str]
    """Listener resources of a main process that serve it."""
    worker_resources: frozenset[str]
    """Listener resources of a generic worker that serve it; empty: main only."""
    needs: frozenset[str]
    """Configuration under which it exists: media_repo, mas, not_mas, sso, email, experimental flags, …"""
    stream: str | None
    """Stream writer that it belongs to."""
    hard: bool
    """Only the writer of `stream` can answer it; elsewhere it fails."""
    affinity: str
    """user, room, origin, source, session, path or none."""
    key: str | None
    """Parameter of `path` that holds the affinity key, where it is one (a room id, a session id)."""
    since: str | None
    until: str | None
    """First release that has it, and first release that has it no more."""
    replayable: bool
    cost: str
    """light, normal or heavy."""
