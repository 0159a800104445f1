"""The upstreams of nginx, with or without an `upstream` block, and what is wrong with their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from attrs import evolve

from sidecar.importing.asked import Position, ProxyPool, Server
from sidecar.importing.nginx_rules import target_of
from sidecar.importing.nginx_tree import Directive, every

_ADDRESS = re.compile(r"[\w./:@-]+", re.ASCII)


def upstream_of(directive: Directive) -> ProxyPool:
    servers = [_server(each) for each in directive.inside("server") if each.args and "down" not in each.args]
    balance = ""
    for each in directive.inside("hash", "ip_hash", "least_conn", "random"):
        balance = " ".join([each.name, *each.args])
    return ProxyPool(directive.args[0], tuple(servers), balance, directive.place)


def bare_addresses(http: Iterable[Directive]) -> Iterator[tuple[str, ProxyPool]]:
    """Addresses to which requests are passed without an `upstream`, each an upstream of its own."""
    for each in every(http):
        for value in each.args[-1:] if each.name in ("proxy_pass", "set") else ():
            if value.startswith(("http://", "https://")) and "$" not in value:
                name = target_of(value).pool
                server = server_at(name, each.place, secure=value.startswith("https://"))
                yield name, ProxyPool(name, (server,), place=each.place)


def _server(directive: Directive) -> Server:
    address, *options = directive.args
    weight = next((option.partition("=")[2] for option in options if option.startswith("weight=")), "1")
    return evolve(
        server_at(address, directive.place),
        weight=float(weight) if weight.isdigit() and int(weight) else 1.0,
        backup="backup" in options,
    )


def server_at(address: str, place: Position, *, secure: bool = False) -> Server:
    """The server at an address of nginx, with what is wrong with that."""
    found, fault = endpoint(address), ""
    if not found:
        fault = (
            f"`{address}` is not an address until nginx fills in its variables; write the worker's `endpoint` by hand"
        )
    elif secure:
        fault = "nginx connects to it with TLS, but the sidecar speaks plain HTTP; let it listen without TLS"
    return Server(address, found, place, fault=fault)


def endpoint(address: str) -> str:
    """A Twisted client endpoint for an address of nginx; empty where it is none."""
    if address.startswith("unix:"):
        return address if _ADDRESS.fullmatch(address[len("unix:") :]) else ""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or host.endswith(":"):
        host, port = address, "80"
    plain = host.strip("[]")
    if not _ADDRESS.fullmatch(plain) or not 0 < int(port) < 65536 or (":" in plain and not host.startswith("[")):
        return ""
    return f"tcp:{plain.replace(':', chr(92) + ':')}:{port}"
