"""The configurations of nginx that two presets replace, as tables, and as the files that nginx reads.

What decides where a request goes is as its authors published it, but for what is listed in `MENDED`; addresses are
those of a test. The order of a table is the order of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

MENDED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "docker-nginx": (
        ("`$accesstoken_from_urlparam` is used and nowhere set", "the `map` that Synapse's documentation has for it"),
        ("a comment goes on in a second line without `#`", "the second line is a comment too"),
        ("the file that every location includes has no `proxy_pass`", "`proxy_pass $proxy_pass;`, set before it"),
    ),
    "nginx-workers": (
        ("`$mxid_localpart` is set in a file that is only linked", "the `map`s of Synapse's documentation"),
        ("`upstream media` is in a file that is only linked", "one socket, named like the others"),
        ("the `server` block and what it does with the rest is not shown", "a `location /` to the main process"),
    ),
}  # fmt: skip

CLIENT = "^/_matrix/client/(api/v1|r0|v3|unstable)/"

_READER = (
    "(room_keys/|keys/(query|changes|claim|upload/|room_keys/)|login"
    "|register(/available|/m.login.registration_token/validity|)|password_policy|profile"
    r"|rooms/[\s\S]+/(joined_members|context/[\s\S]+|members|state|hierarchy|relations/|event/|aliases|timestamp_to_event"
    "|redact|send|state/|(join|invite|leave|ban|unban|kick))|createRoom|publicRooms|account/(3pid|whoami|devices)"
    r"|versions|voip/turnServer|joined_rooms|search|user/[\s\S]+/filter(/|$)|directory/room/[\s\S]+|capabilities)"
)
_MEDIA_ADMIN = r"^/_synapse/admin/v1/(purge_)?(media(_cache)?|room|user|quarantine_media|users)/[\s\S]+|media$"

DOCKER_LOCATIONS: Sequence[tuple[str, str, str]] = (
    (
        "~",
        rf"{CLIENT}(account/3pid/|directory/list/room/|pushrules/|rooms/[\s\S]+/(forget|upgrade)"
        "|login/sso/redirect/|register)",
        "main",
    ),
    (
        "~",
        "^(/_matrix/client/(api/v1|r0|v3|unstable)/login/sso/redirect"
        "|/_synapse/client/(pick_username|(new_user_consent|oidc/callback|pick_idp|sso_register)$))",
        "main",
    ),
    ("~", "^/_matrix/federation/v1/openid/userinfo$", "main"),
    ("~", r"^/_matrix/(client|federation)/.*?(?:%21|!)[\s\S]+(?:%3A|:)[A-Za-z0-9.\-]+", "room_workers"),
    (
        "~",
        r"^/_matrix/federation/v[12]/(?:state_ids|get_missing_events)/(?:%21|!)[\s\S]+(?:%3A|:)[A-Za-z0-9.\-]+",
        "room_workers",
    ),
    ("~", "^/_matrix/(federation/(v1|v2)|key/v2)/", "federation_readers"),
    ("~", rf"{CLIENT}[\s\S]+(/tags|/account_data)", "client_syncs"),
    ("~", f"{CLIENT}presence/", "client_syncs"),
    ("~", rf"{CLIENT}rooms/[\s\S]+/(receipt|read_markers)", "client_syncs"),
    ("~", f"{CLIENT}sendToDevice/", "client_syncs"),
    ("~", rf"{CLIENT}rooms/[\s\S]+/typing", "client_syncs"),
    ("~", f"{CLIENT}user_directory/search", "client_syncs"),
    ("~", r"^/_matrix/client/.*?![\s\S]+:[A-Za-z0-9.\-]+", "room_workers"),
    ("~", r"^/_matrix/client/((api/)?[^/]+)/(sync|events|initialSync|rooms/[\s\S]+/initialSync)$", "client_syncs"),
    ("~", CLIENT + _READER, "main"),
    ("~*", "^/_matrix/((client|federation)/[^/]+/)media/", "media"),
    ("", "/_matrix/", "main"),
    ("~ private", _MEDIA_ADMIN, "media"),
    (" private", "/_synapse/", "main"),
)
"""Modifier, place, group; `private` where only some networks may come."""

DOCKER_UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "client_readers": ("client_reader1",),
    "client_syncs": ("client_sync1",),
    "federation_readers": ("federation_reader1",),
    "media": ("media1",),
    "main": ("main",),
    "room_workers": ("rooms1", "rooms2", "rooms3", "rooms4"),
}

_LOGIN = (
    "^(/_matrix/client/(api/v1|r0|v3|unstable)/login|/_matrix/client/(r0|v3|unstable)/register"
    "|/_matrix/client/(r0|v3|unstable)/register/available"
    "|/_matrix/client/v1/register/m.login.registration_token/validity"
    "|/_matrix/client/(r0|v3|unstable)/password_policy)$"
)
_FEDERATION = (
    "event/ state/ state_ids/ backfill/ get_missing_events/ publicRooms query/ make_join/ make_leave/ "
    "(v1|v2)/send_join/ (v1|v2)/send_leave/ make_knock/ send_knock/ (v1|v2)/invite/ event_auth/ timestamp_to_event/ "
    "exchange_third_party_invite/ user/devices/ /_matrix/key/v2/query hierarchy/"
)


def _federation() -> str:
    """One expression for all that one server asks another, but transactions."""
    places = [
        word if word.startswith("/") else f"/_matrix/federation/{word if word[0] == '(' else f'v1/{word}'}"
        for word in _FEDERATION.split()
    ]
    return f"^({'|'.join(places)})"


WORKERS_LOCATIONS: Sequence[tuple[str, str, str]] = (
    ("~", _LOGIN, "login"),
    ("~", "^/_matrix/client/(r0|v3)/sync$", "$sync"),
    ("~", "^/_matrix/client/(api/v1|r0|v3)/events$", "normal_sync"),
    (
        "~",
        "^(/_matrix/client/(api/v1|r0|v3)/initialSync|/_matrix/client/(api/v1|r0|v3)/rooms/[^/]+/initialSync)$",
        "initial_sync",
    ),
    ("~*", "^(/_matrix/((client|federation)/[^/]+/)media/|/_matrix/media/v3/upload/)", "media"),
    ("~ private", _MEDIA_ADMIN, "media"),
    (
        "~",
        _federation(),
        "incoming_federation",
    ),
    ("~", "^/_matrix/federation/v1/send/", "federation_requests"),
    ("", "/", "main"),
)

_READERS = ("federation_reader1", "federation_reader2", "federation_reader3", "federation_reader4")
WORKERS_UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "login": ("login",),
    "initial_sync": ("initial_sync1", "initial_sync2"),
    "normal_sync": ("normal_sync1", "normal_sync2", "normal_sync3"),
    "incoming_federation": _READERS,
    "federation_requests": _READERS,
    "media": ("media",),
    "main": ("main",),
}
WORKERS_HASHES = {
    "initial_sync": "$mxid_localpart",
    "normal_sync": "$mxid_localpart",
    "federation_requests": "$remote_addr",
}

_MXID = """
map $arg_access_token $accesstoken_from_urlparam {
    default $arg_access_token;
    "~syt_(?<username>.*?)_.*" $username;
}
map $http_authorization $mxid_localpart {
    default $http_authorization;
    "~Bearer syt_(?<username>.*?)_.*" $username;
    "" $accesstoken_from_urlparam;
}
map $http_upgrade $connection_upgrade {
    default upgrade;
    '' close;
}
"""
_ROOM = r"""
map $request_uri $room_name {
    default "not_room";
    "~^/_matrix/(client|federation)/.*?(?:%21|!)(?<room>[\s\S]+)(?::|%3A)(?<domain>[A-Za-z0-9.\-]+)" "!$room:$domain";
}
"""
_SYNC = "\nmap $arg_since $sync {\n    default normal_sync;\n    '' initial_sync;\n}\n"

_PROXY = """\
proxy_connect_timeout 2s;
proxy_buffering off;
proxy_http_version 1.1;
proxy_read_timeout 3600s;
proxy_redirect off;
proxy_send_timeout 120s;
proxy_socket_keepalive on;
proxy_ssl_verify off;
proxy_set_header Accept-Encoding "";
proxy_set_header Host $host;
"""
_UPGRADE = "proxy_set_header Connection $connection_upgrade;\nproxy_set_header Upgrade $http_upgrade;\n"

_TUNING = """\
client_body_buffer_size 32m;
client_header_buffer_size 32k;
client_max_body_size 1g;
keepalive_timeout 65;
keepalive_requests 100;
large_client_header_buffers 4 16k;
resolver_timeout 10s;
server_names_hash_bucket_size 128;
server_tokens off;
tcp_nodelay on;
proxy_buffer_size 128k;
proxy_buffers 4 256k;
proxy_busy_buffers_size 256k;
"""
_GZIP = "gzip on;\ngzip_comp_level 2;\ngzip_min_length 1000;\ngzip_types application/json text/plain;\n"

# What a test needs and no administrator: no daemon, no files outside, the client's address from a field line, and the
# name of the chosen upstream in the answer.
_TEST = """\
daemon off;
master_process off;
pid @PLACE@/nginx.pid;
error_log stderr;
"""
_OBSERVED = """\
access_log off;
client_body_temp_path @PLACE@;
proxy_temp_path @PLACE@;
fastcgi_temp_path @PLACE@;
uwsgi_temp_path @PLACE@;
scgi_temp_path @PLACE@;
set_real_ip_from 127.0.0.0/8;
real_ip_header X-Forwarded-For;
add_header X-Chosen $proxy_host always;
"""


@frozen
class Files:
    """The files of a configuration by name; `nginx.conf` is the one to begin with."""

    texts: Mapping[str, str]

    def write(self, place: Path, observed: bool = True) -> Path:
        """Write them below `place`; returns the path of the first. `observed`: with what a test adds."""
        for name, text in self.texts.items():
            (place / name).write_text(text.replace("@PLACE@", str(place)) if observed else _plain(text))
        return place / "nginx.conf"


def _plain(text: str) -> str:
    for added in (_TEST, _OBSERVED):
        text = text.replace(added, "")
    return text


Socket = Callable[[str], str]
"""From the name of a worker to the path of its socket."""


def docker_nginx(listen: str, socket: Socket = "/sockets/synapse_inbound_{}.sock".format) -> Files:
    """nginx in front of Synapse in Docker, with room workers."""
    upstreams = {f"synapse_inbound_{name}": members for name, members in DOCKER_UPSTREAMS.items()}
    servers = "\n".join(
        _upstream(name, "hash $room_name consistent;" if "room" in name else "", map(socket, members))
        for name, members in upstreams.items()
    )
    locations = "\n".join(
        _location(
            modifier,
            place,
            ["include private.conf;"] if "private" in modifier else [],
            [f"set $proxy_pass http://synapse_inbound_{group};", "include proxy.conf;"],
        )
        for modifier, place, group in DOCKER_LOCATIONS
    )
    server = (
        f"server {{\nlisten {listen} default_server backlog=2048 so_keepalive=on;\nserver_name _;\ncharset utf-8;\n"
        "include locations.conf;\nlocation / {\nreturn 301 https://$host:8448;\n}\n}\n"
    )
    events = "worker_processes auto;\npcre_jit on;\nevents {\nmulti_accept off;\nworker_connections 4096;\n}\n"
    http = f"{_TUNING}{_GZIP}include maps.conf;\ninclude upstreams.conf;\n{server}"
    return Files(
        {
            "nginx.conf": f"{_TEST}{events}http {{\n{_OBSERVED}{http}}}\n",
            "maps.conf": _MXID + _ROOM,
            "upstreams.conf": servers,
            "locations.conf": locations,
            "proxy.conf": f"{_PROXY}{_UPGRADE}proxy_pass $proxy_pass;\n",
            "private.conf": _private(("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
        }
    )


PRIVATE_ADDRESSES = (
    *("127.0.0.1", "::1", "192.0.2.78", "198.51.100.21"),
    *("2001:db8:beef::/48", "2001:db8:1234:abcd::1"),
)


def nginx_workers(listen: str, socket: Socket = "/run/matrix-synapse/inbound_{}.sock".format) -> Files:
    """nginx in front of workers for logins, for both kinds of sync, for federation and for media."""
    upstreams = "\n".join(
        _upstream(
            name,
            f"hash {WORKERS_HASHES[name]} consistent;" if name in WORKERS_HASHES else "",
            map(socket, members),
        )
        for name, members in WORKERS_UPSTREAMS.items()
    )
    locations = "\n".join(
        _location(
            modifier,
            place,
            ["include private.conf;"] if "private" in modifier else [],
            ["include proxy.conf;", f"proxy_pass http://{group};"],
        )
        for modifier, place, group in WORKERS_LOCATIONS
    )
    server = f"server {{\nlisten {listen};\nserver_name matrix.example.org;\n{locations}}}\n"
    http = f"{_TUNING.replace('1g', '50M')}include maps.conf;\ninclude upstreams.conf;\n{server}"
    forwarded = "proxy_set_header X-Forwarded-For $remote_addr;\nproxy_set_header X-Forwarded-Proto $scheme;\n"
    return Files(
        {
            "nginx.conf": f"{_TEST}events {{\nworker_connections 4096;\n}}\nhttp {{\n{_OBSERVED}{http}}}\n",
            "maps.conf": _MXID + _SYNC,
            "upstreams.conf": upstreams,
            "proxy.conf": f"{_PROXY}{forwarded}{_UPGRADE}client_max_body_size 50M;\n",
            "private.conf": _private(PRIVATE_ADDRESSES),
        }
    )


def _upstream(name: str, balance: str, sockets: Iterable[str]) -> str:
    lines = [balance, *(f"server unix:{socket} max_fails=0;" for socket in sockets), "keepalive 10;"]
    return "\n".join([f"upstream {name} {{", *filter(None, lines), "}\n"])


def _location(modifier: str, place: str, first: Sequence[str], lines: Sequence[str]) -> str:
    sign = modifier.removesuffix("private").strip()
    shown = f'"{place}"' if sign else place
    return "\n".join([f"location {sign} {shown} {{".replace("  ", " "), *first, *lines, "}\n"])


def _private(networks: Sequence[str]) -> str:
    return "\n".join([*(f"allow {network};" for network in networks), "deny all;", "satisfy all;", ""])


def groups(upstreams: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Pairs of a worker and its group: upstreams with the same workers are one, under the shortest name."""
    by_members: dict[tuple[str, ...], str] = {}
    for name, members in upstreams.items():
        by_members.setdefault(tuple(members), name)
    for members, name in by_members.items():
        for member in members:
            yield member, name
