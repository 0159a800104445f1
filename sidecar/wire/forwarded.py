"""Who the client is: its address as a chain of trusted proxies states it, and the X-Forwarded lines for the worker.

Synapse takes the first element of the first X-Forwarded-For line without a check (`synapse/http/site.py`), so exactly
one line with exactly one address is sent. An unknown scheme is not guessed. Knows no sockets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from sidecar.wire.framing import RequestFields

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Clients choose what is remembered, so its number and its length in bytes are limited.
_CACHED_CHAINS = 4096
_LONGEST_CACHED = 256


# IPv6 in brackets, as it must stand before a port; IPv4, with a port or without; IPv6 alone. Quotes come in pairs.
_FORMS = re.compile(
    r'("?)(?:\[([0-9A-Fa-f:.]+)(?:%[0-9A-Za-z._~-]+)?\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?'
    r"|([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(?:%[0-9A-Za-z._~-]+)?)\1"
)
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_IPV4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}")
"""The common form of an address; this takes a third of the time that `ipaddress` takes."""
_LONGEST_ADDRESS = 128
_OF_ONE = 64
"""Bits of an IPv6 address that tell clients apart: a provider gives each customer a /64 at least (RFC 6177)."""


def parse_address(text: str) -> Address | None:
    """An address in any form that proxies write: plain, `[v6]`, with a port, or IPv4 mapped into IPv6.

    None for anything else, also if something follows the address.
    """
    return _parsed(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(_CACHED_CHAINS)
def _parsed(text: str) -> Address | None:
    """The same, remembered, because one request needs its client's address several times."""
    text = text.strip(" \t")
    plain = _PLAIN_IPV4.fullmatch(text)
    if plain is not None:
        return IPv4Address(bytes(map(int, plain.groups())))
    match = _FORMS.fullmatch(text)
    if match is None:
        return None
    _, bracketed, four, six = match.groups()
    try:
        address: Address = IPv4Address(four) if four else IPv6Address(bracketed or six)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def neighbourhood(peer: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64. Other text is returned unchanged."""
    address = parse_address(peer)
    if not isinstance(address, IPv6Address):
        return peer if address is None else str(address)
    return f"{IPv6Address(int(address) >> _OF_ONE << _OF_ONE)}/{_OF_ONE}"


class ForwardedPolicy:
    """Decides which peers are trusted, and caches its decisions."""

    __slots__ = ("_announcing", "_chain", "_hops", "_proto", "_public", "_trust", "place", "vouches")

    def __init__(
        self,
        trust: Sequence[Network],
        proto: str | None,
        announcing: Sequence[Network] = (),
        *,
        public: str = "",
        hops: int = 16,
    ) -> None:
        """`trust`: peers whose X-Forwarded fields are used; `proto`: the scheme to send if none of them states one.

        `announcing`: peers that begin each connection with a header of the PROXY protocol; `public`: the scheme that
        clients are meant to use, empty where that is not known; `hops`: how many elements of X-Forwarded-For are
        looked at.
        """
        self._trust = _ranges(trust)
        self._announcing = _ranges(announcing)
        self._proto = proto
        self._hops = hops
        self._public = public
        self._chain = lru_cache(_CACHED_CHAINS)(self._resolve)
        self.place = lru_cache(_CACHED_CHAINS)(self._place)
        """The neighbourhood of a client's address; empty for a trusted peer, which stands for many clients."""
        self.vouches = lru_cache(_CACHED_CHAINS)(self.trusts_text)
        """As `trusts_text`, remembered, because every request needs it."""

    def trusts(self, address: Address) -> bool:
        """Whether `address` is trusted."""
        return _is_in(address, self._trust)

    def announces(self, peer: str) -> bool:
        """Whether a connection from `peer`, an address in text, has to begin with a header of the PROXY protocol."""
        address = parse_address(peer) if self._announcing else None
        return address is not None and _is_in(address, self._announcing)

    def trusts_text(self, peer: str) -> bool:
        """As `trusts`, for an address as text. Empty is a UNIX peer, which is trusted; text that is no address is
        not."""
        address = parse_address(peer)
        return not peer or (address is not None and self.trusts(address))

    def _place(self, client: str) -> str:
        return "" if self.trusts_text(client) else neighbourhood(client)

    def client(self, peer: str, scheme: str, fields: RequestFields) -> tuple[str, str, bytes]:
        """The client's address as text, its scheme as far as it is known, and the lines (with CRLF) for the worker.

        `peer` is the address of the other end of the connection, empty for a UNIX peer; `scheme` is that of the
        connection, empty if a balancer in front may have ended TLS.
        """
        if fields.claims is None:
            return self._chain(peer, scheme, b"", b"")
        chain, proto = fields.claims
        resolve = self._chain if len(chain) + len(proto) <= _LONGEST_CACHED else self._resolve
        return resolve(peer, scheme, chain, proto)

    def _resolve(self, peer: str, scheme: str, chain: bytes, proto: bytes) -> tuple[str, str, bytes]:
        client = parse_address(peer)
        trusted = self.vouches(peer)
        said = ""
        if trusted:
            client = self._rightmost_untrusted(client, chain)
            said = proto.decode("latin-1").rpartition(",")[2].strip(" \t").lower()
        # A UNIX peer is this host. A client without an address must not count as that (RFC 7600 4.8).
        text = str(client or ("192.0.0.8" if peer else "127.0.0.1"))
        told = said if said in ("http", "https") else self._proto
        if not told and scheme and (not trusted or (scheme == "https" and not chain)):
            told = scheme
        if told:
            return text, told, f"X-Forwarded-For: {text}\r\nX-Forwarded-Proto: {told}\r\n".encode()
        # A proxy that states no scheme may have clients of both. Synapse takes clients without the field for https, but
        # would redirect them to themselves forever if it said `http`.
        sent = f"X-Forwarded-Proto: {self._public}\r\n" if self._public else ""
        seen = self._public if chain else scheme or "http"
        return text, seen, f"X-Forwarded-For: {text}\r\n{sent}".encode()

    def _rightmost_untrusted(self, peer: Address | None, chain: bytes) -> Address | None:
        """Walk the chain from its end, up to the first element that is no address or not trusted.

        The number of elements is limited, because a client can send as many as fit into a head.
        """
        client = peer
        for element in reversed(chain.rsplit(b",", self._hops)[-self._hops :]):
            if not element.strip():
                continue
            address = parse_address(element.decode("latin-1"))
            if address is None:
                return client
            client = address
            if not self.trusts(address):
                return client
        return client


_Ranges = dict[int, tuple[tuple[int, int], ...]]
"""Networks by the version of IP, each as its mask and its first address."""


def _ranges(networks: Sequence[Network]) -> _Ranges:
    return {
        version: tuple((int(each.netmask), int(each.network_address)) for each in networks if each.version == version)
        for version in {each.version for each in networks}
    }


def _is_in(address: Address, ranges: _Ranges) -> bool:
    # Not `address in network`, which takes ten times as long.
    number = int(address)
    return any(number & mask == first for mask, first in ranges.get(address.version, ()))
