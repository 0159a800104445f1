"""Everything that a start reads, read: settings, Synapse's topology, the endpoint table, and the plan made of them.

The same for `twistd matrix-sidecar`, a reload, and the commands that only look. Opens files; no reactor, no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from attrs import evolve, field, frozen

from sidecar.config.endpoint_strings import address_of
from sidecar.config.load import load_settings
from sidecar.config.log import read_secret, unknown_endpoints
from sidecar.config.passwords import PasswordHash, PlainPassword, Secret, secret_of
from sidecar.config.references import WORKERS, check_references
from sidecar.config.schema import Settings
from sidecar.document import dotted
from sidecar.errors import ConfigError, Problem, Severity
from sidecar.routing.auth_service import find_service
from sidecar.routing.compile import compile_plan
from sidecar.routing.overrides import Override, adjusted, weights_of
from sidecar.routing.plan import Plan
from sidecar.routing.workers import workers_of
from sidecar.synapse.asker import ask_version
from sidecar.synapse.endpoint_rows import EndpointTable, load_endpoints
from sidecar.synapse.mas import MAS
from sidecar.synapse.names import BUILT_IN_POOLS
from sidecar.synapse.reading import read_topology
from sidecar.synapse.topology import Topology

DEFAULT_PATH = "/etc/matrix-sidecar/sidecar.yaml"
"""Where the configuration file is unless another one is named."""

_HASHED = (
    "siblings with the same password will refuse this instance, which has only its hash: write "
    "`operator.sibling_password_file` with the password itself"
)


@frozen(kw_only=True)
class Deployment:
    """What runs, or would run."""

    settings: Settings
    topology: Topology
    table: EndpointTable
    plan: Plan
    secret: Secret | None = field(default=None, repr=False)
    """The operator's password; None: none is asked for."""
    sibling_password: bytes | None = field(default=None, repr=False)
    """What siblings are sent; None: nothing."""
    log_secret: bytes | None = field(default=None, repr=False)
    """By which keys are hashed in the access log; None: each process makes one."""
    overrides: tuple[Override, ...] = ()
    """What an operator wants of workers in place of what the files say."""
    problems: tuple[Problem, ...]
    """What is wrong but does not prevent a start. An error among them means that some requests will fail."""


@frozen
class UnusableError(ConfigError):
    """Files that cannot be worked by."""

    topology: Topology
    """What of Synapse could be read all the same."""


def read_deployment(
    path: str, *, listen: Sequence[str] = (), admin: str | None = None, version: str | None = None
) -> Deployment:
    """Read the configuration file at `path` and all that it names.

    `listen` and `admin` override the file; `version` is that of the running Synapse, used where the file states none.
    Raises ConfigError with everything that prevents a start.
    """
    settings = load_settings(path)
    if listen:
        settings = evolve(settings, listen=tuple(listen))
    if admin is not None:
        settings = evolve(settings, admin=admin)
    return deployment_by(settings, version)


def deployment_by(settings: Settings, version: str | None = None) -> Deployment:
    """The same for settings that were read already. Raises ConfigError."""
    topology = read_topology(settings.synapse.config, settings.synapse.workers, settings.workers)
    try:
        if topology.unreadable:
            # Whatever refers to a worker would be wrong for that reason alone.
            raise ConfigError(dict.fromkeys((*topology.unreadable, *settings.warnings, *topology.problems)))
        return _deployment(settings, topology, version)
    except ConfigError as error:
        raise UnusableError(error.problems, topology) from error


def for_version(deployment: Deployment, version: str) -> Deployment:
    """The same files, as they were read, for Synapse `version`. Raises ConfigError."""
    return _deployment(deployment.settings, deployment.topology, version, overrides=deployment.overrides)


def with_table(deployment: Deployment, table: EndpointTable) -> Deployment:
    """The same files with another endpoint table. Raises ConfigError."""
    return _deployment(deployment.settings, deployment.topology, None, table, deployment.overrides)


def with_overrides(deployment: Deployment, overrides: tuple[Override, ...]) -> Deployment:
    """The same files, as they were read, with other values for workers."""
    if weights_of(overrides) == weights_of(deployment.overrides):
        # Where requests go stays as it is, and a plan takes a tenth of a second.
        filed = {name: evolve(each, maximum=each.settings.maximum) for name, each in deployment.plan.workers.items()}
        changed = {name: adjusted(each, overrides) for name, each in filed.items()}
        return evolve(deployment, plan=evolve(deployment.plan, workers=changed), overrides=overrides)
    service, _ = find_service(deployment.settings, deployment.topology)
    workers, facts = workers_of(deployment.topology, deployment.settings)
    rows = deployment.table.endpoints
    plan = compile_plan(deployment.settings, workers, rows, evolve(facts, mas=service), overrides)
    return evolve(deployment, plan=plan, overrides=overrides)


def _deployment(
    settings: Settings,
    topology: Topology,
    version: str | None,
    table: EndpointTable | None = None,
    overrides: tuple[Override, ...] = (),
) -> Deployment:
    service, missing = find_service(settings, topology)
    references, explained = _references(settings, topology, service.name if service is not None else "")
    secret, doubts = secret_of(settings.operator.password_hash, settings.operator.password_file)
    log_secret, more = _log_secret(settings)
    sibling_password, unsent = _sibling_password(settings, secret)
    doubted = (settings.source.problem(("operator", "password_file"), *doubt) for doubt in doubts)
    stated = (*references, *doubted, *unsent, *more)
    found = (problem for problem in topology.problems if problem not in explained)
    problems = [*settings.warnings, *found, *stated, *missing]
    if any(problem.severity is Severity.ERROR for problem in stated):
        raise ConfigError(dict.fromkeys(problems))
    table = table or _endpoints(settings, version)
    unknown = unknown_endpoints(settings.log, {endpoint.name for endpoint in table.endpoints})
    problems += (settings.source.problem(*fault, Severity.WARNING) for fault in unknown)
    workers, facts = workers_of(topology, settings)
    try:
        plan = compile_plan(settings, workers, table.endpoints, evolve(facts, mas=service), overrides)
    except ConfigError as error:
        # What was found in Synapse's files is likely to be the reason.
        raise ConfigError(dict.fromkeys((*problems, *error.problems))) from error
    problems += plan.problems
    loops = tuple(_loops(settings, plan))
    if loops:
        raise ConfigError(dict.fromkeys((*problems, *loops)))
    if table.gap:
        problems.append(settings.source.problem(("synapse", "version"), table.gap, Severity.WARNING))
    return Deployment(
        settings=settings,
        topology=topology,
        table=table,
        plan=plan,
        secret=secret,
        sibling_password=sibling_password,
        log_secret=log_secret,
        overrides=overrides,
        problems=tuple(dict.fromkeys(problems)),
    )


def _references(
    settings: Settings, topology: Topology, service: str
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """What refers to nothing, and those problems of the topology that it says already. `service`: of MAS, if any."""
    known = {process.name: process.serves for process in topology.processes}
    pools = BUILT_IN_POOLS
    if service:
        known, pools = {service: frozenset(), **known}, (*BUILT_IN_POOLS, MAS)
    found = check_references(settings, known, pools, [problem.file for problem in topology.missing])
    return found, topology.missing if any(problem.key == dotted(WORKERS) for problem in found) else ()


def read_for_running_synapse(read: Callable[..., Deployment], timeout: float = 1.0) -> Deployment:
    """What `read` (`read_deployment` with its arguments) reads, with the endpoints of the Synapse that is running.

    Where the file states the version, or the main process does not tell it within `timeout` seconds, nobody is asked
    twice. Raises ConfigError.
    """
    deployment = read()
    if deployment.settings.synapse.version is not None:
        return deployment
    version = ask_version(deployment.plan.workers[deployment.plan.main].endpoint, timeout)
    return deployment if version is None else for_version(deployment, version)


def deployment_of(path: str, *, ask: bool) -> Deployment:
    """As a start reads it; without `ask` the running Synapse is not asked for its version. Raises ConfigError."""
    read = partial(read_deployment, path)
    return read_for_running_synapse(read) if ask else read()


def _sibling_password(settings: Settings, own: Secret | None) -> tuple[bytes | None, list[Problem]]:
    """The password for siblings: of a file of its own, or the one that is asked for here, where it can be read."""
    operator = settings.operator
    path, problem = ("operator", "sibling_password_file"), settings.source.problem
    if operator.sibling_password_file is None:
        if isinstance(own, PlainPassword):
            return own.octets, []
        hashed = operator.siblings and own is not None
        return None, [problem(("operator", "siblings"), _HASHED, Severity.WARNING)] if hashed else []
    secret, doubts = secret_of(None, operator.sibling_password_file)
    if isinstance(secret, PasswordHash):
        return None, [problem(path, "holds a hash, which cannot be sent; write the password itself")]
    return None if secret is None else secret.octets, [problem(path, *doubt) for doubt in doubts]


def _log_secret(settings: Settings) -> tuple[bytes | None, list[Problem]]:
    try:
        return read_secret(settings.log), []
    except ValueError as error:
        return None, [settings.source.problem(("log", "secret_file"), str(error))]


def _loops(settings: Settings, plan: Plan) -> Iterator[Problem]:
    """A worker at an address where the sidecar itself listens would send every request round for ever."""
    own = {address for address in map(address_of, settings.listen) if address is not None}
    for name, worker in plan.workers.items():
        if address_of(worker.endpoint) in own:
            is_mas = plan.membership.facts.mas is not None and name == plan.membership.facts.mas.name
            key = f"workers.{name}.endpoint" if name in settings.workers else "synapse.mas" if is_mas else "listen"
            message = f"{worker.endpoint} is where the sidecar itself listens; write the address of worker {name}"
            yield settings.source.problem(tuple(key.split(".")), message)


def _endpoints(settings: Settings, version: str | None) -> EndpointTable:
    stated = settings.synapse.version
    try:
        return load_endpoints(stated or version)
    except ValueError as error:
        if stated is None:
            return load_endpoints(None)
        raise ConfigError([settings.source.problem(("synapse", "version"), str(error))]) from error
