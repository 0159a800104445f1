"""`twistd matrix-sidecar`: options and what they start. No logic."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from sidecar.errors import ConfigError, SidecarError
from sidecar.service import SidecarService, use_monotonic_clock
from sidecar.deployment import prepare

DEFAULT_PATH = "/etc/matrix-sidecar/sidecar.yaml"


class Options(UsageOptions):
    """What can be said on the command line; it overrides the file."""

    synopsis = "[--config FILE | --demo] [--listen ENDPOINT]… [--admin ENDPOINT]"
    optFlags = [("demo", None, "Run in front of stand-in workers in a temporary directory.")]  # noqa: RUF012
    optParameters = [  # noqa: RUF012
        ("config", "c", DEFAULT_PATH, "The configuration file."),
        ("admin", None, None, "Endpoint of the operator's listener."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """A Twisted server endpoint string to listen on; can be repeated."""
        self["listen"].append(endpoint)


def makeService(options: Options) -> IService:
    """The service for twistd. A faulty configuration ends the process with sentences and a non-zero status."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    services = MultiService()
    try:
        if options["demo"]:
            from sidecar.demo import DemoWorkers

            demo = DemoWorkers(reactor, _free_port())  # type: ignore[arg-type]
            demo.setServiceParent(services)
            sidecar = prepare(str(demo.configuration), options["listen"], options["admin"], reactor)
            sidecar.introduction = demo.introduction
        else:
            sidecar = prepare(options["config"], options["listen"], options["admin"], reactor)
    except (ConfigError, SidecarError) as error:
        raise SystemExit(f"{error}") from None
    sidecar.setServiceParent(services)
    return services


def _free_port(preferred: int = 8008) -> int:
    """`preferred`, or another port if somebody has it."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise SidecarError("no free port on 127.0.0.1")


__all__ = ["Any", "Options", "UsageError", "makeService", "sys"]
