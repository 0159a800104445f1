"""Changes the code in one small way at a time, and prints each change that no test notices.

`PYTHONPATH=tests python -m mutants --count 100 --seed 1 wire exchange routing upstream/pool upstream/health`

It works on copies in a temporary directory. Some changes make no difference that anybody could notice: read each one
before you write a test.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 180
"""How long the tests of one change may take; what takes longer has been noticed."""

Way = tuple[tuple[str, int | None], ...]
"""From a module to one of its nodes: fields of the syntax tree, and places in those that are lists."""

NEAREST = {
    "wire": "tests/wire tests/test_replies.py tests/net/test_relay.py",
    "exchange": "tests/test_exchange.py tests/test_retries.py tests/test_replies.py tests/test_coding.py tests/net",
    "routing": "tests/routing tests/test_cli_what_if.py tests/test_standing.py --ignore=tests/routing/test_proof.py",
    "upstream": "tests/net/test_pool.py tests/net/test_health.py tests/net/test_relay.py tests/net/test_shield.py",
    "relay": "tests/net",
}
"""The tests that should notice, by package. They stop at the first that does."""

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


def changed(node: ast.AST) -> ast.AST | None:
    """What this node becomes; None where it is left alone."""
    match node:
        case ast.Compare(ops=[op, *more]) if type(op) in COMPARED:
            node.ops = [COMPARED[type(op)](), *more]
        case ast.BoolOp(op=op):
            node.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in CALCULATED:
            node.op = CALCULATED[type(op)]()
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Constant(value=bytes() as value):
            node.value = value + b"x"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            node.test = ast.UnaryOp(ast.Not(), test)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute()]):
            return ast.Pass()
        case _:
            return None
    return node


def places(node: ast.AST, way: Way = ()) -> Iterator[Way]:
    """The way to each node that can be changed; not into annotations, decorators, types, and what is raised."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if way and changed(copy.deepcopy(node)) is not None:
        yield way
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list", "exc"):
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST):
                    yield from places(child, (*way, (field, index)))


def change(source: str, path: Way) -> tuple[str, str]:
    """The module with one node changed, and a line that says what was changed."""
    tree = ast.parse(source)
    parent: ast.AST = tree
    node: ast.AST = tree
    for field, index in path:
        parent, node = node, getattr(node, field) if index is None else getattr(node, field)[index]
    line = getattr(node, "lineno", 0)
    before = ast.unparse(node).partition("\n")[0]
    after = ast.fix_missing_locations(changed(node) or node)
    field, index = path[-1]
    if index is None:
        setattr(parent, field, after)
    else:
        getattr(parent, field)[index] = after
    return ast.unparse(
        ast.fix_missing_locations(tree)
    ), f"{line}: {before}  →  {ast.unparse(after).partition(chr(10))[0]}"


def modules(names: list[str]) -> list[Path]:
    """Files below `sidecar/`, for packages and modules without their suffix."""
    found = [path for name in names for path in ((ROOT / "sidecar" / name).rglob("*.py"))]
    found += [file for name in names if (file := ROOT / "sidecar" / f"{name}.py").exists()]
    return sorted(path.relative_to(ROOT) for path in found)


class Copies:
    """One copy of the tree for each job, in which one change at a time is made."""

    def __init__(self, directory: Path, jobs: int) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        self._times = count(1)
        for number in range(jobs):
            at = directory / str(number)
            shutil.copytree(ROOT, at, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
            self._free.put(at)

    def noticed(self, module: Path, source: str) -> bool:
        """Whether a test fails, or does not end, with this as the module."""
        at = self._free.get()
        file = at / module
        before = file.read_text(encoding="utf-8")
        try:
            self._write(file, source)
            return not self._passes(at, NEAREST[module.parts[1]])
        finally:
            self._write(file, before)
            self._free.put(at)

    def _write(self, file: Path, source: str) -> None:
        """With a time of its own, so that no compiled file of another change is taken for it."""
        file.write_text(source, encoding="utf-8")
        time = next(self._times)
        os.utime(file, (time, time))

    def _passes(self, at: Path, tests: str) -> bool:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
        environment = {**os.environ, "PYTHONPATH": str(at), "HYPOTHESIS_PROFILE": "fast"}
        child = subprocess.Popen(command, cwd=at, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            return child.wait(SECONDS) == 0
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.wait()
            return False


def main() -> None:
    """Print the changes that lived, and how many did not."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a package or module below sidecar/")
    parser.add_argument("--count", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    options = parser.parse_args()
    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in modules(options.modules)}
    every = [(module, path) for module, source in sources.items() for path in places(ast.parse(source))]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(options.jobs) as threads:
        copies = Copies(Path(directory), options.jobs)
        for module in {module.parts[1]: module for module, _ in chosen}.values():
            assert not copies.noticed(module, sources[module]), f"the tests of {module} fail as it is"

        def tried(one: tuple[Path, Way]) -> bool:
            module, path = one
            source, what = change(sources[module], path)
            noticed = copies.noticed(module, source)
            if not noticed:
                print(f"{module}:{what}", flush=True)
            return noticed

        noticed = sum(threads.map(tried, chosen))
    print(f"{noticed} of {len(chosen)} changes were noticed")


if __name__ == "__main__":
    main()
