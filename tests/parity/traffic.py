"""Requests made up from the endpoint table: every method and spelling of every path, with what clients put into them.

The same list every time. Users, rooms of all versions, events, aliases and free text take turns, plainly written in one
request and percent-encoded, or chosen to mislead, in another.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count, product

from attrs import frozen

from sidecar.routing.matcher import alternatives
from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints

RELEASE = "1.163"

USERS = ("alice", "bob", "carol", "dave", "erin", "frank")
ROOMS = (
    "!OGEhHVWSdvArJzumhm:example.org",
    "!mjbDjyNsRXndKLkHIe:other.example.com:8448",
    "!qporfwt:example.org",
    "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",  # room version 12: no domain
    "!zsQ0vNB3Zc1bCbTzUvXSqRkQ0Yk6aRIVlQ4hJvN8ZgE",
)
EVENTS = ("$143273582443PhrSn:example.org", "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg")
ALIASES = ("#lobby:example.org", "#help:other.example.com")
TRANSACTIONS = ("m1732550400000.1", "a%2Fb", "txn-3", "1732550400")
TYPES = ("m.room.message", "m.room.member", "m.reaction", "org.example.thing")
STATE_KEYS = ("", "@alice:example.org", "%40bob%3Aexample.org", "_example")
SERVERS = ("example.org", "other.example.com", "matrix.example.net:8448")
MEDIA = ("AQwafuaFswefuhsfAFAgsw", "GCmhgzMPRjqgpODLsNQzVuHZ", "aabbccddeeff")
MISLEADING = ("sync", "typing", "tags", "account_data", "members", "sendToDevice", "media", "#a!b:example.org")
"""Free text that is also a word in the expressions of proxies."""

OF_ROOMS = frozenset(("room_id", "room_identifier"))
_FREE = frozenset(
    ("txn_id", "transaction_id", "event_type", "state_key", "field_name", "tag", "account_data_type", "message_type")
)
_CHOICES = {
    "room_id": ROOMS,
    "room_identifier": ROOMS,
    "room_alias": ALIASES,
    "event_id": EVENTS,
    "parent_id": EVENTS,
    "txn_id": TRANSACTIONS,
    "transaction_id": TRANSACTIONS,
    "event_type": TYPES,
    "message_type": ("m.room.encrypted", "m.new_device"),
    "account_data_type": ("m.direct", "org.example.setting"),
    "state_key": STATE_KEYS,
    "media_id": MEDIA,
    "server_name": SERVERS,
    "server": SERVERS,
    "destination": SERVERS,
    "file_name": ("photo.jpg", "a%20b.pdf"),
    "tag": ("m.favourite", "u.work"),
    "stagetype": ("m.login.recaptcha",),
    "receipt_type": ("m.read", "m.read.private"),
}


@frozen(eq=False)
class Sent:
    """A request, and what is known of it. `source` is the address that it comes from."""

    number: int
    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    source: str
    row: Endpoint | None
    room: str | None = None
    """The room id in its path, decoded."""
    misleading: bool = False
    """Free text in it is a word that means something elsewhere in a path."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def octets(self, forwarded: str | None) -> bytes:
        """As a client sends it, with X-Forwarded-For where a source is not the peer itself."""
        fields = [*self.fields, ("X-Request", str(self.number))]
        if forwarded is not None:
            fields.append(("X-Forwarded-For", forwarded))
        body = b"{}" if self.method in ("PUT", "POST") else b""
        if body:
            fields.append(("Content-Length", str(len(body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"{self.method} {self.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def token(user: str) -> str:
    """One of Synapse's own tokens: the localpart is in it."""
    return f"syt_{b64encode(user.encode()).decode().rstrip('=')}_abcdefghijklmnopqrst_0abcde"


@frozen(eq=False)
class Made:
    """How requests are made: which host is asked, and from which addresses."""

    host: str
    sources: Sequence[str]

    def requests(self) -> list[Sent]:
        """All of them, numbered."""
        numbers = count()
        return list(self._of_table(numbers)) + list(self._others(numbers))

    def _of_table(self, numbers: Iterator[int]) -> Iterator[Sent]:
        for row in _rows():
            for path in product(*(alternatives(segment) for segment in row.path)):
                for method in sorted(row.methods - {"HEAD"}):
                    for variant in range(3):
                        yield self._sent(next(numbers), variant, method, path, row)

    def _sent(self, number: int, variant: int, method: str, path: Sequence[str], row: Endpoint) -> Sent:
        misleading = variant == 2 and any(segment.strip("{+}") in _FREE for segment in path if segment[:1] == "{")
        user = USERS[(number * 7 + variant) % len(USERS)]
        pick = _picker(number, variant, user, misleading)
        filled = [_filled(segment, pick) for segment in path]
        room = next((pick(segment.strip("{+}")) for segment in path if segment.strip("{+}") in OF_ROOMS), None)
        target = "/" + "/".join(_spelled(part, segment, variant) for part, segment in zip(filled, path, strict=True))
        fields: list[tuple[str, str]] = [("Host", self.host)]
        query = []
        if target.startswith("/_matrix/federation"):
            fields.append(("Authorization", f'X-Matrix origin="{SERVERS[number % 3]}",key="ed25519:1",sig="c2ln"'))
        elif variant == 1:
            query.append(f"access_token={token(user)}")
        else:
            fields.append(("Authorization", f"Bearer {token(user)}"))
        if path[-1] == "sync" and number % 2:
            query.append("since=s72595_4483_1934&timeout=0")
        if query:
            target += "?" + "&".join(query)
        return Sent(number, method, target, tuple(fields), self._source(number), row, room, misleading)

    def _others(self, numbers: Iterator[int]) -> Iterator[Sent]:
        """Paths that Synapse does not have, and odd ways to write some that it has."""
        for method, target in (
            ("GET", "/"), ("GET", "/index.html"), ("GET", "/webhook"), ("POST", "/webhook/hooks/abc"),
            ("GET", "/metrics"),
            ("GET", "/_matrix"), ("GET", "/_matrix/client/v9/unknown"), ("GET", "/_matrix/identity/v2/terms"),
            ("POST", "/_matrix/identity/v2/lookup"), ("GET", "/_matrix/client/unstable/org.example.module/x"),
            ("GET", "/_synapse/client/own_module"),
            ("GET", "/.well-known/matrix/support"), ("GET", "/_matrix/client/v3/%73ync"), ("GET", "/favicon.ico"),
            ("GET", "/_matrix/client/v3/rooms/!qporfwt:example.org/../sync"), ("GET", "/_matrix//client/v3/sync"),
            ("GET", "/_matrix/client/v3/sync/"),
        ):  # fmt: skip
            for _ in range(2):
                number = next(numbers)
                fields = (("Host", self.host), ("Authorization", f"Bearer {token(USERS[number % 6])}"))
                yield Sent(number, method, target, fields, self._source(number), None)

    def _source(self, number: int) -> str:
        return self.sources[number * 5 % len(self.sources)]


@cache
def _rows() -> tuple[Endpoint, ...]:
    return load_endpoints(RELEASE).endpoints


Picker = Callable[[str], str]


def _picker(number: int, variant: int, user: str, misleading: bool) -> Picker:
    def pick(name: str) -> str:
        if misleading and name in _FREE:
            return MISLEADING[(number // 3) % len(MISLEADING)]
        if "user" in name:
            return f"@{user}:example.org"
        choices = _CHOICES.get(name, ("abc123",))
        return choices[(number // 3 + variant + len(name)) % len(choices)]

    return pick


def _filled(segment: str, pick: Picker) -> str:
    if segment == "**":
        return "global"
    return pick(segment.strip("{+}")) if segment.startswith("{") else segment


def _spelled(part: str, segment: str, variant: int) -> str:
    """A parameter as clients write it: some encode what they need not, in either case."""
    if not segment.startswith("{") or "%" in part:
        return part
    must = part.replace("#", "%23").replace("/", "%2F")
    if variant == 0:
        return must
    encoded = must.replace("!", "%21").replace(":", "%3A").replace("$", "%24").replace("@", "%40")
    return encoded if variant == 1 else must.replace(":", "%3a").replace("@", "%40")
