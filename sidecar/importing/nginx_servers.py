"""The `server` blocks of nginx: their ports and names, and whose address a request counts as."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

from attrs import frozen

from sidecar.importing.asked import Asked
from sidecar.importing.expressions import compiled
from sidecar.importing.nginx_locations import Location, location
from sidecar.importing.nginx_tree import Directive
from sidecar.routing.access import is_within


@frozen(eq=False)
class Virtual:
    """A `server` block."""

    ports: tuple[int, ...]
    secure: frozenset[int]
    """The ports on which it speaks TLS."""
    default_of: frozenset[int]
    names: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    root: Location

    def hosts(self) -> list[str]:
        """A name for each of its own, one below a wildcard among them."""
        plain = [name.replace("*.", "any.", 1) if name.startswith("*.") else name.lstrip(".") for name in self.names]
        return [name.replace(".*", ".example", 1) for name in plain if "." in name and "$" not in name]

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


def virtual(directive: Directive, http: Location) -> Virtual:
    listens = [each for each in directive.inside("listen") if each.args]
    # QUIC is UDP; where it is offered, there is a TCP port for the same besides.
    listens = [each for each in listens if "quic" not in each.args] or listens
    listens = listens or [Directive("listen", ("80",), directive.place)]
    names = [name for each in directive.inside("server_name") for name in each.args]
    patterns = [compiled(name[1:], ignore_case=True) for name in names if name.startswith("~")]
    ports = {_port(each.args[0]): each for each in listens}
    return Virtual(
        tuple(ports),
        frozenset(port for port, each in ports.items() if {"ssl", "quic"} & set(each.args)),
        frozenset(port for port, each in ports.items() if {"default_server", "default"} & set(each.args)),
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


def real_ip(root: Location, asked: Asked) -> str:
    """The client's address as ngx_http_realip_module has it: the last address of the field, or the last not trusted."""
    trusted = []
    for each in root.settings("set_real_ip_from"):
        try:
            trusted.append(ip_network("".join(each.args[:1]), strict=False))
        except ValueError:
            continue
    header = root.setting("real_ip_header")
    if not trusted or not is_within(asked.source, trusted):
        return asked.source
    name = (header.args[0] if header is not None and header.args else "X-Real-IP").lower()
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
