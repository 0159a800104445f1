"""Servlet expressions and the segments made of them match the same paths.

`servlet_regexes.txt` holds every expression that the newest Synapse known registers on a JSON resource.
"""

from __future__ import annotations

import random
import re
import string
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.synapse.patterns import PatternError, notation_of, paths_of, shape_of

REGEXES = (Path(__file__).parent / "servlet_regexes.txt").read_text("ascii").split()

OLD_FORMS = [
    r"^/_matrix/client/unstable/org\.matrix\.msc2432/rooms/(?P<room_id>[^/]*)/aliases",
    r"^/_matrix/client/(r0|v3|unstable)/user/(?P<user_id>[^/]*)/filter/(?P<filter_id>[^/]*)",
    r"^/_matrix/client/(r0|v3|unstable)/keys/upload(/(?P<device_id>[^/]+))?$",
    r"^/_matrix/media/v1/create",
]
"""Forms that releases before 1.163 had and it has no more."""

CLASSES = {
    r"^/_matrix/client/(r0|v3|unstable)/auth/(?P<stagetype>[\w\.]*)/fallback/web$",
    r"^/_matrix/client/(r0|v3)/login/sso/redirect/(?P<idp_id>[A-Za-z0-9_.~-]+)$",
}
"""The expressions with a class of characters; in the table it is any segment."""

VALUES = ["", "x", "!r:s", "%21r%3As", "a%2Fb", "..", "$", "**", "{room_id}", "join", "state", "v3", "~"]


def matches(path: str, segments: tuple[str, ...]) -> bool:
    """What `Endpoint.path` promises, in the plainest form."""
    given = path.split("/")[1:]
    if segments[-1] == "**":
        if len(given) < len(segments):
            return False
        segments = segments[:-1]
        given = given[: len(segments)]
    return path.startswith("/") and len(given) == len(segments) and all(map(segment_matches, given, segments))


def segment_matches(given: str, segment: str) -> bool:
    shape = shape_of(segment)
    if shape in ("{}", "{+}"):
        return bool(given) or shape == "{}"
    return given in segment.strip("{}").split("|")


@cache
def paths(regex: str) -> tuple[tuple[str, ...], ...]:
    return paths_of(notation_of(regex))


def in_table(path: str, regex: str) -> bool:
    return any(matches(path, segments) for segments in paths(regex))


def meant(regex: str) -> str:
    """`regex` with the differences that `notation_of` documents: dots are dots, a class is any segment."""
    with_segments = re.sub(r"\[(?!\^/\])[^\]]*\]([*+])", r"[^/]\1", regex)
    with_dots = re.sub(r"(?<!\\)\.(?![*+])", r"\\.", with_segments)
    return with_dots if regex.endswith("$") else with_dots + "(/.*)?$"


def concrete_paths(regex: str) -> list[str]:
    """Paths made of the segments of `regex`: parameters filled with odd values, then bent in small ways."""
    chance = random.Random(regex)
    found = []
    for segments in paths(regex):
        for _ in range(2):
            filled = [
                chance.choice(VALUES) if "{" in s and "|" not in s else s.strip("{}").split("|")[0] for s in segments
            ]
            filled = [each for s in filled for each in (chance.choices(VALUES, k=2) if s == "**" else [s])]
            path = "/" + "/".join(filled)
            found += [path, path + "/", path + "/x", path + "x", path[:-1], path.replace("/", "//", 2), path.upper()]
            found.append(path.rpartition("/")[0])
    return found


@pytest.fixture(scope="module")
def everywhere() -> list[str]:
    """Paths of all endpoints together: what is right for one is a near miss for another."""
    return sorted({path for regex in [*REGEXES, *OLD_FORMS] for path in concrete_paths(regex)})


@pytest.mark.parametrize("regex", [*REGEXES, *OLD_FORMS])
def test_every_expression_and_its_segments_match_the_same_paths(regex: str, everywhere: list[str]) -> None:
    """Over the paths of all endpoints, bent in small ways, the table says what Synapse's expression says."""
    expression = re.compile(meant(regex))
    wrong = [path for path in everywhere if bool(expression.match(path)) != in_table(path, regex)]
    assert wrong == []
    assert any(map(expression.match, everywhere))


@given(st.data())
def test_what_an_expression_generates_its_segments_match(data: st.DataObject) -> None:
    """Random strings from an expression, and random changes of them, are judged alike by the segments."""
    regex = data.draw(st.sampled_from([*REGEXES, *OLD_FORMS]))
    visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
    anchored = "^" + meant(regex).removeprefix("^")
    path = data.draw(st.from_regex(anchored, alphabet=visible)).rstrip("\n")  # no request-target has one
    assert in_table(path, regex)
    place = data.draw(st.integers(0, len(path) - 1))
    for bent in (path[:place] + path[place + 1 :], path[:place] + data.draw(visible) + path[place:]):
        assert in_table(bent, regex) == bool(re.match(meant(regex), bent))


def test_the_differences_that_are_meant_are_these() -> None:
    """Apart from unescaped dots, the table differs from Synapse's expressions in two classes of characters."""
    different = {regex for regex in REGEXES if meant(regex) != regex}
    dots = {regex for regex in different if meant(regex).replace("\\", "") == regex.replace("\\", "")}
    assert different - dots == CLASSES
    assert all("unstable/" in regex or "/register/m.login" in regex or "/profile/" in regex for regex in dots)


@given(st.text(alphabet=string.ascii_letters + "/{}[]|.*+?$^\\()", max_size=30))
def test_any_text_gives_a_notation_or_a_pattern_error(text: str) -> None:
    """What the notation has no words for is refused in one way only."""
    with suppress(PatternError):
        assert paths_of(notation_of(text))


@pytest.mark.parametrize(
    "regex",
    [r"^/a/(?=b)c$", r"^/a/b{2}$", r"^/a|/b$", r"^/a/(?P<x>[^/]*)\.json$", r"^/a/.*/b$", "^/a/\\d$", "^/a?$"],
)
def test_an_unknown_form_is_refused(regex: str) -> None:
    """A form that segments cannot express is an error, not a guess."""
    with pytest.raises(PatternError):
        paths_of(notation_of(regex))


@pytest.mark.parametrize(
    ("notation", "paths"),
    [
        ("/a", [("a",)]),
        ("/a[/]", [("a", ""), ("a",)]),
        ("/a[/**]", [("a", "**"), ("a",)]),
        ("/{api/v1|r0|v3}/a", [("api", "v1", "a"), ("{r0|v3}", "a")]),
        ("/{a/b|c}", [("a", "b"), ("c",)]),
        ("/{a/b|c/d}", [("a", "b"), ("c", "d")]),
        ("/k[/{r+}][/{s+}]", [("k", "{r+}", "{s+}"), ("k", "{r+}"), ("k",)]),
        ("/{p}[/{t}[/{e}]]", [("{p}", "{t}", "{e}"), ("{p}", "{t}"), ("{p}",)]),
    ],
)
def test_a_notation_stands_for_these_paths(notation: str, paths: list[tuple[str, ...]]) -> None:
    """Optional parts and alternatives with a slash become paths of their own; none is given twice."""
    assert list(paths_of(notation)) == paths


def test_alternatives_are_matched_in_every_combination() -> None:
    """Two choices in one path stay two choices."""
    (path,) = paths_of("/{a|b}/{c|d}")
    assert all(matches(f"/{x}/{y}", path) for x, y in product("ab", "cd"))
