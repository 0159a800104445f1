"""`twistd matrix-sidecar`: options and what they start. No logic."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from os import EX_CONFIG
from signal import SIGHUP, SIGINT, SIGTERM
from typing import Any, NoReturn

from attrs import define
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from sidecar import __version__
from sidecar.app.operating import operator_services
from sidecar.app.outcome_file import directory_of, keep
from sidecar.app.reload import Reload
from sidecar.app.sd_notify import SystemdNotice, tell
from sidecar.app.service import SidecarService, use_monotonic_clock
from sidecar.app.signals import Signals, stop_or_hurry
from sidecar.app.version_watch import VersionWatch
from sidecar.app.work import work_of
from sidecar.entrance.certificates import certificate_problems
from sidecar.entrance.libraries import library_problems
from sidecar.entrance.listening import address
from sidecar.errors import ConfigError, Severity, SidecarError
from sidecar.loading.deployment import DEFAULT_PATH, Deployment, read_deployment, read_for_running_synapse
from sidecar.observe.logbook import is_journal
from sidecar.observe.ordinary_log import never_wait_for_standard_output, with_priority
from sidecar.observe.telemetry import logger
from sidecar.transport.own_reactor import the_reactor

_log = logger("sidecar")


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

    def opt_version(self) -> None:
        """Print the version of matrix-sidecar, and exit."""
        print(f"matrix-sidecar {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        if self["demo"] and self["config"] != DEFAULT_PATH:
            raise UsageError("--demo makes its own configuration; give --config FILE or --demo.")

    def opt_listen(self, endpoint: str) -> None:
        """A Twisted server endpoint string to listen on; can be repeated."""
        self["listen"].append(endpoint)


class CommandLineService(MultiService):
    """Starts its parts one after another and stops them in the opposite order, each when the one before has ended.

    Ends the process with one sentence and a non-zero status where the sidecar cannot start.
    """

    def startService(self) -> None:
        try:
            super().startService()
        except SidecarError as error:
            self.stopService()
            raise SystemExit(f"matrix-sidecar: {error}") from None

    def stopService(self) -> Deferred[None]:
        self.running = 0
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(self.services):
            await maybeDeferred(service.stopService)


@define(eq=False)
class Introduction(Service):
    """Says in one line what has been started."""

    sidecar: SidecarService
    reload: Reload

    def startService(self) -> None:
        super().startService()
        _log.info(
            "matrix-sidecar {version} with {file}: {summary}, on {ports}",
            version=__version__,
            file=self.reload.deployment.settings.path,
            summary=self.reload.summary(),
            ports=", ".join(map(address, self.sidecar.ports)),
        )


def makeService(options: Options) -> IService:
    """The service for twistd. A faulty configuration ends the process with sentences and status 78."""
    reactor = the_reactor()
    use_monotonic_clock(reactor)
    services = CommandLineService()
    path, introduction = options["config"], ""
    if options["demo"]:
        from sidecar.app.demo import DemoWorkers

        demo = DemoWorkers(reactor, _free_port())
        demo.setServiceParent(services)
        path, introduction = str(demo.configuration), demo.introduction
    read = partial(read_deployment, path, listen=options["listen"], admin=options["admin"])
    try:
        deployment = read_for_running_synapse(read)
        _listeners(deployment)
    except ConfigError as error:
        _refuse(error)
    for problem in deployment.problems:
        _log.warn("{problem}", problem=str(problem))
    if options.parent is not None:
        never_wait_for_standard_output(as_json=deployment.settings.log.ordinary == "json")
    sidecar = SidecarService(work_of(deployment), reactor, introduction=introduction)
    reload = Reload(sidecar, deployment, read, reactor, record=_record(directory_of(os.environ)))
    for part in _parts(sidecar, deployment, reload, reactor, demo=options["demo"]):
        part.setServiceParent(services)
    return services


def _listeners(deployment: Deployment) -> None:
    """Raises ConfigError where a listener's key or certificate cannot be used, or what it needs is not installed."""
    certificates = certificate_problems(deployment.settings, datetime.now(timezone.utc))
    problems = (*certificates, *library_problems(deployment.settings))
    if any(problem.severity is Severity.ERROR for problem in problems):
        raise ConfigError(problems)


def _refuse(error: ConfigError) -> NoReturn:
    """End the process by a status of its own: whoever starts it again would only see it fail again."""
    first = next((each for each in error.problems if each.severity is Severity.ERROR), "")
    tell(f"STATUS=not started: {' '.join(str(first).split())}")
    print(with_priority(str(error), "error") if is_journal(2) else error, file=sys.stderr)
    raise SystemExit(EX_CONFIG) from None


def _record(directory: str) -> Callable[[bool, Sequence[str], int], None]:
    """What keeps the outcome of a reload in `directory`, if there is one."""

    def record(accepted: bool, sentences: Sequence[str], began: int) -> None:
        if directory:
            try:
                keep(directory, accepted, sentences, began)
            except OSError as error:
                _log.error(
                    "how the reload ended cannot be written to {directory}: {why}", directory=directory, why=error
                )

    return record


def _parts(
    sidecar: SidecarService, deployment: Deployment, reload: Reload, reactor: Any, *, demo: bool
) -> Iterator[Service]:
    """The sidecar between what is started before it and stopped after it, and the reverse."""
    stop = stop_or_hurry(reactor, sidecar.cut)
    # The demonstration ends with its terminal.
    yield Signals(reactor, {SIGHUP: stop if demo else reload.reload, SIGTERM: stop, SIGINT: stop})
    if deployment.settings.admin is not None:
        yield from operator_services(reload, deployment.settings.admin, reactor)
    yield sidecar
    yield Introduction(sidecar, reload)
    yield reload
    yield VersionWatch(reload, reactor)
    yield SystemdNotice(reactor, reload.summary)


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
