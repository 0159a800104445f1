"""One examination of an installation: what is looked at, in which order, and where everything is. Blocks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from attrs import frozen

from sidecar.config.amounts import write_size
from sidecar.config.endpoint_strings import address_of, entrance, is_foreign
from sidecar.doctor.authentication import examine_mas
from sidecar.doctor.delegation import examine_delegation
from sidecar.doctor.findings import Finding, error, fine, unknown, warning
from sidecar.doctor.front import Front
from sidecar.doctor.operators import Operators
from sidecar.doctor.pool_checks import examine_pools
from sidecar.doctor.public import Public, examine_plain
from sidecar.doctor.raw_request import ServerAddress, SilenceError, ask
from sidecar.doctor.worker_checks import (
    FORWARDED,
    LOGIN,
    UNKNOWN_LOGIN,
    ExaminedWorker,
    examine_workers,
    judge_versions,
    place_of,
)
from sidecar.errors import Severity
from sidecar.install import units
from sidecar.install.advice import unreadable
from sidecar.install.command_lines import sidecars
from sidecar.install.fronts import reached_at
from sidecar.install.permissions import Account, of_process
from sidecar.loading.deployment import Deployment
from sidecar.plurals import counted

PLAIN_PORT = 80
"""Of http, beside https."""
SYSTEMD = ServerAddress(address="127.0.0.1", port=8008)
"""Where the socket unit listens, unless it was changed."""
_AREAS = ("Configuration", "The running sidecar", "Workers", "Pools")
_AREAS_OF_PUBLIC = ("The proxy in front", "Delegation")


@frozen(kw_only=True)
class Wishes:
    """What is to be examined besides the files."""

    admin: Sequence[str] = ()
    """Server endpoint strings of operator's listeners; none: that of the file, and those of the units."""
    password: bytes | None = None
    run_as: str | None = None
    """Who the sidecar runs as; None: found out."""
    public: Public | None = None
    well_known: ServerAddress | None = None
    """Where the server's name leads; None: to itself."""
    slow: float | None = None


@frozen(kw_only=True)
class Examination:
    """One run."""

    deployment: Deployment
    wishes: Wishes

    @property
    def names(self) -> tuple[str, ...]:
        """Of the areas, in their order."""
        return (*_AREAS, *_AREAS_OF_PUBLIC) if self.wishes.public is not None else _AREAS

    def areas(self) -> Iterator[tuple[str, Iterable[Finding]]]:
        """The areas with their findings, each worked out as it is asked for."""
        operators = self._operators()
        account = self._account()
        configuration, sidecar, of_workers, pools = _AREAS
        yield configuration, self._configuration(account)
        yield sidecar, self._sidecar(operators)
        service = self._service()
        beside = {name for name, _ in service}
        workers = [worker for worker in self.deployment.plan.workers.values() if worker.name not in beside]
        seen = examine_workers(workers, account)
        yield of_workers, (*self._workers(seen), *(examine_mas(place) for _, place in service))
        gateway = self._gateway(operators)
        places = {
            each.name: place_of(self.deployment.plan.workers[each.name].endpoint) for each in seen if each.reached
        }
        known = {name: place for name, place in (*places.items(), *service) if place is not None}
        yield pools, examine_pools(self.deployment.plan, known, gateway)
        if self.wishes.public is not None:
            front, delegation = _AREAS_OF_PUBLIC
            yield front, self._front(self.wishes.public, operators)
            yield delegation, self._delegation(self.wishes.public)

    # Where things are.

    def _operators(self) -> Operators:
        settings = self.deployment.settings
        named = self.wishes.admin or ([settings.admin] if settings.admin else [])
        places = [place for endpoint in named if (place := _place(endpoint)) is not None]
        if not self.wishes.admin:
            instances = [ServerAddress(socket=path) for path in units.admin_sockets(settings.admin)]
            if instances:
                # Each instance has a socket of its own, instead of the one that the file names.
                places = [place for place in places if not place.socket or os.path.lexists(place.socket)]
            places += instances
        return Operators(tuple(dict.fromkeys(places)), settings.operator.user, self.wishes.password)

    def _account(self) -> Account | None:
        """Who the sidecar runs as: the one that is named, that of a running one, or that of its unit."""
        if self.wishes.run_as is not None:
            return units.account("/", self.wishes.run_as)
        running = [account for pid in sidecars() if (account := of_process(pid)) is not None]
        return next(iter(running), None) or units.expected()

    def _service(self) -> list[tuple[str, ServerAddress]]:
        """The Matrix Authentication Service, which is asked other questions than Synapse; empty where there is none."""
        plan = self.deployment.plan
        service = plan.membership.facts.mas
        place = None if service is None else place_of(plan.workers[service.name].endpoint)
        return [] if service is None or place is None else [(service.name, place)]

    def _gateway(self, operators: Operators) -> ServerAddress | None:
        """Where the sidecar answers, as it says itself, or as the file says."""
        stated = [_place(each) or SYSTEMD for each in self._plain()]
        for place in dict.fromkeys((*map(listened, operators.listening()), *stated)):
            with suppress(SilenceError):
                ask(place, "GET", "/_matrix/client/versions")
                return place
        return None

    def _plain(self) -> list[str]:
        """Endpoints on which plain HTTP is taken, with neither TLS nor the PROXY protocol in front of it."""
        entrances = map(entrance, self.deployment.settings.listen)
        plain = [each.address for each in entrances if each.tls is None and not each.announced]
        return [address for address in plain if not is_foreign(address)]

    # What is looked at.

    def _configuration(self, account: Account | None) -> Iterator[Finding]:
        deployment = self.deployment
        for problem in deployment.problems:
            judge = error if problem.severity is Severity.ERROR else warning
            yield judge(problem.told(), "")
        if account is not None:
            ours = (document.file for document in deployment.settings.source.files)
            files = (*ours, *deployment.topology.files)
            yield from (error(problem.told(), "") for problem in unreadable(files, account))
        takes, wants = deployment.settings.limits.request_body, deployment.topology.max_upload_size
        if deployment.topology.known and takes < wants:
            yield warning(
                f"Synapse accepts uploads of {write_size(wants)}, but the sidecar only of {write_size(takes)}.",
                f"Write `limits: {{request_body: {write_size(wants)}}}`.",
            )
        plan = deployment.plan
        yield fine(
            f"{deployment.settings.path} has {counted(len(plan.workers), 'process', 'processes')}, "
            f"{counted(len(plan.pools), 'pool')}, "
            f"{counted(len(plan.rows), 'endpoint')} of Synapse {deployment.table.release}."
        )

    def _sidecar(self, operators: Operators) -> Iterator[Finding]:
        if operators.places:
            yield from operators.examine(self.deployment)
        else:
            yield unknown("The sidecar has no operator's listener, so its status is unknown.", _ADMIN)
        gateway = self._gateway(operators)
        if gateway is None and not self._plain():
            yield unknown(
                "The sidecar accepts only TLS or the PROXY protocol, no plain HTTP, so doctor cannot test it directly.",
                "Test it through the proxy in front, with --public.",
            )
            return
        if gateway is None:
            yield error(
                f"The sidecar does not answer at {', '.join(self.deployment.settings.listen)}.",
                "Start it: `systemctl start matrix-sidecar`. If it does not start, read its log.",
            )
            return
        fields = (("X-Forwarded-For", FORWARDED[0][1]), ("Content-Type", "application/json"))
        with suppress(SilenceError):
            reply = ask(gateway, "POST", LOGIN, fields, UNKNOWN_LOGIN)
            if reply.status >= 500:
                yield error(f"A login through the sidecar at {gateway} gets {reply.told()}.", "Its log has the reason.")
            else:
                yield fine(
                    f"The sidecar at {gateway} answers; Synapse refuses a login of an unknown user ({reply.told()})."
                )

    def _workers(self, seen: Sequence[ExaminedWorker]) -> Iterator[Finding]:
        for each in seen:
            yield from each.findings
        stated = self.deployment.settings.synapse.version is not None
        yield from judge_versions(seen, self.deployment.table.release, stated)

    def _front(self, public: Public, operators: Operators) -> Iterator[Finding]:
        front = Front(
            public=public,
            operators=operators,
            upload=self.deployment.topology.max_upload_size,
        )
        yield from front.examine(self.wishes.slow)
        if public.scheme == "https":
            yield examine_plain(public.place.address or public.place.host, PLAIN_PORT)

    def _delegation(self, public: Public) -> Iterator[Finding]:
        name = self.deployment.topology.server_name
        if not name:
            yield unknown("The homeserver's name is unknown, because `synapse.config` names no files.")
            return
        # Without the port that may belong to the name.
        host = urlsplit(f"//{name}").hostname or name
        place = self.wishes.well_known or Public.of(f"https://[{host}]" if ":" in host else f"https://{host}").place
        yield from examine_delegation(name, place, public.url)


_ADMIN = (
    'Write `admin: "unix:/run/matrix-sidecar/admin.sock:mode=660"`, which only the operator can reach, and restart it.'
)


def _place(endpoint: str) -> ServerAddress | None:
    """Where a server endpoint string is reached from this host; None where it does not say, or takes no plain HTTP.

    What is meant for the operator's listener must not go anywhere else: it may carry the operator's password.
    """
    door = entrance(endpoint)
    if door.tls is not None or door.announced or address_of(door.address) is None:
        return None
    address, port, path = reached_at(door.address)
    return ServerAddress(address=address, port=port, socket=path)


def listened(text: str) -> ServerAddress:
    """The same for where a sidecar says that it listens: a path, or address and port."""
    if text.startswith("/"):
        return ServerAddress(socket=text)
    host, _, port = text.rpartition(":")
    return ServerAddress(address={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port=int(port))  # noqa: S104
