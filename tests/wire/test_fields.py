"""Field sections: found, counted and cut, never rewritten."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import END_TO_END_LINES, HOP_BY_HOP_LINES

from sidecar.errors import Fault, WireError
from sidecar.wire.fields import FieldSection, check_partial_lines, field_name

LINES = st.lists(st.one_of(END_TO_END_LINES, HOP_BY_HOP_LINES), max_size=8)


def section(lines: list[bytes]) -> FieldSection:
    return FieldSection(b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n")


def split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


@given(LINES)
def test_what_is_found_is_what_a_line_by_line_reading_finds(lines: list[bytes]) -> None:
    """Names in order, the first value, all values."""
    fields = section(lines)
    pairs = [split(line) for line in lines]
    assert fields.names == [name for name, _ in pairs]
    for name in {*fields.names, b"absent", b"x"}:
        values = [value for other, value in pairs if other == name]
        assert fields.get_all(name) == values
        assert fields.get(name) == (values[0] if values else None)


@given(LINES, st.sets(st.sampled_from([b"x-a", b"x-b", b"connection", b"te", b"date", b"absent"])))
def test_cutting_names_leaves_every_other_line_as_it_was(lines: list[bytes], names: set[bytes]) -> None:
    """Byte for byte, in order."""
    kept = [line for line in lines if split(line)[0] not in names]
    assert section(lines).without(names) + b"\r\n" == section(kept).raw


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ([], []),
        ([b""], []),
        ([b" , ,"], []),
        ([b"Close"], [b"close"]),
        ([b"a,B ,\tc"], [b"a", b"b", b"c"]),
        ([b"a", b"", b"b, ,c"], [b"a", b"b", b"c"]),
        ([b"a b"], [b"a b"]),
    ],
)
def test_a_list_is_read_from_all_its_lines(values: list[bytes], tokens: list[bytes]) -> None:
    """RFC 9110 5.3, 5.6.1: lines are one list; empty elements do not count."""
    assert section([b"L:" + value for value in values]).tokens(b"l") == tokens


@pytest.mark.parametrize("line", [b"X: y", b"X:y", b"x:", b"X:\t\xff \t"])
def test_the_name_of_a_trailer_line(line: bytes) -> None:
    """Lower case; the value is not looked at beyond its syntax."""
    assert field_name(line) == b"x"


@pytest.mark.parametrize(
    "line", [b"", b"X", b"X : y", b": y", b" X: y", b"X: a\rb", b"X: a\nb", b"X: a\x00", b"X\xe9: y", b"X: \x7f"]
)
def test_a_malformed_trailer_line_is_refused(line: bytes) -> None:
    """R-31: as strict as in a head."""
    with pytest.raises(WireError) as refusal:
        field_name(line)
    assert refusal.value.fault is Fault.SYNTAX


def test_a_section_without_fields_is_a_section() -> None:
    """Nothing is found in it, and nothing goes wrong."""
    fields = section([])
    assert (fields.names, fields.get(b"x"), fields.get_all(b"x"), fields.tokens(b"x")) == ([], None, [], [])
    assert fields.without({b"x"}) == b"\r\n"


@pytest.mark.parametrize("length", range(7))
def test_a_bare_cr_or_lf_is_seen_wherever_a_read_ends(length: int) -> None:
    """Every text of these octets, in two reads: the second finds what the first could not, and nothing else."""
    for octets in map(bytes, product(b"a\r\n", repeat=length)):
        bare = re.search(rb"\r(?!\n|\Z)|(?<!\r)\n", octets) is not None
        for since in range(length + 1):
            assert bare is (_has_bare(octets[:since], 0) or _has_bare(octets, since)), (octets, since)


def _has_bare(octets: bytes, since: int) -> bool:
    try:
        check_partial_lines(octets, since)
    except WireError:
        return True
    return False


def test_the_shortest_lines_are_cut_at_the_right_places() -> None:
    """A name of one octet, an empty value, and lines that touch each other."""
    one = section([b"A:", b"B:", b"A:", b"C: c"])
    assert one.without([b"a"]) == b"\r\nB:\r\nC: c\r\n"
    assert one.without([b"b", b"c"]) == b"\r\nA:\r\nA:\r\n"
    assert one.get_all(b"a") == [b"", b""]
