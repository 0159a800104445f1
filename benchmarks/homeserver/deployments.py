"""The Synapses that are measured, as values: which processes there are, and which an administrator means for what."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen
from end_to_end.topology import Process, Topology

_CLIENT = ("client", "metrics")
_MAIN = Process("main", ("client", "federation", "metrics"))


@frozen
class Deployment:
    """A topology, and the pools that its names suggest. `writers`: who has to get the requests of a stream."""

    topology: Topology
    pools: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def equals(self) -> tuple[str, ...]:
        """Workers that serve clients and write nothing, which nobody but their names tells apart."""
        return tuple(
            process.name for process in self.topology.workers if "client" in process.resources and not process.writes
        )

    @property
    def writers(self) -> Mapping[str, tuple[str, ...]]:
        """The workers that write each stream, but for events."""
        found: dict[str, tuple[str, ...]] = {}
        for process in self.topology.workers:
            for stream in process.writes:
                found[stream] = (*found.get(stream, ()), process.name)
        found.pop("events", None)
        return found


def _worker(name: str, *writes: str) -> Process:
    return Process(name, _CLIENT, writes)


_SHARED = (
    *(_worker(name) for name in ("sync1", "sync2", "client1", "client2")),
    Process("federation1", ("federation", "metrics")),
)
_NAMED = {"sync": ("sync1", "sync2"), "client": ("client1", "client2"), "federation": ("federation1",)}

SIX = Deployment(Topology("six", (_MAIN, *_SHARED, _worker("event1", "events")), {}), _NAMED)
TWELVE = Deployment(
    Topology(
        "twelve",
        (
            _MAIN,
            *_SHARED,
            Process("media1", ("media", "metrics")),
            *(_worker(f"{name.replace('_', '')}1", name) for name in ("typing", "to_device", "receipts")),
            _worker("accountdata1", "account_data"),
            *(_worker(name, "events") for name in ("event1", "event2")),
        ),
        {},
    ),
    {**_NAMED, "media": ("media1",)},
)
