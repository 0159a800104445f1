"""Completion in real shells: what Tab offers, for commands, options, choices, files and names of workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from processes import environment
from terminals import Terminal

from sidecar.cli import main
from sidecar.commands.completion import SHELLS

CONFIGURATION = """\
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock"}
  sync2: {endpoint: "unix:sync2.sock"}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a configuration, and with the command, as an installation brings it, in `bin`."""
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION)
    command = tmp_path / "bin" / "matrix-sidecar"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom sidecar.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    for shell in SHELLS:
        (tmp_path / f"completion.{shell}").write_text(CliRunner().invoke(main, ["completion", shell]).stdout)
    return tmp_path


def path(place: Path) -> str:
    return f"{place}/bin:{environment()['PATH']}"


def offered(place: Path, *words: str) -> list[str]:
    """What click offers for the last word, asked in this process."""
    arguments, incomplete = [*words[:-1]], words[-1]
    arguments = [str(place / word) if word.endswith(".yaml") else word for word in arguments]
    complete = ShellComplete(main, {}, "matrix-sidecar", "_MATRIX_SIDECAR_COMPLETE")
    return [item.value for item in complete.get_completions(arguments, incomplete)]


def test_names_of_workers_come_from_the_configuration(place: Path) -> None:
    """The one that is named; none, and no error, where it cannot be read."""
    assert offered(place, "explain", "-c", "sidecar.yaml", "--down", "sync") == ["sync1", "sync2"]
    assert offered(place, "explain", "-c", "absent.yaml", "--down", "") == []
    assert offered(place, "rollout", "-c", "sidecar.yaml", "sync1", "") == ["main", "sync1", "sync2"]
    assert offered(place, "rollout", "-c", "absent.yaml", "") == []


def completed(place: Path, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    script = f"""
        source {place}/completion.bash
        COMP_WORDS=(matrix-sidecar {" ".join(words)}) COMP_CWORD={len(words)}
        _matrix_sidecar_completion matrix-sidecar
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shell = ["bash", "--norc", "--noprofile", "-c", script]
    done = subprocess.run(shell, cwd=place, env=environment(PATH=path(place)), capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
class TestBash:
    """Its own function, called as bash calls it."""

    def test_commands(self, place: Path) -> None:
        """All that begin so."""
        assert completed(place, "exp") == ["explain", "export"]
        assert set(main.commands) == set(completed(place, "''"))

    def test_options(self, place: Path) -> None:
        """Those of the command."""
        assert completed(place, "check", "--no") == ["--no-ask"]
        assert completed(place, "init", "--front", "h") == ["haproxy"]

    def test_names_of_workers(self, place: Path) -> None:
        """Those of the configuration that is named."""
        assert completed(place, "explain", "-c", "sidecar.yaml", "--down", "s") == ["sync1", "sync2"]

    def test_tab_at_a_terminal(self, place: Path) -> None:
        """Pressed by a person: files too, which bash completes itself."""
        shell = ["bash", "--norc", "--noprofile", "-i"]
        with Terminal(shell, PATH=path(place), PS1="ready> ", INPUTRC="/dev/null", TERM="dumb") as terminal:
            terminal.answers("ready> ", f"cd {place}; source completion.bash")
            terminal.says("ready> ")
            terminal.types("matrix-sidecar ch\t")
            terminal.says("matrix-sidecar check ")
            terminal.types("-c sid\t")
            terminal.says(r"sidecar\.yaml ")
            terminal.types("\x15exit\n")  # the line is cleared
            terminal.ends()


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "bash"])
def test_the_other_shells_take_their_script(shell: str, place: Path) -> None:
    """Without an error; what it offers is asked from the same place."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    prefix = "autoload -Uz compinit; compinit -u; " if shell == "zsh" else ""
    quiet = ["-f"] if shell == "zsh" else ["--no-config"]
    script = f"{prefix}source {place}/completion.{shell}"
    done = subprocess.run(
        [shell, *quiet, "-c", script],
        env=environment(PATH=path(place), HOME=str(place), ZDOTDIR=str(place)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_offers_commands_with_what_they_do(place: Path) -> None:
    """Asked as fish asks itself."""
    script = f"source {place}/completion.fish; complete -C 'matrix-sidecar rou'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment(PATH=path(place), HOME=str(place)),
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("routes\tList every endpoint with its pool"), done.stderr
