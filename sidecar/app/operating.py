"""The operator's listener of a running sidecar: what it looks at, and who may, wired together.

Part of the service layer: it may know everything. What a reload changes holds for the next request.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from twisted.application.service import Service

from sidecar.admin.asking_siblings import Siblings
from sidecar.admin.canaries import CanaryOperations
from sidecar.admin.credentials import Doorkeeper
from sidecar.admin.everywhere import Everywhere
from sidecar.admin.listener import OperatorEntrance, OperatorListener, OperatorSite
from sidecar.admin.measures import Measures
from sidecar.admin.operations import POINTS, Operations
from sidecar.admin.operator_answer import Inquiry, OperatorAnswer, with_remark
from sidecar.admin.own import OwnUse
from sidecar.admin.page.pages import StatusPage
from sidecar.admin.recent import Recent
from sidecar.admin.sampling import Sampling
from sidecar.app.canary import Canaries
from sidecar.app.reload import Reload
from sidecar.app.remembering import RememberedDrains
from sidecar.config.operator import Operator
from sidecar.config.passwords import Secret
from sidecar.config.siblings import SiblingRules, instances
from sidecar.explaining.pasted import explained
from sidecar.history.hour import Hour
from sidecar.records.tally import LONG_POLLS


def _operations(reload: Reload, recent: Recent, own: OwnUse) -> Operations:
    """What can be asked of the sidecar that `reload` holds, and done with it."""
    sidecar = reload.sidecar
    return Operations(
        reload.look,
        sidecar.events,
        sidecar.hottest,
        reload.adjust,
        recent,
        own,
        maintain=reload.maintain,
        actions=lambda: reload.deployment.settings.operator.actions,
        move_polls=sidecar.move_polls,
    )


def operator_services(reload: Reload, endpoint: str, reactor: Any) -> Iterator[Service]:
    """The listener at `endpoint`, a Twisted server endpoint string, for the sidecar that `reload` holds."""
    recent = Recent(LONG_POLLS, Hour(lambda: reload.deployment.settings.operator.history))
    own = OwnUse()
    events = reload.sidecar.events
    operations = _operations(reload, recent, own)
    measures = Measures(reload.look, lambda: reload.deployment.topology)

    canaries = CanaryOperations(Canaries(reload.sidecar, reactor))
    drains = RememberedDrains(reload, reactor)

    async def api(inquiry: Inquiry) -> OperatorAnswer:
        asked = inquiry.method, inquiry.parts
        measured = measures.answer(*asked, inquiry.query)
        found = measured or canaries.answer(*asked) or operations.answer(inquiry)
        return found if inquiry.method != "POST" else with_remark(found, await drains.keep())

    everywhere = Everywhere(_siblings(reload, endpoint, reactor), api, operations.facts)
    page = StatusPage(
        facts=everywhere.picture,
        hour=lambda: recent.hour.told(POINTS),
        act=everywhere.answer,
        explain=lambda text, peer: explained(reload.deployment, text, peer),
        clock=lambda: datetime.now(timezone.utc),
        patience=lambda: reload.deployment.settings.operator.sibling_timeout,
    )

    door = _door(reload, everywhere, page, reactor)
    yield drains
    yield Sampling(reactor, lambda: reload.sidecar.gateway, recent, events, own)
    yield OperatorListener(reactor, endpoint, OperatorSite(door, reactor), reload.sidecar.identities)


def _door(reload: Reload, everywhere: Everywhere, page: StatusPage, reactor: Any) -> OperatorEntrance:
    """Lets in who may, to the page and to the API."""

    def rules() -> tuple[Operator, Secret | None]:
        deployment = reload.deployment
        return deployment.settings.operator, deployment.secret

    async def answer(inquiry: Inquiry) -> OperatorAnswer:
        found = page.answer(inquiry)
        if found is None:
            return await everywhere.answer(inquiry)
        return found if isinstance(found, OperatorAnswer) else await found

    def dressed(inquiry: Inquiry, found: OperatorAnswer) -> OperatorAnswer:
        return everywhere.signed(inquiry, page.dressed(inquiry, found))

    return OperatorEntrance(answer, rules, Doorkeeper(reactor), dressed)


def _siblings(reload: Reload, endpoint: str, reactor: Any) -> Siblings:
    """The other instances, as the configuration of each moment names them."""
    machine = socket.gethostname()

    def rules() -> SiblingRules:
        deployment = reload.deployment
        operator = deployment.settings.operator
        own, others = instances(endpoint, operator.siblings, machine)
        return SiblingRules(
            own=own,
            others=others,
            user=operator.user,
            password=deployment.sibling_password,
            seconds=operator.sibling_timeout,
            most=operator.sibling_answer,
        )

    return Siblings(reactor, lambda: reload.sidecar.names, rules)
