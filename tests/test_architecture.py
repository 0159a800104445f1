"""The house rules that a program can check: which layer may import which, what is pure, how large a thing may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import sidecar

ROOT = Path(sidecar.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

# From the top down: an import may only point to the same layer or one below. A name is a package or a module.
LAYERS = [
    {"manual"},
    {"tap", "cli", "synapse_module"},
    {"commands", "doctor"},
    {"install", "top"},
    {
        "service",
        "deployment",
        "demo",
        "explaining",
        "operating",
        "version_watch",
        "reload",
        "refusal",
        "canary",
        "changes",
        "inside",
        "shared_metrics",
    },
    {
        "net",
        "admin",
        "certificates",
        "logbook",
        "metrics",
        "ordinary_log",
        "outcome_file",
        "sd_notify",
        "signals",
        "sink",
        "status",
        "telemetry",
    },
    {"exchange", "replies", "records", "importing", "exporting"},
    {"wire", "routing", "config"},
    {"synapse"},
    {"document", "errors"},
]
LAYER_OF = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}

PURE = {
    *("importing", "exporting", "wire", "routing", "config", "exchange", "replies", "records", "metrics", "synapse"),
    *("document", "errors"),
}
# Pure but for those that ask a Synapse that runs or is installed (DESIGN, "Layers"), and say so.
ASKERS = {"synapse/asker.py", "synapse/registrations.py", "synapse/servlets.py"}
# What a pure layer has no use for: reactors, sockets, clocks, processes.
IMPURE = {"twisted", "treq", "asyncio", "socket", "selectors", "threading", "time", "subprocess", "signal", "random"}

VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "base", "common", "misc", "handler", "handlers"}

MOST_LINES_OF_A_MODULE = 350
MOST_LINES_OF_A_FUNCTION = 40


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def imports(module: str) -> Iterator[str]:
    """Absolute names of everything that `module` imports when it runs, wherever the statement stands."""
    for node in _run(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _run(child)


def part(name: str) -> str | None:
    """The package or module of ours, right below `sidecar`, to which an imported `name` belongs."""
    first, _, rest = name.partition(".")
    return (rest.partition(".")[0] or None) if first == "sidecar" else None


def own(module: str) -> str:
    return module.partition("/")[0].removesuffix(".py")


def test_every_module_has_its_layer() -> None:
    """A new module at the top says where it belongs."""
    assert {own(module) for module in MODULES} - {"__init__"} <= set(LAYER_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_point_down(module: str) -> None:
    """DESIGN, "Layers": an arrow may only point down."""
    depth = LAYER_OF.get(own(module), 0)
    upward = [name for name in imports(module) if (LAYER_OF.get(part(name) or "", depth)) < depth]
    assert not upward, f"{module} imports from a layer above it: {upward}"


@pytest.mark.parametrize("module", [module for module in MODULES if own(module) in PURE and module not in ASKERS])
def test_pure_layers_know_no_reactor_no_socket_and_no_clock(module: str) -> None:
    """So that they can be tested without any, and give the same answer everywhere."""
    impure = [name for name in imports(module) if name.partition(".")[0] in IMPURE]
    assert not impure, f"{module} is pure, but imports {impure}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_installs_a_reactor_by_being_imported(module: str) -> None:
    """`twisted.internet.reactor` is imported by whoever starts the process, never at the top of a module."""
    top = [name for node in tree(module).body for name in _from_twisted(node)]
    assert "reactor" not in top


def _from_twisted(node: ast.stmt) -> list[str]:
    return (
        [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet"
        else []
    )


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_named_for_what_they_are(module: str) -> None:
    """A vague name collects what belongs elsewhere."""
    assert not VAGUE & set(module.removesuffix(".py").split("/"))


@pytest.mark.parametrize("module", MODULES)
def test_modules_say_what_they_are(module: str) -> None:
    """A docstring at the top, and the annotations import where there is code."""
    body = tree(module)
    assert ast.get_docstring(body), f"{module} has no docstring"
    if len(body.body) > 1 and not module.endswith("__init__.py"):
        assert "annotations" in [name.rpartition(".")[2] for name in imports(module)], (
            f"{module}: from __future__ import annotations"
        )


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short(module: str) -> None:
    """What does not fit is two things."""
    lines = len((ROOT / module).read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES_OF_A_MODULE, f"{module} has {lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module: str) -> None:
    """Lines of the body without its docstring."""
    long = [f"{name}: {lines}" for name, lines in _functions(module) if lines > MOST_LINES_OF_A_FUNCTION]
    assert not long, f"{module}: {long}"


def _functions(module: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1


def test_all_sources_are_python_3_10() -> None:
    """The oldest that Synapse runs on; newer syntax is noticed here rather than there."""
    for module in MODULES:
        ast.parse((ROOT / module).read_text(encoding="utf-8"), module, feature_version=(3, 10))
    assert sys.version_info >= (3, 10)
