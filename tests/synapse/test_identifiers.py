"""Identifiers in paths and queries: one key for every spelling."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.synapse.identifiers import decode_segment, localpart, percent_decoded, query_pattern, query_value, text_of
from sidecar.synapse.shards import event_persister


def spelled(text: str) -> st.SearchStrategy[bytes]:
    """The UTF-8 octets of `text`, any of them percent-encoded with digits of either case."""
    choices = [
        st.sampled_from(
            [f"%{octet:02x}".encode(), f"%{octet:02X}".encode(), *([bytes([octet])] if octet != 37 else [])]
        )
        for octet in text.encode()
    ]
    return st.tuples(*choices).map(b"".join)


@given(st.text(st.characters(codec="utf-8"), max_size=12).flatmap(lambda text: st.tuples(st.just(text), spelled(text))))
def test_every_percent_spelling_of_an_identifier_is_one_text(drawn: tuple[str, bytes]) -> None:
    """Decoded once, `%21x%3Ay` is `!x:y`."""
    text, segment = drawn
    assert decode_segment(segment) == text


@given(st.binary(max_size=30))
def test_any_octets_are_some_text_that_can_be_written(octets: bytes) -> None:
    """Decoding never fails and never yields what UTF-8 cannot hold."""
    decode_segment(octets).encode()


@given(st.binary(max_size=30), st.lists(st.sampled_from([b"%", b"4", b"f", b"F", b"%c3", b"%5F", b"%Fc"]), max_size=9))
def test_percent_decoding_is_that_of_the_standard_library(octets: bytes, pieces: list[bytes]) -> None:
    """Also of what is no percent-encoding."""
    for each in (octets, b"".join(pieces), octets + b"".join(pieces)):
        assert percent_decoded(each) == unquote_to_bytes(each)


def test_unequal_octets_that_are_no_utf_8_stay_unequal() -> None:
    """Two rooms never become one key because of damaged octets."""
    assert text_of(b"\xff") != text_of(b"\xfe")


@pytest.mark.parametrize(
    ("user_id", "name"),
    [
        ("@alice:example.org", "alice"),
        ("@alice:example.org:8448", "alice"),
        ("@alice", "alice"),
        ("@b_ob.x-y=z/+:h", "b_ob.x-y=z/+"),
        ("@:example.org", None),
        ("alice:example.org", None),
        ("", None),
        ("@", None),
    ],
)
def test_the_localpart_of_a_user_id(user_id: str, name: str | None) -> None:
    """What stands between `@` and the first colon."""
    assert localpart(user_id) == name


def pairs_of(query: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values as a form has them, the plain way."""
    parts = [part.partition(b"=") for part in query.replace(b";", b"&").split(b"&")]
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in parts]


def unquote_plus(octets: bytes) -> bytes:
    return unquote_to_bytes(octets.replace(b"+", b" "))


_OCTETS = st.lists(st.sampled_from([*b"abA&;=+% 2356dD\xff\n"]), max_size=14).map(bytes)


@given(_OCTETS, st.data())
@example(b"%=1&a", None)
def test_a_parameter_is_found_however_it_is_spelled(query: bytes, data: st.DataObject | None) -> None:
    """Its first value, and whether it is there with a value: in one pass, and as a form is read."""
    pairs = pairs_of(query)
    name = (
        pairs[0][0] if data is None else data.draw(st.one_of(_OCTETS, st.sampled_from(pairs).map(lambda pair: pair[0])))
    )
    values = [value for found, value in pairs if found == name]
    if not name:
        return
    assert query_value(query, name) == (values[0] if values else None)
    assert bool(query_pattern(name).search(b"&" + query)) is bool(values)
    wanted = values[-1] if values else b"x"
    if data is not None:
        wanted = data.draw(st.one_of(st.just(wanted), _OCTETS))
    assert bool(query_pattern(name, wanted).search(b"&" + query)) is (wanted in values)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=5)), max_size=4))
def test_parameters_are_those_of_a_form(pairs: list[tuple[str, str]]) -> None:
    """As the standard library writes one."""
    encoded = urlencode(pairs, errors="surrogatepass").encode()
    for name, value in dict(reversed(pairs)).items():
        assert query_value(encoded, name.encode("utf-8", "surrogatepass")) == value.encode("utf-8", "surrogatepass")


def test_the_first_value_of_a_parameter_counts() -> None:
    """Synapse takes the first one, at whichever separator it stands."""
    assert query_value(b"a=1&b=2&b=3", b"b") == b"2"
    assert query_value(b"a=1;%62=2+3", b"b") == b"2 3"
    assert query_value(b"ab=1&b", b"b") == b""
    assert query_value(b"ab=1&xb=1", b"b") is None


@pytest.mark.parametrize(
    ("room", "owners"),
    [
        ("!x:y", ("a", "a", "b")),
        ("!hbHKA5hYPOdlG5lKrk0EPacvN9kOaVpr0xziY5Dpfvc", ("a", "a", "b")),
        ("!r:example.org", ("a", "a", "c")),
    ],
)
def test_the_owner_of_a_room_is_the_one_that_synapse_chooses(room: str, owners: tuple[str, ...]) -> None:
    """SHA-256 of the room id as a little-endian number, modulo the count (Synapse config/_base.py)."""
    persisters = ["a", "b", "c"]
    assert tuple(event_persister(room, persisters[:count]) for count in (1, 2, 3)) == owners
