"""What a deployment means for the data path, as one value: made when it is read, replaced by a reload as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from sidecar.app.making import gate_limits
from sidecar.callers.whoami import Askable, askable
from sidecar.config.schema import Settings
from sidecar.loading.deployment import Deployment
from sidecar.relay.admission import GateLimits
from sidecar.relay.gateway import Decide
from sidecar.routing.decide import decider
from sidecar.routing.maintenance import Maintenance, under
from sidecar.routing.workers import PlannedWorker
from sidecar.synapse.names import MAIN


@frozen(eq=False, kw_only=True)
class Work:
    """What the sidecar works by."""

    settings: Settings
    workers: Mapping[str, PlannedWorker]
    """With all that is known of each: nothing of it is copied on the way to where it is needed."""
    decide: Decide
    gates: Mapping[str, GateLimits] = field(factory=dict)
    """How many requests each pool serves at once."""
    main: str = MAIN
    askable: Askable | None = None
    """Who is asked for users whose tokens do not name them."""
    id_fields: Sequence[str] = ()
    """Fields in which Synapse's processes read the id of a request; more than one only where they differ."""
    public_scheme: str = ""
    """What clients are meant to use, as Synapse's files say."""
    log_secret: bytes | None = field(default=None, repr=False)
    """By which keys are hashed in the access log."""


def work_of(deployment: Deployment, maintenance: Maintenance | None = None) -> Work:
    """What the sidecar works by under `deployment`."""
    plan = deployment.plan
    named = (process.request_id_header for process in deployment.topology.processes)
    return Work(
        settings=deployment.settings,
        workers=plan.workers,
        decide=under(maintenance, decider(plan)),
        gates={name: gate_limits(pool, deployment.settings.limits) for name, pool in plan.pools.items()},
        main=plan.main,
        askable=askable(plan),
        id_fields=tuple(dict.fromkeys(name for name in named if name)),
        public_scheme=deployment.topology.public_scheme,
        log_secret=deployment.log_secret,
    )
