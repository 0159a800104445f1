"""`/.well-known/matrix`: whether clients and servers that know only the server's name find the way. Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.doctor.findings import Finding, error, fine, warning
from sidecar.doctor.raw_request import Reply, ServerAddress, SilenceError, ask

CLIENT, SERVER = "/.well-known/matrix/client", "/.well-known/matrix/server"
DEFAULT_PORT = 8448
"""Of federation, where nothing is delegated (server-server API, "Resolving server names")."""


def examine_delegation(server_name: str, place: ServerAddress, public: str) -> Iterator[Finding]:
    """What `place`, to which the server's name leads, says; `public` is the URL under which the sidecar is reached."""
    yield _client(server_name, place, public)
    yield _server(server_name, place, public)


def _ask(place: ServerAddress, path: str) -> Reply | str:
    try:
        return ask(place, "GET", path)
    except SilenceError as silence:
        return str(silence)


def _client(server_name: str, place: ServerAddress, public: str) -> Finding:
    reply = _ask(place, CLIENT)
    wanted = f'Serve {{"m.homeserver": {{"base_url": "{public}"}}}} there, with `Access-Control-Allow-Origin: *`.'
    if isinstance(reply, str):
        return warning(f"{CLIENT} of {server_name}: {reply}. Clients look up the homeserver's address there.", wanted)
    if reply.status != 200:
        return warning(
            f"{CLIENT} of {server_name} answers {reply.status}: users must enter the homeserver's address themselves.",
            wanted,
        )
    homeserver = reply.values.get("m.homeserver")
    url = homeserver.get("base_url") if isinstance(homeserver, dict) else None
    if not isinstance(url, str):
        return error(f"{CLIENT} of {server_name} has no `m.homeserver` with `base_url`: clients refuse it.", wanted)
    if reply.all("Access-Control-Allow-Origin") != ["*"]:
        return error(f"{CLIENT} of {server_name} does not allow requests from other origins: web clients fail.", wanted)
    if _origin(url) != _origin(public):
        return warning(f"{CLIENT} of {server_name} points to {url}, not to {public}.", wanted)
    return fine(f"Clients find {server_name} at {url}.")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port; the usual port is the same as none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url, None, None
    return parts.scheme, parts.hostname, port or {"https": 443, "http": 80}.get(parts.scheme)


def _server(server_name: str, place: ServerAddress, public: str) -> Finding:
    reply = _ask(place, SERVER)
    host, port = urlsplit(public).hostname or "", urlsplit(public).port or 443
    wanted = f'Serve {{"m.server": "{host}:{port}"}} there, or make {server_name}:{DEFAULT_PORT} reach the sidecar.'
    if isinstance(reply, str) or reply.status != 200:
        told = reply if isinstance(reply, str) else f"it answers {reply.status}"
        if (host, port) == (server_name, DEFAULT_PORT):
            return fine(f"Other servers connect to {host}:{port}: {SERVER} delegates nothing ({told}).")
        return warning(
            f"{SERVER} of {server_name} delegates nothing ({told}), so other servers connect to "
            f"{server_name}:{DEFAULT_PORT}.",
            wanted,
        )
    delegated = reply.values.get("m.server")
    if not isinstance(delegated, str) or not delegated:
        return error(f"{SERVER} of {server_name} has no `m.server`: other servers ignore it.", wanted)
    if delegated.lower() not in (f"{host}:{port}", *((host,) if port == DEFAULT_PORT else ())):
        return warning(f"{SERVER} of {server_name} points to {delegated}, not to {host}:{port}.", wanted)
    return fine(f"Other servers find {server_name} at {delegated}.")
