"""A configuration of nginx, asked for what it does with a request: server, location, upstream, and what is hashed.

Made of directives that were read elsewhere. The configuration may be whole or in parts: what stands in `http`, in
`server` or in a location of a file of its own counts as if it were included there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import define, evolve

from sidecar.importing.asked import OTHER_HOST, Asked, Position, ProxyEntrance, ProxyPool, ProxyVerdict
from sidecar.importing.nginx_locations import Found, Location, find, location
from sidecar.importing.nginx_rules import REWRITING, rewritten, served
from sidecar.importing.nginx_servers import Virtual, real_ip, virtual
from sidecar.importing.nginx_tree import Directive, every, first
from sidecar.importing.nginx_upstreams import bare_addresses, server_at, upstream_of
from sidecar.importing.nginx_uri import normalized
from sidecar.importing.nginx_values import Mapped, Values, mapped

_NOWHERE = Position("", 0)
_MOST_REWRITES = 8
"""Of one request, after which nginx answers 500."""
_IN_SERVER = frozenset(("location", "listen", "server_name", "return", "rewrite", "set", "if"))


@define(eq=False)
class NginxSite:
    """The whole of it. Implements `sidecar.importing.asked.Proxy`."""

    upstreams: dict[str, ProxyPool]
    servers: tuple[Virtual, ...]
    maps: Mapping[str, Mapped]
    port: int
    """That of the server with the most rules."""

    @property
    def entrances(self) -> Sequence[ProxyEntrance]:
        found: dict[ProxyEntrance, None] = {}
        for server in self.servers:
            for port in server.ports:
                for name in server.hosts():
                    found[ProxyEntrance(name, port, port in server.secure)] = None
        for port in dict.fromkeys(port for server in self.servers for port in server.ports):
            found[ProxyEntrance(OTHER_HOST, port, any(port in each.secure for each in self.servers), named=False)] = (
                None
            )
        return tuple(found)

    def verdict(self, asked: Asked) -> ProxyVerdict:
        server = self._server(asked)
        if server is None:
            return ProxyVerdict(action="unclear", doubts=("there is no server block",))
        # The request-line is read before the host is known: what the default server says of slashes holds.
        merges = self._default(asked).root.setting("merge_slashes")
        uri = normalized(asked.path, merge_slashes=merges is None or merges.args[:1] != ("off",))
        if uri is None:
            return ProxyVerdict(action="refuse", status=400, place=server.root.place)
        values = Values(asked, self.maps, uri, real_ip(server.root, asked))
        verdict = rewritten(_rewriting(server.root), values, None)
        if verdict is None:
            verdict = self._found(server.root, values)
        return self._finished(verdict, values)

    def at(self, server: Virtual, where: Location, asked: Asked) -> ProxyVerdict:
        """What one of its locations does with a request, whether or not another one would be found first."""
        uri = normalized(asked.path) or "/"
        values = Values(asked, self.maps, uri, real_ip(server.root, asked))
        verdict = rewritten(_rewriting(server.root), values, None)
        match = where.pattern.search(uri) if where.pattern is not None else None
        return self._finished(verdict or self._located(Found(where, match), values, server.root, 0), values)

    def _finished(self, verdict: ProxyVerdict, values: Values) -> ProxyVerdict:
        if not verdict.pool:
            return verdict
        self._note(verdict)
        return evolve(verdict, key=self._key(verdict.pool, values))

    def _note(self, verdict: ProxyVerdict) -> None:
        """An address that only a request makes, out of variables, is an upstream like any other."""
        if verdict.pool not in self.upstreams:
            place = verdict.place or _NOWHERE
            self.upstreams[verdict.pool] = ProxyPool(verdict.pool, (server_at(verdict.pool, place),), place=place)

    def _found(self, root: Location, values: Values, depth: int = 0) -> ProxyVerdict:
        return self._located(find(values.uri, root) or Found(root), values, root, depth)

    def _located(self, found: Found, values: Values, root: Location, depth: int) -> ProxyVerdict:
        where = found.location
        if found.slash:
            return ProxyVerdict(action="redirect", status=301, location=f"{values.uri}/", place=where.place)
        if found.match is not None:
            values.matched(found.match)
        before = values.uri
        verdict = rewritten(_rewriting(where), values, where.place) if where.above[1:] else None
        if verdict is not None:
            return evolve(verdict, headers=_headers(where, values)) if verdict.action == "respond" else verdict
        if values.uri != before and depth < _MOST_REWRITES and not _breaks(where):
            return self._found(root, values, depth + 1)
        other = _named_last(where, root)
        if other is not None and depth < _MOST_REWRITES:
            values.doubts.append(f"{where.place} looks for a file first")
            return self._located(Found(other), values, root, depth + 1)
        return served(where, values)

    def _server(self, asked: Asked) -> Virtual | None:
        best = max(self._there(asked), key=lambda each: each.names_host(asked.host), default=None)
        return best if best is None or best.names_host(asked.host) else self._default(asked)

    def default_of(self, port: int) -> Virtual | None:
        """The server that answers on a port for names that none has."""
        there = [each for each in self.servers if port in each.ports]
        return next((each for each in there if port in each.default_of), next(iter(there), None))

    def _default(self, asked: Asked) -> Virtual:
        return self.default_of(self._port(asked)) or self.servers[0]

    def _there(self, asked: Asked) -> list[Virtual]:
        return [each for each in self.servers if self._port(asked) in each.ports]

    def _port(self, asked: Asked) -> int:
        return self.port if asked.port is None else asked.port

    def _key(self, pool: str, values: Values) -> str | None:
        upstream = self.upstreams.get(pool)
        words = upstream.balance.split() if upstream is not None else []
        if words[:1] == ["hash"]:
            value = values.fill("".join(words[1:2]))
            return f"hash {value}" if value else None
        if words[:1] == ["ip_hash"]:
            return f"ip_hash {_hashed_part(values.real_ip)}"
        return None


def _hashed_part(address: str) -> str:
    """`ip_hash` looks at the first three octets of an IPv4 address only."""
    return address.rpartition(".")[0] if "." in address else address


def _breaks(where: Location) -> bool:
    return any(
        "break" in each.args or each.name == "break" for each in every(where.directives) if each.name in REWRITING
    )


def _named_last(where: Location, root: Location) -> Location | None:
    """The location `@name` at the end of `try_files`, which gets what is no file."""
    files = first(where.directives, "try_files") or first(where.directives, "error_page")
    last = files.args[-1] if files is not None and files.args else ""
    if not last.startswith("@") or first(where.directives, "proxy_pass") is not None:
        return None
    return next((each for each in root.inner if f"{each.modifier}{each.text}" == last), None)


def _headers(where: Location, values: Values) -> dict[str, str]:
    """The fields of an answer of its own."""
    kind = where.setting("default_type")
    found = {"Content-Type": kind.args[0]} if kind is not None and kind.args else {}
    for each in where.settings("add_header"):
        if len(each.args) > 1 and not each.args[0].lower().startswith("access-control-"):
            found[each.args[0]] = values.fill(each.args[1])
    return found


def _rewriting(where: Location) -> list[Directive]:
    return [each for each in where.directives if each.name in REWRITING]


def nginx_site(directives: Sequence[Directive]) -> NginxSite:
    """The configuration that these directives make, of one file or of several after another."""
    http = tuple(_http(directives))
    root = location(Directive("http", (), _NOWHERE, tuple(each for each in http if each.name != "server")))
    servers = [virtual(each, root) for each in http if each.name == "server"]
    rules = {port: 0 for each in servers for port in each.ports}
    for each in servers:
        for port in each.ports:
            rules[port] += sum(1 for _ in every(each.root.directives))
    upstreams = {each.args[0]: upstream_of(each) for each in every(http) if each.name == "upstream" and each.args}
    return NginxSite(
        upstreams | {name: one for name, one in bare_addresses(http) if name not in upstreams},
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


def main_root(site: NginxSite) -> Location | None:
    """The server with the most rules, around its locations."""
    return max(
        (each.root for each in site.servers if site.port in each.ports),
        key=lambda root: sum(1 for _ in every(root.directives)),
        default=None,
    )
