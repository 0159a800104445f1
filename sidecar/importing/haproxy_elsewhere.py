"""Rules of HAProxy that are not for Synapse's endpoints, as routes of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from sidecar.importing.asked import Asked, Place
from sidecar.importing.conversion import outcome_of
from sidecar.importing.draft import OwnRoute
from sidecar.importing.haproxy_conditions import Comparison, Condition
from sidecar.importing.haproxy_site import HaproxySite, Rule
from sidecar.importing.paths import of_exact, of_expression, of_prefix

Choices = list[dict[str, Any]]
"""Conditions of routes of which any one will do."""

_HOSTS = ("hdr", "req.hdr", "req.fhdr", "fhdr")


def own_routes(site: HaproxySite, foreign: Iterable[str], deciding: Iterable[Place]) -> Iterator[OwnRoute]:
    """The rules that lead to backends of no Synapse, and those that decide no request for one of its endpoints."""
    front = site.parts[site.fronts[0]] if site.fronts else None
    if front is None:
        return
    strangers, busy = set(foreign), set(deciding)
    for rule in (*front.redirects, *front.backends):
        name = rule.args[0] if rule.kind == "use_backend" and rule.args else ""
        if rule.condition.alternatives == ((),) or (name not in strangers and (name or rule.line.place in busy)):
            continue
        yield from _routes(site, rule, name)


def _routes(site: HaproxySite, rule: Rule, upstream: str) -> Iterator[OwnRoute]:
    choices = _choices(rule.condition)
    if choices is None:
        why_not = "its condition has no counterpart in a route of ours; write one by hand"
        yield OwnRoute(place=rule.line.place, why_not=why_not)
        return
    for conditions in choices:
        if upstream:
            yield OwnRoute(place=rule.line.place, conditions=conditions, upstream=upstream)
            continue
        host = str(next(iter(conditions.get("host", ("host.invalid",)))))
        target = str(conditions.get("path", "/nobodys")).removesuffix("**")
        outcome = outcome_of(site.verdict(Asked(method="GET", target=target, fields={"host": host})), host, target)
        if outcome:
            yield OwnRoute(place=rule.line.place, conditions=conditions, outcome=outcome)


def _choices(condition: Condition) -> Choices | None:
    """What a condition asks for as conditions of routes; None where a part of it has no counterpart."""
    if condition.unless:
        return None
    found: Choices = []
    for terms in condition.alternatives:
        parts = [_of_term(wanted, tests) for wanted, tests in terms]
        if any(part is None for part in parts):
            return None
        for combination in product(*(part for part in parts if part is not None)):
            merged: dict[str, Any] = {}
            for each in combination:
                merged |= each
            found.append(merged)
    return found or None


def _of_term(wanted: bool, tests: Sequence[Comparison]) -> Choices | None:
    found: Choices = []
    for each in tests:
        choices = _of_test(each) if wanted else None
        if choices is None:
            return None
        # An expression under /_matrix/client is the endpoint table's affair.
        found += [choice for choice in choices if choice]
    return found or None


def _of_test(test: Comparison) -> Choices | None:
    sample = test.sample
    if sample is None or sample.converters:
        return None
    if sample.fetch in _HOSTS and sample.args == ("host",):
        return _of_hosts(test)
    if sample.fetch == "path":
        return [
            {"path": path}
            for pattern in test.patterns
            for path in _PATHS.get(test.method, lambda _text: None)(pattern) or ()
        ]
    if sample.fetch == "method":
        return [{"method": list(test.patterns)}]
    if sample.fetch == "src" and test.method == "ip":
        return [{"source": list(test.patterns)}]
    return None


def _of_hosts(test: Comparison) -> Choices | None:
    if test.method == "dom":
        return [{"host": [name for pattern in test.patterns for name in (pattern, f"*.{pattern}")]}]
    return [{"host": list(test.patterns)}] if test.method == "str" else None


_PATHS: Mapping[str, Any] = {
    "str": of_exact,
    "beg": of_prefix,
    "dir": of_prefix,
    "reg": of_expression,
}


def hosts_of(site: HaproxySite) -> list[str]:
    """The host names that conditions of the first frontend speak of."""
    front = site.parts[site.fronts[0]] if site.fronts else None
    names: dict[str, None] = {}
    for rule in (*front.backends, *front.redirects, *front.requests) if front is not None else ():
        for terms in rule.condition.alternatives:
            for _, tests in terms:
                for test in tests:
                    if test.sample is not None and test.sample.fetch in _HOSTS and test.sample.args == ("host",):
                        names.update(dict.fromkeys(test.patterns))
    return [name for name in names if "." in name and not name.startswith(".")]
