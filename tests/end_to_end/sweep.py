"""Every endpoint that workers mount, with a request that is as valid as can be made: what the sweep asks.

A value for each parameter of a path, a body where one is needed, and who asks. Knows nothing of who answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal
from urllib.parse import quote

from attrs import frozen

from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints

Credentials = Literal["user", "server", "openid", "nobody"]


@frozen
class Request:
    """One request of the sweep, made of an endpoint row."""

    row: Endpoint
    method: str
    target: str
    content: Any
    credentials: Credentials

    @property
    def id(self) -> str:
        """Method and path of the table."""
        return f"{self.method} /{'/'.join(self.row.path)}"


@frozen
class Known:
    """What the homeserver has: values for parameters."""

    user: str
    room: str
    event: str
    device: str
    filter: str
    media: str
    server: str
    openid: str
    backup: str
    """Version of the backup of room keys."""
    name: str
    """Of the user and of the room's alias."""

    def value(self, name: str) -> str:
        """For the parameter of a path; any text where nothing better is known."""
        values = {
            "user_id": self.user,
            "room_id": self.room,
            "room_identifier": self.room,
            "room_alias": f"#{self.name}:{self.server}",
            "event_id": self.event,
            "thread_id": self.event,
            "parent_id": self.event,
            "thread_root_id": self.event,
            "device_id": self.device,
            "filter_id": self.filter,
            "media_id": self.media,
            "server_name": self.server,
            "key_id": "ed25519:lab",
            "event_type": "test.lab.sweep",
            "account_data_type": "test.lab.sweep",
            "version": self.backup,
            "query_type": "profile",
            "field_name": "displayname",
            "receipt_type": "m.read",
        }
        return values.get(name, "sweep")


BODIES: Mapping[str, Any] = {
    "join": {},
    "typing": {"typing": True, "timeout": 1000},
    "status": {"presence": "online"},
    "read_markers": {},
    "query": {"device_keys": {}},
    "claim": {"one_time_keys": {}},
    "search": {"search_term": "sweep", "search_categories": {"room_events": {"search_term": "sweep"}}},
    "delete_devices": {"devices": []},
    "displayname": {"displayname": "Sweep"},
    "avatar_url": {"avatar_url": "mxc://lab.test/sweep"},
    "sendToDevice": {"messages": {}},
    "pushrules": {"actions": [], "conditions": []},
    "room_keys": {"algorithm": "m.megolm_backup.v1", "auth_data": {}, "rooms": {}, "sessions": {}},
    "account_status": {"user_ids": []},
    "login": {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "nobody"}, "password": "-"},
}
"""By the last literal of the path; elsewhere the body is `{}`."""

QUERIES: Mapping[str, str] = {
    "relations": "dir=b",
    "messages": "dir=b&limit=1",
    "timestamp_to_event": "ts=0&dir=f",
    "changes": "from=s0_0_0&to=s0_0_0",
    "sync": "timeout=0",
    "events": "timeout=0",
    "thumbnail": "width=32&height=32",
    "preview_url": "url=http://192.0.2.1/",
    "available": "username=sweep",
    "profile": "field=displayname",
    "backfill": "limit=1&v={event}",
    "state": "event_id={event}",
    "state_ids": "event_id={event}",
    "make_join": "ver=12&ver=11&ver=10",
    "make_knock": "ver=12&ver=11&ver=10",
    "room_keys": "version={backup}",
    "thread_subscriptions": "limit=1&dir=b",
    "rooms": "limit=1",
}


def requests(known: Known, features: frozenset[str]) -> Iterator[Request]:
    """One request for each method of each row of the newest release that workers mount under these `features`."""
    for row in load_endpoints().endpoints:
        if not row.worker_resources or any(features.isdisjoint(need.split("|")) for need in row.needs):
            continue
        if row.path[:2] == ("_synapse", "metrics"):
            continue
        for method in sorted(row.methods - {"HEAD"}, reverse=True):
            yield request(row, method, known)


def request(row: Endpoint, method: str, known: Known) -> Request:
    """The first spelling of the path, with values for its parameters."""
    rule = "global/" if method == "GET" else "global/override/sweep"
    segments = next(product(*(_choices(segment, known, rule) for segment in row.path)))
    literals = [segment for segment in segments if segment in QUERIES]
    asks = method == "GET" or "room_keys" in segments
    query = QUERIES[literals[-1]] if literals and asks else ""
    query = query.format(event=quote(known.event, safe=""), backup=known.backup)
    if "profile" in segments and "query" in segments:
        query = f"user_id={quote(known.user)}&field=displayname"
    credentials = _credentials(row)
    if credentials == "openid":
        query = f"access_token={known.openid}"
    named = [segment for segment in segments if segment in BODIES]
    content = None if method in ("GET", "DELETE") else BODIES[named[-1]] if named else {}
    return Request(row, method, "/" + "/".join(segments) + (f"?{query}" if query else ""), content, credentials)


def _choices(segment: str, known: Known, rule: str) -> tuple[str, ...]:
    """`**` stands for a push rule; elsewhere what it is does not matter."""
    if segment == "**":
        return (rule,)
    if "|" in segment:
        choices = segment.strip("{}").split("|")
        return (next((each for each in ("v3", "r0") if each in choices), choices[0]),)
    return (quote(known.value(segment.strip("{+}")), safe=""),) if segment.startswith("{") else (segment,)


def _credentials(row: Endpoint) -> Credentials:
    if row.name == "open_id_user_info":
        return "openid"
    if row.path[:2] == ("_matrix", "federation"):
        return "server"
    return "nobody" if row.path[:2] == ("_matrix", "key") else "user"
