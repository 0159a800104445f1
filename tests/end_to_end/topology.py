"""The three ways in which the laboratory splits Synapse into processes. Values only: no file, no process.

Each topology also says which workers each pool has when the sidecar is told everything (`explicit`) and when it
derives everything from Synapse's own configuration (`three_lines`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

Configuration = Literal["explicit", "three_lines"]

MAIN = ("main",)
STREAMS = (
    "account_data",
    "device_lists",
    "presence",
    "push_rules",
    "receipts",
    "thread_subscriptions",
    "to_device",
    "typing",
)
FREE_POOLS = (
    "client",
    "federation",
    "federation_send",
    "initial_sync",
    "rooms",
    "sliding_sync",
    "sync",
    "user_directory",
)
"""Pools that any worker with the right listener resource can be in."""
SOFT_STREAMS = ("account_data", "device_lists")
"""Streams whose requests every client worker can answer, by asking the writer. Presence is none of them: another
user's presence can be read nowhere but at its writer (`is_visible` in handlers/presence.py)."""


@frozen
class Process:
    """One Synapse process: what its public listener serves and which streams it writes."""

    name: str
    resources: tuple[str, ...]
    writes: tuple[str, ...] = ()

    @property
    def is_main(self) -> bool:
        return self.name == "main"


@frozen
class Topology:
    """Processes, main first, and the workers of each pool under each kind of sidecar configuration."""

    name: str
    processes: tuple[Process, ...]
    pools: Mapping[Configuration, Mapping[str, tuple[str, ...]]] = field(repr=False)

    @property
    def workers(self) -> tuple[Process, ...]:
        return self.processes[1:]

    @property
    def media_process(self) -> str:
        return next((process.name for process in self.workers if "media" in process.resources), "main")

    @property
    def event_writers(self) -> tuple[str, ...]:
        """In the order of `stream_writers.events`, on which the choice for a room depends."""
        return tuple(process.name for process in self.workers if "events" in process.writes)


_ALL_ON_MAIN = dict.fromkeys((*FREE_POOLS, *STREAMS, "events", "media"), MAIN)

MONOLITH = Topology(
    name="monolith",
    processes=(Process("main", ("client", "federation")),),
    pools={"explicit": _ALL_ON_MAIN, "three_lines": _ALL_ON_MAIN},
)

_GENERIC = ("generic1", "generic2", "generic3")
_GENERIC_POOLS = {**_ALL_ON_MAIN, **dict.fromkeys((*FREE_POOLS, *SOFT_STREAMS, "events"), _GENERIC)}

GENERIC = Topology(
    name="generic",
    processes=(
        Process("main", ("client", "federation")),
        *(Process(name, ("client", "federation")) for name in _GENERIC),
    ),
    pools={
        "explicit": _GENERIC_POOLS,
        # A client listener serves authenticated media as well, unless the media repository is switched off.
        "three_lines": {**_GENERIC_POOLS, "media": (*MAIN, *_GENERIC)},
    },
)

_SPLIT_WRITERS = {
    "account_data": ("accountdata1",),
    "device_lists": ("devicelists1",),
    "media": ("media1",),
    "presence": ("presence1",),
    "push_rules": ("pushrules1",),
    "receipts": ("receipts1",),
    "thread_subscriptions": ("threads1",),
    "to_device": ("todevice1",),
    "typing": ("typing1",),
}
_NO_WRITERS = ("sync1", "sync2", "client1")
_FEDERATION = {"federation": ("fed1",), "federation_send": ("fed1",)}

SPLIT = Topology(
    name="split",
    processes=(
        Process("main", ("client", "federation")),
        Process("sync1", ("client",)),
        Process("sync2", ("client",)),
        Process("client1", ("client",)),
        Process("fed1", ("federation",)),
        Process("media1", ("media",), ("quarantined_media_changes",)),
        Process("event1", ("client",), ("events",)),
        Process("event2", ("client",), ("events",)),
        *(Process(writer, ("client",), (stream,)) for stream, (writer,) in _SPLIT_WRITERS.items() if stream != "media"),
    ),
    pools={
        "explicit": {
            **_SPLIT_WRITERS,
            **_FEDERATION,
            **dict.fromkeys(("sync", "initial_sync", "sliding_sync"), ("sync1", "sync2")),
            **dict.fromkeys(("client", "rooms", "user_directory", "events"), ("client1",)),
        },
        "three_lines": {
            **dict.fromkeys(FREE_POOLS, _NO_WRITERS),
            **_SPLIT_WRITERS,
            **_FEDERATION,
            "events": ("event1", "event2"),
        },
    },
)

TOPOLOGIES: Mapping[str, Topology] = {topology.name: topology for topology in (MONOLITH, GENERIC, SPLIT)}
