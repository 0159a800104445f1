"""The sidecar as a guest in a Synapse process: on its reactor, by its configuration and its servlets, with its end.

The host comes first: whatever fails here is logged and ends the guest at most, no exception reaches Synapse, and its
clock, signals and limits stay as they are. Part of the service layer: it may know everything, Synapse's objects too.
"""

from __future__ import annotations

import inspect
import resource
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from attrs import define, evolve, field
from twisted.application.service import IService
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.server import Site

from sidecar.app.operating import operator_services
from sidecar.app.reload import Reload
from sidecar.app.service import SidecarService
from sidecar.app.work import work_of
from sidecar.config.endpoint_strings import address_of
from sidecar.config.inside import Inside, read_inside, settings_inside
from sidecar.document import Document, KeyPath, read_document
from sidecar.errors import ConfigError, Severity, SidecarError
from sidecar.guest.shared_metrics import SharedMetrics
from sidecar.loading.deployment import Deployment, deployment_by, with_table
from sidecar.observe.telemetry import logger
from sidecar.synapse.asker import version_in
from sidecar.synapse.names import MAIN, MASTER
from sidecar.synapse.overlay import Overlay, read_overlay
from sidecar.synapse.own_table import corrected
from sidecar.synapse.registrations import ProbeError, Registration, registered
from sidecar.transport.monotonic import MonotonicReactor

_log = logger("sidecar")

MODULE = "sidecar.synapse_module.Sidecar"
"""How homeserver.yaml names the module."""
SHARE_OF_FILES = 4
"""One connection for as many descriptors as this: each takes two, and Synapse keeps at least half of all."""


@define(eq=False)
class Guest:
    """The sidecar inside one Synapse process."""

    homeserver: Any
    """Synapse's `HomeServer`."""
    config: Any
    """What stands under `config:` of the module."""
    reload: Reload | None = field(default=None, init=False)
    """What runs; None before the start and where there was none."""
    _parts: list[IService] = field(factory=list, init=False)
    _reactor: MonotonicReactor | None = field(default=None, init=False)
    _registered: tuple[Registration, ...] | None = field(default=None, init=False)
    _ended: Deferred[None] | None = field(default=None, init=False)

    @property
    def process(self) -> str:
        """The process in which it is, by the name that it has here."""
        name = str(self.homeserver.get_instance_name())
        return MAIN if name == MASTER else name

    # Start.

    def start(self) -> None:
        """Listen; to be called when Synapse does. Never raises: what is wrong is logged, and Synapse goes on."""
        try:
            self._start()
        except ConfigError as error:
            for problem in error.problems:
                _log.error("Synapse runs without its sidecar: {problem}", problem=str(problem))
        except SidecarError as error:
            _log.error("Synapse runs without its sidecar: {sentence}", sentence=str(error))
            self.stop()
        except Exception:
            _log.failure("Synapse runs without its sidecar, which failed to start")
            self.stop()

    def _start(self) -> None:
        deployment = self._read()
        for problem in deployment.problems:
            _log.warn("{problem}", problem=str(problem))
        host = self.homeserver.get_reactor()
        self._reactor = reactor = MonotonicReactor(host)
        sidecar = SidecarService(work_of(deployment), reactor, measured=True)
        self.reload = reload = Reload(sidecar, deployment, self._read, reactor, announce=_say_nothing)
        if deployment.settings.admin is not None:
            for part in operator_services(reload, deployment.settings.admin, reactor):
                self._begin(part)
        self._begin(sidecar)
        self._begin(reload)
        self._begin(SharedMetrics(host, reload.look))
        host.addSystemEventTrigger("before", "shutdown", self.stop)
        _when_shut_down(self.homeserver, self.stop)
        _on_hangup(self.homeserver, reload.reload)

    def _begin(self, part: IService) -> None:
        self._parts.append(part)
        part.startService()

    # Stop.

    def stop(self) -> Deferred[None]:
        """Let running exchanges end, up to `timeouts.drain`, and leave the reactor; once, however often called."""
        if self._ended is None:
            self._ended = Deferred.fromCoroutine(self._stop())
        return self._ended

    async def _stop(self) -> None:
        for part in reversed(self._parts):
            try:
                await maybeDeferred(part.stopService)
            except Exception:
                _log.failure("a part of the sidecar did not stop in good order")
        if self._reactor is not None:
            self._reactor.close()

    # What is read.

    def _inside(self) -> Inside:
        return read_inside(*_place(self.homeserver.config.config_files, self.config), self.config)

    def _read(self, *, version: str | None = None) -> Deployment:
        """Everything anew, by what Synapse knows of itself. Runs in a thread for a reload. Raises ConfigError."""
        shared, own = _parted(self.homeserver.config.config_files)
        running = version_in(0, self.homeserver.version_string, b"") or version
        settings = settings_inside(self._inside(), shared, own, running)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files != resource.RLIM_INFINITY:
            connections = min(settings.limits.connections, max(1, files // SHARE_OF_FILES))
            settings = evolve(settings, limits=evolve(settings.limits, connections=connections))
        return self._by_own_servlets(deployment_by(settings))

    def _by_own_servlets(self, deployment: Deployment) -> Deployment:
        process = next((each for each in deployment.topology.processes if each.name == self.process), None)
        if process is None:
            return deployment
        if self._registered is None:
            self._registered = _registered(self.homeserver.get_reactor(), process.endpoint)
        if not self._registered:
            return deployment
        overlay = Overlay(()) if process.is_main else read_overlay()
        found = corrected(deployment.table, self._registered, process, overlay)
        if found.added or found.missing:
            _log.info(
                "the servlets of {process} differ from the endpoints of {release}: {added} more, {missing} fewer",
                process=process.name,
                release=deployment.table.release,
                added=found.added,
                missing=found.missing,
            )
        return with_table(deployment, found.table)


def _say_nothing(state: str) -> None:
    """What systemd is told of this process is Synapse's to say."""


def _place(files: list[str], config: Any) -> tuple[Document, KeyPath]:
    """The document that holds the module's configuration, and where; to say where a fault is."""
    for file in reversed(files):
        document = read_document(file, repeated=Severity.WARNING)
        modules = document.value.get("modules") if isinstance(document.value, dict) else None
        for index, entry in enumerate(modules if isinstance(modules, list) else ()):
            if isinstance(entry, dict) and entry.get("module") == MODULE and (entry.get("config") or {}) == config:
                return document, ("modules", index, "config")
    return Document(files[0] if files else "homeserver.yaml"), ("modules", MODULE)


def _parted(files: list[str]) -> tuple[list[str], list[str]]:
    """The files of the process that all processes read, and its own, which names a worker."""
    own = [
        file
        for file in files
        if isinstance(value := read_document(file, repeated=Severity.WARNING).value, dict) and "worker_app" in value
    ]
    return [file for file in files if file not in own], own


# Synapse's objects, as far as no interface of its module API reaches.


def _registered(reactor: Any, endpoint: str) -> tuple[Registration, ...]:
    """What Synapse serves in this process where `endpoint` leads; empty where that cannot be told."""
    try:
        return tuple(each for root in _roots(reactor, endpoint) for each in registered(root))
    except (ProbeError, AttributeError, TypeError, ValueError) as error:
        _log.warn(
            "the servlets of this Synapse could not be read, so those of its release count: {error}", error=str(error)
        )
        return ()


def _roots(reactor: Any, endpoint: str) -> Iterator[Any]:
    wanted = address_of(endpoint)
    for reader in reactor.getReaders():
        site = getattr(reader, "factory", None)
        if isinstance(site, Site) and wanted is not None and _is_at(reader.getHost(), wanted):
            yield site.resource


def _is_at(host: Any, wanted: tuple[str, str]) -> bool:
    if isinstance(host, UNIXAddress):
        name = host.name.decode() if isinstance(host.name, bytes) else str(host.name)
        return wanted == ("unix", name)
    return wanted[0] != "unix" and str(host.port) == wanted[1]


def _when_shut_down(homeserver: Any, stop: Any) -> None:
    """Where a homeserver can be shut down without its process, from Synapse 1.140 on."""
    register = getattr(homeserver, "register_async_shutdown_handler", None)
    if register is not None:
        register(phase="before", eventType="shutdown", shutdown_func=stop)


def _on_hangup(homeserver: Any, reload: Any) -> None:
    """Read everything again when Synapse is sent SIGHUP; its function for that has changed its parameters twice."""
    try:
        register = import_module("synapse.app._base").register_sighup
        first = next(iter(inspect.signature(register).parameters))
        known = {"hs": homeserver, "homeserver_instance_id": getattr(homeserver, "get_instance_id", lambda: "")()}
        register(*([known[first]] if first in known else []), reload)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        _log.warn("the sidecar will not be reloaded with Synapse: {error}", error=str(error))
