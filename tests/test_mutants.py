"""The tool that makes faults: each change is one, and another program."""

from __future__ import annotations

import ast
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

from mutants import NEAREST, ROOT, change, nearest, places

SOURCE = '''
"""About."""
if TYPE_CHECKING:
    unseen = 5 < 6

def read(limit: int = 5, *, strict: bool = True) -> bytes | None:
    """What it does."""
    if not strict and limit <= 7:
        self.count += 1
        note(b"x")
        raise WireError("5 is odd", 5)
    return head + b"\\\\r\\\\n"
'''


def test_what_is_changed() -> None:
    """Values, comparisons, conditions, calls and returns; not texts, types, or what is raised."""
    told = {change(SOURCE, way)[1].partition(": ")[2] for way in places(ast.parse(SOURCE))}
    assert {
        "5  →  6",
        "True  →  False",
        "not strict  →  strict",
        "not strict and limit <= 7  →  not strict or limit <= 7",
        "limit <= 7  →  limit < 7",
        "self.count += 1  →  self.count -= 1",
        "note(b'x')  →  pass",
        "head + b'\\\\r\\\\n'  →  head - b'\\\\r\\\\n'",
        "return head + b'\\\\r\\\\n'  →  return None",
    } <= told
    assert not [each for each in told if "odd" in each or "About" in each or "5 < 6" in each]


def test_each_change_is_another_program() -> None:
    """That can be read again."""
    programs = [change(SOURCE, way)[0] for way in places(ast.parse(SOURCE))]
    assert len(set(programs)) == len(programs) > 12
    assert ast.unparse(ast.parse(SOURCE)) not in programs
    for program in programs:
        ast.parse(program)


def test_what_is_like_a_module_is_asked_first() -> None:
    """The tests that are called like it; and none of the patterns is one of nothing."""
    assert nearest(Path("sidecar/upstream/health.py"))[0] == "tests/net/test_health.py"
    for package, patterns in NEAREST.items():
        assert nearest(Path("sidecar") / package / "x.py")
        for pattern in patterns.split():
            assert list((ROOT / "tests").glob(pattern)), pattern


SLEEPS = """
import os, subprocess

def test_one():
    pipe = os.open({pipe!r}, os.O_WRONLY)
    os.write(pipe, b"here")
    subprocess.run(["sleep", "600"], pass_fds=[pipe])
"""


def test_nothing_is_left_running(tmp_path: Path) -> None:
    """Whoever is told to end takes the tests along, and what those have started."""
    (tmp_path / "tests" / "net").mkdir(parents=True)
    (tmp_path / "sidecar" / "relay").mkdir(parents=True)
    (tmp_path / "sidecar" / "relay" / "one.py").write_text("ONE = 1\n")
    pipe = tmp_path / ".pipe"
    (tmp_path / "tests" / "net" / "test_one.py").write_text(SLEEPS.format(pipe=str(pipe)))
    shutil.copy(ROOT / "tests" / "mutants.py", tmp_path / "tests")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, "-m", "mutants", "relay"]
    child = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": "tests"}, stderr=subprocess.DEVNULL
    )
    try:
        assert select.select([reader], [], [], 60)[0]
        assert os.read(reader, 100) == b"here"
        child.terminate()
        assert select.select([reader], [], [], 60)[0]
        assert os.read(reader, 100) == b"", "the end comes when nobody is left who could write"
    finally:
        child.kill()
        child.wait()
        os.close(reader)
