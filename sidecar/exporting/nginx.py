"""The routing as a file for nginx, to be included in its `http` block.

One map finds the group by method and path, another the key of a path; both see the request as it was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from sidecar.config.endpoint_strings import ListenAddress, place_of
from sidecar.exporting.model import Exported, Group, Member, OwnRule, SocketAddress, literally
from sidecar.exporting.remarks import remarks, stand_ins, unlisted
from sidecar.exporting.responses import FixedResponse, refused

_SLASHES = r"[/\\]+"
_ANSWER = "/__matrix_sidecar_answer_"
_MAIN_KEYS = {"user": "$matrix_user", "origin": "$matrix_origin", "source": "$remote_addr", "path": "$uri"}


def nginx(exported: Exported) -> dict[str, str]:
    """The text of each file by its name."""
    more = [
        *stand_ins(exported.groups, backups=True),
        *unlisted(exported),
        "closed paths: nginx decodes a path only once, and relies on Synapse to do the same",
    ]
    lines = [f"# {line}".rstrip() for line in remarks(exported, "nginx", more)]
    for part in (_upstreams, _callers, _own, _table, _keys, _access, _server):
        lines += ["", *part(exported)]
    return {"matrix.conf": "\n".join(lines) + "\n"}


def _upstreams(exported: Exported) -> Iterator[str]:
    for group in exported.groups:
        yield f"upstream {_upstream(group.name)} {{"
        yield from _balance(group)
        yield from (f"    {_server_line(member)}" for member in group.first)
        if group.kind == "none":
            yield from (f"    {_server_line(member)}" for member in group.backups)
        if not group.members:
            yield "    server 127.0.0.1:9 down;  # no worker"
        yield "    keepalive 32;"
        yield "}"


def _upstream(group: str) -> str:
    return f"matrix_{group}"


def _balance(group: Group) -> Iterator[str]:
    if len(group.first) < 2:
        return
    if group.kind == "none":
        yield "    least_conn;"
    elif group.kind in _MAIN_KEYS:
        yield f"    hash {_MAIN_KEYS[group.kind]} consistent;"
    else:
        yield f'    hash "{group.name}$matrix_segment" consistent;'


def _server_line(member: Member) -> str:
    weight = f" weight={member.weight}" if member.weight != 1 else ""
    return f"server {_address(member.place)}{weight}{' backup' if member.backup else ''};  # {member.name}"


def _address(place: SocketAddress) -> str:
    if place.path:
        return f"unix:{place.path}"
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"{host}:{place.port}"


def _callers(exported: Exported) -> Iterator[str]:
    yield 'geo $matrix_dollar { default "$"; }'
    yield from _geo("$realip_remote_addr $matrix_trusted", exported.settings.forwarded.trust)
    schemes = {"1https": "https", "1http": "http"}
    yield from _map('"$matrix_trusted$http_x_forwarded_proto"', "$matrix_scheme", "$scheme", schemes)
    yield from _map(
        '"$http_authorization $arg_access_token"',
        "$matrix_user",
        "$remote_addr",
        {
            "~^Bearer syt_(?<matrix_localpart>[^_ ]+)_": "$matrix_localpart",
            "~^Bearer (?<matrix_token>[^ ]+)": "$matrix_token",
            "~^ syt_(?<matrix_query_localpart>[^_ ]+)_": "$matrix_query_localpart",
            "~^ (?<matrix_query_token>.+)": "$matrix_query_token",
        },
    )
    yield from _map(
        "$http_authorization",
        "$matrix_origin",
        "$remote_addr",
        {'~*^X-Matrix .*origin="?(?<matrix_server>[^",]+)': "$matrix_server"},
    )
    others = [re.escape(group.name) for group in exported.groups if not group.synapse]
    upgrades = {f"~^(?:{'|'.join(others)}) .": "$http_upgrade"} if others else {}
    yield from _map('"$matrix_group $http_upgrade"', "$matrix_upgrade", '""', upgrades)
    yield from _map("$matrix_upgrade", "$matrix_connection", "upgrade", {"": '""'})


def _own(exported: Exported) -> Iterator[str]:
    """The operator's own routes. Each condition that a path cannot tell is one digit of `$matrix_flags`."""
    flags: list[str] = []
    for rule in exported.own:
        conditions = list(_conditions(rule))
        for number, (source, pattern) in enumerate(conditions):
            variable = f"$matrix_condition_{rule.number}_{number}"
            yield from _map(source, variable, "0", {pattern: "1"})
        if rule.route.source:
            yield from _geo(f"$matrix_condition_{rule.number}_source", rule.route.source)
            conditions.append(("", ""))
        names = [f"${{matrix_condition_{rule.number}_{number}}}" for number in range(len(conditions))]
        if rule.route.source:
            names[-1] = f"${{matrix_condition_{rule.number}_source}}"
        if names:
            yield from _map(f'"{"".join(names)}"', f"$matrix_condition_{rule.number}", "0", {"1" * len(names): "1"})
            flags.append(f"${{matrix_condition_{rule.number}}}")
    subject = f'"$request_method $matrix_scheme $host -{"".join(flags)} $request_uri"'
    yield from _map(subject, "$matrix_own", '""', dict(_own_patterns(exported.own)))


def _conditions(rule: OwnRule) -> Iterator[tuple[str, str]]:
    """What is looked at, and the pattern that it must match."""
    for name, value in (rule.route.header or {}).items():
        yield _field(name), "~." if value is None else f"~^{literally(value)}$"
    yield from ((_field(name), f"~*{expression}") for name, expression in rule.likes)
    yield from (("$args", f"~{query}") for query in rule.queries)


def _field(name: str) -> str:
    return "$http_" + name.lower().replace("-", "_")


def _own_patterns(rules: Sequence[OwnRule]) -> Iterator[tuple[str, str]]:
    flag = 0
    for rule in rules:
        bits = "[01]*"
        if rule.route.header or rule.likes or rule.route.query or rule.route.source:
            bits, flag = f"{'[01]' * flag}1[01]*", flag + 1
        hosts = [_host_expression(host) for host in rule.route.host or ()]
        words = (
            f"(?:{'|'.join(rule.methods)})" if rule.methods else "[^ ]+",
            rule.route.scheme or "[^ ]+",
            f"(?:{'|'.join(hosts)})" if hosts else "[^ ]*",
            f"-{bits}",
            rule.path,
        )
        yield f"~^{' '.join(words)}", _outcome(rule)


def _host_expression(host: str) -> str:
    return "[^ ]+" + literally(host[1:].lower()) if host.startswith("*.") else literally(host.lower())


def _outcome(rule: OwnRule) -> str:
    if rule.choice is not None:
        return rule.choice.label
    return "table" if rule.route.table else f"answer_{rule.number}"


def _table(exported: Exported) -> Iterator[str]:
    patterns = {f"~^{rule.pattern}": rule.choice.label for rule in exported.table}
    yield from _map('"$request_method $request_uri"', "$matrix_row", exported.rest.label, patterns)
    yield from _map("$matrix_own", "$matrix_choice", "$matrix_own", {"": "$matrix_row", "table": "$matrix_row"})
    name = {"~^(?<matrix_name>[^:]+)": "$matrix_name"}
    yield from _map("$matrix_choice", "$matrix_group", exported.rest.group.name, name)


def _keys(exported: Exported) -> Iterator[str]:
    patterns = {
        f"~^[^:]+:{place} {'/[^/?]*' * (place - 1)}/(?<matrix_part>[^/?]*)": "$matrix_part"
        for place in exported.keys_at
    }
    yield from _map('"$matrix_choice $request_uri"', "$matrix_segment", '""', patterns)


def _access(exported: Exported) -> Iterator[str]:
    patterns = {}
    for number, (resource, networks) in enumerate(exported.closed.items()):
        yield from _geo(f"$matrix_may_{resource}", networks)
        patterns[f"~*^{'.' * number}0[01]* .*/_synapse{_SLASHES}(?:[.]{_SLASHES})*{resource}(?:[/?\\\\]|$)"] = "1"
    flags = "".join(f"${{matrix_may_{resource}}}" for resource in exported.closed)
    # Both as nginx has decoded and resolved the path, and as it was sent.
    yield from _map(f'"{flags} $uri"', "$matrix_closed_path", "0", patterns)
    yield from _map(f'"{flags} $request_uri"', "$matrix_closed", "$matrix_closed_path", patterns)


def _server(exported: Exported) -> Iterator[str]:
    settings = exported.settings
    yield "server {"
    for entry in exported.listens:
        yield from (f"    {line}" for line in _listen(entry))
    yield "    server_name _;"
    yield from (f"    set_real_ip_from {network};" for network in settings.forwarded.trust)
    yield "    real_ip_header X-Forwarded-For;"
    yield "    real_ip_recursive on;"
    yield "    ignore_invalid_headers off;"
    yield f"    client_max_body_size {settings.limits.request_body};"
    yield ""
    yield "    location / {"
    yield "        if ($matrix_closed) { rewrite ^ /__matrix_sidecar_closed last; }"
    for rule in exported.own:
        if rule.choice is None and not rule.route.table:
            yield f"        if ($matrix_own = answer_{rule.number}) {{ rewrite ^ {_ANSWER}{rule.number} last; }}"
    yield from (f"        {line}" for group in exported.groups for line in _prefixes(group))
    yield from (f"        {line}" for line in _proxying(exported))
    yield "    }"
    yield from _answer("/__matrix_sidecar_closed", refused(403, "this path is closed"))
    for rule in exported.own:
        yield from _own_answer(rule)
    yield "}"


def _prefixes(group: Group) -> Iterator[str]:
    """Other beginnings of paths. A `rewrite` that fits ends the block."""
    if group.strip or group.add:
        yield f"if ($matrix_group = {group.name}) {{"
        if group.strip:
            yield f"    rewrite {_text(f'^{literally(group.strip)}(?:/(.*))?$')} {_text(f'{group.add}/$1')} break;"
        if group.add:
            yield f'    rewrite "^/(.*)$" {_text(f"{group.add}/$1")} break;'
        yield "}"


def _proxying(exported: Exported) -> Iterator[str]:
    timeouts = exported.settings.timeouts
    yield "# No path after the name: nginx must not change the path, because federation signs it."
    yield "proxy_pass http://matrix_$matrix_group;"
    yield "proxy_http_version 1.1;"
    yield "proxy_set_header Host $http_host;"
    yield "proxy_set_header X-Forwarded-For $remote_addr;"
    yield "proxy_set_header X-Forwarded-Proto $matrix_scheme;"
    yield "proxy_set_header Upgrade $matrix_upgrade;"
    yield "proxy_set_header Connection $matrix_connection;"
    yield "proxy_buffering off;"
    yield f"proxy_connect_timeout {timeouts.connect:g}s;"
    yield f"proxy_read_timeout {timeouts.answer:g}s;"
    yield f"proxy_send_timeout {timeouts.answer:g}s;"


def _own_answer(rule: OwnRule) -> Iterator[str]:
    place = f"{_ANSWER}{rule.number}"
    if rule.answer is not None:
        yield from _answer(place, rule.answer)
    elif rule.route.redirect is not None:
        # In this order: a target can hold `{host}`, a host no brace.
        to = _value(rule.route.redirect.to).replace("{host}", "$host").replace("{target}", "$request_uri")
        yield f"    location = {place} {{ internal; return {rule.route.redirect.status} {to}; }}"


def _answer(place: str, answer: FixedResponse) -> Iterator[str]:
    yield f"    location = {place} {{"
    yield "        internal;"
    yield "        types { }"
    yield f"        default_type {_text(answer.kind)};"
    for name, value in answer.fields.items():
        yield f"        add_header {name} {_value(value)} always;"
    yield f"        return {answer.status} {_value(answer.content)};"
    yield "    }"


def _listen(entry: ListenAddress) -> Iterator[str]:
    place = place_of(entry.address) or ("127.0.0.1", "8008")
    if place[0] == "unix":
        address = f"unix:{place[1]}"
    else:
        host = f"[{place[0]}]" if ":" in place[0] else place[0]
        address = f"{host}:{place[1]}" if host else place[1]
    # Without TLS, `http2` would leave no HTTP/1.1 on the port.
    tls = (" ssl http2" if entry.http2 else " ssl") if entry.tls else ""
    yield f"listen {address}{tls}{' proxy_protocol' if entry.announced else ''};"
    if entry.tls:
        yield f"ssl_certificate {_text(entry.tls.certificate)};"
        yield f"ssl_certificate_key {_text(entry.tls.key)};"


def _geo(variables: str, networks: Sequence[object]) -> Iterator[str]:
    yield f"geo {variables} {{"
    yield "    default 0;"
    yield from (f"    {network} 1;" for network in networks)
    yield "}"


def _map(source: str, variable: str, default: str, entries: Mapping[str, str]) -> Iterator[str]:
    yield f"map {source} {variable} {{"
    yield f"    default {default};"
    yield from (f"    {_text(pattern)} {value};" for pattern, value in entries.items())
    yield "}"


def _text(text: str) -> str:
    """A word in quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _value(text: str) -> str:
    """A word in quotes where nginx looks for variables; only a variable that holds a `$` can stand for one."""
    return _text(text).replace("$", "${matrix_dollar}")
