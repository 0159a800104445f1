"""The sidecar as a module of Synapse: `modules: [{module: sidecar.synapse_module.Sidecar, config: …}]`.

Only what Synapse calls. Nothing here may fail, since Synapse would not start: everything else is imported and done
behind a guard, and only in a process that is meant, because every process reads the same homeserver.yaml.
"""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger("sidecar")

_MAIN = "main"
_MASTER = "master"


class Sidecar:
    """One for each process that reads the configuration; it runs in those that `processes` names."""

    @staticmethod
    def parse_config(config: Any) -> Any:
        """Taken as it is, and judged at the start, where a fault does not prevent Synapse from running."""
        return config

    def __init__(self, config: Any, api: Any) -> None:
        """`api` is Synapse's ModuleApi. Synapse listens a moment later, when all modules are made."""
        try:
            homeserver = api._hs
            process, wanted = _named(homeserver.get_instance_name()), _processes(config)
            if process in wanted:
                _begin(homeserver, config)
            else:
                _log.info("the sidecar runs inside %s, not in %s", ", ".join(wanted), process)
        except Exception:
            _log.exception("Synapse runs without its sidecar, which could not be made")


def _begin(homeserver: Any, config: Any) -> None:
    from twisted.logger import STDLibLogObserver

    from sidecar.guest.guest import Guest
    from sidecar.observe.telemetry import log_into

    log_into(STDLibLogObserver("sidecar"))
    homeserver.get_reactor().callLater(0, Guest(homeserver, config).start)


def _processes(config: Any) -> list[str]:
    """Where it is to run; main, where that cannot be made out, to say so there."""
    wanted = config.get("processes") if isinstance(config, dict) else None
    wanted = [wanted] if isinstance(wanted, str) else wanted
    names = [_named(name) for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    return names or [_MAIN]


def _named(name: str) -> str:
    """The name that a process has here."""
    return _MAIN if name == _MASTER else name
