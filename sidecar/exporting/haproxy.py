"""The routing as a whole file for HAProxy 2.6 or later.

The frontend finds a label by method and path, the first line that matches counts; the label names the backend and where
in the path the key stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from sidecar.config.endpoint_strings import ListenAddress, place_of
from sidecar.exporting.model import Exported, Group, Member, OwnRule, SocketAddress, TableRule
from sidecar.exporting.remarks import remarks, unlisted
from sidecar.exporting.responses import FixedResponse, refused

_MOST_OCTETS = 1600
"""Of one line; HAProxy takes 2047."""
_MOST_PATTERNS = 40
"""Of one line; HAProxy takes 64 words."""
_KEYS = {"user": "var(txn.user)", "origin": "var(txn.origin)", "source": "src", "path": "path,url_dec"}


def haproxy(exported: Exported) -> dict[str, str]:
    """The text of each file by its name."""
    more = [
        *unlisted(exported),
        "HAProxy needs the key in the certificate's file, or beside it in a file with `.key` at the end of its name",
        "closed paths: HAProxy decodes a path only once, and relies on Synapse to do the same",
    ]
    lines = [f"# {line}".rstrip() for line in remarks(exported, "haproxy", more)]
    for part in (_defaults, _frontend, _backends):
        lines += ["", *part(exported)]
    return {"haproxy.cfg": "\n".join(lines) + "\n"}


def _defaults(exported: Exported) -> Iterator[str]:
    timeouts, limits = exported.settings.timeouts, exported.settings.limits
    yield "global"
    yield f"    tune.bufsize {max(32768, 2 * limits.request_head)}"
    yield ""
    yield "defaults"
    yield "    mode http"
    yield "    option redispatch"
    for name, seconds in (
        ("connect", timeouts.connect),
        ("client", timeouts.answer),
        ("server", timeouts.answer),
        ("queue", timeouts.wait),
        ("http-request", timeouts.head),
        ("http-keep-alive", timeouts.idle),
        ("tunnel", timeouts.tunnel),
    ):
        yield f"    timeout {name} {round(seconds * 1000)}ms"


def _frontend(exported: Exported) -> Iterator[str]:
    yield "frontend matrix"
    for line in (
        *map(_bind, exported.listens),
        *_callers(exported),
        *_access(exported),
        *_own(exported),
        *_table(exported.table),
        *_keys(exported),
        "use_backend matrix_%[var(txn.choice),field(1,:)] if { var(txn.choice) -m found }",
        f"default_backend matrix_{exported.rest.group.name}",
    ):
        yield f"    {line}"


def _bind(entry: ListenAddress) -> str:
    place = place_of(entry.address) or ("127.0.0.1", "8008")
    address = f"unix@{place[1]}" if place[0] == "unix" else f"{place[0] or '*'}:{place[1]}"
    tls = f" ssl crt {_text(entry.tls.certificate)}" if entry.tls else ""
    tls += " alpn h2,http/1.1" if entry.tls and entry.http2 else ""
    return f"bind {address}{tls}{' accept-proxy' if entry.announced else ''}"


def _callers(exported: Exported) -> Iterator[str]:
    settings = exported.settings
    yield f"http-request deny deny_status 413 if {{ req.body_size gt {settings.limits.request_body} }}"
    yield "http-request set-var(txn.scheme) str(http)"
    yield "http-request set-var(txn.scheme) str(https) if { ssl_fc }"
    if settings.forwarded.trust:
        networks = " ".join(map(str, settings.forwarded.trust))
        yield f"http-request set-var(txn.trusted) bool(true) if {{ src {networks} }}"
        for scheme in ("https", "http"):
            yield (
                f"http-request set-var(txn.scheme) str({scheme}) if {{ var(txn.trusted) -m bool }} "
                f"{{ req.hdr(x-forwarded-proto) {scheme} }}"
            )
        yield (
            "http-request set-src hdr_ip(x-forwarded-for,-1) if { var(txn.trusted) -m bool } "
            "{ req.hdr(x-forwarded-for) -m found }"
        )
    yield "http-request set-header X-Forwarded-For %[src]"
    yield "http-request set-header X-Forwarded-Proto %[var(txn.scheme)]"
    line, query = "req.fhdr(authorization)", "url_param(access_token)"
    yield "http-request set-var(txn.user) src"
    yield f"http-request set-var(txn.user) {query} if {{ {query} -m found }} !{{ {line} -m found }}"
    yield f"http-request set-var(txn.user) {line},field(2,' ') if {{ {line} -m beg 'Bearer ' }}"
    yield "http-request set-var(txn.user) var(txn.user),field(2,_) if { var(txn.user) -m beg syt_ }"
    yield "http-request set-var(txn.origin) src"
    signed = f"{{ {line} -m beg 'X-Matrix origin=\"' }}"
    yield f"http-request set-var(txn.origin) '{line},field(2,\\\"),lower' if {signed}"


def _access(exported: Exported) -> Iterator[str]:
    for resource, networks in exported.closed.items():
        pattern = rf"'/_synapse[/\\]+([.][/\\]+)*{resource}([/\\]|$)'"
        condition = f"{{ path,url_dec -m reg -i {pattern} }}"
        allowed = f" !{{ src {' '.join(map(str, networks))} }}" if networks else ""
        yield _answer(refused(403, "this path is closed"), f"{condition}{allowed}")


def _own(exported: Exported) -> Iterator[str]:
    for rule in exported.own:
        unmatched = "!{ var(txn.own) -m found }"
        alternatives = [" ".join(filter(None, (unmatched, host, *_conditions(rule)))) for host in _hosts(rule)]
        yield from (f"http-request set-var(txn.own) int({rule.number}) if {each}" for each in alternatives)
    for rule in exported.own:
        yield from _outcome(rule, f"{{ var(txn.own) -m int {rule.number} }}")


def _hosts(rule: OwnRule) -> list[str]:
    """One condition for plain names, one for those with a `*`; a line holds one of them."""
    plain = [host for host in rule.route.host or () if not host.startswith("*.")]
    domains = [host[1:] for host in rule.route.host or () if host.startswith("*.")]
    found = [f"{{ req.hdr(host),host_only,lower {' '.join(plain)} }}"] if plain else []
    found += [f"{{ req.hdr(host),host_only,lower -m end {' '.join(domains)} }}"] if domains else []
    return found or [""]


def _conditions(rule: OwnRule) -> Iterator[str]:
    route = rule.route
    if rule.methods:
        yield f"{{ method {' '.join(rule.methods)} }}"
    if route.path is not None:
        yield f"{{ pathq -m reg {_word('^' + rule.path)} }}"
    if route.scheme:
        yield f"{{ var(txn.scheme) -m str {route.scheme} }}"
    if route.source:
        yield f"{{ src {' '.join(map(str, route.source))} }}"
    for name, value in (route.header or {}).items():
        yield f"{{ req.fhdr({name}) {'-m found' if value is None else '-m str -- ' + _text(value)} }}"
    yield from (f"{{ req.fhdr({name}) -m reg -i -- {_text(expression)} }}" for name, expression in rule.likes)
    yield from (f"{{ query -m reg -- {_text(query)} }}" for query in rule.queries)


def _outcome(rule: OwnRule, condition: str) -> Iterator[str]:
    route = rule.route
    if rule.choice is not None:
        yield f"http-request set-var(txn.choice) str({rule.choice.label}) if {condition}"
    elif rule.answer is not None:
        yield _answer(rule.answer, condition)
    elif route.redirect is not None:
        to = re.sub(r'([\\" %])', r"\\\1", route.redirect.to).replace("\\%", "%%")
        to = to.replace("{target}", "%[pathq]").replace("{host}", "%[req.hdr(host),host_only,lower]")
        yield f"http-request redirect location {to} code {route.redirect.status} if {condition}"


def _answer(answer: FixedResponse, condition: str) -> str:
    headers = "".join(f" hdr {name} {_text(value.replace('%', '%%'))}" for name, value in answer.fields.items())
    content = f" content-type {_text(answer.kind)} string {_text(answer.content)}" if answer.content else ""
    return f"http-request return status {answer.status}{content}{headers} if {condition}"


def _table(rules: Sequence[TableRule]) -> Iterator[str]:
    yield "http-request set-var-fmt(txn.asked) '%[method] %[pathq]'"
    for label, group in groupby(rules, lambda rule: rule.choice.label):
        for patterns in _lines(_word(f"^{rule.pattern}") for rule in group):
            condition = f"!{{ var(txn.choice) -m found }} {{ var(txn.asked) -m reg {patterns} }}"
            yield f"http-request set-var(txn.choice) str({label}) if {condition}"


def _lines(words: Iterable[str]) -> Iterator[str]:
    """Words, joined to parts of lines that are not too long."""
    line: list[str] = []
    for word in words:
        if line and (len(line) == _MOST_PATTERNS or sum(map(len, line)) + len(line) + len(word) > _MOST_OCTETS):
            yield " ".join(line)
            line = []
        line.append(word)
    yield " ".join(line)


def _keys(exported: Exported) -> Iterator[str]:
    for place in exported.keys_at:
        # The field in front of the first slash is empty and counts.
        condition = f"{{ var(txn.choice) -m end :{place} }}"
        yield f"http-request set-var(txn.key) path,field({place + 1},/),url_dec if {condition}"


def _backends(exported: Exported) -> Iterator[str]:
    for group in exported.groups:
        yield f"backend matrix_{group.name}"
        yield from (f"    {line}" for line in _backend(group))
        yield ""


def _backend(group: Group) -> Iterator[str]:
    if len(group.first) > 1:
        yield "balance leastconn" if group.kind == "none" else f"balance hash {_key(group)}"
        if group.kind != "none":
            yield "hash-type consistent"
    if group.strip:
        condition = f"{{ path {group.strip} }} or {{ path_beg {group.strip}/ }}"
        yield f"http-request set-path %[path,regsub(^{re.escape(group.strip)}/?,/)] if {condition}"
    if group.add:
        yield f"http-request set-path {group.add}%[path]"
    if group.synapse:
        yield "option httpchk"
        yield "http-check send meth GET uri /health ver HTTP/1.1 hdr Host localhost"
    check = " check" if len(group.members) > 1 else ""
    yield from (_server(member, check) for member in group.members)


def _key(group: Group) -> str:
    return _KEYS.get(group.kind, "var(txn.key)") if group.kind != "session" else f"var(txn.key),concat({group.name})"


def _server(member: Member, check: str) -> str:
    weight = f" weight {min(member.weight, 256)}" if member.weight != 1 else ""
    name = re.sub(r"[^A-Za-z0-9_.:-]", "_", member.name)
    return f"server {name} {_address(member.place)}{weight}{check}{' backup' if member.backup else ''}"


def _address(place: SocketAddress) -> str:
    return f"unix@{place.path}" if place.path else f"{place.host}:{place.port}"


def _word(pattern: str) -> str:
    return f"'{pattern}'"


def _text(text: str) -> str:
    """A word in quotes that nothing is replaced in."""
    return "'" + text.replace("'", "'\\''") + "'"
