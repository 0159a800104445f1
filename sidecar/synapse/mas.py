"""The endpoints of the Matrix Authentication Service (MAS) at Synapse's address, and where Synapse's files say it is.

MAS keeps clients that know no OAuth alive: it answers what they use to log in and out, which Synapse does not any more.
Source: MAS's docs/setup/reverse-proxy.md (`^/_matrix/client/(.*)/(login|logout|refresh)`), and the routes of its
compatibility layer in crates/router/src/endpoints.rs and crates/handlers/src/lib.rs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidecar.synapse.endpoint_rows import Endpoint, endpoints_of
from sidecar.synapse.files import Merged

MAS = "mas"
"""Name of the pool, of the worker in it, and of the feature."""
DEFAULT_ENDPOINT = "http://localhost:8080"
"""Where Synapse looks for MAS unless it is told otherwise (config/mas.py)."""

_PREFIXES = ("/_matrix/client/{version}", "/_matrix/client/api/v1")
_ROUTES = (
    ("login", "GET", "/login"),
    ("login", "POST", "/login"),
    ("sso_redirect", "GET", "/login/sso/redirect"),
    ("sso_redirect", "GET", "/login/sso/redirect/{idp_id}"),
    ("logout", "POST", "/logout"),
    ("logout_all", "POST", "/logout/all"),
    ("refresh_token", "POST", "/refresh"),
)


def _rows() -> Iterator[Endpoint]:
    for prefix in _PREFIXES:
        for name, methods, path in _ROUTES:
            yield from endpoints_of(
                {
                    "name": name,
                    "group": MAS,
                    "methods": methods,
                    "path": prefix + path,
                    # Nobody of Synapse's can stand in: they all answer 404.
                    "hard": True,
                    "affinity": "none",
                    "replayable": methods == "GET",
                    "cost": "normal",
                }
            )


MAS_ROWS: tuple[Endpoint, ...] = tuple(_rows())
"""Its endpoints below /_matrix, in any version prefix."""


def with_mas(rows: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The rows, with those of MAS in place of Synapse's own for the same paths."""
    return (*(row for row in rows if not any(_covers(own.path, row.path) for own in MAS_ROWS)), *MAS_ROWS)


def _covers(own: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(own) == len(path) and all(
        mine.startswith("{") or mine == theirs or mine in theirs.strip("{}").split("|")
        for mine, theirs in zip(own, path, strict=True)
    )


def stated_endpoint(config: Merged) -> str:
    """Where Synapse reaches MAS; empty where it is not enabled, or its address is not said.

    `experimental_features.msc3861`, of releases before 1.136, names only the public address of the issuer.
    """
    section = config.get("matrix_authentication_service")
    if not isinstance(section, dict) or section.get("enabled") is not True:
        return ""
    endpoint = section.get("endpoint", DEFAULT_ENDPOINT)
    return endpoint if isinstance(endpoint, str) else ""
