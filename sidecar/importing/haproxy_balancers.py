"""What of HAProxy passes connections on as they are, as entries of `balancers`. Pure.

A frontend or `listen` section in `mode tcp` becomes a balancer where every word of it, and of its servers, means the
same there. One with a word more is left to the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from sidecar.importing.haproxy_upstreams import endpoint
from sidecar.importing.haproxy_words import Line, Section

_SAME = frozenset(
    ("mode", "option tcpka", "option tcplog", "option dontlognull", "log", "description", "option splice-auto")
)
"""Lines that change nothing of what is passed on, or say what is always so."""
_TIMES = {"inter": "interval", "fastinter": "fast_interval", "downinter": "down_interval"}
_COUNTS = {"rise": "rise", "fall": "fall", "port": "port", "agent-port": "agent"}
_TIMEOUTS = {"connect": "connect", "client": "idle", "queue": "wait"}
_BALANCES: Mapping[str, dict[str, str]] = {"leastconn": {}, "roundrobin": {}, "first": {"balance": "first"}}


class _UnlikeError(Exception):
    """A word that has no counterpart."""


@frozen
class ImportedBalancer:
    """One entry, and the sections that it was made of."""

    entry: Mapping[str, Any]
    sections: tuple[Section, ...]


@define
class _Server:
    entry: dict[str, Any]
    check: dict[str, Any] = field(factory=dict)
    checked: bool = False
    closes: bool = False


def imported_balancers(parts: Sequence[Section]) -> dict[str, ImportedBalancer]:
    """By the name of the frontend or `listen` section; what cannot be said the same is not there."""
    backs = {section.name: section for section in parts if section.kind == "backend"}
    found = {}
    for section, defaults in _with_defaults(parts):
        if section.kind in ("frontend", "listen") and _mode(section, defaults) == "tcp":
            try:
                made = _balancer(section, backs, defaults)
            except _UnlikeError:
                continue
            found[section.name] = made
    return found


def _with_defaults(parts: Sequence[Section]) -> Iterator[tuple[Section, tuple[Line, ...]]]:
    defaults: tuple[Line, ...] = ()
    for section in parts:
        if section.kind == "defaults":
            defaults = section.lines
        yield section, defaults


def _mode(section: Section, defaults: Sequence[Line]) -> str:
    modes = [line.args[0] for line in (*defaults, *section.lines) if line.keyword == "mode" and line.args]
    return modes[-1] if modes else "http"


def _balancer(front: Section, backs: Mapping[str, Section], defaults: Sequence[Line]) -> ImportedBalancer:
    entry: dict[str, Any] = {}
    listen = [each for line in front.having("bind") for each in _listeners(line)]
    names = [line.args[0] for line in front.having("default_backend") if line.args]
    if not listen or (front.kind == "frontend" and not names) or any(name not in backs for name in names):
        raise _UnlikeError
    back = backs[names[-1]] if names else front
    entry["listen"] = listen if len(listen) > 1 else listen[0]
    servers = [_server(line, back) for line in back.having("server")]
    if not servers:
        raise _UnlikeError
    entry["servers"] = {name: server.entry for name, server in servers}
    for line in dict.fromkeys((*front.lines, *back.lines)):
        entry |= _line(line)
    entry |= _check(back, [server for _, server in servers])
    for line in (*defaults, *front.lines, *back.lines):
        if line.keyword == "timeout" and len(line.args) > 1 and line.args[0] in _TIMEOUTS:
            entry[_TIMEOUTS[line.args[0]]] = _time(line.args[1])
    return ImportedBalancer(entry, tuple(dict.fromkeys((front, back))))


def _line(line: Line) -> dict[str, Any]:
    """What a line adds; those of servers and checks are looked at by themselves."""
    keyword, args = line.keyword, line.args
    if keyword in ("bind", "default_backend", "server", "default-server", "http-check", "timeout"):
        return {}
    if {keyword, " ".join(line.words[:2])} & _SAME or line.words[:2] == ("option", "httpchk"):
        return {}
    if keyword == "maxconn" and args and args[0].isdigit():
        return {"connections": int(args[0])}
    if keyword == "balance" and args and args[0] in _BALANCES:
        return _BALANCES[args[0]]
    raise _UnlikeError


def _server(line: Line, back: Section) -> tuple[str, _Server]:
    usual = [word for each in back.having("default-server") for word in each.args]
    where = endpoint(line.args[1]) if len(line.args) > 1 else ""
    if not where:
        raise _UnlikeError
    server = _Server({"endpoint": where})
    words = iter((*usual, *line.args[2:]))
    for word in words:
        if word in ("check", "agent-check"):
            server.checked = server.checked or word == "check"
            continue
        value = next(words, "")
        if word in _TIMES:
            server.check[_TIMES[word]] = _time(value)
        elif word in _COUNTS and value.isdigit():
            server.check[_COUNTS[word]] = int(value)
        elif word in ("maxconn", "weight") and value.isdigit():
            server.entry["connections" if word == "maxconn" else "weight"] = int(value)
        elif (word, value) == ("on-marked-down", "shutdown-sessions"):
            server.closes = True
        else:
            raise _UnlikeError
    return line.args[0], server


def _check(back: Section, servers: Sequence[_Server]) -> dict[str, Any]:
    """One check for all: where their servers have several, nothing is said."""
    first = servers[0]
    if any((each.check, each.checked, each.closes) != (first.check, first.checked, first.closes) for each in servers):
        raise _UnlikeError
    check: dict[str, Any] = {}
    for line in back.lines:
        if line.words[:2] == ("option", "httpchk"):
            words = line.words[2:]
            check["http"] = " ".join(words) if len(words) == 2 else f"OPTIONS {words[0] if words else '/'}"
        elif line.keyword == "http-check":
            if line.args[:2] != ("expect", "status") or not line.args[2:3] or not line.args[2].isdigit():
                raise _UnlikeError
            check["expect"] = int(line.args[2])
    found: dict[str, Any] = {"check": {**check, **first.check} or "tcp" if first.checked else "none"}
    return found | ({"on_down": "close"} if first.closes and first.checked else {})


def _listeners(line: Line) -> Iterator[str]:
    """Server endpoints of a `bind`; `v4v6` of an IPv6 address is what the system does."""
    if not line.args or set(line.args[1:]) - {"v4v6"}:
        raise _UnlikeError
    for address in line.args[0].split(","):
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            raise _UnlikeError
        interface = host.strip("[]").replace(":", r"\:")
        yield f"tcp:{port}" if host in ("", "*") else f"tcp:{port}:interface={interface}"


def _time(text: str) -> str:
    """HAProxy's numbers without a unit are milliseconds."""
    return f"{text}ms" if text.isdigit() else text
