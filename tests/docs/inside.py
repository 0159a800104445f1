"""Makes the machine and does what it is told, as the first process on it: one JSON object a line, in and out."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from doctor.installation import StandIn
from hosts import homeserver, worker, write
from pem import Authority

from sidecar.install.fronts import Wanted, lines

from .blocks import ROOT

WORKERS: dict[str, dict[str, object]] = {
    "sync1": {},
    "sync2": {},
    "federation1": {"resources": [{"names": ["federation"]}]},
    "typing1": {},
}
SIDECAR = """\
listen: "tcp:8008:interface=127.0.0.1"
admin: "unix:/run/matrix-sidecar/admin.sock:mode=660"
synapse:
  config: [/etc/matrix-synapse/homeserver.yaml, /etc/matrix-synapse/conf.d]
  workers: [/etc/matrix-synapse/workers]
pools:
  sync: {workers: ["sync*"]}
"""
FRONT = """\
error_log /var/log/nginx/error.log; pid /run/nginx.pid; events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:80;
        return 301 https://$host$request_uri;
    }
    server {
        listen 127.0.0.1:443 ssl;
        ssl_certificate /etc/nginx/fullchain.pem; ssl_certificate_key /etc/nginx/privkey.pem;
        location = /.well-known/matrix/server { return 200 '{"m.server": "matrix.example.org:443"}'; }
        location = /.well-known/matrix/client {
            add_header Access-Control-Allow-Origin *;
            return 200 '{"m.homeserver": {"base_url": "https://matrix.example.org"}}';
        }
%s
    }
}
"""
PATIENCE = 60.0
LOG = """\
203.0.113.7 - - [25/Nov/2026:12:00:00 +0000] "GET /_matrix/client/v3/sync?since=s1 HTTP/1.1" 200 512 "-" "curl/8"
203.0.113.8 - - [25/Nov/2026:12:00:01 +0000] "GET /_matrix/client/versions HTTP/1.1" 200 512 "-" "curl/8"
"""
HAPROXY_LOG = """\
Nov 25 12:00:00 host haproxy[1]: 203.0.113.7:4711 [25/Nov/2026:12:00:00.000] https~ main/main 0/0/0/1/1 200 9 - - \
---- 1/1/0/0/0 0/0 "GET /_matrix/client/versions HTTP/1.1"
"""


def main() -> None:
    directory, wheels, with_sidecar = Path(sys.argv[1]), Path(sys.argv[2]), bool(sys.argv[3])
    standing = make(directory, wheels)
    del os.environ["PYTHONDONTWRITEBYTECODE"]  # what is written here is thrown away, and pip is read more than once
    os.environ.update(environment(wheels))
    if with_sidecar:
        write(Path("/"), "/etc/matrix-sidecar/sidecar.yaml", SIDECAR)
        shutil.copytree(ROOT / "systemd", "/etc/systemd/system", dirs_exist_ok=True)
        started = subprocess.run(["systemctl", "start", "matrix-sidecar.service"], stderr=subprocess.PIPE, text=True)
        answer({"status": started.returncode, "output": started.stderr})
    else:
        answer({"status": 0, "output": ""})
    for line in sys.stdin:
        answer(run(**json.loads(line)))
    for each in standing:
        each.close()


def answer(outcome: dict[str, Any]) -> None:
    print(json.dumps(outcome), flush=True)


def make(directory: Path, wheels: Path) -> list[StandIn]:
    """The root, and Synapse on it."""
    new = directory / "root"
    call("mount", "-t", "tmpfs", "tmpfs", directory)
    for name in ("upper", "work", "root", "clone", "clone.work"):
        (directory / name).mkdir()
    overlay(Path("/"), directory / "upper", directory / "work", new)
    for kind, place in (("proc", "proc"), ("tmpfs", "tmp"), ("tmpfs", "run"), ("sysfs", "sys")):
        call("mount", "-t", kind, kind, new / place)
    call("mount", "--rbind", "/dev", new / "dev")
    # Where these lie on another file system than the root.
    for outer in {Path(sys.prefix), Path(sys.base_prefix), wheels}:
        inner = new / outer.relative_to("/")
        inner.mkdir(parents=True, exist_ok=True)
        call("mount", "--bind", outer, inner)
    clone = new / ROOT.relative_to("/")
    clone.mkdir(parents=True, exist_ok=True)
    overlay(ROOT, directory / "clone", directory / "clone.work", clone)
    call("ip", "link", "set", "lo", "up")
    os.chroot(new)
    os.chdir(ROOT)
    socket.sethostname("matrix1")
    return furnish(Path("/"))


def overlay(lower: Path, upper: Path, work: Path, place: Path) -> None:
    call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", place)


def call(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def furnish(root: Path) -> list[StandIn]:
    """What a Debian host with Synapse has, and programs that stand in for some of it."""
    for old in ("matrix-synapse", "matrix-sidecar", "systemd/system/matrix-sidecar.service", "nginx", "haproxy"):
        shutil.rmtree(root / "etc" / old, ignore_errors=True)
    sockets = {name: {"path": f"/run/matrix-synapse/{name}.replication.sock"} for name in ("main", *WORKERS)}
    writers = {"typing": "typing1"}
    homeserver(root, "/etc/matrix-synapse/homeserver.yaml", instance_map=sockets, stream_writers=writers)
    write(root, "/etc/matrix-synapse/conf.d/server_name.yaml", {"server_name": "example.org"})
    for name, listener in WORKERS.items():
        worker(root, f"/etc/matrix-synapse/workers/{name}.yaml", **listener)
    write(root, "/var/log/nginx/access.log", LOG)
    write(root, "/var/log/haproxy.log", HAPROXY_LOG)
    for directory in ("etc/bash_completion.d", "run/matrix-synapse", "etc/nginx"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    with (root / "etc/group").open("a") as groups:
        groups.write("matrix-synapse:x:64198:\n")
    programs = root / "usr/local/bin"
    shutil.copy(Path(__file__).with_name("systemctl.py"), programs / "systemctl")
    (programs / "systemctl").chmod(0o755)
    put_in_front(root)
    return [StandIn(root / f"run/matrix-synapse/{name}.sock") for name in ("main", *WORKERS)]


def put_in_front(root: Path) -> None:
    """nginx with a certificate of an authority that this machine trusts, and with the lines of the front page."""
    authority = Authority()
    key, certificate = authority.issue("matrix.example.org", "example.org")
    (root / "etc/nginx/privkey.pem").write_bytes(key)
    (root / "etc/nginx/fullchain.pem").write_bytes(certificate)
    authority.write(root / "etc/nginx")
    with (root / "etc/hosts").open("a") as names:
        names.write("127.0.0.1 localhost matrix1 matrix.example.org example.org\n")
    write(root, "/etc/nginx/nginx.conf", FRONT % lines("nginx", Wanted("matrix.example.org")))
    call("nginx")


def environment(wheels: Path) -> dict[str, str]:
    here = Path(sys.prefix) / "bin"
    return {
        "PATH": f"/usr/local/sbin:/usr/local/bin:{here}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_COMPILE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "DOCS_PYTHON": sys.executable,
        "SSL_CERT_FILE": "/etc/nginx/authority.pem",
        "CURL_CA_BUNDLE": "/etc/nginx/authority.pem",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
    }


def run(command: str, until: str) -> dict[str, Any]:
    """Run lines of bash, of which each has to succeed; ended where it says nothing for too long."""
    words = ["bash", "-euo", "pipefail", "-c", command]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    said = ""
    while piece := _read(process.stdout.fileno()):
        said += piece.decode(errors="replace")
        if until and until in said:
            os.killpg(process.pid, signal.SIGINT)
            until = ""
    if piece is None:
        os.killpg(process.pid, signal.SIGKILL)
    return {"status": process.wait(), "output": said}


def _read(descriptor: int) -> bytes | None:
    """Nothing at the end; None when nothing has come for too long."""
    ready, _, _ = select.select([descriptor], [], [], PATIENCE)
    return os.read(descriptor, 65536) if ready else None


if __name__ == "__main__":
    main()
