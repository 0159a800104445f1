"""Who the client is (R-77): one address, never one that a stranger made up."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import forwarded as forwarded_module
from sidecar.wire.forwarded import ForwardedPolicy, neighbourhood, parse_address
from sidecar.wire.framing import RequestFields

TRUST = [ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
LOOPBACK = "127.0.0.1"


def fields(*lines: bytes) -> RequestFields:
    return RequestFields(b"\r\nHost: h" + b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n")


def client(
    peer: str, *lines: bytes, proto: str | None = None, scheme: str = "http", public: str = "https"
) -> tuple[str, str, str]:
    """The client, the scheme that routes see, and the one that the worker is told; the lines are checked on the way."""
    text, seen, told = ForwardedPolicy(TRUST, proto, public=public).client(peer, scheme, fields(*lines))
    for_line, *proto_lines, end = told.decode("ascii").split("\r\n")
    assert (for_line, end) == (f"X-Forwarded-For: {text}", "")
    assert len(proto_lines) <= 1
    return text, seen, "".join(proto_lines).removeprefix("X-Forwarded-Proto: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" \t192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ('"192.0.2.1"', "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ('"[2001:db8::1]:8080"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        *(
            (text, None)
            for text in (
                "",
                "unknown",
                "_hidden",
                "192.0.2",
                "192.0.2.256",
                "192.0.2.01",
                "1.2.3.4.5",
                "[",
                "::g",
                "\xa01.2.3.4",
            )
        ),
        # An address in front of something else is none.
        *(
            (text, None)
            for text in ("[127.0.0.1]evil", "[::1]evil", "[::1]:x", "[::1]:", "[127.0.0.1]", "[::1", "::1]")
        ),
        *((text, None) for text in ("1.2.3.4:evil", "1.2.3.4:", '"1.2.3.4', '1.2.3.4"', '""1.2.3.4""', "1.2.3.4%x")),
        *((text, None) for text in ("1.2.3.4:123456", "::1%", "::1%a b", "0x7f.1", "::1" + " " * 200 + "x")),
        *((text, None) for text in ("1.2.3.4 5.6.7.8", "1.2.3.\xb2", "evil.test", "[]", '"', "1.2.3.4\x0b")),
    ],
)
def test_addresses_are_read_in_the_forms_that_proxies_write(text: str, expected: str | None) -> None:
    """What is none is None, never an exception."""
    address = parse_address(text)
    assert address == (None if expected is None else ip_address(expected))


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        # A stranger is who it is, whatever it says.
        ("192.0.2.9", [], "192.0.2.9"),
        ("192.0.2.9", [b"X-Forwarded-For: 1.2.3.4"], "192.0.2.9"),
        ("::ffff:192.0.2.9", [b"X-Forwarded-For: 127.0.0.1"], "192.0.2.9"),
        ("2001:db8::9", [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: 1.2.3.5"], "2001:db8::9"),
        # One that is trusted: the rightmost that is not.
        (LOOPBACK, [], LOOPBACK),
        (LOOPBACK, [b"X-Forwarded-For: 1.2.3.4"], "1.2.3.4"),
        (LOOPBACK, [b"X-Forwarded-For: 6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (LOOPBACK, [b"X-Forwarded-For: 6.6.6.6", b"x-forwarded-for:1.2.3.4,10.0.0.2"], "1.2.3.4"),
        (LOOPBACK, [b"X-Forwarded-For: 10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (LOOPBACK, [b"X-Forwarded-For: 6.6.6.6, fd00::1,, ,[fd00::2]:80 ,"], "6.6.6.6"),
        # Rubbish ends the walk at the last address that was vouched for.
        (LOOPBACK, [b"X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
        (LOOPBACK, [b"X-Forwarded-For: unknown"], LOOPBACK),
        (LOOPBACK, [b"X-Forwarded-For:"], LOOPBACK),
        # A UNIX peer is this host, and may speak for others.
        ("", [], LOOPBACK),
        ("", [b"X-Forwarded-For: 6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        # A peer of which nothing is known is nobody.
        ("somewhere", [], "192.0.0.8"),
        ("somewhere", [b"X-Forwarded-For: 127.0.0.1"], "192.0.0.8"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(peer: str, lines: list[bytes], expected: str) -> None:
    """DESIGN 4: one value is sent on."""
    assert client(peer, *lines)[0] == expected


@pytest.mark.parametrize(
    ("peer", "lines", "proto", "expected"),
    [
        ("192.0.2.9", [], None, "http"),
        ("192.0.2.9", [], "https", "https"),
        ("192.0.2.9", [b"X-Forwarded-Proto: https"], None, "http"),
        ("192.0.2.9", [b"X-Forwarded-Proto: http"], "https", "https"),
        (LOOPBACK, [b"X-Forwarded-Proto: https"], None, "https"),
        (LOOPBACK, [b"X-Forwarded-Proto: HTTP"], "https", "http"),
        (LOOPBACK, [b"X-Forwarded-Proto: http, https"], None, "https"),
        (LOOPBACK, [b"X-Forwarded-Proto: http", b"X-Forwarded-Proto: https"], None, "https"),
        (LOOPBACK, [b"X-Forwarded-Proto: gopher"], "https", "https"),
        (LOOPBACK, [b"X-Forwarded-For: 1.2.3.4"], "http", "http"),
        ("", [b"X-Forwarded-Proto: https"], None, "https"),
    ],
)
def test_the_scheme_is_what_a_trusted_peer_says_last(
    peer: str, lines: list[bytes], proto: str | None, expected: str
) -> None:
    """Else what is configured; a stranger's is what it speaks. Nothing but http and https, whatever is public."""
    for public in ("", "http", "https"):
        assert client(peer, *lines, proto=proto, public=public)[1:] == (expected, expected)


@pytest.mark.parametrize("public", ["", "http", "https"])
@pytest.mark.parametrize(
    ("peer", "lines", "scheme", "seen"),
    [
        # A proxy in front that sends X-Forwarded-For and no more: nobody knows what its clients speak.
        (LOOPBACK, [b"X-Forwarded-For: 1.2.3.4"], "http", None),
        (LOOPBACK, [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: gopher"], "http", None),
        (LOOPBACK, [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: \xff"], "https", None),
        ("", [b"X-Forwarded-For: 1.2.3.4"], "http", None),
        # One that says nothing at all may be a client as well: routes go by what it speaks itself.
        (LOOPBACK, [], "http", "http"),
        ("", [b"X-Forwarded-Proto:"], "http", "http"),
        # Behind the PROXY protocol, TLS may have been taken off.
        ("192.0.2.9", [], "", "http"),
    ],
)
def test_a_scheme_that_nobody_told(peer: str, lines: list[bytes], scheme: str, seen: str | None, public: str) -> None:
    """The worker is told that of `public_baseurl`, or nothing; never `http` because the proxy speaks it."""
    told = client(peer, *lines, scheme=scheme, public=public)
    assert told[1:] == (public if seen is None else seen, public)


def test_tls_that_ends_here_is_known() -> None:
    """Whoever speaks it, unless it is for others."""
    assert client(LOOPBACK, scheme="https", public="")[1:] == ("https", "https")
    assert client("192.0.2.9", scheme="https", public="http")[1:] == ("https", "https")


def test_trust_is_asked_by_address_and_by_text() -> None:
    """A UNIX peer is trusted; what is no address is not."""
    policy = ForwardedPolicy(TRUST, None)
    texts = [LOOPBACK, "::1", "10.9.8.7", "::ffff:10.9.8.7", "", "192.0.2.1", "2001:db8::1", "x"]
    assert [policy.trusts_text(text) for text in texts] == [True] * 5 + [False] * 3
    assert not ForwardedPolicy([], None).trusts(ip_address(LOOPBACK))


DOTTED = st.lists(
    st.integers(0, 300).map(str) | st.sampled_from(["", "00", "01", "1 ", "\u0661"]), min_size=3, max_size=5
)


@given(DOTTED.map(".".join))
def test_dotted_numbers_are_the_addresses_that_the_standard_library_reads(text: str) -> None:
    """What nearly every address looks like is read without it."""
    try:
        expected: IPv4Address | None = IPv4Address(text.strip(" \t"))
    except ValueError:
        expected = None
    assert parse_address(text) == expected


NUMBERS = st.integers(0, 2**32 - 1)
LONG_NUMBERS = NUMBERS | st.integers(0, 2**128 - 1)
NETWORKS = st.builds(
    lambda number, bits: IPv4Network((number >> bits << bits, 32 - bits)), NUMBERS, st.integers(0, 32)
) | (
    st.builds(lambda number, bits: IPv6Network((number >> bits << bits, 128 - bits)), LONG_NUMBERS, st.integers(0, 128))
)


@given(st.lists(NETWORKS, max_size=5), st.booleans(), LONG_NUMBERS)
def test_who_is_in_a_network_is_trusted(networks: list[IPv4Network | IPv6Network], near: bool, number: int) -> None:
    """As the standard library has it: an address of the same version in one of them, its ends included."""
    policy = ForwardedPolicy(networks, None)
    edges = [end for each in networks for end in (each.network_address, each.broadcast_address)] if near else []
    beside = [type(end)(int(end) + 1) for end in edges if int(end) + 1 < 2**end.max_prefixlen]
    for address in (*edges, *beside, IPv6Address(number), IPv4Address(number % 2**32)):
        assert policy.trusts(address) == any(address in each for each in networks if each.version == address.version)


def test_who_has_to_announce_its_clients() -> None:
    """Only who is named; a UNIX peer and what is no address are not."""
    policy = ForwardedPolicy([], None, [ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
    texts = ["10.9.8.7", "::ffff:10.9.8.7", "fd00::1", "127.0.0.1", "::1", "", "x"]
    assert [policy.announces(text) for text in texts] == [True] * 3 + [False] * 4
    assert not ForwardedPolicy(TRUST, None).announces("10.9.8.7")


VALUES = st.lists(
    st.one_of(
        st.ip_addresses().map(str),
        st.sampled_from(["127.0.0.1", "10.0.0.2", "::1", "unknown", "", "6.6.6.6:80", "[::1]:80", '"']),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=6),
    ),
    max_size=6,
).map(lambda elements: ", ".join(elements).encode("latin-1"))
PEERS = st.one_of(st.just(""), st.ip_addresses().map(str))


@given(PEERS, st.lists(VALUES, max_size=2), VALUES)
def test_any_chain_yields_one_address(peer: str, chains: list[bytes], proto: bytes) -> None:
    """An address of the chain or the peer; one line of each kind; the same again from memory."""
    lines = [b"X-Forwarded-For: " + chain for chain in chains] + [b"X-Forwarded-Proto: " + proto]
    text, seen, told = client(peer, *lines)
    assert {seen, told} <= {"http", "https"}
    elements = [parse_address(element) for chain in chains for element in chain.decode("latin-1").split(",")]
    assert ip_address(text) in [*elements, parse_address(peer or LOOPBACK)]
    policy = ForwardedPolicy(TRUST, None)
    assert len({policy.client(peer, "http", fields(*lines)) for _ in range(2)}) == 1


@given(PEERS.filter(bool), st.lists(VALUES, max_size=3), VALUES)
def test_a_stranger_cannot_say_who_it_is(peer: str, chains: list[bytes], proto: bytes) -> None:
    """Nothing that it sends makes a difference."""
    if ForwardedPolicy(TRUST, None).trusts_text(peer):
        return
    lines = [b"X-Forwarded-For: " + chain for chain in chains] + [b"X-Forwarded-Proto: " + proto]
    assert client(peer, *lines) == client(peer)


@given(
    st.ip_addresses().filter(
        lambda address: not any(address in net for net in TRUST if net.version == address.version)
    ),
    VALUES,
)
def test_what_stands_left_of_the_client_does_not_matter(address: object, spoof: bytes) -> None:
    """A client that sends its own X-Forwarded-For through an honest proxy is still who it is."""
    assert (
        client(LOOPBACK, b"X-Forwarded-For: " + spoof + b", %b" % str(address).encode())[0] == client(str(address))[0]
    )


def test_long_chains_are_answered_but_not_remembered() -> None:
    """Clients choose what is remembered, so it is short."""
    policy = ForwardedPolicy(TRUST, None)
    long = b"X-Forwarded-For: " + b"6.6.6.6, " * forwarded_module._LONGEST_CACHED + b"1.2.3.4"
    assert policy.client(LOOPBACK, "http", fields(long))[0] == "1.2.3.4"
    assert policy._chain.cache_info().currsize == 0
    policy.client(LOOPBACK, "http", fields(b"X-Forwarded-For: 1.2.3.4"))
    assert policy._chain.cache_info().currsize == 1


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("evil", "evil"),
    ],
)
def test_neighbours_count_as_one(peer: str, expected: str) -> None:
    """A client of IPv6 has a whole /64."""
    assert neighbourhood(peer) == expected


def test_whoever_speaks_for_many_has_no_place() -> None:
    """Nothing is shared between the clients of a proxy that does not say who they are."""
    policy = ForwardedPolicy(TRUST, None)
    assert [policy.place(peer) for peer in ("127.0.0.1", "192.0.2.1", "2001:db8::1")] == [
        "",
        "192.0.2.1",
        "2001:db8::/64",
    ]


def test_only_the_end_of_a_chain_is_looked_at() -> None:
    """A client can write as many hops as fit into a head; the last one that is looked at counts."""
    policy = ForwardedPolicy(TRUST, None, hops=3)
    chain = fields(b"X-Forwarded-For: 192.0.2.1, 10.0.0.4, 10.0.0.3", b"X-Forwarded-For: 10.0.0.2, 10.0.0.1")
    assert policy.client(LOOPBACK, "http", chain)[0] == "10.0.0.3"
    assert ForwardedPolicy(TRUST, None, hops=5).client(LOOPBACK, "http", chain)[0] == "192.0.2.1"
