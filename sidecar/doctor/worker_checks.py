"""Each worker by itself, over its own socket: reachable, healthy, of which version, and whether it knows the client.

Blocks; asks several workers at once.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from attrs import field, frozen

from sidecar.doctor.findings import Finding, error, fine, warning
from sidecar.doctor.raw_request import Reply, ServerAddress, SilenceError, ask
from sidecar.install.permissions import WRITE, Account, hindrance
from sidecar.routing.workers import PlannedWorker
from sidecar.synapse.asker import PATH, reached_at, version_in
from sidecar.synapse.names import MAIN

AT_ONCE = 8
"""Workers that are asked at once; Synapse's queue holds 50."""
CLIENT = "192.0.2.7"
"""The client's address in our requests: nobody's (RFC 5737), so that nobody's rate limit is used up."""
FORWARDED = (("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https"))
LOGIN = "/_matrix/client/v3/login"
UNKNOWN_LOGIN = b'{"type": "org.matrix.sidecar.doctor"}'
_PROCESS = re.compile(r"[^\w.-]")


@frozen
class ExaminedWorker:
    """What was found of one worker. `reached`: it answers at all; `version` is None where it does not say."""

    name: str
    reached: bool
    version: str | None = None
    findings: tuple[Finding, ...] = field(default=(), repr=False)


def place_of(endpoint: str) -> ServerAddress | None:
    """Where a client endpoint string leads; None for kinds that are unknown here."""
    found = reached_at(endpoint)
    if found is None:
        return None
    path, host, port = found
    return ServerAddress(socket=path, address=host, port=port)


def examine_workers(workers: Iterable[PlannedWorker], account: Account | None) -> list[ExaminedWorker]:
    """All of them, in their order. `account` is that of the running sidecar, where it is known."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda worker: examine_worker(worker, account), workers))


def examine_worker(worker: PlannedWorker, account: Account | None) -> ExaminedWorker:
    """One of them."""
    place = place_of(worker.endpoint)
    if place is None:
        return ExaminedWorker(worker.name, False)
    hindered = _hindered(worker.name, place, account)
    try:
        health = ask(place, "GET", "/health", FORWARDED)
    except SilenceError as silence:
        return ExaminedWorker(worker.name, False, None, (*hindered, _silent(worker.name, place, silence)))
    try:
        reply = ask(place, "GET", PATH, FORWARDED)
        version = version_in(reply.status, reply.get("Server"), reply.content)
        findings = (*hindered, _health(worker.name, place, health, version), *_login(worker, place))
    except SilenceError as silence:
        return ExaminedWorker(worker.name, True, None, (*hindered, _silent(worker.name, place, silence)))
    return ExaminedWorker(worker.name, True, version, findings)


def _hindered(name: str, place: ServerAddress, account: Account | None) -> tuple[Finding, ...]:
    if account is None or not place.socket:
        return ()
    found = hindrance(place.socket, account, WRITE)
    if found is None:
        return ()
    mend = (
        "Let the sidecar run in the socket's group, or write `mode: 0666`. It must also be able to enter the directory."
    )
    return (error(f"The sidecar cannot connect to {name}: {found}.", mend),)


def _silent(name: str, place: ServerAddress, silence: SilenceError) -> Finding:
    number = silence.error.errno if silence.error is not None else None
    service = "matrix-synapse" if name == MAIN else f"matrix-synapse-worker@{_PROCESS.sub('', name)}"
    unit = f"`systemctl status {service}`, or whatever starts it, has the reason."
    if number == errno.ENOENT:
        return error(f"{name} is down or listens elsewhere: {place} does not exist.", unit)
    if number == errno.ECONNREFUSED:
        return error(f"{name} is down: no process listens at {place}.", unit)
    if number == errno.EACCES:
        hindered = hindrance(place.socket, Account.current(), WRITE) or f"no permission for {place}"
        return error(f"doctor cannot reach {name}: {hindered}.", "Run this as root, or as the sidecar's user.")
    if number == errno.EAGAIN:
        return error(f"{name} accepts no more connections at {place}: its queue is full.", "It hangs or is overloaded.")
    return error(f"{name} at {place} does not answer: {silence}.", "It hangs, or it is not Synapse.")


def _health(name: str, place: ServerAddress, reply: Reply, version: str | None) -> Finding:
    if reply.status != 200:
        return error(f"{name} at {place} answers {reply.told()} to /health.", "Check that Synapse listens there.")
    if version is None:
        return warning(
            f"{name} at {place} is healthy, but does not say that it is Synapse.", "Check which program listens there."
        )
    return fine(f"{name} at {place} is healthy: Synapse {version}, {1000 * reply.seconds:.0f} ms.")


def _login(worker: PlannedWorker, place: ServerAddress) -> Iterator[Finding]:
    """Where Synapse does not believe X-Forwarded-For on a socket, every login is answered 500."""
    if "client" not in worker.serves:
        return
    fields = (*FORWARDED, ("Content-Type", "application/json"))
    reply = ask(place, "POST", LOGIN, fields, UNKNOWN_LOGIN)
    if reply.status >= 500:
        yield error(
            f"{worker.name} answers {reply.status} to a login with X-Forwarded-For.",
            "Write `x_forwarded: true` into its listener. Its log has the reason.",
        )


def judge_versions(seen: Sequence[ExaminedWorker], release: str, stated: bool) -> Iterator[Finding]:
    """Whether all run the same release, and whether the endpoint table is of that one.

    `stated`: `synapse.version` says which table is used.
    """
    versions: dict[str, list[str]] = {}
    for each in seen:
        if each.version is not None:
            versions.setdefault(each.version, []).append(each.name)
    if len(versions) > 1:
        told = "; ".join(f"{version}: {', '.join(names)}" for version, names in sorted(versions.items()))
        yield warning(f"The processes have different versions: {told}.", "Restart those with the old version.")
    others = sorted(version for version in versions if not f"{version}.".startswith(f"{release}."))
    if others and stated:
        yield warning(
            f"`synapse.version` says {release}, but {', '.join(others)} runs.",
            "Remove the line: then the sidecar asks the running main process.",
        )
    elif len(versions) == 1 and not others:
        yield fine(
            f"All processes run Synapse {next(iter(versions))}, and the sidecar uses the endpoints of {release}."
        )
