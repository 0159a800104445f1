"""Who should answer: a table from endpoint to pool, written by hand from Synapse's documentation and behaviour.

It is deliberately not derived from the sidecar's own table, which it checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from urllib.parse import unquote

from attrs import frozen

from .topology import MAIN, Configuration, Topology

CLIENT = r"/_matrix/client/(?:r0|v\d+|unstable)"
ROOM = CLIENT + r"/rooms/(?P<room>[^/]+)"
USER = CLIENT + r"/user/[^/]+"
SUBSCRIPTION = CLIENT + r"/io\.element\.msc4306/rooms/[^/]+/thread/[^/]+/subscription"
GET, PUT, POST, DELETE, ANY = ("GET",), ("PUT",), ("POST",), ("DELETE",), ()


@frozen
class Row:
    """Requests of these methods (none: any) whose path and, where given, query match go to this pool.

    Requests with the same `sticky` property, the user or the room, are all answered by one worker.
    """

    methods: tuple[str, ...]
    path: str
    pool: str
    sticky: str | None = None
    query: str = ""

    def match(self, method: str, target: str) -> re.Match[str] | None:
        path, _, query = target.partition("?")
        if (self.methods and method not in self.methods) or not re.search(self.query, query):
            return None
        return re.fullmatch(self.path, path)


TABLE = (
    Row(GET, CLIENT + "/sync", "sync", "user", query=r"(?:^|&)since="),
    Row(GET, CLIENT + "/sync", "initial_sync", "user"),
    Row(GET, CLIENT + "/initialSync", "initial_sync", "user"),
    Row(GET, ROOM + "/initialSync", "initial_sync", "user"),
    Row(GET, CLIENT + "/events", "sync", "user"),
    Row(POST, CLIENT + r"/org\.matrix\.simplified_msc3575/sync", "sliding_sync", "user"),
    # Writers. Reading what main writes is anybody's who serves clients, and a moment later than at main.
    Row(PUT, ROOM + "/typing/[^/]+", "typing"),
    Row(PUT, CLIENT + "/sendToDevice/[^/]+/[^/]+", "to_device"),
    Row(POST, ROOM + "/(?:receipt/[^/]+/[^/]+|read_markers)", "receipts"),
    Row(GET, CLIENT + "/pushrules/.*", "soft push_rules"),
    Row(ANY, CLIENT + "/pushrules/.*", "push_rules"),
    Row(GET, SUBSCRIPTION, "soft thread_subscriptions"),
    Row(ANY, SUBSCRIPTION, "thread_subscriptions"),
    Row(ANY, USER + "/(?:rooms/[^/]+/)?account_data/[^/]+", "account_data"),
    Row(ANY, USER + "/rooms/[^/]+/tags(?:/[^/]+)?", "account_data"),
    Row(GET, CLIENT + "/presence/[^/]+/status", "presence"),
    Row(PUT, CLIENT + "/presence/[^/]+/status", "soft presence"),
    Row(ANY, CLIENT + "/(?:devices(?:/[^/]+)?|delete_devices|keys/upload)", "device_lists"),
    Row(POST, CLIENT + "/keys/(?:device_signing|signatures)/upload", "device_lists"),
    # Sending, with the event persister of the room where it can be reached.
    Row(ANY, ROOM + "/(?:send|redact)/.+", "events", "room"),
    Row(PUT, ROOM + "/state/.+", "events", "room"),
    Row(ANY, ROOM + "/(?:join|invite|leave|kick|ban|unban)", "membership"),
    # Main only.
    Row(POST, CLIENT + "/logout(?:/all)?", "main"),
    Row(ANY, CLIENT + "/(?:pushers(?:/set)?|account/password|directory/list/room/[^/]+)", "main"),
    Row(POST, ROOM + "/(?:forget|report/[^/]+|upgrade)", "main"),
    Row(POST, USER + "/openid/request_token", "main"),
    Row(GET, CLIENT + "/thirdparty/protocols", "main"),
    # Rooms.
    Row(GET, ROOM + "/messages", "rooms", "room"),
    Row(GET, ROOM + "/.+", "rooms"),
    Row(ANY, CLIENT + "/(?:join|knock)/(?P<room>(?:!|%21)[^/]+)", "membership"),
    Row(ANY, CLIENT + "/(?:join|knock)/[^/]+", "rooms"),
    # Everything else that any worker with the resource can answer.
    Row(ANY, "/_matrix/media/.*|/_matrix/client/v1/media/.*", "media"),
    Row(POST, CLIENT + "/user_directory/search", "user_directory"),
    Row(ANY, CLIENT + "/(?:login|register|register/available|createRoom|publicRooms|search|joined_rooms)", "client"),
    Row(GET, CLIENT + "/(?:account/whoami|capabilities|notifications|voip/turnServer)", "client"),
    Row(GET, "/_matrix/client/versions", "client"),
    Row(POST, CLIENT + "/keys/(?:query|claim)", "client"),
    Row(GET, CLIENT + "/keys/changes", "client"),
    Row(ANY, CLIENT + "/(?:profile|directory/room)/.+", "client"),
    Row(ANY, USER + "/filter(?:/[^/]+)?", "client"),
    Row(PUT, "/_matrix/federation/v1/send/[^/]+", "federation_send"),
    Row(ANY, "/_matrix/federation/.*|/_matrix/key/.*", "federation"),
)


@frozen
class Expected:
    """The workers of which one should answer, and what that choice may depend on."""

    pool: str
    workers: frozenset[str]
    sticky: str | None
    room: str | None


def expected(topology: Topology, configuration: Configuration, method: str, target: str) -> Expected:
    """Raises AssertionError for a request that the table does not know: then the table wants a row."""
    for row in TABLE:
        if match := row.match(method, target):
            room = unquote(match["room"]) if "room" in match.groupdict() else None
            workers = _workers(topology, configuration, row.pool, room)
            return Expected(row.pool, frozenset(workers), row.sticky, room)
    raise AssertionError(f"no row of the table says who should answer {method} {target}")


def _workers(topology: Topology, configuration: Configuration, pool: str, room: str | None) -> Iterable[str]:
    pools = topology.pools[configuration]
    if pool == "main":
        return MAIN
    if pool.startswith("soft "):  # any worker can, and where main is the writer a worker saves main the request
        writers = pools[pool.removeprefix("soft ")]
        return [*writers, *pools["client"]] if writers == MAIN else writers
    persisters_answer = pools["events"] == topology.event_writers
    if pool == "membership":  # the persister saves Synapse a hop, but joining may also ask other servers
        return [*pools["rooms"], persister(topology, room)] if room and persisters_answer else pools["rooms"]
    if pool == "events" and room and persisters_answer:
        return [persister(topology, room)]
    return pools[pool]


def persister(topology: Topology, room: str) -> str:
    """The event writer of a room, as Synapse's `ShardedWorkerHandlingConfig` chooses it (config/_base.py)."""
    number = int.from_bytes(sha256(room.encode()).digest(), "little")
    return topology.event_writers[number % len(topology.event_writers)]
