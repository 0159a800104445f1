"""Which code of Synapse a servlet reaches, and what of it a process does not have.

Follows a servlet's method through the handlers and stores of a process that was built but not started. Names that lead
to objects are looked up in these very objects, so that a worker's own handlers are followed in a worker. All branches
are followed. What a name without an object leads to is unknown; there a name counts that only main's store has.
Executes nothing of Synapse but its getters (`hs.get_…`). Must not import Synapse.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any

from attrs import define, field, frozen

from sidecar.synapse.registrations import Registration

PACKAGE = "synapse."
PASSED_OVER = (
    *("synapse.logging", "synapse.metrics", "synapse.util", "synapse.types", "synapse.http", "synapse.config"),
    "synapse.server",
)
"""What serves all of Synapse alike, and is no matter of the process."""

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda _: "UNKNOWN"})()


@frozen
class Instance:
    """An object of a class of Synapse that the code makes for itself; only its methods are known."""

    of: type


@frozen(eq=False, repr=False)
class Code:
    """A function, and the object whose method it is."""

    function: Any
    owner: Any = UNKNOWN

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.function.__code__, self.owner if isinstance(self.owner, Instance) else id(self.owner))

    @property
    def name(self) -> str:
        owner = self.owner.of if isinstance(self.owner, Instance) else type(self.owner)
        return self.function.__qualname__ if self.owner is UNKNOWN else f"{owner.__name__}.{self.function.__name__}"


def code_of(found: Any, owner: Any = UNKNOWN) -> Code | None:
    """The function behind what a name led to, past decorators; None where it is none of Synapse."""
    while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
        if isinstance(found, MethodType):
            owner, found = found.__self__, found.__func__
        elif isinstance(found, functools.partial):
            found = found.func
        elif hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        else:
            return None
    module = found.__module__ or ""
    if not module.startswith(PACKAGE) or module.startswith(PASSED_OVER):
        return None
    names = found.__code__.co_varnames[: found.__code__.co_argcount]
    return Code(found, owner if names[:1] in (("self",), ("cls",)) else UNKNOWN)


Tree = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@functools.cache
def tree_of(code: Any) -> Tree | None:
    """The function that this code was compiled from; None where there is no source for it."""
    try:
        tree = ast.parse(textwrap.dedent("".join(inspect.getsourcelines(code)[0])))
    except (OSError, SyntaxError, TypeError):
        return None
    functions = (
        each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    )
    return next(functions, None)


@frozen(order=True)
class Lack:
    """That a process does not have `name`, which the function `where` uses."""

    name: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} in {self.where}"


@define(repr=False)
class Seen:
    """What one function uses: what the process lacks, and further functions."""

    lacks: set[str] = field(factory=set)
    calls: dict[tuple[Any, ...], Code] = field(factory=dict)


@define(repr=False)
class Reach:
    """The code that the servlets of one process reach."""

    homeserver: Any
    names: frozenset[str] = frozenset()
    """What only main's store has."""
    _seen: dict[tuple[Any, ...], Seen] = field(factory=dict)
    _kept: list[Any] = field(factory=list)
    """Objects whose identity is a key."""

    def lacks(self, callback: Callable[..., Any]) -> frozenset[Lack]:
        """What the process lacks of what `callback` may use."""
        found: set[Lack] = set()
        first = code_of(callback)
        waiting = [] if first is None else [first]
        met = {each.key for each in waiting}
        while waiting:
            code = waiting.pop()
            seen = self._look(code)
            found.update(Lack(name, code.name) for name in seen.lacks)
            for key, called in seen.calls.items():
                if key not in met:
                    met.add(key)
                    waiting.append(called)
        return frozenset(found)

    def _look(self, code: Code) -> Seen:
        known = self._seen.get(code.key)
        if known is None:
            known = self._seen[code.key] = Seen()
            self._kept.append(code.owner)
            tree = tree_of(code.function.__code__)
            if tree is not None:
                _Look(self, code, known).run(tree)
        return known

    @property
    def store(self) -> Any:
        """The process's own."""
        return self.homeserver.get_datastores().main


def lacking(
    servers: Sequence[Any], asked: Sequence[Sequence[Registration]]
) -> Iterator[tuple[tuple[str, str], frozenset[str]]]:
    """What of each endpoint the worker lacks and main does not. What both seem to lack is beyond the reader of code."""
    main, worker = servers
    has = Reach(main)
    lacks = Reach(worker, only_in(main, worker))
    on_main: dict[tuple[str, str], set[str]] = {}
    for each in asked[0]:
        if each.callback is not None:
            on_main.setdefault((each.method, each.notation), set()).update(
                lack.name for lack in has.lacks(each.callback)
            )
    for each in asked[1]:
        key = (each.method, each.notation)
        if each.callback is not None and key in on_main:
            found = lacks.lacks(each.callback)
            yield key, frozenset(str(lack) for lack in found if lack.name not in on_main[key])


def only_in(main: Any, worker: Any) -> frozenset[str]:
    """Names that the store of one homeserver has and that of the other lacks."""
    has, lacks = (set(dir(type(each.get_datastores().main))) for each in (main, worker))
    return frozenset(name for name in has - lacks if not name.startswith("__"))


def _is_abstract(tree: Tree) -> bool:
    """Whether a function does nothing but to say that its class does not have it."""
    if isinstance(tree, ast.Lambda):
        return False
    body = (
        [each for each in getattr(tree, "body", ()) if not _is_text(each)] if not isinstance(tree, ast.Lambda) else []
    )
    if len(body) != 1 or not isinstance(body[0], ast.Raise):
        return False
    raised = body[0].exc.func if isinstance(body[0].exc, ast.Call) else body[0].exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


@define(repr=False)
class _Look:
    """Reads one function. `known` are the values of its names."""

    reach: Reach
    code: Code
    seen: Seen
    known: dict[str, Any] = field(factory=dict)

    def run(self, tree: Tree) -> None:
        function, owner = self.code.function, self.code.owner
        for cell, value in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            self.known[cell] = _content(value)
        self._parameters(tree.args)
        first = [*tree.args.posonlyargs, *tree.args.args][:1]
        if owner is not UNKNOWN and first:
            self.known[first[0].arg] = owner
        if _is_abstract(tree):
            self.seen.lacks.add(function.__qualname__)
        for statement in tree.body if isinstance(tree.body, list) else [tree.body]:
            self._visit(statement)

    def _parameters(self, arguments: ast.arguments) -> None:
        """Their values are unknown, but for two that have one name everywhere in Synapse."""
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self.known.setdefault(each.arg, self._usual(each.arg))

    def _usual(self, name: str) -> Any:
        return {"hs": lambda: self.reach.homeserver, "store": lambda: self.reach.store}.get(name, lambda: UNKNOWN)()

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, Tree):
            self._parameters(node.args)
            for statement in node.body if isinstance(node.body, list) else [node.body]:
                self._visit(statement)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            value = self._value(node.value)
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and (value is not UNKNOWN or target.id not in self.known):
                    self.known[target.id] = value
                elif not isinstance(target, ast.Name):
                    self._visit(target)
        elif isinstance(node, ast.expr):
            self._value(node)
        else:
            for child in ast.iter_child_nodes(node):
                self._visit(child)

    def _value(self, node: ast.expr) -> Any:
        """What an expression leads to, as far as that can be known. Whatever it names counts as used."""
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(self._value(node.value), node.attr)
        if isinstance(node, ast.Await):
            return self._value(node.value)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Subscript):
            self._visit(node.slice)
            return self._any_of(self._value(node.value))
        for child in ast.iter_child_nodes(node):
            self._visit(child)
        return UNKNOWN

    def _named(self, name: str) -> Any:
        if name in self.known:
            return self.known[name]
        value = self.code.function.__globals__.get(name, UNKNOWN)
        self._use(value)
        return value

    def _call(self, node: ast.Call) -> Any:
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            self._visit(each)
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            return self._above()
        called = self._value(node.func)
        if isinstance(called, MethodType) and called.__self__ is self.reach.homeserver:
            return _got(called)
        if isinstance(called, type) and called.__module__.startswith(PACKAGE):
            instance = Instance(called)
            self._attribute(instance, "__init__")
            return instance
        return UNKNOWN

    def _above(self) -> Any:
        """What `super()` is: the owner, seen from the class after the one that has this function."""
        owner = self.code.owner
        if owner is UNKNOWN or isinstance(owner, Instance):
            return UNKNOWN
        code = self.code.function.__code__
        for each in (owner if isinstance(owner, type) else type(owner)).__mro__:
            if any(getattr(_bare(value), "__code__", None) is code for value in vars(each).values()):
                return super(each, owner)
        return UNKNOWN

    def _any_of(self, value: Any) -> Any:
        """One of a collection: any of its functions may be meant."""
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            self._use(each)
        return UNKNOWN

    def _attribute(self, owner: Any, name: str) -> Any:
        if owner is UNKNOWN:
            if name in self.reach.names:
                self.seen.lacks.add(name)
            return UNKNOWN
        if isinstance(owner, Instance):
            self._use(getattr(owner.of, name, UNKNOWN), owner)
            return UNKNOWN
        if isinstance(owner, dict) and name in ("get", "values", "items"):
            return self._any_of(owner)
        getter = inspect.getattr_static(type(owner), name, None)
        if isinstance(getter, property):
            self._use(getter.fget, owner)
        try:
            value = getattr(owner, name)
        except Exception as error:  # a property may fail in a process that was not started
            if isinstance(error, AttributeError) and type(owner).__module__.startswith(PACKAGE):
                self.seen.lacks.add(name if owner is self.reach.store else f"{type(owner).__name__}.{name}")
            return UNKNOWN
        self._use(value, owner)
        return value

    def _use(self, value: Any, owner: Any = UNKNOWN) -> None:
        code = code_of(value, owner) if callable(value) else None
        if code is not None:
            self.seen.calls[code.key] = code


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return UNKNOWN


def _got(getter: MethodType) -> Any:
    """What a getter of the homeserver gives."""
    name = getter.__func__.__name__
    if not name.startswith("get_") or name.endswith("thread_pool"):
        return UNKNOWN  # a pool would be started, and its threads keep the process
    try:
        return getter()
    except Exception:  # some need arguments, some a configuration
        return UNKNOWN


def _bare(value: Any) -> Any:
    return inspect.unwrap(value) if callable(value) else value
