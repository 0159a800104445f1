"""nginx and HAProxy in front of the laboratory's generic workers, as an administrator would set them up with care.

What a client of Synapse asks goes to a worker chosen by its token, everything else to the main process. Both know that
a worker may be away: nginx asks the next one, HAProxy asks for `/health` every second and lets a request go to another.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .children import Child, answers
from .laboratory import START_LIMIT, Laboratory, free_port

SYSTEM_PROGRAMS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
# Of docs/workers.md what the load asks; typing has its writer, which is main here.
TO_WORKERS = (
    r"^/_matrix/client/v3/(sync|createRoom|account/whoami)",
    r"^/_matrix/client/v3/rooms/[^/]*/(send|state|messages)",
    r"^/_matrix/(federation|key)/",
)

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {temporary}
    upstream main {{ server unix:{main}; keepalive 32; }}
    upstream workers {{
        hash $http_authorization consistent;
        {servers}
        keepalive 32;
    }}
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://main; }}
        location ~ "{expression}" {{ proxy_pass http://workers; }}
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
    use_backend workers if {{ path_reg {expression} }}
    default_backend main
backend main
    server main unix@{main}
backend workers
    balance hdr(Authorization)
    hash-type consistent
    {servers}
"""


def nginx(laboratory: Laboratory, port: int) -> tuple[str, Sequence[str]]:
    """Its file, and how it is started with it."""
    sockets = _workers(laboratory)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    directory = laboratory.layout.root
    text = NGINX.format(
        directory=directory,
        temporary="\n    ".join(f"{kind}_temp_path {directory}/nginx-{kind};" for kind in kinds),
        main=laboratory.layout.socket("main"),
        servers="\n        ".join(f"server unix:{path};" for path in sockets),
        port=port,
        expression="|".join(TO_WORKERS),
    )
    return text, ["-e", "stderr", "-p", str(directory), "-c"]


def haproxy(laboratory: Laboratory, port: int) -> tuple[str, Sequence[str]]:
    """Its file, and how it is started with it."""
    text = HAPROXY.format(
        main=laboratory.layout.socket("main"),
        servers="\n    ".join(f"server {path.stem} unix@{path}" for path in _workers(laboratory)),
        port=port,
        expression="|".join(TO_WORKERS),
    )
    return text, ["-db", "-f"]


RIVALS = {"nginx": nginx, "haproxy": haproxy}


def _workers(laboratory: Laboratory) -> list[Path]:
    return [laboratory.layout.socket(process.name) for process in laboratory.topology.workers]


@contextmanager
def running_rival(laboratory: Laboratory, name: str) -> Iterator[int]:
    """The port at which this program serves the laboratory."""
    port = free_port()
    text, options = RIVALS[name](laboratory, port)
    file = laboratory.layout.root / f"{name}.conf"
    file.write_text(textwrap.dedent(text))
    program = shutil.which(name, path=SYSTEM_PROGRAMS)
    assert program is not None
    child = Child(name, [program, *options, file], laboratory.layout.log(name), directory=laboratory.layout.root)
    try:
        child.wait_until(lambda: answers(("127.0.0.1", port), "/_matrix/client/versions"), START_LIMIT)
        yield port
    finally:
        Child.stop_all([child])
