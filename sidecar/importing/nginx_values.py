"""nginx's variables during one request: those of the request, `set`, `map`, and what expressions captured.

After ngx_http_variables.c and ngx_http_map_module.c. Knows nothing of locations or upstreams.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen

from sidecar.importing.asked import Asked, Position
from sidecar.importing.expressions import compiled
from sidecar.importing.nginx_tree import Directive
from sidecar.importing.prefixes import Prefixes

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*|\d))", re.ASCII)
_DEEPEST = 16
"""A `map` may be made of other maps; nginx itself stops at a cycle."""
_SPECIAL = frozenset(("default", "hostnames", "volatile", "include"))


@frozen
class Mapped:
    """A `map`: from a value to the value of a variable."""

    source: str
    exact: Mapping[str, str]
    wildcards: tuple[tuple[str, str], ...]
    """With `hostnames`: `*.example.org` and `mail.*`, in the order in which they are tried."""
    patterns: tuple[tuple[re.Pattern[str] | None, str], ...]
    default: str

    def look_up(self, value: str) -> tuple[str, re.Match[str] | None]:
        """The template for a value, and the match with what it captured."""
        found = self.exact.get(value.lower())
        if found is not None:
            return found, None
        for name, template in self.wildcards:
            if value.lower().endswith(name[1:]) if name[0] == "*" else value.lower().startswith(name[:-1]):
                return template, None
        for pattern, template in self.patterns:
            match = pattern.search(value) if pattern is not None else None
            if match is not None:
                return template, match
        return self.default, None


def mapped(directive: Directive) -> Mapped:
    """The `map` of a directive. Strings are compared without case, expressions in their order."""
    exact: dict[str, str] = {}
    wildcards, patterns, default = [], [], ""
    hostnames = any(entry.name == "hostnames" for entry in directive.block or ())
    for entry in directive.block or ():
        value = entry.args[0] if entry.args else ""
        if entry.name == "default":
            default = value
        elif entry.name.startswith("~"):
            text = entry.name[1:]
            patterns.append((compiled(text.removeprefix("*"), ignore_case=text.startswith("*")), value))
        elif hostnames and (entry.name.startswith(("*.", ".")) or entry.name.endswith(".*")):
            name = entry.name.lower()
            wildcards.append((f"*{name}" if name[0] == "." else name, value))
            if name[0] == ".":
                exact[name[1:]] = value
        elif entry.name not in _SPECIAL:
            exact[entry.name.removeprefix("\\").lower()] = value
    wildcards.sort(key=lambda pair: (pair[0][0] != "*", -len(pair[0])))
    return Mapped(directive.args[0], exact, tuple(wildcards), tuple(patterns), default)


@define(eq=False)
class Values:
    """The variables of one request. `doubts` gathers the names of those that are not known here."""

    asked: Asked
    maps: Mapping[str, Mapped]
    uri: str
    real_ip: str
    own: dict[str, str] = field(factory=dict)
    """What `set` and named groups gave."""
    captures: Sequence[str | None] = ()
    doubts: list[str] = field(factory=list)
    rewrites: str = ""
    """What was put in place of the path, and where."""
    prefixes: Prefixes | None = None
    """The same, if it was done once and only the beginning is another."""
    _depth: int = 0

    def fill(self, template: str) -> str:
        """The template with its variables' values."""
        return _VARIABLE.sub(lambda found: self.value(found[1] or found[2]), template) if "$" in template else template

    def value(self, name: str) -> str:
        """A variable's value, empty where it has none or is not known."""
        if name.isdigit():
            index = int(name)
            return (self.captures[index] or "") if index < len(self.captures) else ""
        if name in self.own:
            return self.own[name]
        if name in self.maps:
            return self._mapped(self.maps[name])
        for prefix, read in _PREFIXES.items():
            if name.startswith(prefix):
                return read(self, name[len(prefix) :])
        read_plain = _PLAIN.get(name)
        if read_plain is not None:
            return read_plain(self)
        self.doubts.append(f"import does not know the variable ${name}")
        return ""

    def rewrite(self, target: str, place: Position, prefixes: Prefixes | None) -> None:
        """Go on with another path; `prefixes`: only its beginning is another."""
        self.prefixes = None if self.rewrites else prefixes
        self.uri = target.partition("?")[0] or "/"
        self.rewrites = f"{place} changes the path"

    def matched(self, match: re.Match[str]) -> None:
        """Take over what an expression captured."""
        self.captures = (match[0], *match.groups())
        self.own.update({name: value or "" for name, value in match.groupdict().items()})

    def _mapped(self, table: Mapped) -> str:
        if self._depth >= _DEEPEST:
            self.doubts.append("maps that refer to each other")
            return ""
        self._depth += 1
        try:
            template, match = table.look_up(self.fill(table.source))
            if match is not None:
                self.matched(match)
            return self.fill(template)
        finally:
            self._depth -= 1


def _argument(values: Values, name: str) -> str:
    """The first parameter of this name in any case, as it stands in the query (ngx_http_arg)."""
    for pair in values.asked.query.split("&"):
        found, equals, value = pair.partition("=")
        if equals and found.lower() == name.lower():
            return value
    return ""


def _field(values: Values, name: str) -> str:
    return values.asked.fields.get(name.lower().replace("_", "-"), "")


def _cookie(values: Values, name: str) -> str:
    for pair in values.asked.fields.get("cookie", "").split(";"):
        found, _, value = pair.strip().partition("=")
        if found.lower() == name.lower():
            return value
    return ""


_PREFIXES: Mapping[str, Callable[[Values, str], str]] = {"arg_": _argument, "http_": _field, "cookie_": _cookie}
_PLAIN: Mapping[str, Callable[[Values], str]] = {
    "args": lambda values: values.asked.query,
    "query_string": lambda values: values.asked.query,
    "is_args": lambda values: "?" if values.asked.query else "",
    "uri": lambda values: values.uri,
    "document_uri": lambda values: values.uri,
    "request_uri": lambda values: values.asked.target,
    "request_method": lambda values: values.asked.method,
    "request": lambda values: f"{values.asked.method} {values.asked.target} HTTP/1.1",
    "host": lambda values: values.asked.host,
    "remote_addr": lambda values: values.real_ip,
    "binary_remote_addr": lambda values: values.real_ip,
    "proxy_add_x_forwarded_for": lambda values: ", ".join(
        filter(None, (values.asked.fields.get("x-forwarded-for"), values.real_ip))
    ),
    "content_type": lambda values: values.asked.fields.get("content-type", ""),
    "scheme": lambda values: "https" if values.asked.tls else "http",
    "https": lambda values: "on" if values.asked.tls else "",
    "server_addr": lambda _values: "192.0.2.2",
    "remote_port": lambda _values: "40000",
    "remote_user": lambda _values: "",
    "hostname": lambda _values: "localhost",
    "nginx_version": lambda _values: "1.0",
    "pid": lambda _values: "1",
    "request_id": lambda _values: "0" * 32,
    "request_length": lambda _values: "0",
    "content_length": lambda values: values.asked.fields.get("content-length", ""),
    "ssl_server_name": lambda values: values.asked.host if values.asked.tls else "",
    "realip_remote_addr": lambda values: values.asked.source,
    "server_port": lambda values: str(values.asked.port or ""),
    "server_name": lambda values: values.asked.host,
    "server_protocol": lambda _values: "HTTP/1.1",
}
