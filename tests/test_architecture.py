"""The house rules that a program can check: which layer may import which, what is pure, how large a thing may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import pytest

import sidecar

ROOT = Path(sidecar.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

# From the top down, one package or module a line: an import may only point to one that stands below.
LAYERS = [
    {"synapse_module"},
    {"guest"},
    {"tap"},
    {"cli"},
    {"commands"},
    {"doctor"},
    {"importing"},
    {"exporting"},
    {"install"},
    {"rollout"},
    {"top"},
    {"app"},
    {"explaining"},
    {"admin"},
    {"metrics"},
    {"loading"},
    {"balancers"},
    {"entrance"},
    {"streams"},
    {"relay"},
    {"callers"},
    {"upstream"},
    {"routing"},
    {"transport"},
    {"observe"},
    {"history"},
    {"records"},
    {"exchange"},
    {"balancing"},
    {"config"},
    {"synapse"},
    {"http2"},
    {"wire"},
    {"document"},
    {"plurals"},
    {"errors"},
]
LAYER_OF = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}

PURE = {
    *("importing", "exporting", "wire", "routing", "config", "exchange", "history", "records", "synapse"),
    "balancing",
    *("document", "errors", "http2", "plurals"),
}
# Pure but for those that ask a Synapse that runs or is installed (DESIGN, "Layers"), and say so.
ASKERS = {"synapse/asker.py", "synapse/registrations.py", "synapse/servlets.py"}
# What a pure layer has no use for: reactors, sockets, clocks, processes.
IMPURE = {"twisted", "treq", "asyncio", "socket", "selectors", "threading", "time", "subprocess", "signal", "random"}

VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "base", "common", "misc", "handler", "handlers"}

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
def test_functions_are_short(module: str) -> None:
    """Lines of the body without its docstring."""
    long = [f"{name}: {lines}" for name, lines in _functions(module) if lines > MOST_LINES_OF_A_FUNCTION]
    assert not long, f"{module}: {long}"


def _functions(module: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1


# Attributes of objects that are not ours and have no method for it.
WRITTEN_ELSEWHERE = {
    "app/service.py": {"seconds"},  # of Twisted's reactor, whose clock follows the wall clock otherwise
    "cli.py": {"color", "stderr", "stdout"},  # of click's context, and of the process
    "http2/conversation.py": {"header_table_size", "local_settings", "max_header_list_size"},  # of h2
    "observe/ordinary_log.py": {"stdout"},  # of the process
    "synapse/servlets.py": {"listen_http", "register_paths"},  # of Synapse, which is asked what it registers
    "transport/monotonic.py": {"called"},  # of Twisted's timed calls, as every reactor does
    "upstream/asking.py": {"_factory"},  # of Twisted's connection pool, which logs every connection otherwise
}


@pytest.mark.parametrize("module", MODULES)
def test_attributes_are_written_by_their_own_class(module: str) -> None:
    """Whoever wants to know what an object can become reads the module of its class. Counters count for all."""
    written = {target.attr for target in _written(tree(module)) if not _is_own(target)} - _defined(tree(module))
    assert written == WRITTEN_ELSEWHERE.get(module, set())


def _written(root: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(root):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node


def _defined(root: ast.AST) -> set[str]:
    """The attributes of the classes of a module."""
    annotated = {
        node.target.id
        for each in ast.walk(root)
        if isinstance(each, ast.ClassDef)
        for node in each.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return annotated | {target.attr for target in _written(root) if ast.unparse(target.value) == "self"}


def _is_own(target: ast.Attribute) -> bool:
    owner = ast.unparse(target.value)
    return owner in ("self", "cls") or owner.rpartition(".")[2] == "counters"


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ClassDef):
                yield module, node


def test_no_class_inherits_from_one_that_inherits() -> None:
    """A chain of classes is one object that nobody can hold in the head; parts are."""
    bases: dict[str, set[str]] = {}
    for _, node in _classes():
        bases.setdefault(node.name, set()).update(ast.unparse(base).split("[")[0] for base in node.bases)
    chains = [
        (name, parent, grandparent)
        for name, parents in bases.items()
        for parent in parents & set(bases)
        for grandparent in bases[parent] & set(bases)
    ]
    assert not chains


def test_no_method_is_a_placeholder() -> None:
    """What a class cannot do it does not have; a Protocol says what others need."""
    assert not [
        f"{module}: {node.lineno}"
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node)
    ]


def _known(names: Iterable[str], known: set[str]) -> set[str]:
    """The modules of ours that these names, as `imports` gives them, stand for."""
    return {found for name in names for found in (name, name.rpartition(".")[0]) if found in known}


def _all_imports(module: str) -> Iterator[str]:
    """As `imports`, and what only a type checker sees."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of nodes that can all be reached from each other, but for those of one."""
    reached = {node: _reachable(graph, node) for node in graph}
    found: list[set[str]] = []
    for node in sorted(graph):
        circle = {other for other in reached[node] if node in reached[other]}
        if node in reached[node] and circle not in found and len(circle) > 1:
            found.append(circle)
    return found


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    left = [start]
    while left:
        for node in graph[left.pop()] - reached:
            reached.add(node)
            left.append(node)
    return reached


def test_imports_have_no_circles() -> None:
    """Neither modules nor packages, not even for types: what needs each other is one thing, or has a wrong border."""
    names = {module: "sidecar." + module.removesuffix(".py").replace("/", ".") for module in MODULES}
    known = {name.removesuffix(".__init__") for name in names.values()}
    graph = {
        name.removesuffix(".__init__"): _known(_all_imports(module), known) - {name} for module, name in names.items()
    }
    assert _circles(graph) == []
    packages: dict[str, set[str]] = {}
    for name, imported in graph.items():
        if part(name) is not None:
            others = {part(other) or "" for other in imported} - {part(name), ""}
            packages.setdefault(part(name) or "", set()).update(others)
    assert _circles({name: others & set(packages) for name, others in packages.items()}) == []


def test_a_class_has_its_name_for_itself() -> None:
    """Two classes of one name are two meanings of one word: whoever searches finds the wrong one."""
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


# A package and the module that makes it a part of the program: its command, or its section of the configuration.
OF_A_PACKAGE = {
    "balancers": "config/balancers.py",
    "doctor": "commands/doctor.py",
    "rollout": "config/rollout.py",
    "top": "commands/top.py",
}


def test_a_module_has_its_name_for_itself() -> None:
    """Two modules of one name are two meanings of one word. The module that its package is named for counts once."""
    places: dict[str, list[str]] = {}
    for module in MODULES:
        package, _, name = module.removesuffix(".py").rpartition("/")
        if name == "__init__":
            places.setdefault(package.rpartition("/")[2], []).append(package)
        elif name not in ("__main__", package.rpartition("/")[2]):
            places.setdefault(name, []).append(module)
    shared = {name: sorted(found, key=len) for name, found in places.items() if len(found) > 1}
    assert shared == {name: [name, module] for name, module in OF_A_PACKAGE.items()}


def test_all_sources_are_python_3_10() -> None:
    """The oldest that Synapse runs on; newer syntax is noticed here rather than there."""
    for module in MODULES:
        ast.parse((ROOT / module).read_text(encoding="utf-8"), module, feature_version=(3, 10))
    assert sys.version_info >= (3, 10)


def test_every_package_is_shipped() -> None:
    """setup.cfg names them one by one, and what it does not name is in no wheel."""
    read = ConfigParser()
    read.read(ROOT.parent / "setup.cfg")
    named = set(read["options"]["packages"].split())
    packages = {".".join(file.parent.relative_to(ROOT.parent).parts) for file in ROOT.rglob("__init__.py")}
    assert named == packages | {"twisted.plugins"}
