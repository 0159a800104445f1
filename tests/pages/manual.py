"""Writes `man/matrix-sidecar.1` from the commands and from twistd's options: `PYTHONPATH=tests python -m pages.manual`.

A test fails where the page differs from what this writes. Adds no fact of its own about any option.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

import click

from sidecar import __version__
from sidecar.cli import main as cli
from sidecar.loading.deployment import DEFAULT_PATH
from sidecar.tap import Options

PAGE = Path(__file__).parents[2] / "man" / "matrix-sidecar.1"
NAME = "matrix-sidecar"
DATE = "2026-11-25"
"""Of the version; manual pages have one."""

_ABOUT = """\
A reverse proxy for Synapse and its workers. It knows every endpoint of Synapse and which processes serve it, sends the
requests of one user or room to one worker, and lets requests wait while a worker restarts.

twistd runs it. The commands of matrix-sidecar write, check and explain a configuration, and test a running
installation."""
_SIGNALS = (
    ("SIGHUP", "Read the configuration and Synapse's files again. A file with an error changes nothing."),
    ("SIGTERM, SIGINT", "Stop after running requests have ended. A second signal closes the remaining connections."),
)
_STATUS = (
    ("0", "Everything is fine."),
    ("1", "There are warnings, or something differs."),
    ("2", "There are errors, or the command could not do what it should."),
)
_FILES = (
    (DEFAULT_PATH, "The configuration file, in YAML; docs/configuration.md describes every key."),
    ("share/matrix-sidecar/", "Examples of the configuration and units for systemd, in the environment's directory."),
)
_ENVIRONMENT = (("NO_COLOR", "If it is set, the output has no colors."),)


def page() -> str:
    """The manual page, in the language of man(7)."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield '.\\" Made by `PYTHONPATH=tests python -m pages.manual`; do not edit.'
    yield f'.TH MATRIX\\-SIDECAR 1 "{DATE}" "{NAME} {__version__}" "User Commands"'
    yield from _section("NAME", f"{_text(NAME)} \\- routes Matrix requests to Synapse workers")
    yield from _section("SYNOPSIS", f".B {_text('twistd -n matrix-sidecar')}", _text(str(Options.synopsis)))
    yield from (".br", f".B {_text(NAME)}", _text("COMMAND [OPTION]… [ARGUMENT]…"))
    yield from _section("DESCRIPTION", *_paragraphs(_ABOUT))
    yield from _section(
        "RUNNING IT", *_paragraphs("Write twistd's own options before matrix-sidecar, and these after it.")
    )
    for flags, text in _twistd_options():
        yield from _tagged(flags, text)
    yield from _section("COMMANDS")
    for name, command in commands(cli):
        yield from _command(name, command)
    for title, pairs in (
        ("SIGNALS", _SIGNALS),
        ("EXIT STATUS", _STATUS),
        ("ENVIRONMENT", _ENVIRONMENT),
        ("FILES", _FILES),
    ):
        yield from _section(title)
        for tag, text in pairs:
            yield from _tagged(tag, text)
    yield from _section("SEE ALSO", ".BR twistd (1)")


def _section(title: str, *lines: str) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of the groups in it, by the words that call them."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _command(name: str, command: click.Command) -> Iterator[str]:
    """Worked out here and not by click, whose releases differ in how they show options."""
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    yield f".SS {_text(name)}"
    yield f".B {_text(f'{NAME} {name}')}"
    yield _text(" ".join((*(["[OPTION]…"] if options else []), *map(_argument, arguments))))
    yield ".PP"
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    for option in options:
        yield from _tagged(_flags(option), f"{option.help or ''}{_default(option)}")


def _argument(argument: click.Argument) -> str:
    kind = argument.type
    return argument.metavar or (
        "|".join(kind.choices) if isinstance(kind, click.Choice) else str(argument.name).upper()
    )


def _flags(option: click.Option) -> str:
    names = ", ".join((*sorted(option.opts, key=len), *option.secondary_opts))
    if option.is_flag:
        return names
    kind = option.type
    value = option.metavar or ("|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.upper())
    return f"{names} {value}"


def _default(option: click.Option) -> str:
    return f" [default: {option.default}]" if option.show_default is True and not option.is_flag else ""


def _twistd_options() -> Iterator[tuple[str, str]]:
    """Parameters, flags and those that are methods, as twistd's own help has them."""
    for long, short, default, text in Options.optParameters:
        stated = f" [default: {default}]" if default else ""
        yield (f"-{short}, " if short else "") + f"--{long} {long.upper()}", f"{text}{stated}"
    for name in sorted(vars(Options)):
        if name.startswith("opt_"):
            what = name.removeprefix("opt_")
            arguments = list(inspect.signature(getattr(Options, name)).parameters)[1:]
            yield " ".join((f"--{what}", *map(str.upper, arguments))), inspect.getdoc(getattr(Options, name)) or ""
    for long, short, text in Options.optFlags:
        yield (f"-{short}, " if short else "") + f"--{long}", text


def _tagged(tag: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_text(tag)}", *_filled(text))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield from _filled(paragraph)


def _filled(text: str) -> Iterator[str]:
    """In lines that are short even where each hyphen is two characters."""
    for line in wrap(" ".join(text.split()), 68, break_long_words=False, break_on_hyphens=False):
        yield _text(line)


def _text(text: str) -> str:
    """Text as roff takes it: nothing in it is a request, every hyphen can be copied, other characters by their code."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in escaped)
    escaped = escaped.replace("'", "\\(aq").replace('"', "\\(dq").replace("`", "\\(ga").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti")
    return f"\\&{escaped}" if escaped.startswith((".", "\\(aq")) else escaped


def main(page_file: Path = PAGE) -> None:
    """Write the page."""
    page_file.write_text(page(), encoding="ascii")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
