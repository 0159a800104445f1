"""nginx and HAProxy as people set them up in front of Synapse's workers. Makes text; starts nothing.

Both take Synapse's own expressions, those of docs/workers.md. nginx has the maps of that page, which find the user in
the token, and balances what it says by what it says. HAProxy has the backends of a guide that many have followed: one
set of workers for everything, in which requests stick by token, by room, by address or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.coverage import REGEXES
from benchmarks.homeserver.deployments import Deployment

_SYNC = re.compile(r"sync\$|initialSync\$|/events\$")
_ROOM = re.compile(r"/rooms/\.\*/(redact|send|state/|\(join|messages)|/join/|/knock/|/profile/")
_FEDERATION = ("^/_matrix/federation/", "^/_matrix/key/")

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    {temporary}
    client_max_body_size 50M;
    keepalive_requests 100000;
    map $arg_access_token $accesstoken_from_urlparam {{
        default $arg_access_token;
        "~syt_(?<username>.*?)_.*" $username;
    }}
    map $http_authorization $mxid_localpart {{
        default $http_authorization;
        "~Bearer syt_(?<username>.*?)_.*" $username;
        "" $accesstoken_from_urlparam;
    }}
    map $uri $room {{
        default $uri;
        "~^/_matrix/client/[^/]+/(?:rooms|join|knock)/(?<id>[^/]+)" $id;
    }}
    {upstreams}
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_read_timeout 900s;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://main; }}
        {locations}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    option http-keep-alive
    option forwardfor
    option redispatch
    option splice-auto
    timeout client 60s
    timeout connect 30s
    timeout server 300s
    timeout http-keep-alive 60s
    timeout queue 60s
    option httpchk GET /health
    default-server check inter 5000
frontend public
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-Proto http
    {rules}
    default_backend main
{backends}
"""

_STICKS = {
    "sync": ("string len 1024", ("stick on hdr(Authorization)",)),
    "rooms": (
        "string len 1024",
        ("stick on path,word(5,/) if { path_reg ^/_matrix/client/(r0|v3|unstable)/rooms }", "stick on path"),
    ),
    "federation_send": ("ipv6", ("stick on src",)),
}

Socket = Callable[[str], Path]


def routes(deployment: Deployment) -> list[tuple[str, str, str]]:
    """Pool, method (or nothing) and expression, in the order in which the first that matches wins."""
    writers = deployment.writers
    found = []
    for section, method, expression in json.loads(REGEXES.read_text())["documentation"]:
        if section in ("generic", "pagination"):
            found.append((_generic(expression), method, expression))
        elif section in writers or (section == "media" and "media" in deployment.pools):
            found.insert(0, (section, method, expression))
    return found


def _generic(expression: str) -> str:
    if "federation/v1/send/" in expression:
        return "federation_send"
    if expression.startswith(_FEDERATION):
        return "federation"
    if _SYNC.search(expression):
        return "sync"
    return "rooms" if _ROOM.search(expression) else "client"


def members(deployment: Deployment, *, apart: bool) -> Mapping[str, Sequence[str]]:
    """The workers of each pool: `apart` as their names suggest, else all that are equal for everything."""
    pools, equals = deployment.pools, deployment.equals
    client = pools["client"] if apart else equals
    return {
        "main": ("main",),
        "sync": pools["sync"] if apart else equals,
        "client": client,
        "rooms": client,
        "federation": pools["federation"],
        "federation_send": pools["federation"],
        **({"media": pools["media"]} if "media" in pools else {}),
        **deployment.writers,
    }


def nginx(deployment: Deployment, socket: Socket, directory: Path, port: int) -> str:
    """Its file: syncs by user, sends and `/messages` by room, transactions by address, the rest in turn."""
    balance = {"sync": "hash $mxid_localpart consistent;", "rooms": "hash $room consistent;"}
    balance["federation_send"] = "hash $remote_addr consistent;"
    upstreams = [
        f"upstream {pool} {{ {balance.get(pool, '')} "
        f"{' '.join(f'server unix:{socket(name)};' for name in names)} keepalive 64; }}"
        for pool, names in members(deployment, apart=True).items()
    ]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return NGINX.format(
        directory=directory,
        temporary="\n    ".join(f"{kind}_temp_path {directory}/nginx-{kind};" for kind in kinds),
        upstreams="\n    ".join(upstreams),
        locations="\n        ".join(_location(*route) for route in routes(deployment)),
        port=port,
    )


def _location(pool: str, method: str, expression: str) -> str:
    only = f"if ($request_method != {method}) {{ proxy_pass http://main; }} " if method else ""
    return f'location ~ "{expression}" {{ {only}proxy_pass http://{pool}; }}'


def haproxy(deployment: Deployment, socket: Socket, port: int) -> str:
    """Its file: every equal worker for everything, with stick tables."""
    rules = [
        f"use_backend {pool} if {'METH_GET ' if method else ''}{{ path_reg {expression} }}"
        for pool, method, expression in routes(deployment)
    ]
    backends = [
        f"backend {pool}\n    balance roundrobin\n{_stick(pool)}"
        + "\n".join(f"    server {name} unix@{socket(name)}" for name in names)
        for pool, names in members(deployment, apart=False).items()
    ]
    return HAPROXY.format(rules="\n    ".join(rules), backends="\n".join(backends), port=port)


def _stick(pool: str) -> str:
    if pool not in _STICKS:
        return ""
    kind, rules = _STICKS[pool]
    lines = [f"stick-table type {kind} size 100k expire 72h", *rules]
    return "".join(f"    {line}\n" for line in lines)
