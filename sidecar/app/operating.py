"""The operator's listener of a running sidecar: what it looks at, and who may, wired together.

Part of the service layer: it may know everything. What a reload changes holds for the next request.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from twisted.application.service import Service

from sidecar.admin.answers import Inquiry, OperatorAnswer
from sidecar.admin.canaries import CanaryOperations
from sidecar.admin.credentials import Doorkeeper
from sidecar.admin.listener import OperatorEntrance, OperatorListener, OperatorSite
from sidecar.admin.measures import Measures
from sidecar.admin.operations import POINTS, Operations
from sidecar.admin.own import OwnUse
from sidecar.admin.page.pages import StatusPage
from sidecar.admin.recent import Recent
from sidecar.admin.sampling import Sampling
from sidecar.app.canary import Canaries
from sidecar.app.reload import Reload
from sidecar.config.operator import Operator
from sidecar.config.passwords import Secret
from sidecar.explaining.pasted import explained
from sidecar.history.hour import Hour
from sidecar.records.tally import LONG_POLLS


def operator_services(reload: Reload, endpoint: str, reactor: Any) -> Iterator[Service]:
    """The listener at `endpoint`, a Twisted server endpoint string, for the sidecar that `reload` holds."""
    recent = Recent(LONG_POLLS, Hour(lambda: reload.deployment.settings.operator.history))
    own = OwnUse()
    events = reload.sidecar.events
    operations = Operations(
        reload.look, events, reload.sidecar.hottest, recent, own, lambda: reload.deployment.settings.operator.actions
    )
    page = StatusPage(
        facts=operations.facts,
        hour=lambda: recent.hour.told(POINTS),
        drain=operations.drain,
        drain_server=operations.drain_server,
        explain=lambda text, peer: explained(reload.deployment, text, peer),
        clock=lambda: datetime.now(timezone.utc),
    )
    measures = Measures(reload.look, lambda: reload.deployment.topology)

    def rules() -> tuple[Operator, Secret | None]:
        deployment = reload.deployment
        return deployment.settings.operator, deployment.secret

    canaries = CanaryOperations(Canaries(reload.sidecar, reactor))

    def answer(inquiry: Inquiry) -> OperatorAnswer:
        asked = inquiry.method, inquiry.parts
        measured = measures.answer(*asked, inquiry.query)
        return measured or page.answer(inquiry) or canaries.answer(*asked) or operations.answer(inquiry)

    door = OperatorEntrance(answer, rules, Doorkeeper(reactor), page.dressed)
    yield Sampling(reactor, lambda: reload.sidecar.gateway, recent, events, own)
    yield OperatorListener(reactor, endpoint, OperatorSite(door, reactor), reload.sidecar.identities)
