"""So many lines a minute, and how many were left out; the ordinary log as JSON; which rule a client broke."""

from __future__ import annotations

import json

import pytest

from sidecar.observe.ordinary_log import LogStream, in_json
from sidecar.observe.rationed import Ration


def test_so_many_in_a_minute() -> None:
    """The first of the next minute says how many were left out."""
    ration = Ration(2)
    assert [ration.take(moment) for moment in (0.0, 1.0, 2.0, 3.0, 60.0, 61.0, 62.0, 120.0)] == [
        *(0, 0, None, None),
        *(2, 0, None),
        1,
    ]
    ration.use(0)
    assert ration.take(500.0) is None


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        ('2026-11-30T19:26:11+0000 [sidecar#info] a "b"\n', "info", 'a "b"'),
        ("2026-11-30T19:26:11+0000 [sidecar.health#warn] down\n", "warn", "down"),
        ("2026-11-30T19:26:11+0000 [-] Unhandled Error\nTraceback\n", "error", "Unhandled Error\nTraceback"),
        ("something else\n", "info", "something else"),
    ],
)
def test_the_ordinary_log_as_json(event: str, level: str, text: str) -> None:
    """One line for each event, also where it has several."""
    line = in_json(event)
    told = json.loads(line)
    assert (line.count("\n"), told["level"], told["text"]) == (1, level, text)


def test_what_is_of_no_use_is_no_line() -> None:
    """As in the log for people; nor is a mere end of a line."""
    assert in_json("\n") == in_json("2026-11-30T19:26:11+0000 [-] Main loop terminated.\n") == ""


class Full:
    """A sink that has lost three lines and takes more again."""

    lost, takes_more = 3, True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, *lines: str) -> None:
        self.lines += lines


def test_lines_that_were_lost_are_told_as_json() -> None:
    """Nothing in the file is another format."""
    sink = Full()
    LogStream(sink, as_json=True).write("2026-11-30T19:26:11+0000 [sidecar#info] a\n")  # type: ignore[arg-type]
    first, second = (json.loads(line) for line in sink.lines)
    assert (first["level"], first["text"][:12], second["text"]) == ("warn", "3 lines of t", "a")
