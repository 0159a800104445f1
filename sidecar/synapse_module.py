"""The sidecar as a module of Synapse: `modules: [{module: sidecar.synapse_module.Sidecar, config: …}]`.

Only what Synapse calls. Nothing here may fail, since Synapse would not start: everything else is imported and done
behind a guard.
"""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger("sidecar")


class Sidecar:
    """One for each process that reads the configuration; it runs in those that `processes` names."""

    @staticmethod
    def parse_config(config: Any) -> Any:
        """Taken as it is, and judged at the start, where a fault does not prevent Synapse from running."""
        return config

    def __init__(self, config: Any, api: Any) -> None:
        """`api` is Synapse's ModuleApi. Synapse listens a moment later, when all modules are made."""
        try:
            from twisted.logger import STDLibLogObserver

            from sidecar.inside import Guest
            from sidecar.telemetry import log_into

            log_into(STDLibLogObserver("sidecar"))
            homeserver = api._hs
            homeserver.get_reactor().callLater(0, Guest(homeserver, config).start)
        except Exception:
            _log.exception("Synapse runs without its sidecar, which could not be made")
