"""The tool that makes faults: each change is one, and another program."""

from __future__ import annotations

import ast

from mutants import change, places

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
