"""Whether an account may reach a socket or read a file, judged by owners and modes as the kernel does it.

Knows no access control lists and no security modules; where a list is set, the answer is unknown and nothing is said.
Works for accounts that do not exist yet, such as the one that systemd makes for a unit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

READ, WRITE, PASS = 4, 2, 1
_NEEDS = {READ: "read", WRITE: "write to", PASS: "pass through"}
_ACL = "system.posix_acl_access"


@frozen
class Account:
    """Who wants to reach something. `uid` None: somebody who owns nothing."""

    name: str
    uid: int | None = None
    groups: frozenset[int] = field(default=frozenset())

    @classmethod
    def current(cls) -> Account:
        """Who runs this."""
        return cls("the user that runs this", os.geteuid(), frozenset((os.getegid(), *os.getgroups())))


def of_process(pid: int, proc: str = "/proc") -> Account | None:
    """The account of a running process; None where it cannot be seen."""
    try:
        lines = Path(proc, str(pid), "status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    values = {name: numbers.split() for name, _, numbers in (line.partition(":") for line in lines)}
    try:
        user, group, more = int(values["Uid"][1]), int(values["Gid"][1]), map(int, values.get("Groups", []))
        return Account(f"the user of process {pid}", user, frozenset((group, *more)))
    except (KeyError, IndexError, ValueError):
        return None


def hindrance(path: str, account: Account, need: int) -> str | None:
    """Why `account` cannot do with `path` what it needs, as the beginning of a sentence; None if nothing is in the way.

    What does not exist hinders nobody here: that is another fault, and told elsewhere.
    """
    for place, wanted in _steps(path, need):
        try:
            found = os.stat(place)
        except OSError:
            return None
        if not _allowed(place, found, account, wanted):
            return f"{account.name} may not {_NEEDS[wanted]} {place}, which has {_described(found)}"
    return None


def _steps(path: str, need: int) -> Iterator[tuple[str, int]]:
    real = os.path.realpath(path)
    for directory in reversed(Path(real).parents):
        yield str(directory), PASS
    yield real, need


def _allowed(place: str, found: os.stat_result, account: Account, wanted: int) -> bool:
    if account.uid == 0 or _has_list(place):
        return True
    if account.uid == found.st_uid:
        bits = found.st_mode >> 6
    elif found.st_gid in account.groups:
        bits = found.st_mode >> 3
    else:
        bits = found.st_mode
    return bool(bits & wanted)


def _has_list(place: str) -> bool:
    try:
        return _ACL in os.listxattr(place)
    except OSError:
        return False


def _described(found: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid} and group {found.st_gid}"
