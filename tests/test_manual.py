"""The manual page: made from the commands, and taken by the programs that show manual pages without a complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from pages import manual

from sidecar import __version__
from sidecar.cli import main
from sidecar.tap import Options


def shown(tmp_path: Path) -> str:
    """The page as people read it, without what makes letters bold."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    page = tmp_path / "matrix-sidecar.1"
    manual.main(page)
    done = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=200", page], capture_output=True, check=True)
    return re.sub(".\b", "", done.stdout.decode())


def test_the_page_is_the_one_that_the_commands_make() -> None:
    """Run `PYTHONPATH=tests python -m pages.manual` after a change."""
    assert manual.PAGE.read_text("ascii") == manual.page()


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_to_say() -> None:
    """No warning and no error."""
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", manual.PAGE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say() -> None:
    """With all its warnings."""
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-T", "utf8", manual.PAGE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_command_and_option_is_in_it(tmp_path: Path) -> None:
    """With its help, as it was written."""
    text = " ".join(shown(tmp_path).split())
    for name, command in manual.commands(main):
        assert f"matrix-sidecar {name}" in text
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[-1] in text
                assert " ".join((option.help or "").split()) in text
    for name in (*(row[0] for row in Options.optParameters), *(row[0] for row in Options.optFlags), "listen"):
        assert f"--{name}" in text


def test_what_roff_would_take_for_its_own_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points and apostrophes at the beginning of a line, backslashes, quotes, dashes, letters of other scripts."""
    odd = r"""'quoted' .dot \backslash "double" `grave` ^hat ~tilde - -- --long … ü €"""
    monkeypatch.setattr(manual, "_ENVIRONMENT", (("ODD", odd), ("DOT", ".TH at the beginning")))
    text = shown(tmp_path)
    assert odd in text
    assert ".TH at the beginning" in text


def test_the_page_is_of_this_version() -> None:
    """As packages are."""
    assert f'"matrix-sidecar {__version__}"' in manual.page()
