"""How the sidecar is started on this host: by systemd's units or by hand, and as which account.

Knows what the units in `systemd/` say. Reads files, starts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from sidecar.install.fronts import reached_at
from sidecar.install.permissions import Account

HOME = "/opt/venvs/matrix-sidecar"
"""The environment that the units name."""
PORT = "tcp:8008:interface=127.0.0.1"
"""What the socket unit listens on."""
GROUP = "matrix-synapse"
"""The group that the units let the sidecar run in."""
ADMIN = "unix:/run/matrix-sidecar/admin.sock:mode=660"
"""The operator's listener in the directory that the units make."""
ADMIN_ELSEWHERE = "tcp:9108:interface=127.0.0.1"


@frozen
class NoUserError(Exception):
    """There is no user of this name."""

    name: str

    def __str__(self) -> str:
        return f"There is no user {self.name}; give the name of the one that the sidecar runs as."


def has_systemd(root: str = "/") -> bool:
    """Whether systemd runs here, or would, where `root` is a host that does not run."""
    places = ("run/systemd/system",) if root == "/" else ("run/systemd/system", "etc/systemd/system")
    return any(Path(root, place).is_dir() for place in places)


def account(root: str, name: str | None) -> Account:
    """Who the sidecar will run as: the named user, systemd's own with the units' group, or who runs this."""
    if name is not None:
        return _named(root, name)
    if not has_systemd(root):
        return Account.current()
    group = next((int(fields[2]) for fields in _lines(root, "group") if fields[0] == GROUP and len(fields) > 2), None)
    return Account("the user of matrix-sidecar.service", None, frozenset(() if group is None else (group,)))


def expected(root: str = "/") -> Account | None:
    """Who the installed unit runs the sidecar as, if it is installed."""
    return account(root, None) if Path(root, "etc/systemd/system/matrix-sidecar.service").exists() else None


def _named(root: str, name: str) -> Account:
    """Raises NoUserError."""
    for fields in _lines(root, "passwd"):
        if fields[0] == name and len(fields) > 3:
            groups = {int(fields[3])}
            groups.update(int(each[2]) for each in _lines(root, "group") if name in each[-1].split(","))
            return Account(name, int(fields[2]), frozenset(groups))
    raise NoUserError(name)


def _lines(root: str, file: str) -> Iterator[list[str]]:
    try:
        text = Path(root, "etc", file).read_text("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        yield line.split(":")


def to_do(root: str, file: str, listen: str) -> list[str]:
    """The commands that start the sidecar with this configuration file and keep it running."""
    if not has_systemd(root):
        return [f"{sys.prefix}/bin/twistd -n --pidfile= matrix-sidecar --config {file}"]
    commands = [f"cp {sys.prefix}/share/matrix-sidecar/systemd/* /etc/systemd/system/"]
    if sys.prefix != HOME:
        commands.append(f"sed -i 's#{HOME}#{sys.prefix}#' /etc/systemd/system/matrix-sidecar*")
    if not any(fields[0] == GROUP for fields in _lines(root, "group")):
        commands.append(f"groupadd --system {GROUP}")
    if listen != PORT:
        commands.append("systemctl edit matrix-sidecar.socket   # write the three lines below")
    domain = _domain(listen)
    if domain != "INET":
        commands.append(
            f"systemctl edit --full matrix-sidecar.service   # in ExecStart: systemd:domain={domain}:name=http"
        )
    return [*commands, "systemctl daemon-reload", "systemctl enable --now matrix-sidecar.socket matrix-sidecar.service"]


def _domain(listen: str) -> str:
    """The kind of socket that the service is to expect from systemd."""
    address, _, socket = reached_at(listen)
    return "UNIX" if socket else "INET6" if ":" in address else "INET"


def socket_lines(root: str, listen: str) -> str:
    """What the socket unit needs on top, where it is not to listen on 127.0.0.1:8008; else empty."""
    if not has_systemd(root) or listen == PORT:
        return ""
    address, port, socket = reached_at(listen)
    if socket:
        place = socket
    elif "interface=" not in listen:
        place = str(port)
    else:
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"[Socket]\nListenStream=\nListenStream={place}\n"
