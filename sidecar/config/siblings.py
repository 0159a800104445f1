"""The other instances that `operator.siblings` names: which of them are not this one, and what each is called.

Pure: who answers there is not asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import PurePosixPath

from attrs import field, frozen

from sidecar.config.endpoint_strings import place_of, sibling_parts
from sidecar.config.operator import MOST_SIBLINGS, Operator

_USUAL = "admin.sock"
"""The name of a socket that says nothing: the one of its directory does."""
_LOCAL = "localhost"
_EVERY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104
"""Interfaces that stand for all addresses of this host."""


@frozen
class Sibling:
    """An instance: what it is called, and where its operator's listener is."""

    name: str
    endpoint: str


@frozen(kw_only=True)
class SiblingRules:
    """Who is asked, and within which limits."""

    own: Sibling
    others: tuple[Sibling, ...] = ()
    user: str = "operator"
    password: bytes | None = field(default=None, repr=False)
    seconds: float = 3.0
    most: int = 4 << 20
    """Bytes of an answer."""


def instances(admin: str, siblings: Sequence[str], machine: str) -> tuple[Sibling, tuple[Sibling, ...]]:
    """This instance, whose operator's listener is at `admin`, and the others; `machine` is the name of this host.

    An entry that leads to `admin` is this instance itself. Through a name or another address it may lead here as well,
    which only shows when it is asked.
    """
    own = next((each for each in siblings if _is_here(each, admin)), None)
    others = [each for each in dict.fromkeys(siblings) if not _is_here(each, admin)]
    labels = [_own_label(admin, machine) if own is None else _label(own), *map(_label, others)]
    counts = Counter(labels)
    unique = [
        label if counts[label] == 1 else endpoint
        for label, endpoint in zip(labels, (own or admin, *others), strict=True)
    ]
    first, *rest = map(Sibling, unique, (own or admin, *others))
    return first, tuple(rest)


def sibling_faults(operator: Operator) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What cannot be, with the key."""
    count = len(operator.siblings)
    if count > MOST_SIBLINGS:
        yield ("operator", "siblings"), f"there are {count}; at most {MOST_SIBLINGS} can be asked, so leave some out"


def sibling_oddities(operator: Operator) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What works, but hardly as meant."""
    if operator.password_file is None and operator.sibling_password_file is None:
        return
    for index, endpoint in enumerate(operator.siblings):
        kind, values = sibling_parts(endpoint)
        if kind == "tcp" and not _is_loopback(values["host"]):
            yield (
                ("operator", "siblings", index),
                "the password crosses the network unencrypted; write `tls:` here, and `ssl:` in `admin` there",
            )


def _is_here(endpoint: str, admin: str) -> bool:
    """Whether a sibling's endpoint surely leads to `admin`. Another loopback address is another listener."""
    kind, values = sibling_parts(endpoint)
    place = place_of(admin)
    if kind == "unix" or place is None or place[0] == "unix":
        return kind == "unix" and place == ("unix", values["path"])
    host, port = place
    return port == values["port"] and _is_bound(host, values["host"])


def _is_bound(own: str, host: str) -> bool:
    """Whether a listener that is bound to `own` can be reached at `host`."""
    if own in _EVERY:
        return host in _EVERY or _is_loopback(host)
    if _LOCAL in (own, host):
        return _is_loopback(own) and _is_loopback(host)
    return _normal(own) == _normal(host)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == _LOCAL if address is None else address.is_loopback


def _normal(host: str) -> str:
    """One spelling of each address; names have no case."""
    return str(_address(host) or host.lower())


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _label(endpoint: str) -> str:
    """What is short and tells instances apart: a directory, a path, or host and port."""
    kind, values = sibling_parts(endpoint)
    if kind == "unix":
        return _label_of_path(values["path"])
    host, port = values["host"], values["port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _label_of_path(text: str) -> str:
    path = PurePosixPath(text)
    return path.parent.name if path.name == _USUAL and path.parent.name else str(path)


def _own_label(admin: str, machine: str) -> str:
    place = place_of(admin)
    if place is None:
        return machine
    host, rest = place
    if host == "unix":
        return _label_of_path(rest)
    return f"{machine}:{rest}" if rest != "0" else machine
