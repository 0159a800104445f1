"""Lines in their order as routes: what hides what, what goes to the table first, and what paths cover."""

from __future__ import annotations

import pytest
from attrs import evolve

from sidecar.importing.asked import Position, ProxyVerdict
from sidecar.importing.draft import OwnRoute
from sidecar.importing.ordering import Ordering, takes_all
from sidecar.importing.outcomes import merged, own_route
from sidecar.importing.paths import covers, of_expression, sample_of

HERE = Position("x", 1)


def ordered(*lines: OwnRoute) -> Ordering:
    ordering = Ordering(lambda name: name == "synapse", lambda name, _: "" if name == "nobody" else name, lambda _: [])
    ordering.take(lines)
    return ordering


def line(upstream: str, why_not: str = "", **conditions: object) -> OwnRoute:
    return OwnRoute(place=HERE, conditions=conditions, upstream=upstream, why_not=why_not)


def test_what_is_synapses_goes_to_the_table_before_what_would_take_it() -> None:
    """And only there; a line that is hidden by one above is no route."""
    found = ordered(
        line("mas", path="/_matrix/client/{x3}/login"),
        line("synapse", path="/_matrix/**"),
        line("late", path="/_matrix/client/v3/x"),
        line("web"),
        line("never", path="/x"),
    )
    assert found.routes == [
        {"path": "/_matrix/client/{x3}/login", "pool": "mas"},
        {"path": "/_matrix/**", "table": True},
        {"pool": "web"},
    ]
    assert [each.fate for each in found.settled] == ["route", "table", "shadowed", "route", "shadowed"]
    assert ordered(line("synapse"), line("synapse", path="/x")).routes == []


def test_what_cannot_be_said_is_roughly_synapses_or_lost() -> None:
    """A rough line hides nothing that is more exact."""
    found = ordered(
        line("synapse", "odd"), line("bot", path="/_matrix/x/**"), line("other", "odd"), line("nobody"), line("web")
    )
    assert found.routes == [
        {"path": "/_matrix/x/**", "pool": "bot"},
        {"path": "/_matrix/**", "table": True},
        {"path": "/_synapse/**", "table": True},
        {"pool": "web"},
    ]
    assert [each.fate for each in found.settled] == ["table", "route", "lost", "nameless", "route"]


@pytest.mark.parametrize(
    ("one", "other", "takes"),
    [
        ({}, {"path": "/x"}, True),
        ({"path": "/x"}, {}, False),
        ({"host": ["*.example.org"]}, {"host": ["a.example.org"]}, True),
        ({"host": ["a"]}, {"path": "/x"}, False),
        ({"scheme": "http"}, {"scheme": "http"}, True),
        ({"scheme": "http"}, {}, False),
        ({"method": ["GET", "PUT"]}, {"method": ["GET"]}, True),
    ],
)
def test_whether_a_route_takes_all_of_another(one: dict[str, object], other: dict[str, object], takes: bool) -> None:
    """Every condition of the first holds where those of the second do."""
    assert takes_all(one, other) is takes


def test_paths_that_cover_each_other() -> None:
    """A parameter takes any segment, a last `**` one or more."""
    assert covers("/a/**", "/a/b/c")
    assert covers("/a/{x}", "/a/b")
    assert not covers("/a/**", "/a")
    assert not covers("/a/b", "/a/**")
    assert not covers("/a/b", None)
    assert sample_of("/a/{x}/**") == "/a/abc/x"


def test_expressions_that_spell_out_too_much_or_too_little() -> None:
    """None, and never an exception, however deep or wide."""
    assert of_expression("^/" + "(a|b|c|d)" * 9) is None
    assert of_expression("^/" + "(" * 50 + "a" + ")" * 50) is None
    assert of_expression("^/[rv]0/x$") == ["/r0/x", "/v0/x"]
    assert of_expression("^/x[0-9]+$") is None
    assert of_expression("^/a(?:/b)?$") == ["/a/b", "/a"]


def test_conditions_together() -> None:
    """The narrower path, the names of both; None where nothing fits both."""
    assert merged({"path": "/a/**"}, {"path": "/a/b"}) == {"path": "/a/b"}
    assert merged({"path": "/a/b"}, {"path": "/c"}) is None
    assert merged({"host": ["a", "b"]}, {"host": ["b"]}) == {"host": ["b"]}
    assert merged({"host": ["a"]}, {"host": ["b"]}) is None
    assert merged({"scheme": "http"}, {"scheme": "https"}) is None


def test_what_is_refused_there_is_refused_here() -> None:
    """Who hangs up is answered, and counts as a filter; another path is no route."""
    assert own_route(HERE, {}, ProxyVerdict(action="refuse", status=444)).outcome == {"refuse": 403}
    assert own_route(HERE, {}, ProxyVerdict(action="refuse", status=401)).is_filter
    assert not own_route(HERE, {}, ProxyVerdict(action="refuse", status=404)).is_filter
    assert own_route(HERE, {}, ProxyVerdict(action="forward", pool="a", rewrites="x changes the path")).why_not
    assert own_route(HERE, {}, ProxyVerdict(action="unclear")).why_not


def test_another_prefix_is_one_of_the_pool_and_never_synapses() -> None:
    """A service gets the path that it gets there; paths of Synapse are signed."""
    verdict = ProxyVerdict(action="forward", pool="jwt", rewrites="x changes the path", prefixes=("/jwt", ""))
    own = own_route(HERE, {"path": "/jwt/**"}, verdict)
    assert (own.upstream, own.prefixes, own.why_not) == ("jwt", ("/jwt", ""), "")
    made = ordered(own, own_route(HERE, {"path": "/m/**"}, evolve(verdict, pool="synapse")))
    assert made.routes == [{"path": "/jwt/**", "pool": "jwt"}]
    assert "signatures cover the path" in made.settled[1].own.why_not
