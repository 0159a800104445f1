"""HAProxy's conditions: named ACLs and nameless ones, `!`, `||`, and how values are compared.

After "7. Using ACLs and fetching samples" of HAProxy's configuration manual.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from attrs import frozen

from sidecar.importing.expressions import compiled
from sidecar.importing.haproxy_samples import Patterns, Sample, Sight, sample
from sidecar.importing.haproxy_words import Line
from sidecar.routing.access import is_within

_ADDRESSES = frozenset(("src",))
_NUMBERS = frozenset(("dst_port", "nbsrv", "hdr_cnt", "req.hdr_cnt", "req.fhdr_cnt", "length"))
_FLAGS = frozenset(("ssl_fc", "always_true", "always_false", "bool", "not"))
_OPERATORS = frozenset(("eq", "ge", "gt", "le", "lt"))


@frozen(eq=False)
class ValueTest:
    """One comparison: whether any value of a sample fits any of the patterns."""

    sample: Sample | None
    method: str
    ignore_case: bool
    patterns: tuple[str, ...]
    compiled: tuple[re.Pattern[str] | None, ...]
    text: str
    unread: str = ""
    """The file of patterns that could not be read."""

    def holds(self, sight: Sight) -> bool:
        if self.sample is None or self.unread:
            sight.doubts.append(f"import cannot read `{self.unread or self.text}`")
            return False
        values = sight.values(self.sample)
        if self.method == "found":
            return bool(values)
        if self.method == "bool":
            return any(value not in ("", "0") for value in values)
        return any(self._fits(value) for value in values)

    def _fits(self, value: str) -> bool:
        if self.method == "reg":
            return any(pattern is not None and pattern.search(value) for pattern in self.compiled)
        if self.method == "ip":
            return any(_inside(value, pattern) for pattern in self.patterns)
        if self.method in ("int", "len"):
            number = value if self.method == "int" else str(len(value))
            return any(_in_range(number, pattern) for pattern in _ranges(self.patterns))
        fits = _COMPARISONS.get(self.method, _equal)
        if self.ignore_case:
            return any(fits(value.lower(), pattern.lower()) for pattern in self.patterns)
        return any(fits(value, pattern) for pattern in self.patterns)


def _equal(value: str, pattern: str) -> bool:
    return value == pattern


def _in_parts(signs: str) -> Callable[[str, str], bool]:
    """Whether a pattern is one part, or several, of a value that these signs divide (`match_word`)."""

    def fits(value: str, pattern: str) -> bool:
        pattern = pattern.strip(signs)
        edge = f"[{re.escape(signs)}]"
        return bool(re.search(f"(?:^|{edge}){re.escape(pattern)}(?:$|{edge})", value)) if pattern else False

    return fits


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "str": _equal,
    "beg": str.startswith,
    "end": str.endswith,
    "sub": str.__contains__,
    "dir": _in_parts("/?"),
    "dom": _in_parts("/?.:"),
}


def _inside(value: str, network: str) -> bool:
    try:
        return is_within(value, (ip_network(network, strict=False),))
    except ValueError:
        return False


def _ranges(patterns: Sequence[str]) -> Sequence[str]:
    if patterns and patterns[0] in _OPERATORS:
        return [f"{patterns[0]} {number}" for number in patterns[1:]]
    return patterns


def _in_range(value: str, pattern: str) -> bool:
    """`5`, `5:9`, `5:`, or `ge 5`."""
    operator, _, number = pattern.rpartition(" ")
    try:
        if operator:
            left, right = int(value), int(number)
            return {"eq": left == right, "ge": left >= right, "gt": left > right, "le": left <= right}.get(
                operator, left < right
            )
        low, colon, high = pattern.partition(":")
        return int(low or 0) <= int(value) <= (int(high) if high else 2**63 if colon else int(low))
    except ValueError:
        return False


def comparison(words: Sequence[str], patterns: Patterns) -> ValueTest:
    """What an ACL line, without its name, or a nameless ACL says."""
    found = sample(words[0]) if words else None
    method, ignore_case, unread, is_map = "", False, "", False
    values: list[str] = []
    rest = list(words[1:])
    while rest and rest[0].startswith("-") and rest[0] != "--":
        flag = rest.pop(0)
        if flag == "-i":
            ignore_case = True
        elif flag == "-m" and rest:
            method = rest.pop(0)
        elif flag == "-M":
            is_map = True
        elif flag == "-f" and rest:
            name = rest.pop(0)
            lines = patterns(name)
            values += [line.split(None, 1)[0] if is_map else line for line in lines or () if line.strip()]
            unread = name if lines is None else unread
        elif flag == "-u" and rest:
            rest.pop(0)
    values += rest[1:] if rest[:1] == ["--"] else rest
    method = method or (found.method if found else "") or _usual(found, values)
    return ValueTest(
        found,
        method,
        ignore_case,
        tuple(values),
        tuple(compiled(value, ignore_case=ignore_case) for value in values) if method == "reg" else (),
        " ".join(words),
        unread,
    )


def _usual(found: Sample | None, values: Sequence[str]) -> str:
    """How values are compared where the rule does not say it: by what the last step of the sample makes."""
    fetch = (found.converters[-1][0] if found.converters else found.fetch) if found else ""
    if fetch in _ADDRESSES:
        return "ip"
    if fetch in _NUMBERS or fetch.endswith("_int"):
        return "int"
    return "bool" if fetch in _FLAGS or not values else "str"


@frozen(eq=False)
class Condition:
    """What follows `if` or `unless`: alternatives of terms, each negated or not, and tests of which one must hold."""

    alternatives: tuple[tuple[tuple[bool, tuple[ValueTest, ...]], ...], ...]
    unless: bool = False

    def holds(self, sight: Sight) -> bool:
        found = any(
            all(any(each.holds(sight) for each in tests) is wanted for wanted, tests in terms)
            for terms in self.alternatives
        )
        return found is not self.unless

    def tests(self) -> Iterator[ValueTest]:
        """Everything that it compares."""
        for terms in self.alternatives:
            for _, tests in terms:
                yield from tests


ALWAYS = Condition(((),))


def condition(words: Sequence[str], acls: Mapping[str, Sequence[ValueTest]], patterns: Patterns) -> Condition:
    """The condition of a rule whose words, from `if` or `unless` on, are given; none is always."""
    at = next((number for number, word in enumerate(words) if word in ("if", "unless")), None)
    if at is None:
        return ALWAYS
    alternatives: list[tuple[tuple[bool, tuple[ValueTest, ...]], ...]] = []
    terms: list[tuple[bool, tuple[ValueTest, ...]]] = []
    rest, wanted = list(words[at + 1 :]), True
    while rest:
        word = rest.pop(0)
        if word in ("||", "or"):
            alternatives.append(tuple(terms))
            terms = []
        elif word == "!":
            wanted = not wanted
        else:
            if word.startswith("!"):
                word, wanted = word[1:], not wanted
            if word == "{":
                end = rest.index("}") if "}" in rest else len(rest)
                tests: Sequence[ValueTest] = (comparison(rest[:end], patterns),)
                del rest[: end + 1]
            else:
                tests = acls.get(word) or (_predefined(word, patterns),)
            terms.append((wanted, tuple(tests)))
            wanted = True
    return Condition((*alternatives, tuple(terms)), unless=words[at] == "unless")


_PREDEFINED = {
    "TRUE": ("always_true",),
    "FALSE": ("always_false",),
    "HTTP": ("always_true",),
    "LOCALHOST": ("src", "127.0.0.1/8", "::1"),
    "METH_GET": ("method", "GET", "HEAD"),
    **{
        f"METH_{method}": ("method", method)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "CONNECT", "TRACE")
    },
}


def _predefined(name: str, patterns: Patterns) -> ValueTest:
    return comparison(_PREDEFINED.get(name, (name, "unknown")), patterns)


def acls_of(lines: Sequence[Line], patterns: Patterns) -> dict[str, list[ValueTest]]:
    """The ACLs of a section; those of one name are alternatives."""
    found: dict[str, list[ValueTest]] = {}
    for line in lines:
        if line.keyword == "acl" and len(line.args) > 1:
            found.setdefault(line.args[0], []).append(comparison(line.args[1:], patterns))
    return found
