"""Writes the configuration of one laboratory as Debian lays Synapse out, and the sidecar's own file beside it.

    etc/homeserver.yaml  etc/conf.d/*.yaml  etc/workers/NAME.yaml  etc/log.yaml  etc/signing.key  sidecar.yaml

Starts nothing.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from .services import ROLE, Services
from .topology import Configuration, Process, Topology

SERVER_NAME = "lab.test"
REQUEST_ID_HEADER = "X-Request-ID"
UPLOAD_LIMIT = "20M"

_GENEROUS = {"per_second": 10_000, "burst_count": 10_000}
_RATE_LIMITS: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            "rc_joins_per_room",
            "rc_key_requests",
            "rc_media_create",
            "rc_message",
            "rc_profile",
            "rc_registration",
            "rc_room_creation",
            "rc_user_directory",
        ),
        _GENEROUS,
    ),
    "rc_login": {"address": _GENEROUS, "account": _GENEROUS, "failed_attempts": _GENEROUS},
    "rc_joins": {"local": _GENEROUS, "remote": _GENEROUS},
    "rc_invites": {"per_room": _GENEROUS, "per_user": _GENEROUS, "per_issuer": _GENEROUS},
    "rc_presence": {"per_user": _GENEROUS},
}
_LOGGING = {
    "version": 1,
    "formatters": {"line": {"format": "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.__stderr__"}},
    "loggers": {
        "synapse.access": {"level": "DEBUG"},
        "synapse.http.site": {"level": "INFO"},
        "sidecar": {"level": "INFO"},
    },
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "disable_existing_loggers": False,
}
"""DEBUG of the access logger adds a line when a request arrives, which is how a test knows that a poll waits; INFO of
the site one when its client hangs up, long before the line of the access log, which comes when the poll ends. The
stream is the real one, since Synapse reads this file again on SIGHUP, when its stderr leads to the log already."""


@frozen
class Layout:
    """Where everything of one laboratory lies."""

    root: Path

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def workers(self) -> Path:
        return self.etc / "workers"

    def socket(self, process: str) -> Path:
        return self.root / "run" / f"{process}.sock"

    def replication_socket(self, process: str) -> Path:
        return self.root / "run" / f"{process}.replication.sock"

    def log(self, process: str) -> Path:
        return self.root / "log" / f"{process}.log"

    def config_options(self, process: Process) -> list[str]:
        """What Debian's units pass to this process."""
        files = [f"{self.etc}/homeserver.yaml", f"{self.etc}/conf.d/"]
        if not process.is_main:
            files.append(f"{self.workers}/{process.name}.yaml")
        return [f"--config-path={file}" for file in files]

    def sidecar_file(self, name: str) -> Path:
        """`name` is that of its configuration, where it has no other."""
        return self.root / f"sidecar.{name}.yaml"


def write_synapse(
    layout: Layout, topology: Topology, services: Services, database: str, shared: Mapping[str, Any]
) -> None:
    """Everything that Synapse reads, for each of its processes. `shared` replaces top-level keys for all of them."""
    for directory in ("etc/conf.d", "etc/workers", "run", "log", "media"):
        (layout.root / directory).mkdir(parents=True)
    seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    (layout.etc / "signing.key").write_text(f"ed25519 lab {seed}\n")
    _write(layout.etc / "log.yaml", _LOGGING)
    _write(layout.etc / "homeserver.yaml", _homeserver(layout, topology, services, database))
    _write(layout.etc / "conf.d" / "server_name.yaml", {"server_name": SERVER_NAME})
    _write(layout.etc / "conf.d" / "report_stats.yaml", {"report_stats": False})
    if topology.workers:
        _write(layout.etc / "conf.d" / "workers.yaml", _shared_by_workers(layout, topology, services))
    write_last(layout, shared)
    for worker in topology.workers:
        _write(layout.workers / f"{worker.name}.yaml", _worker(layout, worker))


def write_last(layout: Layout, shared: Mapping[str, Any]) -> None:
    """The last of the shared files, whose keys replace those of the others."""
    _write(layout.etc / "conf.d" / "zz.yaml", shared)


def write_schema_owner(root: Path, services: Services, database: str) -> Path:
    """The least that Synapse needs to fill an empty database with its tables."""
    file = root / "schema.yaml"
    _write(
        file,
        {
            "server_name": SERVER_NAME,
            "report_stats": False,
            "signing_key": "ed25519 lab " + base64.b64encode(bytes(32)).decode().rstrip("="),
            "database": _database(services, database),
            "media_store_path": str(root),
        },
    )
    return file


def write_sidecar(
    layout: Layout, topology: Topology, configuration: Configuration, port: int, more: Mapping[str, Any], name: str = ""
) -> Path:
    """The sidecar's file: everything said, or the three lines from which it works everything out; and `more` keys.

    `name` tells it from others with the same configuration.
    """
    name = name or configuration
    settings: dict[str, Any] = {
        "listen": f"tcp:{port}:interface=127.0.0.1",
        "admin": f"unix:run/sidecar.{name}.sock:mode=660",
    }
    if configuration == "three_lines":
        settings["synapse"] = {"config": ["etc/homeserver.yaml", "etc/conf.d"], "workers": ["etc/workers"]}
    else:
        settings["workers"] = {process.name: _explicit_worker(layout, process) for process in topology.processes}
        settings["pools"] = {name: {"workers": list(workers)} for name, workers in topology.pools["explicit"].items()}
        settings["forwarded"] = {"trust": ["127.0.0.1/32"]}
    file = layout.sidecar_file(name)
    _write(file, {**settings, **more})
    return file


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(yaml.safe_dump(dict(content), sort_keys=False))


def _database(services: Services, name: str) -> dict[str, Any]:
    arguments = {"user": ROLE, "host": str(services.postgres_directory), "dbname": name, "cp_min": 1, "cp_max": 5}
    return {"name": "psycopg2", "args": arguments}


def _listener(path: Path, *resources: str) -> dict[str, Any]:
    return {
        "type": "http",
        "path": str(path),
        "x_forwarded": True,
        "request_id_header": REQUEST_ID_HEADER,
        "resources": [{"names": list(resources)}],
    }


def _homeserver(layout: Layout, topology: Topology, services: Services, database: str) -> dict[str, Any]:
    return {
        "listeners": [
            _listener(layout.socket("main"), *topology.processes[0].resources),
            _listener(layout.replication_socket("main"), "replication"),
        ],
        "database": _database(services, database),
        "log_config": str(layout.etc / "log.yaml"),
        "worker_log_config": str(layout.etc / "log.yaml"),
        "signing_key_path": str(layout.etc / "signing.key"),
        "media_store_path": str(layout.root / "media"),
        "max_upload_size": UPLOAD_LIMIT,
        "public_baseurl": f"https://{SERVER_NAME}/",
        "macaroon_secret_key": secrets.token_hex(16),
        "form_secret": secrets.token_hex(16),
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "allow_guest_access": True,
        "allow_public_rooms_without_auth": True,
        "password_config": {"policy": {"enabled": False}},
        "bcrypt_rounds": 4,
        "room_list_publication_rules": [{"action": "allow"}],
        "user_directory": {"enabled": True, "search_all_users": True},
        "experimental_features": {"msc4306_enabled": True},
        **_RATE_LIMITS,
    }


def _shared_by_workers(layout: Layout, topology: Topology, services: Services) -> dict[str, Any]:
    writers: dict[str, list[str]] = {}
    for worker in topology.workers:
        for stream in worker.writes:
            writers.setdefault(stream, []).append(worker.name)
    shared: dict[str, Any] = {
        "redis": {"enabled": True, "path": str(services.redis_socket(topology.name))},
        "worker_replication_secret": secrets.token_hex(16),
        "instance_map": {
            process.name: {"path": str(layout.replication_socket(process.name))} for process in topology.processes
        },
    }
    if writers:
        shared["stream_writers"] = writers
    if topology.media_process != "main":
        shared["enable_media_repo"] = False
        shared["media_instance_running_background_jobs"] = topology.media_process
    return shared


def _worker(layout: Layout, worker: Process) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "worker_app": "synapse.app.generic_worker",
        "worker_name": worker.name,
        "worker_listeners": [
            _listener(layout.socket(worker.name), *worker.resources),
            _listener(layout.replication_socket(worker.name), "replication"),
        ],
    }
    if "media" in worker.resources:
        configuration["enable_media_repo"] = True
    return configuration


def _explicit_worker(layout: Layout, process: Process) -> dict[str, Any]:
    described: dict[str, Any] = {
        "endpoint": f"unix:{layout.socket(process.name)}",
        "serves": list(process.resources),
    }
    if process.writes:
        described["writes"] = list(process.writes)
    return described
