"""The locations of nginx, in the order in which they are tried, as routes, and who may come to the admin API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from attrs import evolve, frozen

from sidecar.importing.asked import OTHER_HOST, Asked, ProxyVerdict
from sidecar.importing.draft import OwnRoute
from sidecar.importing.nginx_locations import Location, find
from sidecar.importing.nginx_servers import Virtual
from sidecar.importing.nginx_site import NginxSite, main_root
from sidecar.importing.outcomes import merged, own_route
from sidecar.importing.paths import covers, of_exact, of_expression, of_prefix, sample_of

Conditions = Mapping[str, Any]

_ADMIN = ("/_synapse/admin/v1/rooms", "/_synapse/admin/v2/users", "/_synapse/admin/v1/media/x")
_EVERYWHERE = ("/nobodys", "/", "/_matrix/client/versions", "/_matrix/federation/v1/version", "/_synapse/client/x")
_SOURCE = "192.0.2.1"


@frozen(eq=False)
class _ServerView:
    """A server as it is seen from one of its ports."""

    site: NginxSite
    server: Virtual
    port: int
    tls: bool
    base: Conditions

    def asked(self, conditions: Conditions) -> Asked:
        """A request that fits."""
        host = str(next(iter(conditions.get("host", ())), OTHER_HOST)).replace("*.", "any.")
        source = str(next(iter(conditions.get("source", (_SOURCE,))))).partition("/")[0]
        method = str(next(iter(conditions.get("method", ("GET",)))))
        target = sample_of(conditions.get("path"))
        return Asked(method=method, target=target, fields={"host": host}, source=source, port=self.port, tls=self.tls)


def own_routes(site: NginxSite) -> Iterator[OwnRoute]:
    """Every place that sends a request somewhere: plain ports first, servers with names before those for the rest."""
    views = list(_views(site))
    for view in sorted(views, key=lambda each: (each.tls, "host" not in each.base)):
        yield from (evolve(each, port=view.port or None) for each in _of_server(view))


def _views(site: NginxSite) -> Iterator[_ServerView]:
    """Each server from its first plain port and its first secure one; one of them where both are the same."""
    secured = {name for each in site.servers if each.secure for name in each.names or ("",)}
    for server in site.servers:
        seen: dict[bool, int] = {}
        for port in server.ports:
            seen.setdefault(port in server.secure, port)
        for tls, port in seen.items():
            beside = secured and not tls and (not secured.isdisjoint(server.names) or not server.hosts() or tls in seen)
            scheme = {"scheme": "http"} if beside else {}
            hosts = _hosts(server)
            named = {"host": hosts} if hosts and site.default_of(port) is not server else {}
            view = _ServerView(site, server, port, tls, {**named, **scheme})
            if tls or len(seen) == 1 or _differs(view):
                yield view


def _hosts(server: Virtual) -> list[str]:
    names = [name for name in server.names if name not in ("", "_", "localhost") and "$" not in name]
    found: dict[str, None] = {}
    for name in names:
        if name.endswith(".*"):
            continue
        if name.startswith("."):
            found[name[1:]] = None
        found[f"*{name}" if name.startswith(".") else name] = None
    return list(found)


def _differs(view: _ServerView) -> bool:
    """Whether its plain port answers anything else than its secure one."""
    secure = next(iter(view.server.secure))
    return any(
        _outcome(view.site.verdict(asked)) != _outcome(view.site.verdict(evolve(asked, port=secure, tls=True)))
        for asked in (evolve(view.asked(view.base), target=target) for target in _EVERYWHERE)
    )


def _outcome(verdict: ProxyVerdict) -> tuple[object, ...]:
    return (verdict.action, verdict.pool, verdict.status, verdict.location)


def _of_server(view: _ServerView) -> Iterator[OwnRoute]:
    everywhere = [view.site.verdict(evolve(view.asked(view.base), target=target)) for target in _EVERYWHERE]
    places = {each.place for each in everywhere}
    busy = {each.place for each in _flat(view.server.root)}
    if len(places) == 1 and everywhere[0].action != "forward" and not places & busy:
        asked = view.asked(view.base)
        yield own_route(everywhere[0].place or view.server.root.place, view.base, everywhere[0], asked)
        return
    yield from _of_conditions(view)
    for where in _ordered(_flat(view.server.root)):
        yield from _of_location(view, where)
    if not any(each.modifier in ("", "^~") and each.text == "/" for each in view.server.root.inner):
        asked = view.asked(view.base)
        yield own_route(view.server.root.place, view.base, view.site.at(view.server, view.server.root, asked), asked)


def _of_conditions(view: _ServerView) -> Iterator[OwnRoute]:
    """`if` around an answer, at the server: by method, or not at all."""
    for each in view.server.root.directives:
        answers = each.name == "if" and any(inner.name == "return" for inner in each.block or ())
        words = [word for word in each.args if word not in ("(", ")")]
        if not answers or words[:1] in (["$scheme"], ["$https"], ["$server_port"]):
            continue
        if len(words) == 3 and words[0] == "$request_method" and words[1] == "=":
            conditions = merged(view.base, {"method": [words[2]]}) or {}
            asked = view.asked(conditions)
            yield own_route(each.place, conditions, view.site.verdict(asked), asked)
        else:
            yield OwnRoute(place=each.place, why_not="write it as conditions of a route", is_filter=True)


def _flat(root: Location) -> list[Location]:
    """All locations, those inside another one before it."""
    return [one for each in root.inner for one in (*_flat(each), each) if one.modifier != "@"]


def _ordered(locations: Iterable[Location]) -> list[Location]:
    """As nginx looks: exact ones, what stops it from looking at expressions, expressions, the longest prefix."""
    ranks = {"=": 0, "^~": 1, "~": 2, "~*": 2, "": 3}
    return sorted(
        locations,
        key=lambda each: (ranks.get(each.modifier, 3), 0 if each.modifier.startswith("~") else -len(each.text)),
    )


def _of_location(view: _ServerView, where: Location) -> Iterator[OwnRoute]:
    paths = _paths(where)
    for path in paths or ():
        conditions = merged(view.base, {} if path is None else {"path": path})
        if conditions is not None:
            yield from _of_path(view, where, conditions)
    if paths is None:
        asked = view.asked(view.base)
        verdict = view.site.at(view.server, where, asked)
        said = own_route(where.place, view.base, verdict, asked)
        yield evolve(
            said, outcome={}, why_not="no path pattern can express its regular expression; write a route by hand"
        )


def _of_path(view: _ServerView, where: Location, conditions: Conditions) -> Iterator[OwnRoute]:
    """The route; with `allow` and `deny`, one for those who may, and one that keeps the others away."""
    asked = view.asked(conditions)
    rules = where.settings("allow", "deny")
    allowed = [str(found) for each in rules if each.name == "allow" and (found := _network(each.args)) is not None]
    if allowed and any(each.name == "deny" and each.args == ("all",) for each in rules) and not _is_admin(conditions):
        inside = evolve(asked, source=allowed[0].partition("/")[0])
        verdict = view.site.at(view.server, where, inside)
        yield own_route(where.place, {**conditions, "source": allowed}, verdict, inside)
    verdict = view.site.at(view.server, where, asked)
    if not (verdict.action == "refuse" and allowed and _is_admin(conditions)):
        yield own_route(where.place, conditions, verdict, asked)


def _is_admin(conditions: Conditions) -> bool:
    """`access` decides which networks may use these paths."""
    return covers("/_synapse/admin/**", str(conditions.get("path"))) or conditions.get("path") == "/_synapse/admin"


def _paths(where: Location) -> list[str | None] | None:
    """The patterns; with None in it for any path; None where there are none."""
    plain = where.text.removeprefix("^") if where.modifier.startswith("~") else where.text
    if plain in ("/", "/.*", "", ".*", "/(.*)") and where.modifier != "=":
        return [None]
    if where.modifier == "=":
        return _optional(of_exact(where.text))
    return _optional(of_expression(where.text) if where.modifier.startswith("~") else of_prefix(where.text))


def _optional(paths: list[str] | None) -> list[str | None] | None:
    return None if paths is None else list(paths)


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
