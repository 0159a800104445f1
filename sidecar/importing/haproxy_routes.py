"""The rules of HAProxy, in its order, as routes of ours: what each asks for, and where it leads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, product
from typing import Any

from attrs import evolve, frozen

from sidecar.importing.asked import OTHER_HOST, Asked, ProxyVerdict
from sidecar.importing.draft import OwnRoute
from sidecar.importing.haproxy_conditions import ALWAYS, Condition, ValueTest
from sidecar.importing.haproxy_parts import ConditionalLine, Part, hosts_of, names_host
from sidecar.importing.haproxy_site import HaproxySite, answered, filled, redirected
from sidecar.importing.outcomes import merged, own_route
from sidecar.importing.paths import of_exact, of_expression, of_prefix, sample_of

Conditions = Mapping[str, Any]
"""Conditions of one route."""

_CONSTANT = frozenset(("ssl_fc", "dst_port", "always_true", "always_false", "nbsrv"))
"""Samples that are the same for every request that comes in at one place."""
ANSWERS = frozenset(("deny", "reject", "silent-drop", "tarpit", "return", "redirect", "use-service", "auth"))
"""What `http-request` says in the place of a worker."""
FILTERS = frozenset(("deny", "reject", "silent-drop", "tarpit", "auth"))
"""Those of them that keep requests away."""
_UNSAID = "the conditions of a route cannot express this one; write a route by hand"
_PLAIN = re.compile(r"/[\w/.~-]*", re.ASCII)
_MOST = 200
"""Routes that one rule may become."""


@frozen(eq=False)
class _FrontendView:
    """A frontend as it is seen from one of its ports."""

    site: HaproxySite
    front: Part
    port: int
    tls: bool
    base: Conditions

    def asked(self, conditions: Conditions) -> Asked:
        """A request that fits."""
        host = str(next(iter(conditions.get("host", ())), OTHER_HOST)).replace("*.", "any.")
        method = str(next(iter(conditions.get("method", ("GET",)))))
        source = str(next(iter(conditions.get("source", ("192.0.2.1",))))).partition("/")[0]
        target = sample_of(conditions.get("path"))
        return Asked(method=method, target=target, fields={"host": host}, source=source, port=self.port, tls=self.tls)


def own_routes(site: HaproxySite) -> Iterator[OwnRoute]:
    """Every rule that sends a request somewhere; those of plain ports first, where there is TLS besides."""
    views = list(_views(site))
    for view in sorted(views, key=lambda each: each.tls):
        yield from (evolve(each, port=view.port or None) for each in _of_front(view))


def _views(site: HaproxySite) -> Iterator[_FrontendView]:
    secured = any(tls for front in site.fronts.values() for tls in front.ports.values())
    for front in site.fronts.values():
        seen: dict[bool, int] = {}
        for port, tls in (front.ports or {0: False}).items():
            seen.setdefault(tls, port)
        for tls, port in seen.items():
            yield _FrontendView(site, front, port, tls, {"scheme": "http"} if secured and not tls else {})


def _of_front(view: _FrontendView) -> Iterator[OwnRoute]:
    front = view.front
    for rule in front.requests:
        if rule.args[:1] and rule.args[0] in ANSWERS:
            yield from _of_rule(view, rule, partial(_answer, view, rule))
    for rule in front.redirects:
        yield from _of_rule(view, rule, partial(_answer, view, rule))
    for rule in front.backends:
        yield from _of_rule(view, rule, partial(_chosen, view, rule))
        if rule.condition == ALWAYS:
            return
    if front.default is not None:
        name = front.default.args[0]
        yield own_route(front.default.place, view.base, _through(view, name, view.asked(view.base)))
    elif view.site.is_own_pool(front):
        yield own_route(front.place, view.base, _through(view, front.name, view.asked(view.base)))
    else:
        yield own_route(front.place, view.base, ProxyVerdict(action="refuse", status=503))


def _answer(view: _FrontendView, rule: ConditionalLine, asked: Asked) -> ProxyVerdict:
    sight = view.site.sight(asked)
    if rule.kind == "redirect":
        return redirected(rule.args, rule, sight)
    verb, *rest = rule.args
    return answered(verb, rest, rule, sight)


def _chosen(view: _FrontendView, rule: ConditionalLine, asked: Asked) -> ProxyVerdict:
    return _through(view, filled(rule.args[0], view.site.sight(asked)), asked)


def _through(view: _FrontendView, name: str, asked: Asked) -> ProxyVerdict:
    """What becomes of a request that is sent to a backend."""
    return view.site.beyond(name, view.site.sight(asked))


def _of_rule(
    view: _FrontendView, rule: ConditionalLine, verdict: Callable[[Asked], ProxyVerdict]
) -> Iterator[OwnRoute]:
    place, is_filter = rule.line.place, rule.kind == "http-request" and rule.args[0] in FILTERS
    choices = list(islice(_choices(rule.condition, view), _MOST + 1))
    if len(choices) > _MOST:
        choices = [None]
    for conditions in choices:
        if conditions is None:
            shown = verdict(view.asked(view.base))
            pool = shown.pool if "%[" not in "".join(rule.args[:1]) else ""
            yield OwnRoute(place=place, upstream=pool, why_not=_UNSAID, is_filter=is_filter)
            continue
        whole = merged(view.base, conditions.wanted)
        if whole is None:
            continue
        for beside in conditions.unwanted:
            excepted = merged(whole, beside)
            if excepted is not None:
                asked = view.asked(excepted)
                yield own_route(place, excepted, view.site.verdict(asked), asked)
        if "%[" in rule.args[0]:
            pool = verdict(view.asked(whole)).pool
            yield OwnRoute(
                place=place, conditions=whole, upstream=pool, why_not="it takes the backend's name from the request"
            )
        else:
            asked = view.asked(whole)
            yield own_route(place, whole, verdict(asked), asked, is_filter=is_filter)


@frozen(eq=False)
class _Choice:
    """Conditions that must hold, and others none of which may."""

    wanted: Conditions
    unwanted: tuple[Conditions, ...] = ()


def _choices(condition: Condition, view: _FrontendView) -> Iterator[_Choice | None]:
    """What a condition asks for, each of which will do; None for what has no counterpart."""
    alternatives = [_terms(terms, view) for terms in condition.alternatives]
    if condition.unless:
        yield from _denied(alternatives)
        return
    for terms in alternatives:
        if terms is None:
            yield None
            continue
        unwanted = [each for wanted, choices in terms if not wanted for each in choices]
        for combination in product(*(choices for wanted, choices in terms if wanted)):
            whole: Conditions | None = {}
            for each in combination:
                whole = merged(whole, each) if whole is not None else None
            if whole is not None:
                yield _Choice(whole, tuple(unwanted))


_Terms = list[tuple[bool, list[Conditions]]]


def _terms(terms: Sequence[tuple[bool, tuple[ValueTest, ...]]], view: _FrontendView) -> _Terms | None:
    """What is left of terms where what is the same for every request here is known; None: it cannot be said.

    A term that never holds has no choices; one that always does is left out.
    """
    found: _Terms = []
    for wanted, tests in terms:
        if all(test.sample is not None and test.sample.fetch in _CONSTANT for test in tests):
            sight = view.site.sight(view.asked({}))
            if any(test.holds(sight) for test in tests) is not wanted:
                return [(True, [])]
            continue
        choices = [_of_test(test, view) for test in tests]
        if any(each is None for each in choices):
            return None
        found.append((wanted, [one for each in choices if each is not None for one in each]))
    return found


def _denied(alternatives: Sequence[_Terms | None]) -> Iterator[_Choice | None]:
    """`unless`: where none of the alternatives holds."""
    unwanted: list[Conditions] = []
    for terms in alternatives:
        if terms == [(True, [])]:
            continue
        if terms == []:
            return
        if terms is None or len(terms) != 1 or not terms[0][0]:
            yield None
            return
        unwanted += terms[0][1]
    yield _Choice({}, tuple(unwanted))


def _of_test(test: ValueTest, view: _FrontendView) -> list[Conditions] | None:
    found = test.sample
    if found is None or test.unread or any(name not in ("lower", "field", "host_only") for name, _ in found.converters):
        return None
    if names_host(test) and (found.fetch != "var" or any("." in each for each in test.patterns)):
        return _of_hosts(test, view)
    if found.converters:
        return None
    if found.fetch == "path":
        return _of_paths(test)
    if found.fetch == "method" and test.method == "str":
        return [{"method": list(test.patterns)}]
    if found.fetch == "src" and test.method == "ip":
        return [{"source": list(test.patterns)}]
    return None


def _of_paths(test: ValueTest) -> list[Conditions] | None:
    make = _PATHS.get(test.method)
    found: list[Conditions] = []
    for pattern in test.patterns if make is not None else ():
        if test.method != "str" and pattern.rstrip("$").removeprefix("^") == "/":
            return [{}]
        paths = make(pattern) if make is not None else None
        if paths is None:
            return None
        found += [{"path": path} for path in paths]
    return found or None


def _of_hosts(test: ValueTest, view: _FrontendView) -> list[Conditions] | None:
    """By name; where a comparison is about parts of names, those that the file speaks of and that fit."""
    if test.method == "dom":
        return [{"host": [name for pattern in test.patterns for name in (_bare(pattern), f"*.{_bare(pattern)}")]}]
    if test.method == "str":
        return [{"host": sorted({_bare(pattern) for pattern in test.patterns})}]
    if test.method == "end":
        return [{"host": [f"*.{_bare(pattern).lstrip('.')}" for pattern in test.patterns]}]
    fitting = [name for name in hosts_of(view.front) if test.holds(view.site.sight(view.asked({"host": [name]})))]
    return [{"host": fitting}] if fitting else None


def _bare(name: str) -> str:
    """A name in lower case, without port."""
    host, colon, port = name.lower().rpartition(":")
    return host if colon and port.isdigit() else name.lower()


_PATHS: Mapping[str, Callable[[str], list[str] | None]] = {
    "str": of_exact,
    "beg": of_prefix,
    "dir": of_prefix,
    "reg": of_expression,
}


def paths_of(site: HaproxySite) -> list[str]:
    """The plain paths of which conditions speak."""
    tests = (
        test
        for front in site.fronts.values()
        for rule in (*front.requests, *front.redirects, *front.backends)
        for test in rule.condition.tests()
    )
    found = (
        pattern
        for test in tests
        if test.sample is not None and test.sample.fetch in ("path", "base", "url") and test.method in _PATHS
        for pattern in test.patterns
    )
    return [pattern for pattern in dict.fromkeys(found) if _PLAIN.fullmatch(pattern)]
