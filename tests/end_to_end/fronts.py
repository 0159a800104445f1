"""Real reverse proxies in front of the sidecar, with the lines that `init` prints, or with those that people write.

Each listens on a free port of 127.0.0.1, without TLS, and dies with the test.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .children import Child
from .laboratory import free_port

SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
PROGRAMS = {"nginx": "nginx", "apache": "apache2", "caddy": "caddy", "haproxy": "haproxy"}
START_LIMIT = 20.0
_MODULES = "/usr/lib/apache2/modules"
_APACHE = ("mpm_event", "authz_core", "proxy", "proxy_http", "headers")


def absent(kind: str) -> bool:
    """Whether the program is not installed."""
    return shutil.which(PROGRAMS[kind], path=SBIN) is None


@contextmanager
def running_front(kind: str, lines: str, directory: Path) -> Iterator[int]:
    """The proxy with these lines where `init` says that they belong; its port."""
    port = free_port()
    directory.mkdir(exist_ok=True)
    file = directory / ("Caddyfile" if kind == "caddy" else f"{kind}.conf")
    file.write_text(_WHOLE[kind](lines, port, directory))
    program = shutil.which(PROGRAMS[kind], path=SBIN) or kind
    command = [program, *_ARGUMENTS[kind](file, directory)]
    environment = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    child = Child(kind, command, directory / f"{kind}.log", directory=directory, environment=environment)
    try:
        child.wait_until(lambda: _accepts(port), START_LIMIT)
        yield port
    finally:
        Child.stop_all([child])


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _nginx(lines: str, port: int, directory: Path) -> str:
    return f"""\
daemon off; error_log stderr; pid {directory}/nginx.pid; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {lines}
    }}
}}
"""


def _apache(lines: str, port: int, directory: Path) -> str:
    loaded = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _APACHE)
    return f"""\
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.error
DefaultRuntimeDir {directory}
{loaded}
User nobody
<VirtualHost *:{port}>
{lines}
</VirtualHost>
"""


def _caddy(lines: str, port: int, _directory: Path) -> str:
    return f"{{\n    admin off\n    auto_https off\n}}\nhttp://:{port} {{\n    bind 127.0.0.1\n{lines}}}\n"


def _haproxy(lines: str, port: int, _directory: Path) -> str:
    return f"""\
global
    maxconn 200
    expose-experimental-directives
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind 127.0.0.1:{port}
{lines}"""


_WHOLE = {"nginx": _nginx, "apache": _apache, "caddy": _caddy, "haproxy": _haproxy}
_ARGUMENTS = {
    "nginx": lambda file, directory: ["-p", str(directory), "-c", str(file)],
    "apache": lambda file, directory: ["-d", str(directory), "-f", str(file), "-D", "FOREGROUND"],
    "caddy": lambda file, _: ["run", "--config", str(file), "--adapter", "caddyfile"],
    "haproxy": lambda file, _: ["-db", "-f", str(file)],
}
