"""Which event persister owns a room.

The function is Synapse's own (config/_base.py, RoutableShardedWorkerHandlingConfig) and must stay equal to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def event_persister(room_id: str, persisters: Sequence[str]) -> str:
    """The persister of `room_id` among `persisters`, which stand in the order of `stream_writers.events`."""
    digest = sha256(room_id.encode("utf-8", "surrogatepass")).digest()
    return persisters[int.from_bytes(digest, "little") % len(persisters)]
