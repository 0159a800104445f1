"""The servers of HAProxy's backends, and what is wrong with their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from sidecar.importing.asked import ProxyPool, Server
from sidecar.importing.haproxy_words import Line, Section

_SERVICE = re.compile(r"_[\w-]+\._tcp\.([\w.-]*\w)\.?", re.ASCII)
_USUAL_PORT = 8008
_ADDRESS = re.compile(r"[\w./:@-]+", re.ASCII)


def upstream_of(section: Section, defaults: Iterable[Line]) -> ProxyPool:
    """A backend or `listen` section with what it says of its servers."""
    balance = [line for line in (*defaults, *section.lines) if line.keyword == "balance"]
    sticks = [str(line) for line in section.having("stick")]
    words = " ".join(balance[-1].args) if balance else "roundrobin"
    usual = tuple(word for line in section.having("default-server") for word in line.args)
    servers = tuple(_servers(section, usual))
    return ProxyPool(section.name, servers, "; ".join([f"balance {words}", *sticks]), section.place)


def _servers(section: Section, usual: tuple[str, ...]) -> Iterator[Server]:
    for line in section.having("server"):
        if line.args:
            yield _server(line, line.args[0], line.args[1:], usual)
    for line in section.having("server-template"):
        # One name stands for all the addresses that it resolves to, and the system picks one.
        if len(line.args) > 2:
            yield _server(line, line.args[0], line.args[2:], usual)


def _server(line: Line, name: str, words: tuple[str, ...], usual: tuple[str, ...]) -> Server:
    address, options = words[0] if words else "", words[1:]
    said = dict(pairwise(options))
    weight = said.get("weight", "1")
    found, fault = endpoint(address), ""
    service = _SERVICE.fullmatch(address)
    if service is not None:
        found = f"tcp:{service[1]}:{_USUAL_PORT}"
        fault = f"its port is in an SRV record in DNS; {_USUAL_PORT} is a guess, so check it"
    elif not found:
        fault = f"`{address}` is not an address until HAProxy fills it in; write the worker's `endpoint` by hand"
    elif "ssl" in (*options, *usual):
        fault = "HAProxy connects to it with TLS, but the sidecar speaks plain HTTP; let it listen without TLS"
    elif any(word.startswith("send-proxy") for word in (*options, *usual)):
        fault = "it expects the PROXY protocol, but the sidecar sends X-Forwarded-For; let it read that instead"
    # A weight is a share of 256 at most; what counts is how those of one backend compare.
    number = float(weight) if weight.isdigit() and int(weight) else 1.0
    return Server(name, found, line.place, number, "backup" in options, fault)


def endpoint(address: str) -> str:
    """A Twisted client endpoint for an address of HAProxy; empty where it is none."""
    if address.startswith(("/", "unix@")):
        path = address.removeprefix("unix@")
        return f"unix:{path}" if _ADDRESS.fullmatch(path) else ""
    plain = re.sub(r"^(?:ipv4|ipv6|tcp)\w*@", "", address)
    host, colon, port = plain.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536 or not _ADDRESS.fullmatch(host.strip("[]")):
        return ""
    escaped = host.strip("[]").replace(":", r"\:")
    return f"tcp:{escaped}:{port}"
