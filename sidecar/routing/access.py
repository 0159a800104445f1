"""What Synapse does not mean for everybody, recognised however its path is spelled.

Synapse finds its resources by decoded segments and its servlets by raw ones, and other programs may stand between.
Therefore a path is closed when any reading of it is: decoded once or again, slashes merged, `\\` read as a slash, dot
segments resolved or not, in any case. Knows nothing of pools or endpoint rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address

from attrs import frozen

from sidecar.config.schema import Access, Network
from sidecar.synapse.identifiers import percent_decoded

REPLICATION = "replication"
_ROOT = b"_synapse"
CLOSED = (b"admin", b"mas", b"metrics", REPLICATION.encode())
TOO_DEEP = "too deep"
"""What a path is said to lead to that has too many segments to be read in all ways."""
_ROUNDS = 4
"""Percent-encoding upon percent-encoding is followed so far; Synapse follows it once."""


@frozen
class AccessRules:
    """Who may pass to which closed resource; nobody to replication, whose requests carry no credentials of a user."""

    networks: Mapping[str, tuple[Network, ...]]
    most: int = 64
    """Segments of a path that are looked at (`limits.path_segments`)."""

    def admits(self, resource: str, peer: str) -> bool:
        """Whether the client address `peer` may reach `resource`; what is no IP address may not."""
        networks = self.networks.get(resource, ())
        return bool(networks) and is_within(peer, networks)


def access_rules(access: Access, most: int, mas: tuple[Network, ...] = ()) -> AccessRules:
    """What `access:` says; `most` as there; `mas`: who may reach that resource where it does not say."""
    networks = {"admin": access.admin, "mas": mas if access.mas is None else access.mas, "metrics": access.metrics}
    return AccessRules(networks, most)


def is_within(peer: str, networks: Iterable[Network]) -> bool:
    """Whether an address in text lies in one of the networks; an IPv4 address in IPv6 clothes counts as IPv4."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def closed_resource(path: bytes, *, known: bool, most: int = 64) -> str | None:
    """The resource below `/_synapse` that is closed by default and that `path` may lead to, None for any other path.

    With `known`, the path matches an endpoint row whose last parameters are free text: there, an encoded slash in a
    segment is text and divides nothing. A path with more than `most` segments leads to `TOO_DEEP`.
    """
    lowered = path.lower()
    if _ROOT not in lowered and b"%" not in lowered:
        return None
    decoded = _decoded(lowered)
    if _ROOT in decoded and _depth(lowered) > most:
        return TOO_DEEP
    found = _closed_in(_resolved(_decoded(part) for part in lowered.split(b"/"))) if _ROOT in decoded else None
    for _ in range(1 if known else _ROUNDS):
        if found is None and _ROOT in decoded:
            if _depth(decoded) > most:
                return None if known else TOO_DEEP
            segments = _segments(decoded)
            found = _closed_in(segments) or (None if known else _closed_in(_resolved(segments)))
        once_more = _decoded(decoded)
        if found is not None or once_more == decoded:
            break
        decoded = once_more
    return found


def _depth(path: bytes) -> int:
    return path.count(b"/") + path.count(b"\\")


def _closed_in(segments: list[bytes]) -> str | None:
    return segments[1].decode() if segments[:1] == [_ROOT] and segments[1:2] and segments[1] in CLOSED else None


def _decoded(octets: bytes) -> bytes:
    return percent_decoded(octets).lower()


def _segments(path: bytes) -> list[bytes]:
    return [segment for segment in path.replace(b"\\", b"/").split(b"/") if segment not in (b"", b".")]


def _resolved(segments: Iterable[bytes]) -> list[bytes]:
    """Slashes merged and dot segments removed (RFC 3986 5.2.4)."""
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return kept
