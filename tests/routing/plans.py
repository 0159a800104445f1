"""Plans and requests that the routing tests share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sidecar.config.schema import Settings, Worker
from sidecar.routing.compile import compile_plan
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.routing.overrides import Override
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts, PlannedWorker, planned_workers
from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints

TABLE = load_endpoints("1.163.2").endpoints
ALICE = b"Bearer syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"
BOB = b"Bearer syt_Ym9i_abcdefghijklmnopqrst_0abcde"
PEER = "192.0.2.7"


class Headers:
    """Field lines as a request head gives them."""

    def __init__(self, lines: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.lines = [(name.lower(), value) for name, value in lines]

    def get(self, name: bytes) -> bytes | None:
        return next((value for found, value in self.lines if found == name), None)

    def get_all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.lines if found == name]


NOTHING = Headers()


def authorized(line: bytes = ALICE) -> Headers:
    return Headers([(b"authorization", line)])


def endpoint(path: str, methods: str = "GET", **changes: object) -> Endpoint:
    """A row of the table; a generic worker with `client` serves it unless `changes` say otherwise."""
    values: dict[str, object] = {
        "name": path.rpartition("/")[2] or path,
        "group": "client",
        "methods": frozenset(methods.split()),
        "path": tuple(path.removeprefix("/").split("/")),
        "resources": frozenset({"client"}),
        "worker_resources": frozenset({"client"}),
        "needs": frozenset(),
        "stream": None,
        "hard": False,
        "affinity": "none",
        "key": None,
        "since": None,
        "until": None,
        "replayable": False,
        "cost": "light",
        "reason": "",
    }
    return Endpoint(**{**values, **changes})  # type: ignore[arg-type]


def client(writes: str = "", weight: float = 1.0, serves: str = "client") -> Worker:
    return Worker(
        endpoint="unix:/run/any.sock", serves=tuple(serves.split()), writes=tuple(writes.split()) or None, weight=weight
    )


MAIN = Worker(endpoint="unix:/run/main.sock")
SPLIT: Mapping[str, Worker] = {
    "main": MAIN,
    "sync1": client(),
    "sync2": client(),
    "sync3": client(),
    "client1": client(),
    "fed1": client(serves="federation"),
    "fed2": client(serves="federation"),
    "media1": client(serves="media"),
    "typing1": client("typing"),
    "todevice1": client("to_device"),
    "receipts1": client("receipts"),
    "receipts2": client("receipts"),
    "account1": client("account_data presence push_rules"),
    "event1": client("events"),
    "event2": client("events"),
    "event3": client("events"),
}
"""A topology in which nearly everything has a process of its own."""


def plan_of(
    workers: Mapping[str, Worker] = SPLIT,
    *,
    rows: Iterable[Endpoint] = TABLE,
    facts: Facts | None = None,
    planned: Iterable[PlannedWorker] | None = None,
    overrides: Sequence[Override] = (),
    **settings: object,
) -> Plan:
    """The plan of these workers; `settings` are sections of the configuration."""
    everything = Settings(workers=workers, **settings)  # type: ignore[arg-type]
    processes = planned_workers(everything) if planned is None else tuple(planned)
    return compile_plan(everything, processes, rows, facts or Facts(), overrides)


def asked(
    plan: Plan, method: str, target: str | bytes, fields: Headers = NOTHING, peer: str = PEER, scheme: str = "http"
) -> Decision:
    octets = target.encode() if isinstance(target, str) else target
    return decide(method.encode(), octets, fields, peer, plan, scheme)
