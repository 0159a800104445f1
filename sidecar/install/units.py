"""How the sidecar is started on this host: by systemd's units or by hand, and as which account.

Knows what the units in `systemd/` say. Reads files, starts nothing.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from sidecar.config.endpoint_strings import place_of
from sidecar.install.fronts import reached_at
from sidecar.install.permissions import Account

HOME = "/opt/venvs/matrix-sidecar"
"""The environment that the units name."""
PORT = "tcp:8008:interface=127.0.0.1"
"""What the socket unit listens on."""
_UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
"""Where systemd looks, in its order: the administrator's, and those of packages."""
_DROP_IN = "/etc/systemd/system/matrix-sidecar.socket.d"
GROUP = "matrix-synapse"
"""The group that the units let the sidecar run in."""
ADMIN = "unix:/run/matrix-sidecar/admin.sock:mode=660"
"""The operator's listener in the directory that the units make."""
ADMIN_SOCKETS = ("/run/matrix-sidecar/admin.sock", "/run/matrix-sidecar-[0-9]*/admin.sock")
"""The operator's listeners of the instances that the units start. Other directories with such names may be those of
another homeserver."""
ADMIN_ELSEWHERE = "tcp:9108:interface=127.0.0.1"


def admin_sockets(stated: str | None) -> list[str]:
    """The operator's listeners of the units' instances that are there, for a file with this `admin`.

    Empty where the file names another UNIX socket: then it is that of another homeserver, which the units do not start.
    """
    place = None if stated is None else place_of(stated)
    if place is not None and place[0] == "unix" and place != place_of(ADMIN):
        return []
    return sorted(path for pattern in ADMIN_SOCKETS for path in glob.glob(pattern))


@frozen
class NoUserError(Exception):
    """There is no user of this name."""

    name: str

    def __str__(self) -> str:
        return f"There is no user {self.name}; name the user that the sidecar runs as."


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
    return account(root, None) if _installed(root) is not None else None


def _installed(root: str) -> Path | None:
    """The unit that systemd would start; a copy of the administrator's comes first."""
    places = (Path(root, place, "matrix-sidecar.service") for place in _UNITS)
    return next((place for place in places if place.exists()), None)


def is_as_shipped(file: str) -> bool:
    """Whether a configuration file is the example that the Debian package puts there, which nobody has touched."""
    try:
        return Path(file).read_bytes() == Path(sys.prefix, "share/matrix-sidecar/conf/minimal.yaml").read_bytes()
    except OSError:
        return False


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
    commands, installed = [], _installed(root)
    if installed is None:
        commands.append(f"cp {sys.prefix}/share/matrix-sidecar/systemd/* /etc/systemd/system/")
        if sys.prefix != HOME:
            commands.append(f"sed -i 's#{HOME}#{sys.prefix}#' /etc/systemd/system/matrix-sidecar*")
    if not any(fields[0] == GROUP for fields in _lines(root, "group")):
        commands.append(f"groupadd --system {GROUP}")
    if listen != PORT:
        commands.append(f"mkdir -p {_DROP_IN}")
        commands.append(f"printf '[Socket]\\nListenStream=\\nListenStream={_place(listen)}\\n' >{_DROP_IN}/listen.conf")
    domain = _domain(listen)
    if domain != "INET":
        here = "/etc/systemd/system/matrix-sidecar.service"
        if installed is not None and not installed.is_relative_to(Path(root, "etc")):
            commands.append(f"cp /{installed.relative_to(root)} {here}")
        commands.append(f"sed -i 's/domain=INET:/domain={domain}:/' {here}")
    return [*commands, "systemctl daemon-reload", "systemctl enable --now matrix-sidecar.socket matrix-sidecar.service"]


def _domain(listen: str) -> str:
    """The kind of socket that the service is to expect from systemd."""
    address, _, socket = reached_at(listen)
    return "UNIX" if socket else "INET6" if ":" in address else "INET"


def _place(listen: str) -> str:
    """Where the socket unit is to listen."""
    address, port, socket = reached_at(listen)
    if socket:
        return socket
    if "interface=" not in listen:
        return f"0.0.0.0:{port}"  # a port alone would be a socket of IPv6
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
