"""`twistd matrix-sidecar`: options and what they start. No logic."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions

from sidecar.deployment import Deployment, read_deployment, read_for_running_synapse
from sidecar.errors import ConfigError, SidecarError
from sidecar.routing.decide import decide
from sidecar.service import SidecarService, use_monotonic_clock
from sidecar.version_watch import VersionWatch

DEFAULT_PATH = "/etc/matrix-sidecar/sidecar.yaml"

_log = Logger(namespace="sidecar")


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


class CommandLineService(MultiService):
    """Ends the process with one sentence and a non-zero status where the sidecar cannot start."""

    def startService(self) -> None:
        try:
            super().startService()
        except SidecarError as error:
            self.stopService()
            raise SystemExit(f"matrix-sidecar: {error}") from None


def makeService(options: Options) -> IService:
    """The service for twistd. A faulty configuration ends the process with sentences and a non-zero status."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    services = CommandLineService()
    path, introduction = options["config"], ""
    if options["demo"]:
        from sidecar.demo import DemoWorkers

        demo = DemoWorkers(reactor, _free_port())  # type: ignore[arg-type]
        demo.setServiceParent(services)
        path, introduction = str(demo.configuration), demo.introduction
    read = partial(read_deployment, path, listen=options["listen"], admin=options["admin"])
    try:
        deployment = read_for_running_synapse(read)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    for problem in deployment.problems:
        _log.warn("{problem}", problem=str(problem))
    sidecar = sidecar_service(deployment, reactor, introduction)
    sidecar.setServiceParent(services)
    VersionWatch(sidecar, deployment, read, reactor).setServiceParent(services)
    return services


def sidecar_service(deployment: Deployment, reactor: Any, introduction: str = "") -> SidecarService:
    """The service that runs `deployment`."""
    plan = deployment.plan
    return SidecarService(
        settings=deployment.settings,
        workers={name: worker.endpoint for name, worker in plan.workers.items()},
        decide=partial(decide, plan=plan),
        reactor=reactor,
        introduction=introduction,
        weights={name: worker.weight for name, worker in plan.workers.items()},
        bounded={name: pool.bounded for name, pool in plan.pools.items() if pool.bounded},
    )


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
    raise SystemExit("matrix-sidecar: no free port on 127.0.0.1")
