"""The reverse proxy that speaks TLS in front of the sidecar: which one is here, and the lines to write for it.

What the lines have in common: nothing touches the path, Host stays, exactly one X-Forwarded-For and -Proto are set,
answers are not buffered, bodies may be as large as Synapse takes them, answers may be as late as the sidecar waits for
them. nginx and Apache keep an upload until they know its length, because Synapse refuses one that comes in chunks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from sidecar.config.amounts import write_size
from sidecar.config.endpoint_strings import address_of

DIRECTORIES: Mapping[str, tuple[str, ...]] = {
    "nginx": ("/etc/nginx", "/usr/local/nginx/conf"),
    "apache": ("/etc/apache2", "/etc/httpd"),
    "caddy": ("/etc/caddy",),
    "haproxy": ("/etc/haproxy",),
}
"""Where each keeps its configuration."""
NAMES: Mapping[str, str] = {"nginx": "nginx", "apache": "Apache", "caddy": "Caddy", "haproxy": "HAProxy"}
PLACES: Mapping[str, str] = {
    "nginx": "inside the `server` block of {host}",
    "apache": "inside the `<VirtualHost>` of {host}, after `a2enmod proxy_http headers`",
    "caddy": "inside the site block of {host}",
    "haproxy": "the first part in the frontend with TLS for {host}, the second as a separate backend",
}
"""Where the lines belong."""


@frozen
class Wanted:
    """What the lines have to say."""

    host: str
    """The public name of the homeserver."""
    address: str = "127.0.0.1"
    port: int = 8008
    socket: str = ""
    """Instead of address and port, where the sidecar listens on a UNIX socket."""
    upload: int = 50 * 1024 * 1024
    """Octets of the largest body."""
    seconds: int = 900
    """How long an answer may take to begin."""


def detect(root: str = "/") -> dict[str, str]:
    """Directory of each reverse proxy whose configuration is here."""
    found: dict[str, str] = {}
    for kind, directories in DIRECTORIES.items():
        for directory in directories:
            if os.path.isdir(Path(root, directory.lstrip("/"))):
                found.setdefault(kind, directory)
    return found


def reached_at(listen: str) -> tuple[str, int, str]:
    """Address, port and socket by which a proxy on this host reaches a server endpoint of the sidecar."""
    place = address_of(listen)
    if place is None:
        return "127.0.0.1", 8008, ""  # systemd's socket, as shipped
    if place[0] == "unix":
        return "", 0, place[1]
    return place[0] or "127.0.0.1", int(place[1]), ""


def also_by_ipv6(listen: str) -> tuple[str, ...]:
    """What is proposed as the sidecar's endpoints: with 127.0.0.1 also ::1, as Synapse's own sample has both.

    A proxy or a bridge that is told `localhost` may try ::1 first, or alone.
    """
    kind, _, rest = listen.partition(":")
    port, _, interface = rest.partition(":")
    if (kind, interface) != ("tcp", "interface=127.0.0.1"):
        return (listen,)
    return (listen, f"tcp:{port}:interface=\\:\\:1")


def lines(kind: str, wanted: Wanted) -> str:
    """The configuration for the proxy of this kind, ready to be pasted at `PLACES[kind]`."""
    return _WRITERS[kind](wanted)


def _nginx(wanted: Wanted) -> str:
    backend = f"unix:{wanted.socket}" if wanted.socket else _host_and_port(wanted)
    return f"""\
location ~ ^(/_matrix|/_synapse/client) {{
    proxy_pass http://{backend};
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_buffering off;
    proxy_read_timeout {_duration(wanted.seconds)};
    client_max_body_size {write_size(wanted.upload)};
}}
"""


def _apache(wanted: Wanted) -> str:
    socket = f"unix:{wanted.socket}|" if wanted.socket else ""
    backend = "localhost" if wanted.socket else _host_and_port(wanted)
    passed = "".join(
        f"ProxyPass {path} {socket}http://{backend}{path} nocanon timeout={wanted.seconds}\n"
        for path in ("/_matrix", "/_synapse/client")
    )
    return f"""\
AllowEncodedSlashes NoDecode
ProxyPreserveHost On
ProxyAddHeaders Off
SetEnv proxy-sendcl 1
RequestHeader set X-Forwarded-For expr=%{{REMOTE_ADDR}}
RequestHeader set X-Forwarded-Proto expr=%{{REQUEST_SCHEME}}
{passed}"""


def _caddy(wanted: Wanted) -> str:
    backend = f"unix/{wanted.socket}" if wanted.socket else _host_and_port(wanted)
    return f"""\
@matrix path /_matrix/* /_synapse/client/*
reverse_proxy @matrix {backend}
"""


def _haproxy(wanted: Wanted) -> str:
    backend = f"unix@{wanted.socket}" if wanted.socket else _host_and_port(wanted)
    return f"""\
    acl matrix path_beg /_matrix /_synapse/client
    http-request set-header X-Forwarded-For %[src] if matrix
    http-request set-header X-Forwarded-Proto https if matrix {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http if matrix !{{ ssl_fc }}
    use_backend matrix-sidecar if matrix

backend matrix-sidecar
    timeout server {wanted.seconds}s
    server sidecar {backend}
"""


def _host_and_port(wanted: Wanted) -> str:
    return f"[{wanted.address}]:{wanted.port}" if ":" in wanted.address else f"{wanted.address}:{wanted.port}"


def _duration(seconds: int) -> str:
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


_WRITERS: Mapping[str, Callable[[Wanted], str]] = {
    "nginx": _nginx,
    "apache": _apache,
    "caddy": _caddy,
    "haproxy": _haproxy,
}
