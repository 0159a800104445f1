"""All running instances of the sidecar as one: what they say of a worker together, and a drain that all of them do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from attrs import frozen

from sidecar.admin.snapshot import Snapshot, WorkerFacts
from sidecar.routing.parts import PoolPart
from sidecar.top.operator_client import OperatorClient, SilentSidecarError


@frozen
class Instances:
    """The operator's listeners of all instances. Each call raises SilentSidecarError if one does not answer."""

    clients: tuple[OperatorClient, ...]

    def look(self) -> JointFacts:
        """How all are at this moment."""
        return JointFacts({str(client.place): client.look() for client in self.clients})

    def drain(self, name: str) -> None:
        """Drain a worker everywhere, or nowhere. Its long polls go elsewhere."""
        done = []
        for client in self.clients:
            done.append(client)
            try:
                client.drain(name, drain=True, move=True)
            except SilentSidecarError:
                for each in done:
                    # One that does not answer may still have done it.
                    with suppress(SilentSidecarError):
                        each.drain(name, drain=False)
                raise

    @property
    def places(self) -> list[str]:
        """Where they are asked."""
        return [str(client.place) for client in self.clients]

    def undrain(self, name: str, but: Collection[str] = ()) -> dict[str, str]:
        """End the drain of a worker, `but` at some places. Where that did not work, with the reason; raises nothing."""
        failed = {}
        for client in self.clients:
            if str(client.place) in but:
                continue
            try:
                client.drain(name, drain=False)
            except SilentSidecarError as error:
                failed[str(client.place)] = str(error)
        return failed

    def check(self, name: str) -> None:
        """Let every instance ask a worker for its health now."""
        for client in self.clients:
            client.check(name)


@frozen
class JointFacts:
    """What all instances said, by where they were asked."""

    snapshots: Mapping[str, Snapshot]

    def of(self, name: str) -> Iterator[tuple[str, WorkerFacts]]:
        """What each reports for a worker, without those that do not know it."""
        for place, snapshot in self.snapshots.items():
            if name in snapshot.workers:
                yield place, snapshot.workers[name]

    def unknown_at(self, name: str) -> list[str]:
        """Where nobody knows the worker."""
        return [place for place, snapshot in self.snapshots.items() if name not in snapshot.workers]

    def too_old(self) -> list[str]:
        """Instances that do not report what a rollout needs."""
        return [
            place
            for place, snapshot in self.snapshots.items()
            if any(worker.healthy is None for worker in snapshot.workers.values())
        ]

    def read_only(self) -> list[str]:
        """Instances that let nobody drain."""
        return [place for place, snapshot in self.snapshots.items() if snapshot.actions == "none"]

    def running(self, name: str) -> int:
        """Requests that the worker has now."""
        return sum(worker.leased for _, worker in self.of(name))

    def takes(self, name: str) -> bool:
        """Whether every instance gives new requests to the worker."""
        return all(snapshot.takes(name) for snapshot in self.snapshots.values())

    @property
    def parts(self) -> list[PoolPart]:
        """Of all pools, as the first instance has them: all have the same configuration."""
        return next(iter(self.snapshots.values())).parts

    def lives(self, name: str) -> dict[str, int]:
        """By instance: the number that changes when the worker listens again."""
        return {place: worker.life or 0 for place, worker in self.of(name)}

    def down(self) -> list[str]:
        """Workers that any instance finds down."""
        names = dict.fromkeys(name for snapshot in self.snapshots.values() for name in snapshot.workers)
        return [name for name in names if any(not worker.healthy for _, worker in self.of(name))]

    def drained_at(self, name: str) -> list[str]:
        """Where the worker is drained."""
        return [place for place, worker in self.of(name) if worker.state == "draining"]

    def drained(self) -> list[str]:
        """Workers that any instance has drained."""
        names = dict.fromkeys(name for snapshot in self.snapshots.values() for name in snapshot.workers)
        return [name for name in names if any(worker.state == "draining" for _, worker in self.of(name))]
