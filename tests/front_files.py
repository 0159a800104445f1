"""Whole configurations of reverse proxies around the lines that lead to the sidecar, and programs that read them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
PROGRAMS = {"nginx": "nginx", "apache": "apache2", "caddy": "caddy", "haproxy": "haproxy"}
_MODULES = "/usr/lib/apache2/modules"
_APACHE = ("mpm_event", "authz_core", "env", "proxy", "proxy_http", "headers")


def program(kind: str) -> str | None:
    """Where a proxy is installed; None if it is not."""
    return shutil.which(PROGRAMS[kind], path=SBIN)


def write_whole(kind: str, lines: str, port: int, directory: Path) -> Path:
    """The configuration of a proxy that listens on a port of 127.0.0.1, without TLS, with everything in a directory."""
    directory.mkdir(exist_ok=True)
    file = directory / f"{kind}.conf"
    file.write_text(_WHOLE[kind](lines, port, directory))
    return file


def checking(kind: str, file: Path) -> list[str]:
    """The arguments with which a proxy only looks whether a configuration is right."""
    return _CHECKING[kind] + _naming(kind, file)


def running(kind: str, file: Path) -> list[str]:
    """The arguments with which a proxy runs in the foreground."""
    return _RUNNING[kind] + _naming(kind, file)


def _naming(kind: str, file: Path) -> list[str]:
    if kind == "nginx":
        return ["-p", str(file.parent), "-c", str(file)]
    if kind == "apache":
        return ["-d", str(file.parent), "-f", str(file)]
    if kind == "caddy":
        return ["--config", str(file), "--adapter", "caddyfile"]
    return ["-f", str(file)]


_CHECKING = {"nginx": ["-t"], "apache": ["-t"], "caddy": ["adapt"], "haproxy": ["-c"]}
_RUNNING = {"nginx": [], "apache": ["-D", "FOREGROUND"], "caddy": ["run"], "haproxy": ["-db"]}


def _nginx(lines: str, port: int, directory: Path) -> str:
    return f"""\
{"user root;" if os.geteuid() == 0 else ""} daemon off; error_log stderr; pid {directory}/nginx.pid; worker_processes 1;
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
    return f"{{\n    admin off\n    auto_https off\n}}\nhttp://:{port} {{\n    bind 127.0.0.1\n{lines}\n}}\n"


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
{lines}
"""


_WHOLE = {"nginx": _nginx, "apache": _apache, "caddy": _caddy, "haproxy": _haproxy}
