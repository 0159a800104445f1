"""A configuration of nginx, asked for what it does with a request: server, location, upstream, and what is hashed.

Made of directives that were read elsewhere. The configuration may be whole or in parts: what stands in `http`, in
`server` or in a location of a file of its own counts as if it were included there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from attrs import define, evolve, frozen

from sidecar.importing.asked import Asked, Place, Server, Upstream, Verdict
from sidecar.importing.expressions import compiled
from sidecar.importing.nginx_locations import Found, Location, find, location
from sidecar.importing.nginx_rules import REWRITING, rewritten, served, target_of
from sidecar.importing.nginx_tree import Directive, every
from sidecar.importing.nginx_uri import normalized
from sidecar.importing.nginx_values import Mapped, Values, mapped
from sidecar.routing.access import is_within

_NOWHERE = Place("", 0)
_IN_SERVER = frozenset(("location", "listen", "server_name", "return", "rewrite", "set", "if"))


@frozen(eq=False)
class Virtual:
    """A `server` block."""

    ports: tuple[int, ...]
    default_of: frozenset[int]
    names: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    root: Location

    def names_host(self, host: str) -> int:
        """How well its names fit a host: 4 whole, 3 and 2 by wildcards, 1 by an expression, 0 not at all."""
        if host in self.names:
            return 4
        if any(name.startswith(("*.", ".")) and _below(host, name) for name in self.names):
            return 3
        if any(name.endswith(".*") and host.startswith(name[:-1]) for name in self.names):
            return 2
        return int(any(pattern.search(host) for pattern in self.patterns))


def _below(host: str, name: str) -> bool:
    domain = name.removeprefix("*")
    return host.endswith(domain) or (name.startswith(".") and host == name[1:])


@define(eq=False)
class NginxSite:
    """The whole of it. Implements `sidecar.importing.asked.Proxy`."""

    upstreams: Mapping[str, Upstream]
    servers: tuple[Virtual, ...]
    maps: Mapping[str, Mapped]
    port: int
    """That of the server with the most rules."""

    def verdict(self, asked: Asked) -> Verdict:
        server = self._server(asked)
        if server is None:
            return Verdict(action="unclear", doubts=("there is no server block",))
        # The request-line is read before the host is known: what the default server says of slashes holds.
        merges = self._default(asked).root.setting("merge_slashes")
        uri = normalized(asked.path, merge_slashes=merges is None or merges.args[:1] != ("off",))
        if uri is None:
            return Verdict(action="refuse", status=400, place=server.root.place)
        values = Values(asked, self.maps, uri, _real_ip(server.root, asked))
        verdict = rewritten(_rewriting(server.root), values, server.root.place)
        if verdict is None:
            verdict = self._located(find(uri, server.root) or Found(server.root), values)
        return evolve(verdict, key=self._key(verdict.pool, values)) if verdict.pool else verdict

    def _located(self, found: Found, values: Values) -> Verdict:
        where = found.location
        if found.slash:
            return Verdict(action="redirect", status=301, location=f"{values.uri}/", place=where.place)
        if found.match is not None:
            values.matched(found.match)
        verdict = rewritten(_rewriting(where), values, where.place) if where.above[1:] else None
        return served(where, values) if verdict is None else verdict

    def _server(self, asked: Asked) -> Virtual | None:
        best = max(self._there(asked), key=lambda each: each.names_host(asked.host), default=None)
        return best if best is None or best.names_host(asked.host) else self._default(asked)

    def _default(self, asked: Asked) -> Virtual:
        there = self._there(asked)
        return next((each for each in there if self._port(asked) in each.default_of), there[0])

    def _there(self, asked: Asked) -> list[Virtual]:
        return [each for each in self.servers if self._port(asked) in each.ports]

    def _port(self, asked: Asked) -> int:
        return self.port if asked.port is None else asked.port

    def _key(self, pool: str, values: Values) -> str | None:
        upstream = self.upstreams.get(pool)
        words = upstream.balance.split() if upstream is not None else []
        if words[:1] == ["hash"]:
            value = values.fill(words[1])
            return f"hash {value}" if value else None
        if words[:1] == ["ip_hash"]:
            return f"ip_hash {_hashed_part(values.real_ip)}"
        return None


def _hashed_part(address: str) -> str:
    """`ip_hash` looks at the first three octets of an IPv4 address only."""
    return address.rpartition(".")[0] if "." in address else address


def _rewriting(where: Location) -> list[Directive]:
    return [each for each in where.directives if each.name in REWRITING]


def _real_ip(root: Location, asked: Asked) -> str:
    """The client's address as ngx_http_realip_module has it: the last address of the field, or the last not trusted."""
    trusted = []
    for each in root.settings("set_real_ip_from"):
        try:
            trusted.append(ip_network(each.args[0], strict=False))
        except ValueError:
            continue
    header = root.setting("real_ip_header")
    if not trusted or not is_within(asked.source, trusted):
        return asked.source
    name = (header.args[0] if header is not None else "X-Real-IP").lower()
    recursive = root.setting("real_ip_recursive")
    told = [part.strip() for part in asked.fields.get(name, "").split(",") if _is_address(part.strip())]
    if recursive is None or recursive.args[:1] != ("on",):
        return told[-1] if told else asked.source
    return next((each for each in reversed(told) if not is_within(each, trusted)), told[0] if told else asked.source)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def nginx_site(directives: Sequence[Directive]) -> NginxSite:
    """The configuration that these directives make, of one file or of several after another."""
    http = tuple(_http(directives))
    root = location(Directive("http", (), _NOWHERE, tuple(each for each in http if each.name != "server")))
    servers = [_virtual(each, root) for each in http if each.name == "server"]
    rules = {port: 0 for each in servers for port in each.ports}
    for each in servers:
        for port in each.ports:
            rules[port] += sum(1 for _ in every(each.root.directives))
    upstreams = {each.args[0]: _upstream(each) for each in every(http) if each.name == "upstream" and each.args}
    return NginxSite(
        upstreams | {name: one for name, one in _addresses(http) if name not in upstreams},
        tuple(servers),
        {each.args[1].removeprefix("$"): mapped(each) for each in http if each.name == "map" and len(each.args) > 1},
        max(rules, key=lambda port: rules[port], default=80),
    )


def _http(directives: Iterable[Directive]) -> Iterator[Directive]:
    """What is, or would be, in the `http` block; lone locations in a server of their own."""
    loose: list[Directive] = []
    for each in directives:
        if each.name == "http":
            yield from each.block or ()
        elif each.name in _IN_SERVER:
            loose.append(each)
        else:
            yield each
    if any(each.name == "location" for each in loose):
        yield Directive("server", (), loose[0].place, tuple(loose))


def _virtual(directive: Directive, http: Location) -> Virtual:
    listens = list(directive.inside("listen")) or [Directive("listen", ("80",), directive.place)]
    names = [name for each in directive.inside("server_name") for name in each.args]
    patterns = [compiled(name[1:], ignore_case=True) for name in names if name.startswith("~")]
    ports = {_port(each.args[0]): "default_server" in each.args for each in listens if each.args}
    return Virtual(
        tuple(ports),
        frozenset(port for port, is_default in ports.items() if is_default),
        tuple(name.lower() for name in names if not name.startswith("~")),
        tuple(pattern for pattern in patterns if pattern is not None),
        location(directive, (http,)),
    )


def _port(address: str) -> int:
    """The port of a `listen`; a path has none, and 0 stands for it."""
    if address.startswith("unix:"):
        return 0
    last = address.rpartition(":")[2]
    return int(last) if last.isdigit() else 80


def _upstream(directive: Directive) -> Upstream:
    servers = [_server(each) for each in directive.inside("server") if each.args and "down" not in each.args]
    balance = ""
    for each in directive.inside("hash", "ip_hash", "least_conn", "random"):
        balance = " ".join([each.name, *each.args])
    return Upstream(directive.args[0], tuple(servers), balance, directive.place)


def _addresses(http: Iterable[Directive]) -> Iterator[tuple[str, Upstream]]:
    """Addresses to which requests are passed without an `upstream`, each an upstream of its own."""
    for each in every(http):
        for value in each.args[-1:] if each.name in ("proxy_pass", "set") else ():
            if value.startswith(("http://", "https://")) and "$" not in value:
                name = target_of(value).pool
                yield name, Upstream(name, (Server(name, endpoint(name), each.place),), place=each.place)


def _server(directive: Directive) -> Server:
    address, *options = directive.args
    weight = next((option.partition("=")[2] for option in options if option.startswith("weight=")), "1")
    return Server(
        name=address,
        address=endpoint(address),
        weight=float(weight) if weight.isdigit() else 1.0,
        backup="backup" in options,
        place=directive.place,
    )


def endpoint(address: str) -> str:
    """A Twisted client endpoint for an address of nginx; empty where it is none."""
    if address.startswith("unix:"):
        return address
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        host, port = address, "80"
    if not host or "$" in host:
        return ""
    escaped = host.strip("[]").replace(":", r"\:")
    return f"tcp:{escaped}:{port}"


def main_root(site: NginxSite) -> Location | None:
    """The server with the most rules, around its locations."""
    return max(
        (each.root for each in site.servers if site.port in each.ports),
        key=lambda root: sum(1 for _ in every(root.directives)),
        default=None,
    )
