"""A real Synapse with workers in a tree, as its documentation lays it out: files, units, PostgreSQL and Redis."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Any

import yaml

from .booted import Booted
from .trees import ROOT, apt_install, copy, inside, made_once, uv_install

HOME = "/opt/venvs/matrix-synapse"
SECRET = "a shared secret"
WORKERS = ("reader1", "sync1")
RUN = "/run/matrix-synapse"
_GENEROUS = {"per_second": 10_000, "burst_count": 10_000}

_START = f"{HOME}/bin/python -m synapse.app.{{app}} --config-path=/etc/matrix-synapse/homeserver.yaml"
_TARGET = """\
[Unit]
Description=Synapse parent target
After=network.target

[Install]
WantedBy=multi-user.target
"""
_SERVICE = """\
[Unit]
Description=Synapse {what}
PartOf=matrix-synapse.target
{after}
[Service]
Type=notify
NotifyAccess=main
User=matrix-synapse
{directory}WorkingDirectory=/var/lib/matrix-synapse
ExecStart={start}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=3
SyslogIdentifier=matrix-synapse-{what}

[Install]
WantedBy=matrix-synapse.target
"""
_DIRECTORY = "RuntimeDirectory=matrix-synapse\nRuntimeDirectoryPreserve=yes\n"


def synapse_requirements() -> list[str]:
    """The release that the other tests have, too."""
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if "matrix-synapse[" in line:
            version = line.split("==")[1].split('"')[0]
            return [f"matrix-synapse[redis]=={version}", "psycopg2-binary"]
    raise AssertionError("pyproject.toml names no Synapse")


def installed(suite: str, directory: Path, base: Path) -> Path:
    """A tree with everything that there is before anybody thinks of a sidecar; not to be changed."""
    with made_once(directory / f"{suite}-synapse") as fresh:
        if fresh is not None:
            _install(copy(base, fresh), suite)
    return directory / f"{suite}-synapse"


def _install(tree: Path, suite: str) -> None:
    apt_install(tree, "postgresql", "redis-server", "python3-venv", "jq", "curl")
    uv_install(tree, suite, HOME, *synapse_requirements())
    # As Synapse's package does.
    words = ("--system", "--no-create-home", "--home-dir=/var/lib/matrix-synapse", "--gid=nogroup")
    inside(tree, "useradd", *words, "matrix-synapse")
    inside(tree, "install", "-d", "-o", "matrix-synapse", "/var/lib/matrix-synapse")
    _write_files(tree / "etc" / "matrix-synapse")
    _write_units(tree / "etc" / "systemd" / "system")


def start(machine: Booted) -> None:
    """The database for it, and its first start."""
    machine.does(
        "runuser -u postgres -- createuser matrix-synapse\n"
        "runuser -u postgres -- createdb --encoding=UTF8 --locale=C --template=template0 \\\n"
        "    --owner=matrix-synapse synapse\n"
        "systemctl daemon-reload\n"
        f"systemctl enable --now matrix-synapse.target matrix-synapse.service {' '.join(map(unit, WORKERS))}"
    )


def unit(worker: str) -> str:
    """The name of the unit of a worker."""
    return f"matrix-synapse-worker@{worker}.service"


def _socket(name: str, *resources: str) -> dict[str, Any]:
    return {"path": f"{RUN}/{name}.sock", "type": "http", "resources": [{"names": list(resources)}]}


def _write_files(place: Path) -> None:
    (place / "conf.d").mkdir(parents=True)
    (place / "workers").mkdir()
    seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    _write(place / "log.yaml", {"version": 1, "root": {"level": "WARNING"}, "disable_existing_loggers": False})
    homeserver = {
        "server_name": "lab.test",
        "report_stats": False,
        "public_baseurl": "https://matrix.lab.test/",
        "listeners": [
            _socket("main", "client", "federation"),
            {**_socket("replication", "replication")},
        ],
        "database": {
            "name": "psycopg2",
            "args": {"host": "/run/postgresql", "dbname": "synapse", "user": "matrix-synapse", "cp_max": 5},
        },
        "redis": {"enabled": True},
        "instance_map": {"main": {"path": f"{RUN}/replication.sock"}},
        "signing_key": f"ed25519 lab {seed}",
        "media_store_path": "/var/lib/matrix-synapse/media",
        "log_config": "/etc/matrix-synapse/log.yaml",
        "registration_shared_secret": SECRET,
        "trusted_key_servers": [],
        "rc_message": _GENEROUS,
        "rc_room_creation": _GENEROUS,
    }
    _write(place / "homeserver.yaml", homeserver)
    _write(place / "conf.d" / "server_name.yaml", {"server_name": "lab.test"})
    for name in WORKERS:
        worker = {
            "worker_app": "synapse.app.generic_worker",
            "worker_name": name,
            "worker_listeners": [_socket(name, "client", "federation")],
            "worker_log_config": "/etc/matrix-synapse/log.yaml",
        }
        _write(place / "workers" / f"{name}.yaml", worker)


def _write_units(place: Path) -> None:
    options = " --config-path=/etc/matrix-synapse/conf.d/"
    main = _START.format(app="homeserver") + options
    worker = f"{_START.format(app='generic_worker')}{options} --config-path=/etc/matrix-synapse/workers/%i.yaml"
    after = "After=postgresql.service redis-server.service\n"
    (place / "matrix-synapse.target").write_text(_TARGET)
    unit = _SERVICE.format(what="main", after=after, directory=_DIRECTORY, start=main)
    (place / "matrix-synapse.service").write_text(unit)
    after = "After=matrix-synapse.service\n"
    unit = _SERVICE.format(what="%i", after=after, directory="", start=worker)
    (place / "matrix-synapse-worker@.service").write_text(unit)


def _write(file: Path, value: object) -> None:
    file.write_text(yaml.safe_dump(value))
    os.chmod(file, 0o644)
