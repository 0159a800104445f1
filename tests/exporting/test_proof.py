"""Whoever stays with another proxy sends each request where the sidecar sends it: asked of the real programs."""

from __future__ import annotations

import socket

import pytest
from processes import PATIENCE
from system_programs import find

from .measuring import ALICE, PROGRAMS, SPLIT, Asked, answers, decision, exported_by, measured
from .page import PAGE, page


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if find(name) is None:
        pytest.skip(f"{name}: not installed")
    return name


def test_every_sample_request_goes_to_the_same_pool(program: str) -> None:
    """And the page says so: at least 900 requests, for every kind of pool."""
    count, differences = measured(program)
    assert count >= 900
    assert differences == []


def test_the_page_has_the_numbers_of_today() -> None:
    absent = [name for name in PROGRAMS if find(name) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)}: not installed")
    assert PAGE.read_text() == page({name: measured(name) for name in PROGRAMS})


BOB = "Bearer syt_Ym9i_abcdefghijklmnopqrst_0abcde"


def _of(token: str) -> list[Asked]:
    paths = (
        "/_matrix/client/v3/sync?since=s1",
        "/_matrix/client/r0/sync?since=s2&timeout=9",
        "/_matrix/client/v3/sync?since=s3",
    )
    return [Asked("GET", path, (f"Authorization: {token}",)) for path in paths]


def _in(room: str) -> list[Asked]:
    paths = (f"/_matrix/client/v3/rooms/{room}/messages?dir=b", f"/_matrix/client/v3/rooms/{room}/context/$e")
    return [Asked("GET", path, (f"Authorization: {token}",)) for path in paths for token in (ALICE, BOB)]


def _from(origin: str) -> list[Asked]:
    fields = (f'Authorization: X-Matrix origin="{origin}",destination="b",key="ed25519:1",sig="s"',)
    return [Asked("PUT", f"/_matrix/federation/v1/send/{number}", fields) for number in range(3)]


def test_what_belongs_together_stays_on_one_worker(program: str) -> None:
    """A user's syncs, and with them all users, a room and a server, are spread over both workers of their pool."""
    # The last part of a token is new with each login.
    users = [
        f"Bearer syt_{name}_{'x' * 19}{end}_0abcde"
        for name in ("YWxpY2U", "Ym9i", *map(str, range(20)))
        for end in "ab"
    ]
    logins = [[*_of(one), *_of(other)] for one, other in zip(users[::2], users[1::2], strict=True)]
    rooms = [_in(f"%21room{number}%3Aexample.org") for number in range(20)]
    servers = [_from(f"server{number}.example") for number in range(20)]
    with exported_by(program, SPLIT) as (_deployment, port):
        for together in (logins, rooms, servers):
            found = [{answer.worker for answer in answers(port, requests)} for requests in together]
            assert all(len(workers) == 1 for workers in found), found
            assert len(set.union(*found)) == 2


WRITTEN = '{"m.homeserver": {"base_url": "https://$host:8448/100%25"}, "it\'s": "é\\\\n"}'
"""With what one of the languages replaces by something else."""
ROUTES = [
    {"host": ["element.example.org", "*.apps.example.org"], "pool": "web"},
    {"path": "/.well-known/matrix/client", "respond": {"body": WRITTEN, "headers": {"X-Own": "100% $1"}}},
    {"path": "/old/**", "method": ["GET"], "redirect": {"to": "https://{host}/new{target}", "status": 301}},
    {"header": {"User-Agent": "Bad (1.0) [x]"}, "refuse": 403},
    {"path": "/_matrix/client/v3/sync", "query": {"debug": None}, "refuse": 404},
    {"path": "/_matrix/client/{v}/login", "table": True},
    {"source": ["192.0.2.0/24"], "pool": "far"},
    {"scheme": "https", "path": "/secure", "pool": "web"},
    {"path": "/_matrix/**", "header": {"X-Far": "yes"}, "pool": "far"},
]
OWN = {
    "workers": {
        "main": {},
        "web1": {"serves": [], "health": False},
        "web2": {"serves": [], "health": False},
        "far1": {"serves": ["client"]},
        "sync1": {"serves": ["client"]},
    },
    "pools": {
        "web": {"workers": ["web*"], "affinity": "source"},
        "far": {"workers": ["far1"]},
        "client": {"workers": ["main"]},
    },
    "routes": ROUTES,
}
HOSTS = (
    "element.example.org",
    "ELEMENT.example.org:443",
    "a.apps.example.org",
    "apps.example.org",
    "matrix.example.org",
)
TARGETS = (
    *("/", "/.well-known/matrix/client", "/.well-known/matrix/client?x=1", "/old/a%2Fb?c", "/old", "/secure"),
    *("/_matrix/client/v3/sync?since=1", "/_matrix/client/v3/sync?since=1&debug", "/_matrix/client/v3/sync?debugger=1"),
    *("/_matrix/client/v3/login", "/_matrix/client/v3/login/x", "/_synapse/admin/v1/users"),
)
FIELDS = ((), ("User-Agent: Bad (1.0) [x]",), ("X-Far: yes",), ("X-Far: yess",), ("X-Forwarded-Proto: https",))


def test_own_routes_decide_as_in_the_sidecar(program: str) -> None:
    """Hosts, paths, fields, queries and schemes, alone and together, in the order of the file."""
    requests = [
        Asked(method, target, (f"Host: {host}", *fields))
        for method in ("GET", "POST")
        for host in HOSTS
        for target in TARGETS
        for fields in FIELDS
    ]
    with exported_by(program, OWN) as (deployment, port):
        found = answers(port, requests)
        for asked, answer in zip(requests, found, strict=True):
            scheme = "https" if "X-Forwarded-Proto: https" in asked.fields and program != "caddy" else "http"
            ours = decision(deployment, asked, scheme)
            if ours.action == "forward":
                assert answer.worker in ours.candidates, (asked, answer, ours)
            else:
                assert answer.status == ours.status, (asked, answer, ours)
                assert answer.status != 200 or answer.worker.encode("latin-1") == ours.body, (asked, answer, ours)
                assert answer.location == dict(ours.headers).get("Location", ""), (asked, answer, ours)


def test_services_get_the_paths_that_they_know(program: str) -> None:
    """With one prefix taken off, another put there, and both."""
    workers = {name: {"serves": [], "health": False} for name in ("stripped", "added", "both")}
    pools = {
        "stripped": {"workers": ["stripped"], "strip_prefix": "/livekit/jwt"},
        "added": {"workers": ["added"], "add_prefix": "/inside"},
        "both": {"workers": ["both"], "strip_prefix": "/livekit/sfu", "add_prefix": "/rtc"},
    }
    routes = [
        {"path": "/livekit/jwt/**", "pool": "stripped"},
        {"path": "/x/**", "pool": "added"},
        {"path": "/livekit/sfu/**", "pool": "both"},
        {"header_like": {"User-Agent": "*Bot/*.1 (x)"}, "refuse": 403},
    ]
    own = {"workers": {"main": {}, **workers}, "pools": pools, "routes": routes}
    told = {"/livekit/jwt/sfu/get?a": "/sfu/get?a", "/x/y": "/inside/x/y", "/livekit/sfu/rtc?b": "/rtc/rtc?b"}
    heads: list[str] = []
    with exported_by(program, own, heads) as (_deployment, port):
        answers(port, [Asked("GET", target, ()) for target in told])
        assert [head.split(" ")[1] for head in heads if "/health" not in head] == list(told.values())
        odd = [Asked("GET", "/a", (f"User-Agent: {agent}",)) for agent in ("a BOT/2.1 (X)", "bot/2.1", "Bot/2x1 (x)")]
        assert [answer.status for answer in answers(port, odd)] == [403, 200, 200]


CLOSED = (
    "/_synapse/admin/v1/users",
    "/_synapse//admin/v1/users",
    "/%5Fsynapse/admin/v1/users",
    "/_synapse/%61dmin/v1/users",
    "/_synapse%2Fadmin/v1/users",
    "/_SYNAPSE/Admin/v1/users",
    "/_matrix/..%2F_synapse/admin",
    "/_synapse/./admin",
    "/_synapse/mas/x",
    "/_synapse/metrics",
    "/_synapse/replication/x",
)


def test_closed_paths_stay_closed_however_they_are_spelled(program: str) -> None:
    with exported_by(program, OWN) as (_deployment, port):
        found = answers(port, [Asked("GET", target, ()) for target in CLOSED])
        assert [answer.status for answer in found] == [403] * len(CLOSED)
        assert answers(port, [Asked("GET", "/_synapse/client/x", ())])[0].worker


def _asked(heads: list[str], path: str) -> dict[str, list[str]]:
    """Target and fields of the last request for a path."""
    lines = next(head for head in reversed(heads) if path in head).split("\r\n")
    found: dict[str, list[str]] = {"target": [lines[0].split(" ")[1]]}
    for name, _, value in (line.partition(":") for line in lines[1:]):
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def test_what_a_worker_is_sent(program: str) -> None:
    """The path as it was sent, one word about the client, and WebSockets to what is not Synapse."""
    heads: list[str] = []
    target = "/_matrix/client/v3/rooms/%21a%2Fb//x/state?f={%22a%22:1}&"
    forwarded = ("X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https")
    key = ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
    upgrade = ("Host: element.example.org", "Connection: Upgrade", "Upgrade: websocket", *key)
    with exported_by(program, OWN, heads) as (_deployment, port):
        assert answers(port, [Asked("GET", target, forwarded)])[0].worker
        sent = _asked(heads, "/rooms/")
        assert sent["target"] == [target]
        assert [value.split(",")[0] for value in sent["x-forwarded-for"]] == ["198.51.100.7"]
        assert sent["x-forwarded-proto"] == ["https"]
        assert answers(port, [Asked("GET", "/socket", upgrade)])[0].worker in ("web1", "web2")
        assert [value.lower() for value in _asked(heads, "/socket")["upgrade"]] == ["websocket"]


def test_a_body_beyond_the_limit_is_refused(program: str) -> None:
    """By what it is announced with, before a worker gets it."""
    head = b"POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1100000\r\n\r\n"
    settings = {**OWN, "limits": {"request_body": "1M"}}
    with (
        exported_by(program, settings) as (_deployment, port),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as client,
    ):
        # Caddy counts what it reads; the others go by the head, and may reset a client that sends more.
        client.sendall(head + b"x" * 1_100_000 if program == "caddy" else head)
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
