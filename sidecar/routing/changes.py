"""What may be changed in a request and its answer on their way. Nothing, unless the configuration asks for it.

Worked out once for each step of the plan, so that a request of which nothing is changed costs nothing more.
"""

from __future__ import annotations

from sidecar.config.compression import Compress
from sidecar.config.schema import Pool, Route, Settings
from sidecar.exchange.changing import Changes
from sidecar.synapse.endpoint_rows import Endpoint

_OF_SERVERS = (("_matrix", "federation"), ("_matrix", "key"))
_OF_BROWSERS = ("_synapse", "client")
"""Pages of single sign-on, with cookies; and rendezvous of QR logins, whose clients compare entity tags."""
_RENDEZVOUS = "rendezvous"
_MEDIA = "media"


def changes_of(pool: Pool, compress: Compress | None) -> Changes | None:
    """None where everything goes on as it comes."""
    strip, add = (pool.strip_prefix or "").encode(), (pool.add_prefix or "").encode()
    return Changes(strip, add, compress) if strip or add or compress is not None else None


def changes_anything(settings: Settings) -> bool:
    """Whether there can be a request of which something is changed."""
    return settings.compress is not None or any(map(changes_paths, settings.pools.values()))


def changes_paths(pool: Pool) -> bool:
    """Whether its workers get other paths than clients send."""
    return bool(pool.strip_prefix or pool.add_prefix)


def compression_of(compress: Compress | None, row: Endpoint | None, route: Route | None) -> Compress | None:
    """How the answers of an endpoint are compressed; `row` is what the table has, `route` what sends it to its pool.

    The table's client endpoints are by default, and what a route sends elsewhere. What is not known is not: a module of
    Synapse may serve anything there.
    """
    if row is not None:
        path = row.path
    elif route is not None:
        path = tuple((route.path or "/").split("/")[1:])
    else:
        return None
    if compress is None or path[:2] == _OF_BROWSERS or _RENDEZVOUS in path or _MEDIA in path:
        return None
    if route is not None and route.compress is not None:
        return compress if route.compress else None
    return None if path[:2] in _OF_SERVERS and not compress.federation else compress
