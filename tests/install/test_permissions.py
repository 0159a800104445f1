"""Who may reach what, judged as the kernel does it; compared with the kernel where it can be asked."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.install.permissions import PASS, READ, WRITE, Account, hindrance, of_process

OWNER, MEMBER, STRANGER = Account("the owner", 1234), Account("a member", 1, frozenset((4321,))), Account("a stranger")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may pass; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def owned(path: Path, mode: int) -> str:
    """A file of user 1234 and group 4321; only root can give files away."""
    if os.geteuid():
        pytest.skip("only root can give files to other users")
    path.touch()
    os.chown(path, 1234, 4321)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("mode", "account", "free"),
    [
        (0o600, OWNER, True),
        (0o060, OWNER, False),
        (0o660, MEMBER, True),
        (0o606, MEMBER, False),
        (0o666, STRANGER, True),
        (0o660, STRANGER, False),
        (0o000, Account("root", 0), True),
    ],
)
def test_the_first_class_that_fits_decides(place: Path, mode: int, account: Account, free: bool) -> None:
    """The owner's bits for the owner, even where others may more; the group's for its members; root may all."""
    file = owned(place / "socket", mode)
    found = hindrance(file, account, WRITE)
    assert (found is None) is free
    if found is not None:
        assert found == f"{account.name} may not write to {file}, which has mode {mode:04o}, owner 1234 and group 4321"


def test_each_directory_on_the_way_must_be_passed(place: Path) -> None:
    """The first that may not be is the one that is told, also behind a symbolic link."""
    closed = place / "closed"
    closed.mkdir()
    (closed / "inner").mkdir()
    (closed / "inner" / "socket").touch(0o666)
    (place / "link").symlink_to(closed / "inner" / "socket")
    closed.chmod(0o700)
    for path in (closed / "inner" / "socket", place / "link"):
        found = hindrance(str(path), STRANGER, WRITE)
        assert found is not None
        assert found.startswith(f"a stranger may not pass through {closed.resolve()}, which has mode 0700")
    closed.chmod(0o711)
    assert hindrance(str(place / "link"), STRANGER, READ) is None


def test_what_is_not_there_hinders_nobody(place: Path) -> None:
    """Another check tells that it is missing."""
    assert hindrance(str(place / "nothing" / "socket"), STRANGER, WRITE) is None


def test_where_an_access_control_list_is_set_nothing_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes do not tell then."""
    file = owned(place / "socket", 0o600)
    monkeypatch.setattr(os, "listxattr", lambda path: ["system.posix_acl_access"] if path == file else [])
    assert hindrance(file, STRANGER, WRITE) is None


def test_a_file_system_without_attributes_has_no_lists(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes are all that there is."""

    def refuse(_path: str) -> list[str]:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "listxattr", refuse)
    assert hindrance(owned(place / "socket", 0o600), STRANGER, WRITE) is not None


@pytest.mark.parametrize("mode", [0o600, 0o060, 0o006, 0o660, 0o000])
@pytest.mark.parametrize(("uid", "gid"), [(1234, 1), (1, 4321), (1, 1)])
def test_the_kernel_says_the_same(place: Path, mode: int, uid: int, gid: int) -> None:
    """Another process with that user and group is let in exactly where no hindrance was seen."""
    file = owned(place / "file", mode)
    attempt = subprocess.run(["cat", file], user=uid, group=gid, extra_groups=[], capture_output=True)
    account = Account("somebody", uid, frozenset((gid,)))
    assert (hindrance(file, account, READ) is None) is (attempt.returncode == 0)


def test_the_account_of_a_process() -> None:
    """That of this one is the current one; one that is not there has none."""
    mine = of_process(os.getpid())
    assert mine is not None
    assert (mine.uid, mine.groups) == (Account.current().uid, Account.current().groups)
    assert of_process(2**22 + 1) is None


def test_the_effective_user_counts(tmp_path: Path) -> None:
    """Real, effective, saved and file system ids stand in /proc in this order; what is incomplete is no account."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n")
    assert of_process(7, str(tmp_path)) == Account("the user of process 7", 2, frozenset((6, 9, 10)))
    (tmp_path / "7" / "status").write_text("Name:\tx\n")
    assert of_process(7, str(tmp_path)) is None


def test_passing_through_is_a_need_of_its_own(place: Path) -> None:
    """A directory that may be passed but not listed."""
    (place / "d").mkdir()
    (place / "d").chmod(0o711)
    assert hindrance(str(place / "d"), STRANGER, PASS) is None
    assert hindrance(str(place / "d"), STRANGER, READ) is not None


def test_this_process_reads_this_file() -> None:
    """The current account is nobody else's."""
    assert hindrance(__file__, Account.current(), READ) is None
