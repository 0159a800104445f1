"""The Matrix Authentication Service beside Synapse: where it is, and who may call Synapse for it. Reads nothing."""

from __future__ import annotations

from ipaddress import ip_network

from attrs import frozen

from sidecar.config.endpoint_strings import EndpointError
from sidecar.config.schema import LOOPBACK, Network, Settings
from sidecar.config.services import is_on_this_host, service_endpoint
from sidecar.errors import Problem, Severity
from sidecar.synapse.mas import MAS
from sidecar.synapse.topology import Topology

_KEYS = ("matrix_authentication_service", "endpoint")
_UNROUTED = (
    "until then /login, /logout and /refresh are answered 404 here, and nobody can log in unless the proxy in front "
    "sends them to MAS itself (then write `synapse: {mas: false}`)"
)


@frozen
class Service:
    """MAS, as a worker that is no Synapse process."""

    name: str
    """Of that worker."""
    endpoint: str
    """Twisted client endpoint string."""
    callers: tuple[Network, ...]
    """Who may reach /_synapse/mas where `access.mas` does not say."""


def find_service(settings: Settings, topology: Topology) -> tuple[Service | None, tuple[Problem, ...]]:
    """MAS, if it is used and its address is known, and what is missing for it to work."""
    stated = settings.synapse.mas
    if stated == "":
        return None, ()
    used = MAS in topology.features
    if stated is None and not used:
        return None, ()
    url = topology.mas if stated is None else stated
    try:
        endpoint = service_endpoint(url) if url else ""
    except EndpointError as error:
        return None, (
            _unusable(topology, f"`{url}` is where Synapse reaches MAS, and cannot be used: {error.message}"),
        )
    if not endpoint:
        return None, (_unusable(topology, "MAS issues the tokens, but these files do not say where it is"),)
    here = is_on_this_host(url)
    taken = {process.name for process in topology.processes if process.file}
    service = Service("matrix-authentication-service" if MAS in taken else MAS, endpoint, LOOPBACK if here else ())
    problems = []
    if settings.access.mas is None and not here:
        problems.append(_closed(settings, url))
    if topology.known and not used:
        message = (
            "Synapse's files do not enable `matrix_authentication_service`: it refuses the tokens that MAS issues; "
            "enable it there, or write `mas: false`"
        )
        problems.append(settings.source.problem(("synapse", "mas"), message, Severity.WARNING))
    return service, tuple(problems)


def _unusable(topology: Topology, what: str) -> Problem:
    main = next((process for process in (*topology.processes, *topology.silent) if process.is_main), None)
    message = f"{what}; write `synapse: {{mas: http://HOST:PORT}}` into sidecar.yaml; {_UNROUTED}"
    if main is None:
        return Problem("", 0, ".".join(_KEYS), message, Severity.WARNING)
    return main.config.warning(_KEYS, message)


def _closed(settings: Settings, url: str) -> Problem:
    """MAS on another host: its address as others see it is not in the URL, unless that has a number."""
    host = url.removeprefix("http://").partition("/")[0]
    try:
        address = str(ip_network(host.rpartition(":")[0].strip("[]") or host).network_address)
    except ValueError:
        address = "ADDRESS"
    message = (
        f"MAS at {url} may not reach /_synapse/mas, so it cannot make users or devices: write `access: "
        f'{{mas: "{address}"}}` with the address from which it calls, or `[]` if it calls Synapse past the sidecar'
    )
    return settings.source.problem(("access", "mas"), message, Severity.WARNING)
