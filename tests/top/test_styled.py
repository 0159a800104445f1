"""Lines of a terminal: never too long, and nothing in them moves a cursor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.top.styled import Piece, cut, fitted, left, paragraphs, right, spread

HOSTILE = st.text() | st.sampled_from(["\x1b[2J\x1b]0;evil\x07", "a\nb\rc", "\x9b31m", "\u202eevil", "\0"])


@given(HOSTILE, st.integers(0, 40))
def test_columns(text: str, width: int) -> None:
    """Exactly as wide as the column, or cut with a sign of it."""
    for placed in (left(text, width), right(text, width)):
        assert len(placed) == width
        assert placed.isprintable()
    assert len(cut(text, width)) <= width


@given(st.lists(HOSTILE), HOSTILE, st.integers(1, 80))
def test_lines(texts: list[str], end: str, width: int) -> None:
    """As wide as the terminal at most."""
    pieces = [Piece(text) for text in texts]
    for line in (fitted(pieces, width), spread(pieces, Piece(end), width), *paragraphs(texts, max(width, 20))):
        written = "".join(piece.text for piece in line)
        assert len(written) <= max(width, 20)
        assert written.isprintable()


def test_what_does_not_fit() -> None:
    """It ends in a sign; the end of a line is left out before the beginning."""
    assert cut("abcdef", 4) == "abc…"
    assert spread((Piece("ab"),), Piece("cd"), 10) == (Piece("ab"), Piece("      "), Piece("cd"))
    assert spread((Piece("abcdefgh"),), Piece("cd"), 10) == (Piece("abcdefgh"),)
    told = ["".join(piece.text for piece in line) for line in paragraphs(["one two three"], 14, indent="  ")]
    assert told == ["  one two", "    three"]
