"""Variables of the environment in the values of `sidecar.yaml`: `${NAME}`, and `${NAME:-default}`.

Pure: the environment is given. What a variable holds is never repeated, because it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from sidecar.document import MOST_BYTES, Document, KeyPath
from sidecar.errors import Problem

_MARK = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{", re.ASCII)
"""A literal `${`, a variable, or what was to be one."""
_MALFORMED = "`${` begins a variable: write `${NAME}` or `${NAME:-default}`, or `$${` for the two characters themselves"


@frozen
class _UnsetError(Exception):
    message: str


def with_variables(document: Document, environment: Mapping[str, str]) -> Document:
    """The document with the values of the variables that it names; its problems say which are missing."""
    filling = _Filling(document, environment)
    value = filling.filled(document.value, ())
    problems = (*(_hinted(document, problem) for problem in document.problems), *filling.problems)
    return evolve(document, value=value, written=filling.written, problems=problems)


def _hinted(document: Document, problem: Problem) -> Problem:
    """`{port: ${PORT}}` is no YAML."""
    lines = document.content.splitlines()[max(0, problem.line - 2) : problem.line]
    if document.usable or not any(b"${" in line for line in lines):
        return problem
    return evolve(problem, message=f'{problem.message}; inside `{{…}}` and `[…]` write "${{NAME}}" in quotes')


@define
class _Filling:
    document: Document
    environment: Mapping[str, str]
    written: dict[KeyPath, str] = field(factory=dict)
    problems: list[Problem] = field(factory=list)
    _made: int = 0

    def filled(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: self.filled(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self.filled(each, (*path, index)) for index, each in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            text = "".join(self._pieces(value))
        except _UnsetError as error:
            self.problems.append(self.document.problem(path, error.message))
            return value
        if text != value.replace("$${", "${"):
            self.written[path] = value
        return text or None

    def _pieces(self, text: str) -> Iterator[str]:
        end = 0
        for mark in _MARK.finditer(text):
            yield text[end : mark.start()]
            piece = self._value_of(mark)
            self._made += len(piece)
            if self._made > MOST_BYTES:
                raise _UnsetError("the variables of this file together hold more than 4 MiB; name a shorter one")
            yield piece
            end = mark.end()
        yield text[end:]

    def _value_of(self, mark: re.Match[str]) -> str:
        if mark[0] == "$${":
            return "${"
        name, default = mark[1], mark[2]
        if name is None:
            raise _UnsetError(_MALFORMED)
        value = self.environment.get(name) or default
        if value is None:
            how = "is empty" if name in self.environment else "is not set"
            raise _UnsetError(
                f"the environment variable `{name}` {how}; set it where this program starts, or write "
                f"`${{{name}:-default}}`"
            )
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise _UnsetError(f"the environment variable `{name}` is not UTF-8; set it to text")
        return value
