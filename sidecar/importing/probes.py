"""One request for each method and spelling of each endpoint: what a foreign configuration is asked about.

Knows the endpoint table, and nothing of proxies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from attrs import frozen

from sidecar.importing.asked import Asked, ProxyEntrance
from sidecar.routing.matcher import alternatives
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.names import MAIN, RESOURCES

OUTSIDE = "203.0.113.77"
"""An address that no configuration lets in anywhere (RFC 5737)."""
PLAIN, LONE_ROOM, MISLEADING, STRAY = "", "a room ID without a domain", "text that a user wrote", "no endpoint"
"""What is special about a request: rooms of version 12 have no domain, free text may be a word of an expression, and
Synapse may have no such endpoint."""

_TOKEN = "Bearer syt_YWxpY2U_abcdefghijklmnopqrst_0abcde"  # noqa: S105
_SERVER = 'X-Matrix origin="other.example.org",destination="example.org",key="ed25519:1",sig="c2ln"'
_VALUES = {
    "room_id": "!abcdefghijklmnopqr:example.org",
    "room_identifier": "!abcdefghijklmnopqr:example.org",
    "room_alias": "%23lobby:example.org",
    "event_id": "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg",
    "parent_id": "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg",
    "event_type": "m.room.message",
    "state_key": "alice",
    "txn_id": "m1732550400000.1",
    "transaction_id": "1732550400000",
    "server_name": "example.org",
    "server": "example.org",
    "media_id": "AQwafuaFswefuhsfAFAgsw",
}
_LONE = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
_FREE = (
    "txn_id",
    "transaction_id",
    "state_key",
    "event_type",
    "tag",
    "account_data_type",
    "field_name",
    "file_name",
    "message_type",
)
_WORDS = ("sync", "typing", "account_data", "media", "tags", "members", "sendToDevice", "%23a!b:example.org")


@frozen(eq=False)
class Probe:
    """A request for an endpoint. `path` is its divided path, with alternatives chosen and parameters left in."""

    row: Endpoint
    method: str
    path: tuple[str, ...]
    target: str
    kind: str = PLAIN

    @property
    def authorization(self) -> str:
        """The value of that field."""
        return _SERVER if self.path[:2] == ("_matrix", "federation") else _TOKEN

    def asked(self, entrance: ProxyEntrance, source: str = OUTSIDE) -> Asked:
        """The request, where it comes in and from an address."""
        return Asked(
            method=self.method,
            target=self.target,
            fields={"host": entrance.host, "authorization": self.authorization},
            source=source,
            port=entrance.port,
            tls=entrance.tls,
        )

    @property
    def shown(self) -> str:
        """For people: the method, and the path with its parameters."""
        if self.kind == STRAY and self.path[-1] in _ANY:
            return f"{self.method} {'/'.join(('', *self.path[:-1], '**'))}{UNKNOWN}"
        return f"{self.method} /{'/'.join(self.path)}"

    @property
    def initial(self) -> bool:
        """It is a sync that begins at the beginning."""
        return self.path[-1] == "sync" and "since=" not in self.target


def probes(rows: Iterable[Endpoint]) -> Iterator[Probe]:
    """The plain ones: each endpoint once for each method and spelling; a sync with and without `since`."""
    for row in rows:
        for path in product(*(alternatives(segment) for segment in row.path)):
            target = _target(path, {})
            for method in sorted(row.methods - {"HEAD"}):
                yield Probe(row, method, path, target)
                if path[-1] == "sync":
                    yield Probe(row, method, path, f"{target}?since=s1_2_3&pos=1")


_STRAYS = (
    *("/", "/nobodys", "/favicon.ico", "/robots.txt", "/health", "/metrics", "/index.html", "/config.json"),
    *("/_matrix", "/_matrix/x", "/_matrix/client/v3/x", "/_matrix/federation/v1/x", "/_matrix/identity/v2/terms"),
    *("/_matrix/client/unstable/org.example/x", "/_synapse", "/_synapse/client/x", "/_synapse/admin/v9/x"),
    *("/_synapse/metrics", "/_synapse/mas/x", "/_synapse/replication/x", "/.well-known/matrix/support"),
    *("/_matrix//client/v3/sync", "/_matrix/client/v3/%73ync", "/_matrix/client/v3/rooms/x/../../sync"),
    *("/.well-known/x", "/_matrix/static/x", "/_matrix/media/x"),
)
_ANY = ("x", "nobodys")
"""Last segments that stand for whatever there may be."""
UNKNOWN = " (no such endpoint)"
_NO_ENDPOINT = Endpoint(
    name="",
    group=MAIN,
    methods=frozenset({"GET"}),
    path=("",),
    resources=RESOURCES,
    worker_resources=RESOURCES,
    needs=frozenset(),
    stream=None,
    hard=False,
    affinity="none",
    key=None,
    since=None,
    until=None,
    replayable=False,
    cost="light",
    reason="",
)


def strays(paths: Iterable[str]) -> Iterator[Probe]:
    """Requests that no endpoint is for: for what a file names besides, what goes on from there, and the usual ones."""
    found: dict[str, None] = dict.fromkeys(_STRAYS)
    for path in paths:
        found |= dict.fromkeys((path, f"{path}x", f"{path.rstrip('/')}/x"))
    for path in found:
        yield Probe(_NO_ENDPOINT, "GET", tuple(path[1:].split("/")), path, STRAY)
    for method, path in (("OPTIONS", "/_matrix/client/v3/x"), ("POST", "/nobodys"), ("PUT", "/_matrix/client/v3/x")):
        yield Probe(_NO_ENDPOINT, method, tuple(path[1:].split("/")), path, STRAY)


def odd_probes(plain: Iterable[Probe]) -> Iterator[Probe]:
    """The same requests with what leads expressions astray, where they have a place for it."""
    for probe in plain:
        names = [segment.strip("{+}") for segment in probe.path if segment[:1] == "{"]
        if "room_id" in names or "room_identifier" in names:
            target = _target(probe.path, {"room_id": _LONE, "room_identifier": _LONE})
            yield Probe(probe.row, probe.method, probe.path, target, LONE_ROOM)
        if not set(names).isdisjoint(_FREE):
            for word in _WORDS:
                target = _target(probe.path, dict.fromkeys(_FREE, word))
                yield Probe(probe.row, probe.method, probe.path, target, MISLEADING)


def _target(path: Sequence[str], values: dict[str, str]) -> str:
    return "/" + "/".join(_filled(segment, values) for segment in path)


def _filled(segment: str, values: dict[str, str]) -> str:
    if segment == "**":
        return "global"
    if not segment.startswith("{"):
        return segment
    name = segment.strip("{+}")
    return values.get(name) or _VALUES.get(name) or ("@alice:example.org" if "user" in name else "abc123")
