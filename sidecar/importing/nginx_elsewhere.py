"""Locations of nginx that are not for Synapse's endpoints, as routes of ours, and who may come to its admin API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from sidecar.importing.asked import Asked, Place
from sidecar.importing.conversion import outcome_of
from sidecar.importing.draft import OwnRoute
from sidecar.importing.nginx_locations import Location, find
from sidecar.importing.nginx_rules import target_of
from sidecar.importing.nginx_site import NginxSite, main_root
from sidecar.importing.nginx_tree import first
from sidecar.importing.paths import of_exact, of_expression, of_prefix

_SYNAPSE = re.compile(r"/_(?:matrix(?!/identity)|synapse)")
_ADMIN = ("/_synapse/admin/v1/rooms", "/_synapse/admin/v2/users", "/_synapse/admin/v1/media/x")
_FILES = "it serves files; leave them with a web server and send them there by a pool of your own"


def own_routes(site: NginxSite, deciding: Iterable[Place], host: str) -> Iterator[OwnRoute]:
    """The locations that decide no request for an endpoint of Synapse. `deciding`: the places of those that do."""
    root = main_root(site)
    busy = set(deciding)
    for each in root.inner if root is not None else ():
        if each.place not in busy and each.modifier != "@" and each.text != "/" and not _SYNAPSE.search(each.text):
            paths = _paths(each)
            if each.inner:
                yield OwnRoute(place=each.place, why_not="it has locations inside; write a route for each")
            elif paths is None:
                yield OwnRoute(place=each.place, why_not="its expression is no path of ours; write a route by hand")
            for path in paths or () if not each.inner else ():
                yield _own_route(site, each, path, host)


def _own_route(site: NginxSite, where: Location, path: str, host: str) -> OwnRoute:
    proxy = first(where.directives, "proxy_pass")
    rest = target_of(proxy.args[0]).rest if proxy is not None else ""
    if rest:
        return OwnRoute(place=where.place, why_not=f"it puts {rest} in place of the path, which the sidecar never does")
    probe = path.removesuffix("**")
    verdict = site.verdict(Asked(method="GET", target=probe, fields={"host": host}))
    outcome = outcome_of(verdict, host, probe)
    if verdict.action == "forward":
        return OwnRoute(place=where.place, conditions={"path": path}, upstream=verdict.pool)
    if not outcome:
        return OwnRoute(place=where.place, why_not=_FILES)
    return OwnRoute(place=where.place, conditions={"path": path}, outcome=outcome)


def _paths(where: Location) -> list[str] | None:
    if where.modifier == "=":
        return of_exact(where.text)
    return of_expression(where.text) if where.modifier.startswith("~") else of_prefix(where.text)


def admin_networks(site: NginxSite) -> list[str]:
    """The networks that `allow` lets in to the admin API, or to a part of it, where everybody else is denied."""
    root = main_root(site)
    for path in _ADMIN:
        found = find(path, root) if root is not None else None
        rules = found.location.settings("allow", "deny") if found is not None else ()
        if any(each.name == "deny" and each.args == ("all",) for each in rules):
            allowed = (_network(each.args) for each in rules if each.name == "allow")
            return [str(network) for network in allowed if network is not None]
    return []


def _network(args: tuple[str, ...]) -> object:
    try:
        return ip_network(args[0], strict=False)
    except (ValueError, IndexError):
        return None


def trusted_networks(site: NginxSite) -> list[str]:
    """Who is believed about the client's address."""
    root = main_root(site)
    settings = root.settings("set_real_ip_from") if root is not None else ()
    return [str(network) for each in settings if (network := _network(each.args)) is not None]
