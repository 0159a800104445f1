"""`matrix-sidecar top` as a command: where it looks, who asks, and what it says where that does not work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pictures import told
from processes import environment
from terminals import Terminal
from top.operated import StandIn, listening

from sidecar.cli import main
from sidecar.config.passwords import hashed

WORKERS = "workers: {main: {endpoint: unix:main.sock}}\n"


def run(*arguments: str, text: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(main, ["top", *arguments], input=text)
    return done.exit_code, done.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text(f'admin: "unix:admin.sock:mode=660"\n{WORKERS}')
    return path


def test_it_looks_where_the_file_says(file: Path) -> None:
    """One screen where nobody sits at a terminal; another place with --admin."""
    stand_in = StandIn(told())
    with listening(stand_in, file.parent / "admin.sock"):
        status, said = run("-c", str(file))
    assert (status, said[:24]) == (0, "matrix-sidecar  gate1  r")
    with listening(stand_in) as endpoint:
        assert run("--admin", endpoint, "--once")[0] == 0
    assert stand_in.authorizations == [None, None]


@pytest.mark.parametrize(
    ("more", "text", "authorization"),
    [
        ("operator: {password_file: secret, user: ops}\n", "", "Basic b3BzOm9wZW4="),
        (f"operator: {{password_hash: '{hashed(b'open')}'}}\n", "open\n", "Basic b3BlcmF0b3I6b3Blbg=="),
    ],
)
def test_a_password(file: Path, more: str, text: str, authorization: str) -> None:
    """It is read where it can be read, and asked for where there is only its hash."""
    (file.parent / "secret").write_text("open\n")
    file.write_text(file.read_text() + more)
    stand_in = StandIn(told())
    with listening(stand_in, file.parent / "admin.sock"):
        status, said = run("-c", str(file), text=text)
    assert status == 0
    assert stand_in.authorizations == [authorization]
    assert "open" not in said.partition("matrix-sidecar")[0]


def test_a_user(file: Path) -> None:
    """--user asks for the password of that name."""
    stand_in = StandIn(told())
    with listening(stand_in, file.parent / "admin.sock"):
        assert run("-c", str(file), "--user", "me", text="open\n")[0] == 0
    assert stand_in.authorizations == ["Basic bWU6b3Blbg=="]


@pytest.mark.parametrize("more", [(), ("--user", "me")], ids=["name of the file", "name given"])
def test_a_password_in_a_file(file: Path, more: tuple[str, ...]) -> None:
    """--password-file asks nobody, and goes before the hash that the configuration has."""
    file.write_text(file.read_text() + f"operator: {{password_hash: '{hashed(b'open')}', user: ops}}\n")
    (file.parent / "secret").write_text("open\nnot this\n")
    stand_in = StandIn(told())
    with listening(stand_in, file.parent / "admin.sock"):
        status, said = run("-c", str(file), "--password-file", str(file.parent / "secret"), *more)
    assert (status, said[:24]) == (0, "matrix-sidecar  gate1  r")
    assert stand_in.authorizations == ["Basic bWU6b3Blbg==" if more else "Basic b3BzOm9wZW4="]


@pytest.mark.parametrize(
    ("password", "sentence"), [(b"", "its first line is empty"), (b"open", "holds a hash. Write the password")]
)
def test_a_file_without_a_password(file: Path, password: bytes, sentence: str) -> None:
    """One sentence with the file, and status 2."""
    (file.parent / "secret").write_text(str(hashed(password)) if password else "")
    status, said = run("-c", str(file), "--password-file", str(file.parent / "secret"))
    assert status == 2
    assert sentence in said
    assert str(file.parent / "secret") in said


def test_what_does_not_work(file: Path) -> None:
    """Nobody there, no such listener, a broken file, an endpoint that cannot be asked: one sentence, and status 2."""
    status, said = run("-c", str(file))
    assert (status, said) == (2, f"No answer from {file.parent}/admin.sock: No such file or directory.\n")
    assert "`ssl:` endpoints cannot be asked" in run("--admin", "ssl:1")[1]
    file.write_text(WORKERS)
    assert "there is no operator's listener; write `admin`" in run("-c", str(file))[1]
    file.write_text("nonsense: 1\n")
    assert "unknown key" in run("-c", str(file))[1]
    assert run("--interval", "0")[0] == 2


def test_at_a_terminal_that_cannot_be_drawn_on(file: Path) -> None:
    """It says what would work."""
    command = [sys.executable, "-m", "sidecar.cli", "top", "-c", str(file)]
    with listening(StandIn(told()), file.parent / "admin.sock"), Terminal(command, TERM="dumb") as terminal:
        terminal.says("try --once")
        assert terminal.ends() == 2


def test_it_starts_without_twisted(file: Path) -> None:
    """As every command does, so that it is there at once."""
    code = (
        "import sys; sys.argv[1:] = ['top', '-c', sys.argv[1], '--once']\n"
        "from sidecar.cli import main\n"
        "try: main()\n"
        "finally: print([name for name in sys.modules if name.startswith('twisted')])"
    )
    with listening(StandIn(told()), file.parent / "admin.sock"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)], capture_output=True, text=True, env=environment(), check=False
        )
    assert done.stdout.endswith("[]\n"), done.stderr
