"""`matrix-sidecar password`: typed twice and never shown, or piped."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from processes import environment

from sidecar.config.passwords import parse_hash

COMMAND = [sys.executable, "-m", "sidecar.cli", "password"]


def matches(line: str, password: bytes) -> bool:
    known = parse_hash(line.rstrip("\n"))
    assert known is not None, line
    return known.matches(password)


@pytest.mark.parametrize("given", ["sésame\n", "sésame\r\nand more\n", "sésame"])
def test_a_piped_password(given: str) -> None:
    """The first line is the password."""
    done = subprocess.run(COMMAND, input=given, env=environment(PYTHONUTF8="1"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert matches(done.stdout, "sésame".encode())


def test_none() -> None:
    """An empty password is refused."""
    done = subprocess.run(COMMAND, input="\n", env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "The password is empty." in done.stderr


def test_a_typed_password() -> None:
    """At a terminal it is asked for twice, is not echoed, and only the hash goes to standard output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        COMMAND, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=environment(), start_new_session=True
    ) as process:
        os.close(theirs)
        said = b""
        for prompt in (b"Password: ", b"confirmation: "):  # the blank comes when what is typed counts
            while prompt not in said:
                said += os.read(ours, 1024)
            os.write(ours, b"sesame\n")
        assert process.stdout is not None
        printed = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    assert b"sesame" not in said
    assert matches(printed, b"sesame")
