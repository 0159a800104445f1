"""The operator's listener of a running sidecar: what it looks at, and who may, wired together.

Part of the service layer: it may know everything. What is asked by a reload holds for the next request.
"""

from __future__ import annotations

from typing import Any

from sidecar.admin.credentials import Doorkeeper
from sidecar.admin.listener import Entrance, OperatorListener, OperatorSite
from sidecar.admin.operations import Operations
from sidecar.config.operator import Operator
from sidecar.config.passwords import Secret
from sidecar.reload import Reload


def operator_listener(reload: Reload, endpoint: str, reactor: Any) -> OperatorListener:
    """The listener at `endpoint`, a Twisted server endpoint string, for the sidecar that `reload` holds."""
    operations = Operations(reload.look)

    def rules() -> tuple[Operator, Secret | None]:
        deployment = reload.deployment
        return deployment.settings.operator, deployment.secret

    entrance = Entrance(
        answer=lambda inquiry: operations.answer(inquiry.method, inquiry.path),
        rules=rules,
        doorkeeper=Doorkeeper(reactor),
    )
    return OperatorListener(reactor, endpoint, OperatorSite(entrance))
