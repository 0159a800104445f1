"""YAML files as plain values that remember their lines.

Reads YAML 1.1 the way Synapse does (PyYAML's safe loader), within bounds, and tells every fault as a `Problem`;
nothing here raises for bad input. It must not know what any key means.
"""

from __future__ import annotations

import stat
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import define, evolve, field, frozen

from sidecar.errors import Problem, Severity

KeyPath = tuple[Hashable, ...]

MOST_BYTES = 4 * 1024 * 1024
"""Largest file that is read; the generated homeserver.yaml with all its comments has about 0.1 MiB."""
MOST_VALUES = 200_000
"""Most keys and values after aliases are expanded: a «billion laughs» of ten lines would be a billion of them."""
MOST_DEPTH = 64
"""Deepest nesting; real configurations have less than ten levels."""
MOST_BITS = 1024
"""Largest integer. Hexadecimal ones can be so long that Python refuses to print them."""
MOST_LINES_BACK = 20
"""How far above a fault a file is tried to be read, line by line."""
_TOO_DEEP = f"values are nested deeper than {MOST_DEPTH} levels"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp", "binary", "value"))
# What PyYAML's constructors raise on scalars that do not fit the tag in front of them.
_UNFIT = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@frozen
class Document:
    """One YAML file: its value (None where it is empty or unusable), the line of each key and item, its faults."""

    file: str
    value: Any = None
    lines: Mapping[KeyPath, int] = field(factory=dict, repr=False)
    problems: tuple[Problem, ...] = ()
    content: bytes = field(default=b"", eq=False, repr=False)
    """The file as it was read; empty where it could not be."""
    repeated: tuple[KeyPath, ...] = field(default=(), eq=False)
    """Keys that are given more than once."""
    written: Mapping[KeyPath, str] = field(factory=dict, eq=False, repr=False)
    """Values that are not as in the file, and what stands there."""
    taken: Mapping[KeyPath, tuple[Document, KeyPath]] = field(factory=dict, eq=False, repr=False)
    """Which values come out of another file, and which key they have there."""
    parts: tuple[Document, ...] = field(default=(), eq=False, repr=False)
    """The files that this was put together from, in their order, as each was read; none where it is one file."""

    @property
    def files(self) -> tuple[Document, ...]:
        """Everything that was read for this."""
        return self.parts or (self,)

    def origin(self, path: KeyPath) -> tuple[Document, KeyPath]:
        """The file in which the value of a key path stands, and its key path there."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.taken:
                document, inner = self.taken[path[:end]]
                return document, (*inner, *path[end:])
        return self, path

    def line(self, path: KeyPath) -> int:
        """The line of a key path, or of the nearest thing around it; 0 where the file has none of them."""
        document, path = self.origin(path)
        while path and path not in document.lines:
            path = path[:-1]
        return document.lines.get(path, 0)

    def problem(self, path: KeyPath, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """A problem placed at a key path, in the file in which that stands."""
        document, inner = self.origin(path)
        return Problem(document.file, self.line(path), dotted(inner), message, severity)

    @property
    def usable(self) -> bool:
        """Whether the file could be read as YAML at all."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)


def dotted(path: KeyPath) -> str:
    """`("routes", 0, "path")` as people write it: `routes[0].path`."""
    text = ""
    for part in path:
        shown = part if isinstance(part, str) else repr(part)
        text += f"[{part}]" if type(part) is int else f".{shown}"
    return text.removeprefix(".")


def read_document(file: str, repeated: Severity = Severity.ERROR) -> Document:
    """Read a file. `repeated` is how much a key that is given twice matters; the last one counts, as in PyYAML."""
    try:
        content = _read(Path(file))
    except (OSError, ValueError) as error:
        return _unusable(file, 0, _read_error(error))
    return evolve(parse_document(content, file, repeated), content=content)


def before_the_fault(document: Document) -> Document:
    """What the lines above the first fault of an unusable file say: less than is meant, but nothing else.

    An empty document where they say nothing.
    """
    fault = min((problem.line for problem in document.problems if problem.line), default=0)
    lines = document.content.splitlines(keepends=True)
    for end in range(fault - 1, max(0, fault - 1 - MOST_LINES_BACK), -1):
        found = parse_document(b"".join(lines[:end]), document.file, Severity.WARNING)
        if isinstance(found.value, dict):
            return found
    return Document(document.file)


def parse_document(content: bytes, file: str, repeated: Severity = Severity.ERROR) -> Document:
    """Parse the octets of a file; total: any octets give a Document."""
    if len(content) > MOST_BYTES:
        return _unusable(file, 0, f"the file is larger than {MOST_BYTES // 1024 // 1024} MiB; is it the right one?")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _unusable(file, line, "the file is not UTF-8 here; save it as UTF-8")
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        return _unusable(file, *_syntax_error(error, text))
    builder = _Builder(file, repeated)
    try:
        value = None if node is None else builder.build(node, ())
    except _StopError as stop:
        return _unusable(file, stop.line, stop.message, builder.problems)
    return Document(file, value, builder.lines, tuple(builder.problems), content, tuple(builder.repeats))


def plain_value(text: str) -> Any:
    """What YAML makes of a text that stands somewhere without quotes; the text itself where that is no single value."""
    scalars = yaml.constructor.SafeConstructor()
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    try:
        return scalars.construct_object(yaml.ScalarNode(tag, text)) if tag in _PLAIN_TAGS else text
    except _UNFIT:
        return text


def _unusable(file: str, line: int, message: str, others: list[Problem] | None = None) -> Document:
    return Document(file, problems=(*(others or ()), Problem(file, line, "", message)))


def _read(path: Path) -> bytes:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("it is not a regular file")
    with path.open("rb") as stream:
        return stream.read(MOST_BYTES + 1)


def _read_error(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist; give the path of an existing one"
    if isinstance(error, IsADirectoryError):
        return "this is a directory; give the path of a file"
    if isinstance(error, PermissionError):
        return "no permission to read the file; let the user of the sidecar read it (group and mode 0640)"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"the file cannot be read: {reason}"


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the composer, which is recursive, sees it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=event.start_mark)  # type: ignore[arg-type]


_PLAINLY = {
    "found undefined": "`*` or `!` begins a value; put it in quotes",
    "found character that cannot start any token": "a value begins with a character that YAML keeps for itself; put it "
    "in quotes",
    "did not find expected key": "the indentation does not fit the lines above, or a `:` is missing",
    "expected <block end>": "the indentation does not fit the lines above, or a `:` is missing",
    "did not find expected node content": "a `[` or `{` is not closed, or a value is missing",
    "did not find expected '-' indicator": "the indentation does not fit the list above, or a `- ` is missing",
    "mapping values are not allowed": "there is a `: ` where no key is expected; look at the indentation, or put the "
    "value in quotes",
    "could not find expected ':'": "a `:` is missing behind a key, or a quote at the end of a value",
    "did not find expected ',' or ']'": "a `,` or the `]` of a list is missing",
    "expected ',' or ']'": "a `,` or the `]` of a list is missing",
    "did not find expected ',' or '}'": "a `,` or the `}` of a mapping is missing",
    "expected ',' or '}'": "a `,` or the `}` of a mapping is missing",
    "found unexpected end of stream": "a quote at the end of a value is missing",
}
"""What PyYAML says, by its beginning, and what an administrator understands."""


def _syntax_error(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Line and sentence. What PyYAML quotes is left out: an unquoted password that begins with `*` would be told."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problem = (error.problem or error.context or "a fault").partition(" alias")[0].partition(" tag handle")[0]
        problem = next((plain for found, plain in _PLAINLY.items() if problem.startswith(found)), problem)
        if any(each.lstrip(" ").startswith("\t") for each in text.split("\n")[max(0, line - 2) : line]):
            problem = "a tab indents this line or the one above; write spaces"
        return line, f"this is no valid YAML: {problem}"
    return 0, "this is no valid YAML: it contains a control character"


@frozen
class _StopError(Exception):
    line: int
    message: str


@define
class _Builder:
    """Turns composed nodes into values. Counts what it makes, because aliases can multiply it."""

    file: str
    repeated: Severity
    lines: dict[KeyPath, int] = field(factory=dict)
    problems: list[Problem] = field(factory=list)
    repeats: list[KeyPath] = field(factory=list)
    _made: int = 0
    _open: set[int] = field(factory=set)
    _scalars: yaml.constructor.SafeConstructor = field(factory=yaml.constructor.SafeConstructor)

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._enter(node, _line(node))
        build = self._mapping if isinstance(node, yaml.MappingNode) else self._sequence
        value = build(node, path)
        self._open.discard(id(node))
        return value

    def _enter(self, node: yaml.Node, line: int) -> None:
        if id(node) in self._open:
            raise _StopError(line, "this value contains itself; an alias may not name a value around it")
        if len(self._open) >= MOST_DEPTH:
            raise _StopError(line, _TOO_DEEP)
        self._open.add(id(node))

    def _count(self, node: yaml.Node) -> None:
        self._made += 1
        if self._made > MOST_VALUES:
            raise _StopError(_line(node), f"the file has more than {MOST_VALUES} values when its aliases are expanded")

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag not in _PLAIN_TAGS:
            raise _StopError(
                _line(node), "this value begins with a YAML tag (`!`) that is not supported; put it in quotes"
            )
        try:
            value = self._scalars.construct_object(node)
            if isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise ValueError
            return value
        except _UNFIT:
            kind = node.tag.removeprefix(_TAG)
            message = f"YAML takes this value for `{kind}`, but it is none; put it in quotes"
            raise _StopError(_line(node), message) from None

    def _sequence(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        if node.tag != _TAG + "seq":
            raise _StopError(_line(node), "this list has a YAML tag (`!`) that is not supported; leave the tag out")
        values = []
        for index, item in enumerate(node.value):
            self.lines[(*path, index)] = _line(item)
            values.append(self.build(item, (*path, index)))
        return values

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[Any, Any]:
        if node.tag != _TAG + "map":
            raise _StopError(_line(node), "this mapping has a YAML tag (`!`) that is not supported; leave the tag out")
        self.lines.setdefault(path, _line(node))
        merged, own = self._pairs(node)
        values: dict[Any, Any] = {}
        for key_node, value_node in merged:
            self._entry(values, self._key(key_node), key_node, value_node, path)
        seen: dict[Hashable, int] = {}
        for key_node, value_node in own:
            key = self._key(key_node)
            if key in seen:
                self._report_repeated((*path, key), seen[key], _line(key_node))
            seen[key] = _line(key_node)
            self._entry(values, key, key_node, value_node, path)
        return values

    def _entry(
        self, values: dict[Any, Any], key: Hashable, key_node: yaml.Node, node: yaml.Node, path: KeyPath
    ) -> None:
        self.lines[(*path, key)] = _line(key_node)
        values[key] = self.build(node, (*path, key))

    def _key(self, node: yaml.Node) -> Hashable:
        if not isinstance(node, yaml.ScalarNode):
            raise _StopError(_line(node), "a list or mapping cannot be a key; write a word, or put it in quotes")
        key: Hashable = self._scalar(node)
        return key

    def _report_repeated(self, path: KeyPath, first: int, second: int) -> None:
        message = f"the key was given before in line {first}; the last one counts; remove one of them"
        self.problems.append(Problem(self.file, second, dotted(path), message, self.repeated))
        self.repeats.append(path)

    def _pairs(self, node: yaml.Node) -> tuple[list[Any], list[Any]]:
        """The entries that merge keys (`<<`) bring, in the order of precedence, and the mapping's own."""
        merged: list[Any] = []
        own: list[Any] = []
        merges = 0
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merges += 1
                if merges > 1:
                    # PyYAML before 6.0.4 lets the last of them win, later ones the first.
                    raise _StopError(_line(key), "`<<` was given before; write one with a list: `<<: [*one, *other]`")
                merged.extend(self._merged(value, _line(key)))
            else:
                own.append((key, value))
        return merged, own

    def _merged(self, node: yaml.Node, line: int) -> Iterator[Any]:
        sources = reversed(node.value) if isinstance(node, yaml.SequenceNode) else (node,)
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise _StopError(line, "`<<` takes a mapping or a list of mappings")
            self._count(source)
            self._enter(source, line)
            merged, own = self._pairs(source)
            self._open.discard(id(source))
            for pair in (*merged, *own):
                self._count(pair[0])
                yield pair


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
