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
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from functools import partial
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 180
"""How long the tests of one change may take; what takes longer has been noticed."""

Way = tuple[tuple[str, int | None], ...]
"""From a module to one of its nodes: fields of the syntax tree, and places in those that are lists."""

NEAREST = {
    "wire": "wire/test_*.py test_replies.py net/test_relay.py net/test_short_way.py",
    "exchange": "test_exchange.py test_retries.py test_replies.py test_coding.py net/test_changes.py net/test_relay.py",
    "routing": "routing/test_[!p]*.py routing/test_p[!r]*.py test_cli_what_if.py test_standing.py",
    "upstream": "net/test_pool.py net/test_health.py net/test_resolving.py net/test_whoami.py net/test_relay.py "
    "net/test_shield.py net/test_selfcheck.py",
    "relay": "net/test_*.py",
}
"""The tests that should notice, by package, as patterns of files in `tests`. They stop at the first that does."""

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


def nearest(module: Path, root: Path = ROOT) -> list[str]:
    """The files of the tests that should notice a change of a module; those that are called like it come first."""
    patterns = NEAREST[module.parts[1]].split()
    files = [str(path.relative_to(root)) for each in patterns for path in sorted((root / "tests").glob(each))]
    return sorted(files, key=lambda file: module.stem not in file)


class Verdict(Enum):
    """What the tests said of a change."""

    LIVED = auto()
    NOTICED = auto()
    ENDLESS = auto()
    """They did not end in time, which counts as noticed."""


class Copies:
    """One copy of the tree for each job, in which one change at a time is made."""

    def __init__(self, directory: Path, jobs: int) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        self._times = count(1)
        self._running: set[subprocess.Popen[bytes]] = set()
        for number in range(jobs):
            at = directory / str(number)
            shutil.copytree(ROOT, at, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
            self._free.put(at)

    def judge(self, module: Path, source: str) -> Verdict:
        """What the tests say with this as the module."""
        at = self._free.get()
        file = at / module
        before = file.read_text(encoding="utf-8")
        try:
            self._write(file, source)
            return {0: Verdict.LIVED, -9: Verdict.ENDLESS}.get(self._test(at, nearest(module, at)), Verdict.NOTICED)
        finally:
            self._write(file, before)
            self._free.put(at)

    def stop(self) -> None:
        """End the tests that run, with every program that they have started."""
        for child in list(self._running):
            os.killpg(child.pid, signal.SIGKILL)

    def _write(self, file: Path, source: str) -> None:
        """With a time of its own, so that no compiled file of another change is taken for it."""
        file.write_text(source, encoding="utf-8")
        time = next(self._times)
        os.utime(file, (time, time))

    def _test(self, at: Path, files: list[str]) -> int:
        """The exit status of pytest. `timeout` ends it in time, even when this program has been killed meanwhile."""
        limit = ["timeout", "--signal=KILL", str(SECONDS)]
        command = [*limit, sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
        environment = {**os.environ, "PYTHONPATH": str(at), "HYPOTHESIS_PROFILE": "fast"}
        null = subprocess.DEVNULL
        child = subprocess.Popen(command, cwd=at, env=environment, stdin=null, stdout=null, start_new_session=True)
        self._running.add(child)
        ended = child.wait()
        self._running.discard(child)
        return ended


def judged(copies: Copies, sources: dict[Path, str], one: tuple[Path, Way]) -> Verdict:
    """What the tests say of a change; one that lived is printed."""
    module, path = one
    source, what = change(sources[module], path)
    verdict = copies.judge(module, source)
    if verdict is not Verdict.NOTICED:
        print(f"{module}:{what}{' (the tests did not end)' if verdict is Verdict.ENDLESS else ''}", flush=True)
    return verdict


def main() -> None:
    """Print the changes that lived, and how many did not."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a package or module below sidecar/")
    parser.add_argument("--count", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in modules(options.modules)}
    every = [(module, path) for module, source in sources.items() for path in places(ast.parse(source))]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(options.jobs) as threads:
        copies = Copies(Path(directory), options.jobs)
        try:
            for module in {module.parts[1]: module for module, _ in chosen}.values():
                unchanged = copies.judge(module, sources[module])
                assert unchanged is Verdict.LIVED, f"the tests of {module} as it is: {unchanged.name}"
            verdicts = Counter(threads.map(partial(judged, copies, sources), chosen))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            copies.stop()
            raise
    print(f"{len(chosen) - verdicts[Verdict.LIVED]} of {len(chosen)} changes were noticed")


if __name__ == "__main__":
    main()
