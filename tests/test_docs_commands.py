"""The commands that the pages print: each exists with its options, and those that only look run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from docs.blocks import PAGES, blocks, commands

from sidecar.cli import main

LOOKING = {"check", "routes", "explain"}
CONFIGURATION = """\
synapse: {version: "1.163"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: [client]}
"""


def printed(page: Path) -> Iterator[list[str]]:
    """The words of each command line of `matrix-sidecar` in a block, without what a shell does."""
    typed = [command for block in blocks(page) if block.language in ("sh", "console") for command, _ in commands(block)]
    for line in "".join(typed).splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].endswith("matrix-sidecar"):
            yield _until_shell(words[1:])


def _until_shell(words: list[str]) -> list[str]:
    """Up to a pipe or a redirection."""
    ends = [number for number, word in enumerate(words) if re.match(r"\||>|2>|&&|;", word)]
    return words[: ends[0]] if ends else words


WRITTEN = [(page.name, words) for page in PAGES for words in printed(page)]
COMMANDS = [pytest.param(words, id=f"{name}: {' '.join(words)[:60]}") for name, words in WRITTEN]
ONLY_LOOKING = [command for command, (_, words) in zip(COMMANDS, WRITTEN, strict=True) if words[0] in LOOKING]


def test_there_are_some() -> None:
    """A page that is written otherwise would be passed over."""
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_exists_and_takes_these_options(words: list[str]) -> None:
    """As click parses them."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    known = {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
    options = [word for word in words if re.fullmatch(r"-[a-zA-Z]|--[a-z-]+", word)]
    assert set(options) <= known | {"--help", "-h", "--version"}


@pytest.mark.parametrize("words", ONLY_LOOKING)
def test_what_only_looks_runs_as_it_stands(words: list[str], tmp_path: Path) -> None:
    """With a configuration in the place of the one in /etc, and a log in the place of the one in /var."""
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION)
    (tmp_path / "access.log").write_text(
        '203.0.113.7 - - [25/Nov/2026:12:00:00 +0000] "GET /_matrix/client/versions HTTP/1.1" 200 1 "-" "curl"\n'
    )
    replaced = [str(tmp_path / "access.log") if word.endswith(".log") else word for word in words[1:]]
    with_file = replaced if "-c" in replaced else ["-c", "x", *replaced]
    with_file[with_file.index("-c") + 1] = str(tmp_path / "sidecar.yaml")
    result = CliRunner().invoke(main, [words[0], *with_file])
    assert result.exit_code in (0, 1), result.output
