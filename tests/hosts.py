"""Hosts that do not run: directories with what a Debian host or an image with Synapse holds."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

MAIN_ON_A_PORT = {"port": 8008, "bind_addresses": ["127.0.0.1"], "x_forwarded": True}
MAIN_ON_A_SOCKET = {"path": "/run/matrix-synapse/main.sock"}


def write(root: Path, path: str, content: object) -> str:
    """A YAML file, or one with a text; returns its path inside the root."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def homeserver(root: Path, path: str, main: dict[str, object] | None = None, **more: object) -> str:
    """The shared file; server_name and report_stats are in it unless `more` says otherwise."""
    listener = {"type": "http", "resources": [{"names": ["client", "federation"]}], **(main or MAIN_ON_A_SOCKET)}
    instances = {"main": {"path": "/run/main.replication.sock"}}
    values = {"server_name": "example.org", "report_stats": False, "listeners": [listener], "instance_map": instances}
    return write(root, path, {**values, **more})


def worker(root: Path, path: str, /, **listener: object) -> str:
    """A worker named after its file."""
    name = Path(path).stem
    listener = {"path": f"/run/matrix-synapse/{name}.sock", **listener}
    if "port" in listener:
        del listener["path"]
    values = {
        "worker_app": "synapse.app.generic_worker",
        "worker_name": name,
        "worker_listeners": [{"type": "http", "resources": [{"names": ["client"]}], **listener}],
    }
    return write(root, path, values)


def debian(root: Path, main: dict[str, object] | None = None, **more: object) -> None:
    """/etc/matrix-synapse with conf.d and two workers, nginx, systemd and the group of the units."""
    homeserver(root, "/etc/matrix-synapse/homeserver.yaml", main, **more)
    write(root, "/etc/matrix-synapse/conf.d/server_name.yaml", {"server_name": "example.org"})
    for name in ("sync1", "sync2"):
        worker(root, f"/etc/matrix-synapse/workers/{name}.yaml")
    write(root, "/etc/group", "root:x:0:\nmatrix-synapse:x:990:\n")
    for directory in ("etc/nginx", "etc/systemd/system"):
        (root / directory).mkdir(parents=True)


def process(root: Path, pid: int, *words: str, cwd: str = "/") -> None:
    """A running process."""
    place = root / "proc" / str(pid)
    place.mkdir(parents=True)
    (place / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
    (place / "cwd").symlink_to(cwd)


def synapse(root: Path, pid: int, *config: str, app: str = "homeserver", cwd: str = "/") -> None:
    """A running process of Synapse, as Debian's units start it."""
    options = [f"--config-path={path}" for path in config]
    process(root, pid, "/opt/venvs/matrix-synapse/bin/python", "-m", f"synapse.app.{app}", *options, cwd=cwd)
