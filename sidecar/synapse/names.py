"""Names that Synapse gives: listener resources, streams, its main process. Words only, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping

MAIN = "main"
"""What this project calls the main process. `instance_map` says `main` too, `stream_writers` says `master`."""
MASTER = "master"

RESOURCES = frozenset(
    ("client", "consent", "federation", "health", "keys", "media", "metrics", "openid", "replication", "static")
)
"""Resources of a listener (Synapse config/server.py, KNOWN_RESOURCES)."""

STREAMS: tuple[str, ...] = (
    "events",
    "typing",
    "to_device",
    "account_data",
    "receipts",
    "presence",
    "push_rules",
    "device_lists",
    "thread_subscriptions",
    "quarantined_media_changes",
)
"""Keys of `stream_writers` (Synapse config/workers.py, WriterLocations)."""

BUILT_IN_POOLS: tuple[str, ...] = (
    MAIN,
    "sync",
    "initial_sync",
    "sliding_sync",
    "client",
    "rooms",
    "federation",
    "federation_send",
    "media",
    "user_directory",
    "sso",
    *STREAMS,
)
"""Pools that exist without being named in the file."""

SINGLE_WRITER_STREAMS = frozenset(("typing", "to_device", "account_data", "presence", "push_rules"))
"""Streams for which Synapse accepts exactly one writer."""

WRITER_NEEDS: Mapping[str, str] = {
    "typing": "client",
    "to_device": "client",
    "receipts": "client",
    "push_rules": "client",
    "thread_subscriptions": "client",
    "quarantined_media_changes": "media",
}
"""Streams whose requests fail with status 500 in every process but a writer, and the resource that brings them."""
