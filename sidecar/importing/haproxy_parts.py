"""The frontends and backends of HAProxy with their rules, and the host names of which these speak."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from attrs import define, field, frozen

from sidecar.importing.asked import Position
from sidecar.importing.haproxy_conditions import Condition, ValueTest
from sidecar.importing.haproxy_samples import Sample
from sidecar.importing.haproxy_words import Line

HOSTS = frozenset(("hdr", "req.hdr", "req.fhdr", "fhdr"))
_SNI = ("ssl_fc_sni", "req.ssl_sni")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+(?::\d+)?")


@frozen(eq=False)
class ConditionalLine:
    """A line with its condition."""

    line: Line
    condition: Condition
    args: tuple[str, ...]
    """Without the condition."""

    @property
    def kind(self) -> str:
        return self.line.keyword


@frozen(eq=False)
class Sticking:
    """`stick on` or `balance`: what is looked at."""

    sample: Sample | None
    condition: Condition
    text: str


@define(eq=False)
class Part:
    """A frontend, a backend, or a `listen` section, which is both."""

    name: str
    place: Position
    requests: tuple[ConditionalLine, ...]
    redirects: tuple[ConditionalLine, ...]
    backends: tuple[ConditionalLine, ...]
    default: Line | None
    sticking: tuple[Sticking, ...]
    ports: Mapping[int, bool] = field(factory=dict)
    """Where it listens, and whether with TLS."""
    is_http: bool = True


def hosts_of(front: Part) -> list[str]:
    """The host names that the conditions of a frontend speak of, one below each domain among them."""
    names: dict[str, None] = {}
    for rule in (*front.requests, *front.redirects, *front.backends):
        for test in rule.condition.tests():
            if names_host(test):
                names.update(dict.fromkeys(_names(test)))
    return [name for name in names if _NAME.fullmatch(name)]


def names_host(test: ValueTest) -> bool:
    """Whether a comparison is about the name that was asked for."""
    found = test.sample
    if found is None:
        return False
    return found.fetch in _SNI or (found.fetch in HOSTS and found.args[:1] == ("host",)) or found.fetch == "var"


def _names(test: ValueTest) -> Iterator[str]:
    """Names that fit a comparison."""
    for pattern in map(str.lower, test.patterns):
        if test.method in ("str", "dom", "sub"):
            yield pattern.strip(".") if test.method != "str" else pattern
        elif test.method == "end" and "." in pattern:
            yield pattern.lstrip(".") if not pattern.startswith(".") else f"any{pattern}"
        elif test.method == "beg":
            yield pattern if not pattern.endswith(".") else f"{pattern}example.org"
        elif test.method == "reg":
            yield pattern.strip("^$").replace("\\.", ".").replace(".*", "any").replace(".+", "any")
