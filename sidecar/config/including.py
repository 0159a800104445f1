"""`include:` of `sidecar.yaml`: the files that it names, read and put together as one document.

Sections are put together key by key. Two files that give the same key a value are a fault, because either of them
could be meant; only lists in `JOINED` follow one another. Opens files; knows no other key than these.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from glob import escape, has_magic, iglob
from itertools import islice
from typing import Any

from attrs import define, evolve, field

from sidecar.config.variables import with_variables
from sidecar.document import MOST_BYTES, Document, KeyPath, dotted, read_document
from sidecar.errors import Problem

MOST_FILES = 200
"""Most files that one configuration can have."""
DEEPEST = 8
"""How many files deep an included file may be."""
JOINED = ("include", "routes")
"""Lists that several files can have: those of the file that includes come first."""

_NO_MAPPING = "must be a mapping with keys of sidecar.yaml, such as `routes:`"


def read_with_includes(path: str, environment: Mapping[str, str]) -> Document:
    """A configuration file with all that it includes.

    Where a file cannot be read or found, the document is not usable and has no value: whatever else were said would
    only follow from that.
    """
    main = with_variables(read_document(path), environment)
    reading = _Reading(environment)
    reading.follow(main, (os.path.realpath(path),))
    problems = tuple(problem for document in reading.documents for problem in document.problems)
    if (
        reading.problems
        or reading.unnamed
        or any(document.value is None and not document.usable for document in reading.documents)
    ):
        return Document(main.file, problems=(*problems, *reading.problems))
    return put_together(tuple(reading.documents))


@define
class _Reading:
    """Reads one file after the other: each before what it includes, and that in the order in which it is named."""

    environment: Mapping[str, str]
    documents: list[Document] = field(factory=list)
    problems: list[Problem] = field(factory=list)
    _known: dict[str, str] = field(factory=dict)
    """Where each file was included, by its real path."""
    unnamed: bool = False
    """Whether the name of a file lacks a variable, which is reported in its document."""
    _size: int = 0
    _full: bool = False

    def follow(self, document: Document, above: tuple[str, ...]) -> None:
        self.documents.append(document)
        self._size += len(document.content)
        wrong = {problem.key for problem in document.problems}
        for path, text in _named(document):
            if dotted(path) in wrong:
                self.unnamed = True
                continue
            for file in self._files(document, path, text):
                if not self._full:
                    self._include(document, path, file, above)

    def _include(self, document: Document, path: KeyPath, file: str, above: tuple[str, ...]) -> None:
        real = os.path.realpath(file)
        message = self._hindrance(file, real, above)
        if message:
            self.problems.append(document.problem(path, message))
            self._full = len(self.documents) >= MOST_FILES or self._size > MOST_BYTES
            return
        place = document.problem(path, "")
        self._known[real] = f"{place.file}:{place.line}"
        self.follow(with_variables(read_document(file), self.environment), (*above, real))

    def _hindrance(self, file: str, real: str, above: tuple[str, ...]) -> str:
        if real == above[-1]:
            return f"{file} is this file itself; keep the included files in a directory of their own: `conf.d/*.yaml`"
        if real in above:
            return f"{file} includes this file, directly or through others; remove one of the two"
        if real in self._known:
            return f"{file} is included in {self._known[real]} already; remove one of the two"
        if len(above) > DEEPEST:
            return f"files are included {DEEPEST} deep already; include {file} further up"
        if len(self.documents) >= MOST_FILES:
            return f"there are more than {MOST_FILES} files; put some of them together"
        if self._size > MOST_BYTES:
            return f"the files together are larger than {MOST_BYTES // 1024 // 1024} MiB; are they the right ones?"
        if os.path.isdir(file):
            return f"{file} is a directory; write `{os.path.basename(file)}/*.yaml` for the files in it"
        if not os.path.lexists(file):
            return f"{file} does not exist; give the path of an existing file, or a pattern such as `conf.d/*.yaml`"
        return ""

    def _files(self, document: Document, path: KeyPath, text: str) -> Iterator[str]:
        directory = os.path.dirname(document.file)
        if not has_magic(text):
            yield os.path.normpath(os.path.join(directory, text))
            return
        pattern = os.path.normpath(os.path.join(escape(directory), text))
        parent = os.path.join(directory, os.path.dirname(text))
        if not has_magic(os.path.dirname(text)) and not os.path.isdir(parent):
            message = f"the directory {os.path.normpath(parent)} does not exist; create it, or remove the pattern"
            self.problems.append(document.problem(path, message))
            return
        yield from sorted(islice(iglob(pattern), MOST_FILES + 1))


def _named(document: Document) -> Iterator[tuple[KeyPath, str]]:
    """The files and patterns of `include`; what is no text is reported with the rest of the file."""
    named = document.value.get("include") if isinstance(document.value, dict) else None
    if isinstance(named, list):
        yield from ((("include", index), each) for index, each in enumerate(named) if isinstance(each, str) and each)
    elif isinstance(named, str) and named:
        yield ("include",), named


@define
class _Joining:
    """What is put together so far, and which part of it comes from which file."""

    first: Document
    taken: dict[KeyPath, tuple[Document, KeyPath]] = field(factory=dict)
    problems: list[Problem] = field(factory=list)

    def joined(self, known: Any, value: Any, path: KeyPath, document: Document) -> Any:
        """`known` with `value`, which `document` gives the same key. Keys without a value count as absent."""
        if value is None:
            return known
        if known is None:
            self.taken[path] = document, path
            return value
        if isinstance(known, dict) and isinstance(value, dict):
            return known | {key: self._entry(known, key, each, path, document) for key, each in value.items()}
        if len(path) == 1 and path[0] in JOINED:
            return self._followed(known, value, path, document)
        self._report_twice(path, document)
        return known

    def _entry(self, known: Any, key: Hashable, value: Any, path: KeyPath, document: Document) -> Any:
        if key in known:
            return self.joined(known[key], value, (*path, key), document)
        self.taken[(*path, key)] = document, (*path, key)
        return value

    def _followed(self, known: Any, value: Any, path: KeyPath, document: Document) -> Any:
        """One list behind the other. What is no list in the first file is reported with the rest of that."""
        if isinstance(value, dict):
            self.problems.append(document.problem(path, "must be a list, each item beginning with `- `, not a mapping"))
        if isinstance(known, dict) or isinstance(value, dict):
            return known
        known, alone = (known if isinstance(known, list) else [known]), not isinstance(value, list)
        more = [value] if alone else value
        for index, _ in enumerate(more):
            self.taken[(*path, len(known) + index)] = document, path if alone else (*path, index)
        return [*known, *more]

    def _report_twice(self, path: KeyPath, document: Document) -> None:
        other = evolve(self.first, taken=self.taken).problem(path, "")
        message = f"{other.file}:{other.line} sets this too; leave it out here or there"
        self.problems.append(document.problem(path, message))


def _is_other(value: Any) -> bool:
    return value is not None and not isinstance(value, dict)


def put_together(documents: tuple[Document, ...]) -> Document:
    """One document of several; pure. Each key keeps the file, the line and the name that it has there."""
    first = documents[0]
    if len(documents) == 1:
        return first
    joining = _Joining(first, problems=[each.problem((), _NO_MAPPING) for each in documents if _is_other(each.value)])
    value = first.value
    for document in documents[1:]:
        if isinstance(document.value, dict):
            value = joining.joined(value, document.value, (), document)
    problems = tuple(problem for document in documents for problem in document.problems)
    return evolve(first, value=value, taken=joining.taken, parts=documents, problems=(*problems, *joining.problems))
