"""The configuration of HAProxy that a preset replaces, as tables, and as the file that HAProxy reads.

What decides where a request goes is as its author published it, but for what is listed in `MENDED`; host names and
addresses are examples, or those of a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

MENDED: tuple[tuple[str, str], ...] = (
    ("`nbproc 1`, which HAProxy refuses since 2.5", "left out; there is one process, with threads"),
)

MATRIX, ELEMENT = "matrix.example.org", "chat.example.org"

_ANY = "(api/v1|r0|v3|unstable)"
_NEW = "(r0|v3|unstable)"

_SYNC = (
    ("stick-auth", "client/(r0|v3)/sync$"),
    ("generic", "client/(api/v1|r0|v3)/events$"),
    ("stick-auth", "client/(api/v1|r0|v3)/initialSync$"),
    ("stick-auth", "client/(api/v1|r0|v3)/rooms/[^/]+/initialSync$"),
)
_FEDERATION = (
    "v1/event/ v1/state/ v1/state_ids/ v1/backfill/ v1/get_missing_events/ v1/publicRooms v1/query/ v1/make_join/ "
    "v1/make_leave/ (v1|v2)/send_join/ (v1|v2)/send_leave/ (v1|v2)/invite/ v1/event_auth/ "
    "v1/exchange_third_party_invite/ v1/user/devices/ /key/v2/query v1/hierarchy/"
)
_CLIENT = (
    f"{_ANY}/createRoom$",
    f"{_ANY}/publicRooms$",
    f"{_ANY}/rooms/.*/joined_members$",
    f"{_ANY}/rooms/.*/context/.*$",
    f"{_ANY}/rooms/.*/members$",
    f"{_ANY}/rooms/.*/state$",
    "v1/rooms/.*/hierarchy$",
    "unstable/org.matrix.msc2716/rooms/.*/batch_send$",
    "unstable/im.nheko.summary/rooms/.*/summary$",
    f"{_NEW}/account/3pid$",
    f"{_NEW}/account/whoami$",
    f"{_NEW}/devices$",
    "versions$",
    f"{_ANY}/voip/turnServer$",
    f"{_ANY}/rooms/.*/event/",
    f"{_ANY}/joined_rooms$",
    f"{_ANY}/search$",
    f"{_NEW}/keys/query$",
    f"{_NEW}/keys/changes$",
    f"{_NEW}/keys/claim$",
    f"{_NEW}/room_keys/",
    f"{_NEW}/keys/upload/",
    f"{_ANY}/login$",
    f"{_NEW}/register$",
    "v1/register/m.login.registration_token/validity$",
)
_BY_PATH = (
    f"{_ANY}/rooms/.*/redact",
    f"{_ANY}/rooms/.*/send",
    f"{_ANY}/rooms/.*/state/",
    f"{_ANY}/rooms/.*/(join|invite|leave|ban|unban|kick)$",
    f"{_ANY}/join/",
    f"{_ANY}/profile/",
)
_STREAMS = (
    f"{_ANY}/rooms/.*/typing",
    f"{_NEW}/sendToDevice/",
    f"{_NEW}/.*/tags",
    f"{_NEW}/.*/account_data",
    f"{_NEW}/rooms/.*/receipt",
    f"{_NEW}/rooms/.*/read_markers",
    f"{_ANY}/presence/",
)
_MEDIA = (
    "/_matrix/media/",
    "/_synapse/admin/v1/purge_media_cache$",
    "/_synapse/admin/v1/room/.*/media.*$",
    "/_synapse/admin/v1/user/.*/media.*$",
    "/_synapse/admin/v1/media/.*$",
    "/_synapse/admin/v1/quarantine_media/.*$",
    "/_synapse/admin/v1/users/.*/media$",
)
_MA1SD = (
    "/_matrix/client/(api/v1|r0|unstable)/user_directory",
    "/_matrix/client/(api/v1|r0|unstable)/login",
    "/_matrix/identity",
)


def _rules() -> Iterator[tuple[str, str]]:
    """Names of conditions and the expressions for the path that they stand for, in the order of the file."""
    for name, rest in _SYNC:
        yield f"url_workerX_{name}", f"/_matrix/{rest}"
    for word in _FEDERATION.split():
        yield "url_workerX_generic", f"/_matrix{word}" if word.startswith("/") else f"/_matrix/federation/{word}"
    yield "url_workerX_stick-src", "/_matrix/federation/v1/send/"
    yield from (("url_workerX_generic", f"/_matrix/client/{rest}") for rest in _CLIENT)
    yield from (("url_workerX_stick-path", f"/_matrix/client/{rest}") for rest in _BY_PATH)
    yield "url_workerX_generic", f"/_matrix/client/{_NEW}/user_directory/search$"
    yield "url_workerX_stick-path", f"/_matrix/client/{_ANY}/rooms/.*/messages$"
    yield "url_push-rules", f"/_matrix/client/{_ANY}/pushrules/"
    yield "url_directory-worker", f"/_matrix/client/{_NEW}/user_directory/search$"
    yield from (("url_stream-worker", f"/_matrix/client/{rest}") for rest in _STREAMS)


UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "elementX_http": ("element1", "element2"),
    "synapse0_master": ("main",),
    "synapse0_directory_worker": ("directory",),
    "synapse0_stream_worker": ("stream",),
    "synapse0_media_repository": ("media",),
    "synapse0_ma1sd": ("ma1sd",),
    "synapse0_webhook": ("webhook",),
    "synapseX_worker_generic": ("synapse1", "synapse2"),
    "synapseX_worker_stick-auth": ("synapse1", "synapse2"),
    "synapseX_worker_stick-path": ("synapse1", "synapse2"),
    "synapseX_worker_stick-src": ("synapse1", "synapse2"),
}

_STICKING: Mapping[str, tuple[str, ...]] = {
    "elementX_http": ("stick-table type ipv6 size 5000k peers keepalived-pair expire 72h", "stick on src"),
    "synapseX_worker_stick-auth": (
        "stick-table type string len 1024 size 5000k peers keepalived-pair expire 72h",
        "stick on hdr(Authorization)",
    ),
    "synapseX_worker_stick-path": (
        "stick-table type string len 1024 size 5000k peers keepalived-pair expire 72h",
        "stick on path,word(5,/) if { path_reg ^/_matrix/client/(r0|unstable)/rooms }",
        "stick on path,word(6,/) if { path_reg ^/_matrix/client/api/v1/rooms }",
        "stick on path",
    ),
    "synapseX_worker_stick-src": (
        "stick-table type ipv6 size 5000k peers keepalived-pair expire 72h",
        "stick on src",
    ),
}

_GLOBAL = """\
global
    maxconn @MAXCONN@
    log @LOG@ local6
    stats socket @PLACE@/admin.sock mode 660 level admin process 1
    stats timeout 30s

defaults
    log global
    option http-keep-alive
    option forwardfor except 127.0.0.0/8
    option redispatch
    option dontlognull
    option splice-auto
    option log-health-checks
    default-server init-addr libc,last,none
    timeout client 30s
    timeout connect 30s
    timeout server 300s
    timeout tunnel 3600s
    timeout http-keep-alive 60s
    timeout http-request 30s
    timeout queue 60s
    timeout tarpit 60s

peers keepalived-pair
    peer mlb1 @PEER1@
    peer mlb2 @PEER2@

userlist admin
    user admin insecure-password example

listen stats
    bind @STATS@
    mode http
    stats enable
    stats uri /
    stats hide-version
    stats refresh 10s
    stats show-node
    stats show-legends
    acl is_admin http_auth(admin)
    http-request auth realm "Admin access" if !is_admin
"""

_CLEAR = """
frontend http
    bind @HTTP@
    mode http
    option httplog
    acl url_letsencrypt path_beg /.well-known/acme-challenge/
    use_backend letsencrypt if url_letsencrypt
    redirect scheme https if !url_letsencrypt !{ ssl_fc }
"""

_MAIN_FRONTEND = """
frontend https
    bind @HTTPS@
    mode http
    option httplog
    capture request header Host len 64
    http-request set-header X-Forwarded-Proto https
    http-request add-header X-Forwarded-Host %[req.hdr(host)]
    http-request add-header X-Forwarded-Server %[req.hdr(host)]
    http-request add-header X-Forwarded-Port %[dst_port]
    acl http_method_get method GET
    acl host_matrix hdr_dom(host) @MATRIX@
    acl host_element hdr_dom(host) @ELEMENT@
"""

_OBSERVED = "    http-response set-header X-Chosen %[be_name]\n"
"""What a test adds: the name of the chosen backend in the answer."""

_DIRECTORS = (
    ("synapseX_worker_generic", "host_matrix url_workerX_generic"),
    ("synapseX_worker_generic", "host_matrix url_push-rules http_method_get"),
    ("synapseX_worker_stick-auth", "host_matrix url_workerX_stick-auth"),
    ("synapseX_worker_stick-src", "host_matrix url_workerX_stick-src"),
    ("synapseX_worker_stick-path", "host_matrix url_workerX_stick-path"),
    ("synapse0_directory_worker", "host_matrix url_directory-worker"),
    ("synapse0_stream_worker", "host_matrix url_stream-worker"),
)

Address = Callable[[str], str]
"""From the name of a worker to `host:port`."""

PORTS = {"main": 8008, "directory": 8033, "stream": 8035, "media": 8095, "ma1sd": 8090, "webhook": 4785}


def documented(worker: str) -> str:
    """The address of a worker in the configuration as it would be used."""
    if worker.startswith("element"):
        return f"{worker}.example.org:80"
    return f"{worker}.example.org:8030" if worker.startswith("synapse") else f"synapse0.example.org:{PORTS[worker]}"


def haproxy(places: Mapping[str, str], address: Address = documented, observed: bool = True) -> str:
    """The file. `places`: the values of `@NAME@`. `observed`: with what a test adds."""
    parts = [_GLOBAL, _CLEAR, _MAIN_FRONTEND, _OBSERVED if observed else "", *_frontend_lines()]
    parts.append("\nfrontend ma1sd_http\n    bind @MA1SD@\n    mode http\n    use_backend synapse0_ma1sd\n")
    parts.append("\nbackend letsencrypt\n    mode http\n    server acme @ACME@\n")
    parts += ["\n".join(_backend(name, workers, address)) for name, workers in UPSTREAMS.items()]
    text = "".join(parts)
    for name, value in {"MATRIX": MATRIX, "ELEMENT": ELEMENT, **places}.items():
        text = text.replace(f"@{name}@", value)
    return text


def _frontend_lines() -> Iterator[str]:
    yield from (f"    acl {name} path_reg ^{path}\n" for name, path in _rules())
    yield from (f"    use_backend {name} if {conditions}\n" for name, conditions in _DIRECTORS)
    for acl, paths, backend in (
        ("url_mediarepository", _MEDIA, "synapse0_media_repository"),
        ("url_ma1sd", _MA1SD, "synapse0_ma1sd"),
        ("url_webhook", ("/webhook",), "synapse0_webhook"),
        ("url_wellknown", ("/.well-known/matrix",), "elementX_http"),
    ):
        yield from (f"    acl {acl} path_reg ^{path}\n" for path in paths)
        yield f"    use_backend {backend} if host_matrix {acl}\n"
    yield "    use_backend synapse0_master if host_matrix\n"
    yield "    use_backend elementX_http if host_element\n"
    yield "    default_backend elementX_http\n"


def _backend(name: str, workers: Sequence[str], address: Address) -> Iterator[str]:
    checked = {"elementX_http": "option httpchk GET /index.html", "synapse0_webhook": "option httpchk GET /"}
    single = name.startswith("synapse0") and name != "synapse0_ma1sd"
    yield f"\nbackend {name}"
    yield "    mode http"
    yield f"    balance {'leastconn' if name == 'elementX_http' else 'roundrobin'}"
    yield f"    {checked.get(name, 'option httpchk')}"
    if single and name != "synapse0_webhook":
        yield "    retries 0"
    yield from (f"    {line}" for line in _STICKING.get(name, ()))
    if name != "synapse0_webhook":
        yield from (f"    errorfile {status} @SORRY@" for status in (500, 502, 503, 504))
    for worker in workers:
        cookie = f" cookie {worker}" if name == "elementX_http" else ""
        yield f"    server {worker} {address(worker)} check inter 5000{' backup' if single else ''}{cookie}"
    yield ""


def sorry_page(place: Path) -> Path:
    """The file that HAProxy sends where nobody answers: a whole response."""
    path = place / "sorryserver.http"
    path.write_bytes(
        b"HTTP/1.1 503 Service Unavailable\r\nCache-Control: no-cache\r\nContent-Type: text/html\r\n\r\n"
        b"<!doctype html><title>Sorry</title><p>We are sorry. Please try again in a minute.</p>\n"
    )
    return path
