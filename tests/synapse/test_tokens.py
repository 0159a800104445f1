"""What credentials tell of their owner."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.synapse.senders import bearer_token, origin_of, token_digest, user_of_token

LOCALPARTS = st.text("abcdefghijklmnopqrstuvwxyz0123456789._=-/+", min_size=1, max_size=40)


def native(name: bytes) -> bytes:
    return b"syt_" + b64encode(name).rstrip(b"=") + b"_xyQVtQzXGennfExeGGhf_2OY2TV"


def macaroon(*caveats: bytes) -> bytes:
    """A macaroon as pymacaroons serialises it: packets with their length in four hexadecimal digits."""
    lines = [
        b"location lab.test",
        b"identifier key",
        *(b"cid " + caveat for caveat in caveats),
        b"signature " + b"\xff" * 32,
    ]
    packets = b"".join(b"%04x" % (len(line) + 5) + line + b"\n" for line in lines)
    return urlsafe_b64encode(packets).rstrip(b"=")


@given(LOCALPARTS)
def test_a_native_token_names_its_user(name: str) -> None:
    """Base64 in the standard alphabet, unpadded, of the localpart."""
    assert user_of_token(native(name.encode())) == name


def test_tokens_that_synapse_made_are_understood() -> None:
    """Two taken from a running server."""
    assert user_of_token(b"syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV") == "alice"
    assert user_of_token(b"syt_Yl9vYi54LXk5eg_abcdefghijklmnopqrst_0abcde") == "b_ob.x-y9z"


@pytest.mark.parametrize(
    "token",
    [
        b"syt__xyQVtQzXGennfExeGGhf_2OY2TV",
        b"syt_YWxpY2U",
        b"syt_YW*xpY2U_a_b",
        b"syt_YWxpY2U_a_b_c",
        b"syt_Y_a_b",
        b"mat_abcdefghijklmnopqrstuvwxyz0123_abc123",
        b"mct_abcdefghijklmnopqrstuvwxyz0123_abc123",
        b"as_token of my own",
        b"",
    ],
)
def test_other_tokens_name_nobody(token: bytes) -> None:
    """Those of the authentication service, of application services, and damaged ones."""
    assert user_of_token(token) is None


def test_a_guests_macaroon_names_the_guest() -> None:
    """The user id stands in a caveat, in clear."""
    token = macaroon(b"gen = 1", b"type = access", b"user_id = @17:lab.test", b"guest = true")
    assert token.startswith(b"MDAx")
    assert user_of_token(token) == "17"
    assert user_of_token(token + b"==") == "17"


def test_a_macaroon_without_a_user_names_nobody() -> None:
    """Nor does one that is cut or is no base64 at all."""
    assert user_of_token(macaroon(b"gen = 1")) is None
    assert user_of_token(macaroon(b"user_id = nonsense")) is None
    assert user_of_token(b"MDAx") is None
    assert user_of_token(b"MDAxA") is None


@given(st.binary(max_size=80), st.sampled_from([b"", b"syt_", b"MDAx", b"Bearer ", b"X-Matrix ", b"X-Matrix origin="]))
@example(b'"\\', b"X-Matrix origin=")
def test_nothing_that_is_sent_breaks_the_reading(octets: bytes, front: bytes) -> None:
    """Any octets give an answer, in text that can be written."""
    for answer in (user_of_token(front + octets), origin_of(front + octets)):
        assert answer is None or answer.encode()
    bearer_token(front + octets)


def test_a_digest_tells_tokens_apart_and_gives_none_away() -> None:
    """It is equal in every process and holds nothing of the token."""
    assert token_digest(b"mat_x") == "token-a352f63d48d9510f39945d3c1d2be518"
    assert token_digest(b"mat_x") != token_digest(b"mat_y")


@pytest.mark.parametrize(
    ("line", "token"),
    [
        (b"Bearer abc", b"abc"),
        (b"Bearer ", None),
        (b"bearer abc", None),
        (b"Bearer  abc", None),
        (b"Bearer a b", None),
        (b"Basic abc", None),
        (b"", None),
    ],
)
def test_only_the_spelling_that_synapse_takes_holds_a_token(line: bytes, token: bytes | None) -> None:
    """One word `Bearer`, one blank, one token."""
    assert bearer_token(line) == token


@pytest.mark.parametrize(
    "line",
    [
        b'X-Matrix origin="example.org:8448",key="ed25519:1",sig="ABC",destination="here.example"',
        b"X-Matrix origin=example.org:8448,key=ed25519:1,sig=ABC",
        b'X-Matrix key="ed25519:1",origin="example.org:8448",sig="ABC"',
        b'X-Matrix key="a,origin=\\"evil.example\\"" , origin="example.org:8448"',
        b'X-Matrix   ORIGIN = "EXAMPLE.org:8448"\t,\tsig="="',
        b'x-matrix sig="\\"", origin="exam\\ple.org:8448"',
        b'X-Matrix\torigin="example.org:8448"',
        b'X-Matrix origin="ex\\ample.org:8448",sig="x"',
        b'X-Matrix junk, =, origin="example.org:8448"',
    ],
)
def test_the_origin_is_found_in_any_legal_quoting(line: bytes) -> None:
    """RFC 9110 11.2 and 5.6.4: order, case of names, blanks, quotes and quoted pairs do not matter."""
    assert origin_of(line) == "example.org:8448"


def test_an_ipv6_server_name_is_an_origin() -> None:
    """Brackets and colons, with and without quotes."""
    assert origin_of(b'X-Matrix origin="[2001:db8::1]:8448",sig="x"') == "[2001:db8::1]:8448"
    assert origin_of(b"X-Matrix sig=x,origin=[2001:db8::1]:8448") == "[2001:db8::1]:8448"


def test_a_hostile_line_is_read_once() -> None:
    """A long word is no parameter and hides none: reading it takes one pass, not one from each of its octets."""
    assert origin_of(b"X-Matrix " + b"a" * 100_000) is None
    assert origin_of(b"X-Matrix " + b"a" * 100_000 + b",origin=b") == "b"


@pytest.mark.parametrize("line", [b"X-Matrix", b"X-Matrix key=x", b'X-Matrix origin=""', b"Bearer origin=x", b""])
def test_a_line_without_an_origin_names_no_server(line: bytes) -> None:
    """Another scheme, no such parameter, or an empty one."""
    assert origin_of(line) is None
