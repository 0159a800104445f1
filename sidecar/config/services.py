"""Addresses of services beside Synapse, as URLs: how they are read, and the endpoint strings that they mean."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from sidecar.config.endpoint_strings import EndpointError
from sidecar.config.kinds import Kind, RefusedError, shown
from sidecar.synapse.listeners import escape

_EXAMPLE = "http://localhost:8080"


def service_endpoint(url: str) -> str:
    """The client endpoint string of an `http:` URL, or of `unix:` and a path. Raises EndpointError."""
    if url.startswith("unix:/"):
        return f"unix:{escape(url.removeprefix('unix:'))}"
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise EndpointError(f"it is no URL; write for example `{_EXAMPLE}`") from None
    if parts.scheme == "https":
        raise EndpointError(
            "the sidecar speaks no TLS to it; write the address where the service itself listens, for example "
            f"`{_EXAMPLE}`"
        )
    if parts.scheme != "http" or not parts.hostname or parts.username is not None:
        raise EndpointError(f"it must be an `http:` URL, or `unix:` and a path; write for example `{_EXAMPLE}`")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise EndpointError(
            "requests go there with the paths that they have; leave out what is behind the port: "
            f"`http://{parts.netloc}`"
        )
    return f"tcp:{escape(parts.hostname)}:{port}"


def is_on_this_host(url: str) -> bool:
    """Whether a URL that `service_endpoint` takes leads to this host: to loopback, or to a UNIX socket."""
    host = urlsplit(url).hostname or ""
    if url.startswith("unix:") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read(value: Any, _base: str) -> str:
    if value is False:
        return ""
    if not isinstance(value, str):
        raise RefusedError(f"must be a URL such as `{_EXAMPLE}`, or `false`, not {shown(value)}")
    try:
        service_endpoint(value)
    except EndpointError as error:
        raise RefusedError(f"{shown(value)} cannot be used: {error.message}") from None
    return value


ServiceUrl = Annotated[
    str,
    Kind(
        "URL or `false`",
        _EXAMPLE,
        _read,
        lambda url: url or "false",
        {"anyOf": [{"type": "string", "pattern": "^(http://|unix:/)"}, {"const": False}]},
    ),
]
