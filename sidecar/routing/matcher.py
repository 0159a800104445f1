"""Paths to whatever was filed under them: a deterministic automaton over raw path segments.

Endpoint rows and the operator's routes go into one automaton, so that a request is walked once however many there are.
A pattern is a sequence of segments in the notation of `sidecar.synapse.endpoint_rows.Endpoint.path`. Segments are
compared as octets, as received; nothing is decoded and no pattern ever runs over what a user wrote. Knows nothing of
methods, pools or workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Generic, TypeVar

from attrs import Factory, define

T = TypeVar("T")
P = TypeVar("P")


class Node(dict[bytes, "Node[P]"], Generic[P]):
    """A state: the next one for each known segment, `other` for any other segment that is not empty.

    It always has an entry for the empty segment, so that it is never false, and a walk is
    `node = node.get(segment) or node.other`. `payload` is what was made of the values filed under the paths that
    end here.
    """

    __slots__ = ("other", "payload")
    other: Node[P]
    payload: P


@define(eq=False)
class _Branch(Generic[T]):
    """A state of the tree of patterns before it is made deterministic."""

    literals: dict[bytes, _Branch[T]] = Factory(dict)
    filled: _Branch[T] | None = None
    any: _Branch[T] | None = None
    rest: _Branch[T] | None = None
    """Its successor for any segment is itself."""
    ends: list[T] = Factory(list)

    def after(self, segment: bytes) -> Iterator[_Branch[T]]:
        """The successors, the most literal one first."""
        literal = self.literals.get(segment)
        choices = (literal, self.filled if segment else None, self.any, self.rest)
        yield from (choice for choice in choices if choice is not None)


_Branches = tuple[_Branch[T], ...]


@define(eq=False)
class Patterns(Generic[T]):
    """Collects patterns and compiles them."""

    root: _Branch[T] = Factory(_Branch)

    @property
    def depth(self) -> int:
        """How many segments the longest pattern has."""
        return _depth(self.root)

    def add(self, path: Sequence[str], value: T) -> None:
        """File `value` under a pattern; alternatives are unfolded. Values under one pattern keep their order."""
        for segments in concrete_paths(path):
            branch = self.root
            for segment in segments:
                branch = _descend(branch, segment)
            branch.ends.append(value)

    def compile(self, finish: Callable[[tuple[T, ...]], P]) -> Node[P]:
        """The state before the first segment, which is the empty one in front of the first slash.

        `finish` makes the payload of a state from the values filed there, the more literal ones first. A path may be
        divided at its first `depth + 1` slashes only: beyond that every state is one of `**`.
        """
        states: dict[_Branches[T], Node[P]] = {}
        start: _Branches[T] = (_Branch(literals={b"": self.root}),)
        waiting = [start]
        states[start] = _node(start, finish)
        while waiting:
            branches = waiting.pop()
            for segment, following in _transitions(branches):
                if following not in states:
                    states[following] = _node(following, finish)
                    waiting.append(following)
                if segment == _UNKNOWN:
                    states[branches].other = states[following]
                else:
                    states[branches][segment] = states[following]
        return states[start]


def _depth(branch: _Branch[T]) -> int:
    following = (*branch.literals.values(), branch.filled, branch.any)
    depths = [1 + _depth(each) for each in following if each is not None]
    return max(depths, default=0 if branch.rest is None else 1)


def alternatives(segment: str) -> list[str]:
    """`{r0|v3}` as its literals; any other segment as itself."""
    return segment[1:-1].split("|") if segment.startswith("{") and "|" in segment else [segment]


FILLED = "~"
"""Stands for any parameter of a path; no endpoint has it for a literal."""


def concrete_paths(path: Sequence[str]) -> list[tuple[str, ...]]:
    """A divided path with each of its alternatives; parameters stay."""
    return list(product(*(alternatives(segment) for segment in path)))


def target_of(path: Sequence[str]) -> bytes:
    """A request-target for a divided path without alternatives."""
    return "/".join(("", *(FILLED if part == "**" or part.startswith("{") else part for part in path))).encode()


def _descend(branch: _Branch[T], segment: str) -> _Branch[T]:
    if segment == "**":
        branch.rest = branch.rest or _Branch()
        branch.rest.rest = branch.rest
        return branch.rest
    if segment.startswith("{") and segment.endswith("+}"):
        branch.filled = branch.filled or _Branch()
        return branch.filled
    if segment.startswith("{") and segment.endswith("}"):
        branch.any = branch.any or _Branch()
        return branch.any
    return branch.literals.setdefault(segment.encode(), _Branch())


def _node(branches: _Branches[T], finish: Callable[[tuple[T, ...]], P]) -> Node[P]:
    node: Node[P] = Node()
    node.payload = finish(tuple(value for branch in branches for value in branch.ends))
    return node


_UNKNOWN = b"\0"
"""A segment that no pattern spells out: the wire layer refuses control octets in a request-target."""


def _transitions(branches: _Branches[T]) -> Iterator[tuple[bytes, _Branches[T]]]:
    """The next states, by segment; the order of branches is kept, so that the leftmost difference counts."""
    known = {segment for branch in branches for segment in branch.literals}
    for segment in (*sorted(known), b"", _UNKNOWN):
        yield segment, tuple(dict.fromkeys(after for branch in branches for after in branch.after(segment)))
