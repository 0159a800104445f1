"""The routing as a Caddyfile, for Caddy 2.6 or later.

One map finds the group by method and path, and where in the path the key stands; another cuts the key out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sidecar.config.endpoint_strings import ListenAddress, place_of
from sidecar.exporting.model import Exported, Group, OwnRule, SocketAddress
from sidecar.exporting.remarks import remarks, stand_ins, unlisted
from sidecar.exporting.responses import FixedResponse, refused

_KEY = "X-Matrix-Sidecar-Key"
_KEYS = {"user": "{matrix_user}", "origin": "{matrix_origin}", "path": "{path}", "room": "{matrix_segment}"}


def caddy(exported: Exported) -> dict[str, str]:
    """The text of each file by its name."""
    more = [
        *stand_ins(exported.groups, backups=False),
        *unlisted(exported),
        "workers have no weights",
        "networks are compared with the address of the connection, not with X-Forwarded-For",
    ]
    lines = [f"# {line}".rstrip() for line in remarks(exported, "caddy", more)]
    lines += ["", "(matrix_table) {", *_in(_table(exported)), "}"]
    for number, entry in enumerate(exported.listens):
        lines += ["", *_site(exported, entry, number)]
    return {"Caddyfile": "\n".join(lines) + "\n"}


def _in(lines: Iterable[str]) -> Iterator[str]:
    return (f"\t{line}" if line else "" for line in lines)


def _site(exported: Exported, entry: ListenAddress, number: int) -> Iterator[str]:
    place = place_of(entry.address) or ("127.0.0.1", "8008")
    scheme = "https" if entry.tls else "http"
    if place[0] == "unix":
        yield f"{scheme}://matrix-{number}.localhost {{"
        yield f"\tbind unix/{place[1]}"
    else:
        yield f"{scheme}://:{place[1]} {{"
        if place[0]:
            yield f"\tbind {place[0]}"
    if entry.tls:
        yield f"\ttls {_text(entry.tls.certificate)} {_text(entry.tls.key)}"
    yield "\trequest_body {"
    yield f"\t\tmax_size {exported.settings.limits.request_body}"
    yield "\t}"
    yield "\troute {"
    for line in (*_access(exported), *_own(exported), "import matrix_table"):
        yield f"\t\t{line}"
    yield "\t}"
    yield "}"


def _access(exported: Exported) -> Iterator[str]:
    for resource, networks in exported.closed.items():
        yield f"@closed_{resource} {{"
        yield rf"	path_regexp (?i)/_synapse[/\\]+(?:[.][/\\]+)*{resource}(?:[/\\]|$)"
        if networks:
            yield f"	not remote_ip {' '.join(map(str, networks))}"
        yield "}"
        yield f"handle @closed_{resource} {{"
        yield from _in(_answer(refused(403, "this path is closed")))
        yield "}"


def _own(exported: Exported) -> Iterator[str]:
    """Each rule writes down its number where none before it did; the one that is written down then acts."""
    if exported.own:
        yield "vars matrix_own none"
    for rule in exported.own:
        yield f"@own_{rule.number} {{"
        yield from _in(("vars {http.vars.matrix_own} none", *_conditions(rule)))
        yield "}"
        yield f"vars @own_{rule.number} matrix_own {rule.number}"
    for rule in exported.own:
        if not rule.route.table:
            yield f"@acts_{rule.number} vars {{http.vars.matrix_own}} {rule.number}"
            yield f"handle @acts_{rule.number} {{"
            yield from _in(_outcome(exported, rule))
            yield "}"


def _conditions(rule: OwnRule) -> Iterator[str]:
    route = rule.route
    if route.host:
        yield f"host {' '.join(route.host)}"
    if rule.methods:
        yield f"method {' '.join(rule.methods)}"
    if route.path is not None:
        yield f"vars_regexp {{uri}} `^{rule.path}`"
    if route.scheme:
        yield f"protocol {route.scheme}"
    if route.source:
        yield f"remote_ip {' '.join(map(str, route.source))}"
    for name, value in (route.header or {}).items():
        yield f"header {name} {'*' if value is None else _text(value)}"
    yield from (f"header_regexp {name} `(?i){expression}`" for name, expression in rule.likes)
    for name, value in (route.query or {}).items():
        yield f"query {_text(name + '=' + ('*' if value is None else value))}"


def _outcome(exported: Exported, rule: OwnRule) -> Iterator[str]:
    route = rule.route
    if rule.choice is not None:
        yield from _keys(())
        yield from _proxy(exported, rule.choice.group)
    elif rule.answer is not None:
        yield from _answer(rule.answer)
    elif route.redirect is not None:
        to = route.redirect.to.replace("{target}", "{uri}")  # `{host}` means the same here
        yield f"redir {_text(to)} {route.redirect.status}"


def _answer(answer: FixedResponse) -> Iterator[str]:
    for name, value in {"Content-Type": answer.kind, **answer.fields}.items():
        yield f"header {name} {_text(value)}"
    yield f"respond {_text(answer.content)} {answer.status}"


def _table(exported: Exported) -> Iterator[str]:
    yield "map `{method} {uri}` {matrix_group} {matrix_key_at} {"
    for rule in exported.table:
        yield f"\t`~^{rule.pattern}` {rule.choice.group.name} {rule.choice.key_at}"
    yield f"\tdefault {exported.rest.group.name} 0"
    yield "}"
    patterns = [f"^{place} {'/[^/?]*' * (place - 1)}/([^/?]*)" for place in exported.keys_at]
    yield from _keys(patterns)
    for group in exported.groups:
        yield f"@group_{group.name} vars {{matrix_group}} {group.name}"
        yield f"handle @group_{group.name} {{"
        yield from _in(_proxy(exported, group))
        yield "}"


def _keys(segments: Sequence[str]) -> Iterator[str]:
    yield "map `{header.Authorization} {query.access_token}` {matrix_user} {"
    for pattern in ("^Bearer syt_([^_ ]+)_", "^Bearer ([^ ]+)", "^ syt_([^_ ]+)_", "^ (.+)$"):
        yield f"\t`~{pattern}` ${{1}}"
    yield "\tdefault {remote_host}"
    yield "}"
    yield "map {header.Authorization} {matrix_origin} {"
    yield '\t`~(?i)^X-Matrix .*origin="?([^",]+)` ${1}'
    yield "\tdefault {remote_host}"
    yield "}"
    if segments:
        yield "map `{matrix_key_at} {uri}` {matrix_segment} {"
        yield from (f"\t`~{pattern}` ${{1}}" for pattern in segments)
        yield '\tdefault ""'
        yield "}"


def _proxy(exported: Exported, group: Group) -> Iterator[str]:
    if not group.first:
        yield from _answer(refused(503, "no process serves this request"))
        return
    keyed = group.kind in _KEYS
    if group.strip or group.add:
        # In this order, which a `handle` does not keep.
        yield "route {"
        if group.strip:
            yield f"\turi strip_prefix {group.strip}"
        if group.add:
            yield f"\trewrite * {group.add}{{uri}}"
        yield "}"
    if keyed:
        yield f"request_header {_KEY} {_KEYS[group.kind]}"
    yield f"reverse_proxy {' '.join(_address(member.place) for member in group.first)} {{"
    if len(group.first) > 1:
        yield f"\tlb_policy {_policy(group)}"
    if keyed:
        yield f"\theader_up -{_KEY}"
    timeouts = exported.settings.timeouts
    if exported.settings.forwarded.trust:
        yield f"\ttrusted_proxies {' '.join(map(str, exported.settings.forwarded.trust))}"
    yield "\tflush_interval -1"
    yield "\ttransport http {"
    yield f"\t\tdial_timeout {timeouts.connect:g}s"
    yield f"\t\tresponse_header_timeout {timeouts.answer:g}s"
    yield "\t}"
    yield "}"


def _policy(group: Group) -> str:
    if group.kind in _KEYS:
        return f"header {_KEY}"
    return {"source": "ip_hash", "session": "first"}.get(group.kind, "least_conn")


def _address(place: SocketAddress) -> str:
    return f"unix/{place.path}" if place.path else f"{place.host}:{place.port}"


def _text(text: str) -> str:
    """A word in quotes; nothing is special between backticks."""
    if "`" not in text:
        return f"`{text}`"
    return '"' + text.replace('"', '\\"') + '"'
