"""The fenced blocks of a page, and what is remarked of them.

A remark is an HTML comment right before a block, which no reader sees:

    <!-- not run: REASON -->                  commands that need what a test does not have
    <!-- exits with 1 -->                     the status of the last command, where it is not 0
    <!-- until: WORDS -->                     runs until it is stopped, which it is when it has said these words
    <!-- at a terminal: Enter is pressed -->  at every question
    <!-- file: homeserver.yaml -->            YAML that is no part of a sidecar.yaml
    <!-- file: /etc/ANYTHING -->              put there before the commands that follow
    <!-- added: /etc/ANYTHING -->             YAML that the file as it was at first gets before the commands that follow
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<remark>(?:(?!-->).)*) -->\n)?"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_REMARK = re.compile(r"(not run|exits with|until|at a terminal|file|added):? (.+)", re.DOTALL)


@frozen
class Block:
    """A block of code, without its indentation."""

    page: Path
    line: int
    language: str
    text: str
    remark: str
    """What kind of remark, if any."""
    about: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every block, in order."""
    text = page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        remark = _REMARK.fullmatch(found["remark"] or "")
        yield Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            dedent(found["text"]),
            remark[1] if remark else "",
            " ".join(remark[2].split()) if remark else "",
        )


def without_blocks(page: Path) -> str:
    """The text of a page, with nothing but blank lines where its blocks are."""
    return _BLOCK.sub(lambda found: "\n" * found[0].count("\n"), page.read_text("utf-8"))


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that it should print; one for `sh` prints what it likes."""
    if block.language == "sh":
        yield block.text, ["…"]
        return
    for piece in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", piece)
        assert command is not None
        yield command[0], piece[command.end() :].splitlines()


def missing(printed: list[str], output: str) -> str:
    """The first line that the output does not have at its place; empty if it is what was to be printed.

    `…` stands for anything within a line, and alone in a line for any lines.
    """
    lines = [r"(?:.*\n)*?" if line.strip() == "…" else _within(line) + r" *\n" for line in printed]
    text = output.rstrip("\n") + "\n"
    for number, line in enumerate(printed):
        if not re.match("".join(lines[: number + 1]), text):
            return line
    return "" if re.fullmatch("".join(lines) + r"\n*", text) else "the end"


def _within(line: str) -> str:
    return ".*".join(re.escape(piece) for piece in line.rstrip().split("…"))
