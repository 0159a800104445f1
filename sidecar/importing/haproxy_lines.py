"""What becomes of each line of HAProxy that sends no request anywhere, and the whole of it made ready to examine.

The table says it for each keyword; only times that have a counterpart are looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from sidecar.config.compression import is_compressible
from sidecar.importing.asked import Asked
from sidecar.importing.assessment import FileLine, Foreign, Remark
from sidecar.importing.draft import Draft
from sidecar.importing.haproxy_balancers import imported_balancers
from sidecar.importing.haproxy_conditions import comparison
from sidecar.importing.haproxy_routes import ANSWERS, FILTERS, own_routes, paths_of
from sidecar.importing.haproxy_samples import Patterns, Sight
from sidecar.importing.haproxy_site import HaproxySite, haproxy_site, prefixes_of, unconditional
from sidecar.importing.haproxy_words import Line, Section

_TIME = re.compile(r"(\d+)(us|ms|s|m|h|d|)")
_FIREWALL = "let the kernel's firewall or `limits.connections_per_address` do it"
_SHARED = "all sidecars choose the same worker without talking to each other"
_KEPT = "the sidecar keeps each user, room and server on one worker anyway"
_OWN = "the sidecar has settings of its own, see docs/configuration.md"
_LOG = "see `log` in docs/configuration.md"
_TLS = "end TLS in the sidecar with `ssl:` in `listen`, or keep this proxy in front"
_HEALTH = "the sidecar notices when a worker goes down or comes back"
_OPERATOR = "the operator's listener has a status page and metrics: `admin` in docs/configuration.md"
_AGAIN = "requests wait for a worker that restarts, and the sidecar retries them where HTTP allows it"
_ERRORS = "clients get Matrix errors; a pool for browsers can have its own error page, `pools.NAME.sorry`"
_NO_HTTP = "the section does not proxy HTTP; write it as `balancers.NAME`, see docs/balancers.md"
_BALANCERS = "`forwarded.proxy_protocol`"
_BYTES = "the sidecar forwards everything byte for byte; it sets only X-Forwarded-For and X-Forwarded-Proto"

_SECTIONS: Mapping[str, Remark] = {
    "peers": Remark("superfluous", _SHARED),
    "resolvers": Remark("superfluous", "the system resolves a worker's host name for each new connection"),
    "userlist": Remark("lost", _OPERATOR),
    "mailers": Remark("lost", "let your monitoring read the sidecar's metrics"),
    "cache": Remark("lost", "the sidecar does not cache"),
    "global": Remark("superfluous", _OWN),
}
"""What is said of every line of such a section, unless its keyword says more."""
_KEYWORDS: Mapping[str, Remark] = {
    **dict.fromkeys(("stick", "stick-table", "balance", "hash-type", "cookie"), Remark("superfluous", _KEPT)),
    **dict.fromkeys(("http-check", "option httpchk", "option log-health-checks"), Remark("superfluous", _HEALTH)),
    **dict.fromkeys(("log", "log-format", "option httplog", "option dontlognull"), Remark("lost", _LOG)),
    **dict.fromkeys(("option tcplog", "capture", "log-send-hostname", "log-tag"), Remark("lost", _LOG)),
    **dict.fromkeys(("stats", "user", "group"), Remark("lost", _OPERATOR)),
    **dict.fromkeys(("ca-base", "crt-base", "ssl-default-bind-ciphers"), Remark("lost", _TLS)),
    **dict.fromkeys(("ssl-default-bind-options", "tune.ssl.default-dh-param"), Remark("lost", _TLS)),
    **dict.fromkeys(("option forwardfor", "option http-keep-alive"), Remark("superfluous", _BYTES)),
    **dict.fromkeys(("option redispatch", "retries", "retry-on"), Remark("superfluous", _AGAIN)),
    **dict.fromkeys(("option splice-auto", "option http-server-close", "default-server"), Remark("superfluous", _OWN)),
    **dict.fromkeys(("errorfile", "errorfiles", "http-error"), Remark("lost", _ERRORS)),
    "mode": Remark("superfluous", "the sidecar speaks HTTP"),
    "compression": Remark("superfluous", _OWN),
    "acl": Remark("superfluous", "import used it to find out where requests go"),
    "timeout tarpit": Remark("superfluous", "the sidecar never delays a client on purpose"),
    "tcp-request": Remark("lost", _FIREWALL),
    "tcp-request connection": Remark("lost", _FIREWALL, is_filter=True),
    "http-response": Remark("lost", "the sidecar forwards responses byte for byte"),
}  # fmt: skip
_TIMEOUTS = {
    "connect": "connect",
    "server": "answer",
    "http-keep-alive": "idle",
    "http-request": "head",
    "queue": "wait",
    "tunnel": "tunnel",
    "client": "stall",
}
_DECIDING = frozenset(("use_backend", "default_backend", "redirect"))
_SETTING = ("set-header", "add-header", "del-header", "replace-header", "replace-value")


def haproxy_foreign(sections: Sequence[Section], patterns: Patterns = lambda _name: None) -> Foreign:
    """A configuration that was read from a file, or from several in their order. `patterns` reads files of values."""
    balancers = imported_balancers(sections)
    passed_on = {section.place: name for name, each in balancers.items() for section in each.sections}
    site = haproxy_site([section for section in sections if section.place not in passed_on], patterns)
    draft = Draft(balancers={name: each.entry for name, each in balancers.items()})
    lines = [
        line
        for section in sections
        for line in (
            _passed_on(section, passed_on[section.place])
            if section.place in passed_on
            else _lines(section, site, draft, patterns)
        )
    ]
    return Foreign(proxy=site, lines=lines, paths=paths_of(site), admin=(), own=list(own_routes(site)), draft=draft)


def _passed_on(section: Section, name: str) -> Iterator[FileLine]:
    """The lines of a balancer of connections."""
    taken = Remark("taken", f"balancers.{name}")
    turns = Remark(
        "taken",
        f"balancers.{name}: `least_connections`, with which servers that have equally many connections take turns",
    )
    for line in section.lines:
        yield FileLine(line.place, _shown(line), False, turns if line.words[:2] == ("balance", "roundrobin") else taken)


def _lines(section: Section, site: HaproxySite, draft: Draft, patterns: Patterns) -> Iterator[FileLine]:
    is_front = section.kind in ("frontend", "listen") and section.name in site.fronts
    if section.kind in ("backend", "listen") and section.name in site.upstreams:
        yield FileLine(section.place, f"{section.kind} {section.name}", upstream=section.name)
    for line in section.lines:
        answers = line.keyword == "http-request" and line.args[:1] and line.args[0] in ANSWERS
        decides = is_front and (line.keyword in _DECIDING or bool(answers))
        matches = _matcher(line, patterns) if is_front and line.keyword == "acl" else None
        remark = None if decides else _remark(line, section, site, draft)
        yield FileLine(line.place, _shown(line), decides, remark, matches=matches)


def _matcher(line: Line, patterns: Patterns) -> Callable[[Asked], bool] | None:
    """Whether the path of a request fits an ACL that is about paths."""
    found = comparison(line.args[1:], patterns)
    if found.sample is None or found.sample.fetch != "path":
        return None
    return lambda asked: found.holds(Sight(asked, asked.source, patterns))


def _shown(line: Line) -> str:
    text = str(line)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _remark(line: Line, section: Section, site: HaproxySite, draft: Draft) -> Remark:
    keyword, both = line.keyword, " ".join(line.words[:2])
    if keyword == "bind" and section.kind in ("frontend", "listen"):
        return _bind(line, section, site, draft)
    if keyword in _DECIDING:
        return Remark("lost", _NO_HTTP)
    if keyword == "timeout" and len(line.args) > 1 and line.args[0] in _TIMEOUTS:
        return _timeout(line.args, draft)
    if keyword == "maxconn" and section.kind == "global" and line.args and line.args[0].isdigit():
        draft.limits["connections"] = int(line.args[0])
        return Remark("taken", "limits.connections")
    if keyword in ("server", "server-template"):
        servers = site.upstreams[section.name].servers if section.name in site.upstreams else ()
        known = next((server for server in servers if server.place == line.place), None)
        if known is None:
            return Remark("lost", _NO_HTTP)
        if known.fault:
            return Remark("lost", known.fault)
        alone = "the sidecar uses the first address of the host name" if keyword == "server-template" else ""
        return Remark("taken", f"workers{'; ' if alone else ''}{alone}")
    if keyword == "compression" and len(line.args) > 1 and line.args[0] in ("algo", "type", "algo-res", "type-res"):
        return _compression(line.args, draft)
    if keyword == "http-request":
        return _request(line)
    named = _KEYWORDS.get(both) or _KEYWORDS.get(keyword) or _SECTIONS.get(section.kind)
    return named or Remark("lost", "the sidecar has no such setting; docs/configuration.md lists those that it has")


def _request(line: Line) -> Remark:
    if line.args[:1] and line.args[0] in _SETTING:
        return Remark("superfluous", _BYTES)
    if line.args[:1] and line.args[0] in ANSWERS:
        return Remark(
            "lost",
            "the rule is in a backend; write a route with `refuse`, `redirect` or `respond` before that of the pool",
            is_filter=line.args[0] in FILTERS,
        )
    if line.args[:1] and line.args[0].startswith(("set-var", "capture", "track-sc", "sc-", "set-log", "set-src")):
        return Remark("superfluous", "import used it to find out where requests go")
    if line.args[:1] and line.args[0].startswith(("set-path", "replace-path", "set-uri", "replace-uri", "normalize")):
        if prefixes_of(unconditional(line.args)) is not None:
            return Remark("taken", "strip_prefix and add_prefix of its pool, unless the pool is Synapse's")
        return Remark("lost", "the sidecar can change only the beginning of a path, with `strip_prefix` of a pool")
    return Remark("lost", "write it as a route, with `refuse`, `redirect` or `respond`")


def _compression(args: Sequence[str], draft: Draft) -> Remark:
    word, *values = args
    if word.startswith("algo"):
        if "gzip" not in values:
            return Remark("lost", "the sidecar compresses with gzip; see `compress`")
        draft.compress_answers()
        return Remark("taken", "compress, for all responses to clients except media, federation and logins")
    draft.compress["types"] = [each for each in dict.fromkeys(values) if is_compressible(each)]
    return Remark("taken", "compress.types")


def _bind(line: Line, section: Section, site: HaproxySite, draft: Draft) -> Remark:
    if section.name not in site.fronts:
        return Remark("lost", _NO_HTTP)
    addresses = line.args[0].split(",") if line.args else []
    if "ssl" in line.args:
        port = addresses[0].rpartition(":")[2]
        return Remark("lost", f'end TLS with `listen: "ssl:{port}:privateKey=…:certKey=…"`, or keep a proxy in front')
    found = [listener for listener in map(_listener, addresses) if listener]
    if "accept-proxy" in line.args:
        return Remark("lost", f'write `listen: "haproxy:{"".join(found[:1])}"`, and list the balancers in {_BALANCERS}')
    draft.listen.extend([each for each in dict.fromkeys(found) if each not in draft.listen])
    return Remark("taken", "listen") if found else Remark("lost", "the file does not give its address")


def _listener(address: str) -> str:
    """A Twisted server endpoint for an address of `bind`; empty where it is none."""
    if address.startswith(("/", "unix@")):
        return f"unix:{address.removeprefix('unix@')}"
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return ""
    interface = host.strip("[]").replace(":", r"\:")
    return f"tcp:{port}" if host in ("", "*") else f"tcp:{port}:interface={interface}"


def _timeout(args: Sequence[str], draft: Draft) -> Remark:
    key = _TIMEOUTS[args[0]]
    match = _TIME.fullmatch(args[1])
    if match is None or not int(match[1]) or match[2] == "us":
        return Remark("lost", f"see `timeouts.{key}`")
    # Without a unit these are milliseconds.
    draft.timeouts[key] = f"{match[1]}{match[2] or 'ms'}"
    return Remark("taken", f"timeouts.{key}")
