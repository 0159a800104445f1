"""nginx and HAProxy in front of the laboratory's workers, as an administrator would set them up with care.

Each pool that the load needs is one of theirs, in which the token chooses the worker. Both know that one may be down:
nginx asks the next one, HAProxy asks for `/health` every second and lets a request go to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.programs import find

from .children import Child, answers
from .laboratory import START_LIMIT, Laboratory, free_port

POOLS = {
    "sync": r"^/_matrix/client/v3/sync",
    "rooms": r"^/_matrix/client/v3/(createRoom|rooms/[^/]*/(send|state|messages))",
    "typing": r"^/_matrix/client/v3/rooms/[^/]*/typing/",
    "federation": r"^/_matrix/(federation|key)/",
}
"""Of Synapse's docs/workers.md what the load asks; everything else goes to the main process."""

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {temporary}
    {upstreams}
    proxy_http_version 1.1;
    proxy_buffering off;
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
    maxconn 1000
defaults
    mode http
    option forwardfor
    option redispatch
    retries 3
    timeout client 60s
    timeout connect 2s
    timeout queue 10s
    timeout server 60s
    option httpchk GET /health
    default-server check inter 1s fall 2 rise 1
frontend public
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-Proto http
    {rules}
    default_backend main
{backends}
"""


def nginx(laboratory: Laboratory, port: int) -> tuple[str, Sequence[str]]:
    """Its file, and how it is started with it."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    directory = laboratory.layout.root
    upstreams = [
        f"upstream {pool} {{ hash $http_authorization consistent; "
        f"{' '.join(f'server unix:{path};' for path in paths)} keepalive 32; }}"
        for pool, paths in _pools(laboratory).items()
    ]
    locations = [f'location ~ "{expression}" {{ proxy_pass http://{pool}; }}' for pool, expression in POOLS.items()]
    text = NGINX.format(
        directory=directory,
        temporary="\n    ".join(f"{kind}_temp_path {directory}/nginx-{kind};" for kind in kinds),
        upstreams="\n    ".join(upstreams),
        locations="\n        ".join(locations),
        port=port,
    )
    return text, ["-e", "stderr", "-p", str(directory), "-c"]


def haproxy(laboratory: Laboratory, port: int) -> tuple[str, Sequence[str]]:
    """Its file, and how it is started with it."""
    backends = [
        f"backend {pool}\n    balance hdr(Authorization)\n    hash-type consistent\n"
        + "\n".join(f"    server {path.stem} unix@{path}" for path in paths)
        for pool, paths in _pools(laboratory).items()
    ]
    rules = [f"use_backend {pool} if {{ path_reg {expression} }}" for pool, expression in POOLS.items()]
    return HAPROXY.format(rules="\n    ".join(rules), backends="\n".join(backends), port=port), ["-db", "-f"]


RIVALS = {"nginx": nginx, "haproxy": haproxy}


def _pools(laboratory: Laboratory) -> dict[str, list[Path]]:
    """The sockets of each pool, as the sidecar forms them from Synapse's own files."""
    pools = laboratory.topology.pools["three_lines"]
    return {pool: [laboratory.layout.socket(name) for name in pools.get(pool, ("main",))] for pool in ("main", *POOLS)}


@contextmanager
def running_rival(laboratory: Laboratory, name: str) -> Iterator[int]:
    """The port at which this program serves the laboratory."""
    port = free_port()
    text, options = RIVALS[name](laboratory, port)
    file = laboratory.layout.root / f"{name}.conf"
    file.write_text(text)
    program = find(name)
    assert program is not None
    child = Child(name, [program, *options, file], laboratory.layout.log(name), directory=laboratory.layout.root)
    try:
        child.wait_until(lambda: answers(("127.0.0.1", port), "/_matrix/client/versions"), START_LIMIT)
        yield port
    finally:
        Child.stop_all([child])
