"""The automaton over path segments, compared with a matcher that tries one pattern after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.routing.matcher import Patterns, target_of

WORDS = ("a", "b", "c", "")
SEGMENTS = st.sampled_from((*WORDS, "{a|b}", "{x}", "{y+}"))
PATTERNS = st.tuples(st.lists(SEGMENTS, min_size=1, max_size=4), st.booleans()).map(
    lambda drawn: (*drawn[0], *(("**",) if drawn[1] else ()))
)
PATHS = st.lists(st.sampled_from((*WORDS, "d")), min_size=1, max_size=6)


def ranks(pattern: tuple[str, ...], path: list[str]) -> list[int] | None:
    """How literal each segment of a match is (the lower the more), None without a match."""
    found: list[int] = []
    for number, segment in enumerate(pattern):
        if segment == "**":
            return [*found, 3] if number < len(path) else None
        if number >= len(path):
            return None
        here = path[number]
        literals = segment.strip("{}").split("|") if "|" in segment else [segment]
        if segment == "{x}":
            found.append(2)
        elif segment == "{y+}" and here:
            found.append(1)
        elif not segment.startswith("{") or "|" in segment:
            if here not in literals:
                return None
            found.append(0)
        else:
            return None
    return found if len(pattern) == len(path) else None


def found(patterns: Sequence[tuple[str, ...]], path: bytes) -> tuple[int, ...]:
    collected: Patterns[int] = Patterns()
    for number, pattern in enumerate(patterns):
        collected.add(pattern, number)
    node = collected.compile(lambda values: values)
    for segment in path.split(b"/", collected.depth + 1):
        node = node.get(segment) or node.other
    return node.payload


@given(st.lists(PATTERNS, max_size=6), PATHS)
@example([("{x}", "b"), ("a", "**")], ["a", "b"])
@example([("a", "{y+}"), ("a", "{x}")], ["a", ""])
@example([("a", "{x}")], ["a", "b", "c", "d"])
def test_all_patterns_that_match_are_found_the_most_literal_ones_first(
    patterns: list[tuple[str, ...]], path: list[str]
) -> None:
    """Literals win over parameters, these over `**`, and the leftmost difference counts."""
    matching = [(ranks(pattern, path), number) for number, pattern in enumerate(patterns)]
    expected = [number for rank, number in sorted((rank, number) for rank, number in matching if rank is not None)]
    assert found(patterns, ("/" + "/".join(path)).encode()) == tuple(expected)


def test_only_a_slash_divides_a_path() -> None:
    """An encoded slash is text, so that what users write cannot reach another pattern."""
    patterns = [("rooms", "{room_id}"), ("rooms", "{room_id}", "typing")]
    assert found(patterns, b"/rooms/!a%2Ftyping") == (0,)
    assert found(patterns, b"/rooms/!a/typing") == (1,)


def test_a_path_that_does_not_begin_with_a_slash_matches_nothing() -> None:
    """Not even the pattern for everything, because it is no path."""
    assert found([("**",)], b"rooms/x") == ()
    assert found([("**",)], b"") == ()
    assert found([("**",)], b"/rooms/x") == (0,)


def test_literals_are_compared_octet_for_octet() -> None:
    """Synapse compares the raw path: another spelling or case of a literal is another path."""
    patterns = [("_matrix", "client")]
    assert found(patterns, b"/_matrix/client") == (0,)
    for other in (b"/_matrix/%63lient", b"/_Matrix/client", b"//_matrix/client", b"/_matrix/client/"):
        assert found(patterns, other) == ()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (("a", "b"), b"/a/b"),
        (("a", "{id}"), b"/a/~"),
        (("{id+}", "a"), b"/~/a"),
        (("a", "**"), b"/a/~"),
        ((), b""),
    ],
)
def test_an_example_of_a_path_fills_its_parameters(path: tuple[str, ...], target: bytes) -> None:
    """And the rest behind a `**` too."""
    assert target_of(path) == target


def test_the_depth_is_that_of_the_longest_pattern() -> None:
    """A `**` counts once, and no pattern is no depth."""
    patterns: Patterns[int] = Patterns()
    assert patterns.depth == 0
    for number, (path, depth) in enumerate([("a", 1), ("{x}", 1), ("**", 1), ("a/{x+}/**", 3), ("a/b", 3)]):
        patterns.add(path.split("/"), number)
        assert patterns.depth == depth
