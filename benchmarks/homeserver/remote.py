"""A second homeserver that federates with the one that is measured, and TLS in front of both.

HAProxy ends TLS on two ports that stay; behind one of them each variant takes its turn. What it uses is not counted,
nor is what the second homeserver uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from end_to_end.authority import Authority
from end_to_end.children import Child
from end_to_end.laboratory import Laboratory, free_port, running_synapse
from end_to_end.services import Services
from end_to_end.signing import Signer, signer
from end_to_end.topology import Process, Topology

from benchmarks.programs import find

_HAPROXY = """\
global
    maxconn 1000
defaults
    mode http
    timeout client 900s
    timeout server 900s
    timeout connect 5s
listen measured
    bind 127.0.0.1:{secure} ssl crt {directory}/localhost.both.pem
    http-request set-header X-Forwarded-Proto https
    server proxy 127.0.0.1:{plain}
listen remote
    bind 127.0.0.2:{remote} ssl crt {directory}/127.0.0.2.both.pem
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-For %[src]
    server remote unix@{socket}
"""
_NAME = "remote"


@frozen
class Ports:
    """Where the homeserver is known to others, where its proxy listens, and where the second one is known."""

    secure: int
    plain: int
    remote: int

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody has now."""
        return cls(free_port(), free_port(), free_port())

    @property
    def names(self) -> tuple[str, str]:
        """Of the server that is measured, and of the other."""
        return f"localhost:{self.secure}", f"127.0.0.2:{self.remote}"


@frozen
class Remote:
    """The second homeserver; it signs requests to the first."""

    name: str
    laboratory: Laboratory
    sign: Signer

    @property
    def main(self) -> Path:
        return self.laboratory.layout.socket("main")


def federating(name: str, directory: Path) -> Mapping[str, Any]:
    """The keys with which a Synapse on this host is known by this name, and trusts the other."""
    return {
        "server_name": name,
        "federation_custom_ca_list": [str(directory / "authority.pem")],
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
    }


@contextmanager
def remote(services: Services, ports: Ports, shared: Mapping[str, Any]) -> Iterator[Remote]:
    """Bring both up: the second homeserver, of one process, and TLS."""
    directory, (measured, name) = services.root, ports.names
    authority = Authority(directory)
    for host in ("localhost", "127.0.0.2"):
        key, certificate = authority.server(host)
        (directory / f"{host}.both.pem").write_text(certificate.read_text() + key.read_text())
    topology = Topology(_NAME, (Process("main", ("client", "federation")),), {})
    with running_synapse(services, topology, {**shared, **federating(name, directory)}) as laboratory:
        socket = laboratory.layout.socket("main")
        text = _HAPROXY.format(directory=directory, socket=socket, **_numbers(ports))
        (file := directory / "tls.cfg").write_text(text)
        tls = Child("tls", [find("haproxy"), "-db", "-f", file], directory / "tls.log", directory=directory)
        try:
            yield Remote(name, laboratory, signer(laboratory.layout, name, measured))
        finally:
            Child.stop_all([tls])


def _numbers(ports: Ports) -> Mapping[str, int]:
    return {"secure": ports.secure, "plain": ports.plain, "remote": ports.remote}
