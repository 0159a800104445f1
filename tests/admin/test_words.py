"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admin import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),  # noqa: RUF001
        (0.0, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (61.0, "1 min"),
        (3599.0, "59 min"),
        (3600.0, "1 h"),
        (12000.0, "3 h 20 min"),
        (86400.0, "1 d"),
        (90061.0, "1 d 1 h"),
        (8640000.0, "100 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """Two units at most, and seconds only where they count."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),  # noqa: RUF001
        (0.0004, "0.4 ms"),
        (0.00996, "10 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.34, "1.3 s"),
        (28.4, "28 s"),
    ],
)
def test_latencies(seconds: float | None, text: str) -> None:
    """Two or three digits."""
    assert words.latency(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (0.3, "0.3"), (3.0, "3"), (9.94, "9.9"), (9.96, "10"), (12.3, "12"), (1234, "1,234")],  # noqa: RUF001
)
def test_numbers(value: float | None, text: str) -> None:
    """A digit behind the point only where it matters."""
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (999.6, "1.0 kB"), (1234, "1.2 kB"), (35e6, "35 MB"), (2e15, "2000 TB")],  # noqa: RUF001
)
def test_sizes(octets: float | None, text: str) -> None:
    """Powers of a thousand."""
    assert words.size(octets) == text


@given(st.floats(0, 1e12), st.sampled_from([words.duration, words.latency, words.number, words.size]))
def test_they_are_short(value: float, write: object) -> None:
    """Nothing breaks a column."""
    assert callable(write)
    assert 1 <= len(write(value)) <= 17
