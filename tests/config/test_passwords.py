"""Hashes of passwords: made, read back, and recognised, also where another program made them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.passwords import UNKNOWN, Secret, hashed, parse_hash, secret_of
from sidecar.errors import Severity

# passlib.hash.scrypt of 1.7.4: `scrypt.using(rounds=8).hash("password")`, from its documentation.
FOREIGN = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"


@settings(max_examples=5)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_hash_knows_its_password(password: bytes, other: bytes) -> None:
    """Written and read back it matches its own password and no other."""
    known = parse_hash(str(hashed(password)))
    assert known is not None
    assert known.matches(password)
    assert known.matches(other) == (password == other)


def test_the_salt_is_another_each_time() -> None:
    """Equal passwords do not look alike, and nothing of a hash is in its repr."""
    one, other = hashed(b"a"), hashed(b"a")
    assert one != other
    assert str(one).rsplit("$", 1)[1] not in repr(one)


def test_the_hash_of_another_program() -> None:
    """What passlib made is taken."""
    known = parse_hash(FOREIGN)
    assert known is not None
    assert known.matches(b"password")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "password",
        FOREIGN + "\n",
        FOREIGN.replace("ln=16", "ln=0"),
        FOREIGN.replace("ln=16", "ln=22"),
        FOREIGN.replace("p=1", "p=99"),
        FOREIGN.replace("scrypt", "argon2id"),
        FOREIGN[:-20],
        FOREIGN + "AA",
    ],
)
def test_what_is_no_hash(text: str) -> None:
    """Another form, one that costs too much, one that is cut."""
    assert parse_hash(text) is None


def test_the_example_is_a_hash() -> None:
    """It can be copied without giving anybody a password."""
    assert parse_hash(UNKNOWN) is not None


def stated(path: Path) -> tuple[Secret | None, list[tuple[str, Severity]]]:
    return secret_of(None, str(path))


def test_a_password_in_a_file(tmp_path: Path) -> None:
    """The first line is the password, or its hash; who else can read the file is told."""
    path = tmp_path / "password"
    for text, password in ((b"open sesame\r\nmore\n", b"open sesame"), (FOREIGN.encode() + b" \n", b"password")):
        path.write_bytes(text)
        path.chmod(0o640)
        secret, doubts = stated(path)
        assert secret is not None
        assert secret.matches(password)
        assert not secret.matches(password + b" ")
        assert doubts == []
    path.chmod(0o644)
    ((message, severity),) = stated(path)[1]
    assert severity is Severity.WARNING
    assert message.endswith("`chmod o-r`")


def test_a_password_file_that_is_none(tmp_path: Path) -> None:
    """Absent, empty, too long, or a broken hash: one sentence that repeats nothing of it."""
    path = tmp_path / "password"
    assert stated(path) == (None, [(f"{path} cannot be read: No such file or directory", Severity.ERROR)])
    for text in (b"", b"\nsesame", b"s" * 2000, b"$scrypt$ln=sesame"):
        path.write_bytes(text)
        path.chmod(0o600)
        secret, ((message, severity),) = stated(path)
        assert (secret, severity) == (None, Severity.ERROR)
        assert message.startswith("its first line ")
        assert "sesame" not in message


def test_a_stated_hash() -> None:
    """`password_hash` needs no file; without either there is no password."""
    assert secret_of(UNKNOWN, None) == (parse_hash(UNKNOWN), [])
    assert secret_of(None, None) == (None, [])
