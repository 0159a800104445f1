"""The operator's own routes."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.compression import Compress
from sidecar.config.schema import Pool, Redirect, Respond, Route, Sorry
from sidecar.config.wildcards import is_like, parts_of
from sidecar.routing.plan import Plan
from sidecar.routing.rules import rule

from .plans import PEER, SPLIT, Headers, asked, authorized, client, plan_of

WORKERS = {**SPLIT, "mas": client(serves=""), "bots1": client()}
POOLS = {"mas": Pool(workers=("mas",)), "bots": Pool(workers=("bots1",), affinity="room", request_body=7, answer=5.0)}


def plan(*routes: Route) -> Plan:
    return plan_of(WORKERS, pools=POOLS, routes=routes)


def host(name: bytes) -> Headers:
    return Headers([(b"host", name)])


def test_a_path_sends_to_a_pool_as_written() -> None:
    """A parameter is one segment; the pool need not serve what the table says."""
    rules = plan(Route(path="/_matrix/client/{version}/login", pool="mas"))
    decision = asked(rules, "POST", "/_matrix/client/v3/login")
    assert (decision.pool, decision.candidates, decision.fallback) == ("mas", ("mas",), ("main",))
    assert decision.reason == "a route of the configuration sends it to pool mas"
    assert asked(rules, "POST", "/_matrix/client/v3/x/login").pool == "main"
    assert asked(rules, "POST", "/_matrix/client/v3/login/x").pool == "main"


def test_the_first_route_of_the_file_wins() -> None:
    """However literal, whichever conditions it has."""
    rules = plan(
        Route(path="/a/**", method=("PUT",), refuse=405),
        Route(path="/a/**", pool="bots"),
        Route(path="/a/b", pool="mas"),
        Route(host=("x.org",), pool="mas"),
        Route(path="/c", pool="bots"),
    )
    assert asked(rules, "PUT", "/a/b").status == 405
    assert asked(rules, "GET", "/a/b").pool == "bots"
    assert asked(rules, "GET", "/a").pool == "main"
    assert asked(rules, "GET", "/c", host(b"x.org")).pool == "mas"
    assert asked(rules, "GET", "/c", host(b"y.org")).pool == "bots"


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        (b"bots.example.org", "bots"),
        (b"BOTS.example.org:8448", "bots"),
        (b"a.b.example.com", "bots"),
        (b"example.com", "main"),
        (b"notbots.example.org", "main"),
        (b"[::1]", "bots"),
        (b"[::1]:80", "bots"),
        (b"", "main"),
    ],
)
def test_hosts_are_compared_without_port_and_case(name: bytes, pool: str) -> None:
    """`*.example.com` is everything below, not the domain itself."""
    rules = plan(Route(host=("bots.example.org", "[::1]"), pool="bots"), Route(host=("*.Example.com",), pool="bots"))
    assert asked(rules, "GET", "/x", host(name)).pool == pool


def test_methods_queries_headers_and_sources() -> None:
    """All conditions of a route must hold; null means present, whatever the value."""
    rules = plan(
        Route(method=("get",), path="/m", pool="bots"),
        Route(path="/q", query={"a": "1 2", "b": None}, pool="bots"),
        Route(path="/h", header={"X-Kind": "bot", "X-Any": None}, pool="bots"),
        Route(path="/s", source=(ip_network("192.0.2.0/24"),), pool="bots"),
    )
    assert asked(rules, "GET", "/m").pool == asked(rules, "HEAD", "/m").pool == "bots"
    assert asked(rules, "POST", "/m").pool == "main"
    assert asked(rules, "GET", "/q?b&a=0&a=1+2").pool == "bots"
    assert asked(rules, "GET", "/q?a=1+2").pool == asked(rules, "GET", "/q").pool == "main"
    both = Headers([(b"x-kind", b"human"), (b"x-kind", b"bot"), (b"x-any", b"")])
    assert asked(rules, "GET", "/h", both).pool == "bots"
    assert asked(rules, "GET", "/h", Headers([(b"x-kind", b"bot")])).pool == "main"
    assert asked(rules, "GET", "/h", Headers([(b"x-kind", b"Bot"), (b"x-any", b"")])).pool == "main"
    assert asked(rules, "GET", "/s", peer=PEER).pool == "bots"
    assert asked(rules, "GET", "/s", peer="198.51.100.1").pool == "main"


def test_a_route_may_answer_by_itself() -> None:
    """A fixed response, a redirect, a refusal; none has candidates."""
    rules = plan(
        Route(
            path="/.well-known/matrix/client", respond=Respond(body="{}", headers={"Content-Type": "application/json"})
        ),
        Route(path="/old/**", redirect=Redirect(to="https://new.example{target}", status=308)),
        Route(path="/no", refuse=404),
    )
    fixed = asked(rules, "GET", "/.well-known/matrix/client")
    assert (fixed.action, fixed.status, fixed.body, fixed.candidates) == ("respond", 200, b"{}", ())
    assert fixed.headers == (("Content-Type", "application/json"),)
    away = asked(rules, "GET", "/old/a%20b?c=d")
    assert (away.action, away.status) == ("redirect", 308)
    assert away.headers == (("Location", "https://new.example/old/a%20b?c=d"),)
    refused = asked(rules, "GET", "/no")
    assert (refused.action, refused.status) == ("refuse", 404)


def test_a_redirect_may_name_the_host_that_was_asked() -> None:
    """`{host}` is the host without port, `{target}` what was asked for; neither is looked into for the other."""
    rules = plan(Route(redirect=Redirect(to="https://{host}:8448{target}", status=301)))
    away = asked(rules, "GET", "/a{host}?{target}", host(b"Matrix.example.org:8008"))
    assert away.headers == (("Location", "https://matrix.example.org:8448/a{host}?{target}"),)
    literal = asked(rules, "GET", "/", host(b"[2001:db8::1]:8008"))
    assert literal.headers == (("Location", "https://[2001:db8::1]:8448/"),)


def test_a_redirect_without_a_host() -> None:
    """Where the host is that of the request, a request without one leads nowhere."""
    rules = plan(Route(redirect=Redirect(to="https://{host}{target}")))
    for fields in (Headers([]), host(b""), host(b":8008")):
        refused = asked(rules, "GET", "/a", fields)
        assert (refused.action, refused.status, refused.headers) == ("refuse", 400, ())
    assert asked(plan(Route(redirect=Redirect(to="https://h{target}"))), "GET", "/a", Headers([])).action == "redirect"


def test_a_route_may_leave_requests_to_the_table() -> None:
    """So that one that takes everything else can stand below; what the table does not know goes to main as ever."""
    rules = plan(
        Route(path="/_matrix/client/v3/login", pool="mas"),
        Route(path="/_matrix/**", table=True),
        Route(host=("matrix.example.org",), method=("GET",), table=True),
        Route(pool="bots"),
    )
    assert asked(rules, "POST", "/_matrix/client/v3/login").pool == "mas"
    assert asked(rules, "GET", "/_matrix/client/v3/sync?since=1").pool == "sync"
    assert asked(rules, "GET", "/_matrix/unknown").pool == "main"
    assert asked(rules, "GET", "/module", host(b"matrix.example.org")).pool == "main"
    assert asked(rules, "POST", "/module", host(b"matrix.example.org")).pool == "bots"
    assert asked(rules, "GET", "/").pool == "bots"


def test_a_pool_brings_its_limits_and_its_affinity() -> None:
    """The room is found in the row's path, or in the route's own."""
    rules = plan(Route(path="/bots/{room_id}/x", pool="bots"), Route(header={"x-bot": None}, pool="bots"))
    own = asked(rules, "GET", "/bots/%21r/x")
    assert (own.kind, own.key, own.body_limit, own.settings.answer) == ("room", "!r", 7, 5.0)
    bot = Headers([(b"x-bot", b"")])
    known = asked(rules, "PUT", "/_matrix/client/v3/rooms/!r/typing/@a:b", bot)
    assert (known.pool, known.key, known.fallback) == ("bots", "!r", ())
    assert asked(rules, "GET", "/elsewhere", bot).keyless


def test_a_built_in_pool_can_be_named_without_being_written_out() -> None:
    """`pool: federation` for a path of one's own means the workers that serve federation."""
    rules = plan(Route(path="/own", pool="federation"), Route(path="/events", pool="presence"))
    assert set(asked(rules, "GET", "/own").candidates) == {"fed1", "fed2"}
    assert asked(rules, "GET", "/events").candidates == ("account1",)


def test_a_preflight_follows_the_route() -> None:
    """OPTIONS goes to the pool that the request itself will go to."""
    rules = plan(Route(path="/_matrix/client/v3/login", pool="mas"))
    assert asked(rules, "OPTIONS", "/_matrix/client/v3/login").candidates == ("mas",)


def test_two_thousand_routes_are_found_without_trying_each() -> None:
    """A request is compared with the rules of its own path or host only."""
    routes = [Route(path=f"/own/{number}/{{id}}", pool="bots") for number in range(1_000)]
    routes += [Route(host=(f"h{number}.example.org",), pool="bots") for number in range(1_000)]
    rules = plan(*routes)
    assert asked(rules, "GET", "/own/777/x").pool == "bots"
    assert asked(rules, "GET", "/x", host(b"h777.example.org")).pool == "bots"
    node = rules.start
    for segment in b"/own/777/x".split(b"/"):
        node = node.get(segment) or node.other
    assert node.payload.rules is not None
    assert [each.number for each in node.payload.rules.others] == [777]
    assert rules.pathless is not None
    assert [each.number for each in rules.pathless.by_host[b"h777.example.org"]] == [1_777]


def test_rules_of_one_pool_share_what_is_remembered() -> None:
    """Many hosts times many endpoints must not fill the memory."""
    rules = plan(*(Route(host=(f"h{number}",), pool="bots") for number in range(50)))
    for number in range(50):
        asked(rules, "GET", "/_matrix/client/versions", host(b"h%d" % number))
        asked(rules, "GET", "/unknown", host(b"h%d" % number))
    assert len(rules.routed) == 2


def test_a_pool_without_anybody_leaves_its_requests_to_the_fallback() -> None:
    """Weight 0 for all of its workers, say, while they are being replaced."""
    resting = {**WORKERS, "bots1": client(weight=0)}
    rules = plan_of(resting, pools=POOLS, routes=(Route(path="/_matrix/client/versions", pool="bots"),))
    assert asked(rules, "GET", "/_matrix/client/versions").candidates == ("main",)


def test_a_route_does_not_hide_a_token() -> None:
    """The user of a request keeps his key in the operator's pool."""
    rules = plan(Route(path="/_matrix/client/v3/sync", pool="mas"))
    assert asked(rules, "GET", "/_matrix/client/v3/sync", authorized()).key == "alice"


def test_http_is_sent_to_https() -> None:
    """By the scheme that the client used; to the host that it named, without port, with the target as it came."""
    rules = plan(
        Route(path="/.well-known/acme-challenge/**", pool="mas"),
        Route(scheme="http", host=("x.org",), redirect=Redirect(to="https://{host}{target}", status=308)),
    )
    away = asked(rules, "POST", "/_matrix/a%2Fb//?", host(b"X.org:80"))
    assert (away.action, away.status) == ("redirect", 308)
    assert away.headers == (("Location", "https://x.org/_matrix/a%2Fb//?"),)
    assert (
        asked(rules, "GET", "/%7Bhost%7D{target}", host(b"x.org")).headers[0][1] == "https://x.org/%7Bhost%7D{target}"
    )
    assert asked(rules, "GET", "http://x.org/a", host(b"x.org")).headers == (("Location", "https://x.org/a"),)
    assert asked(rules, "GET", "/a", host(b"x.org"), scheme="https").action == "forward"
    assert asked(rules, "GET", "/a", host(b"127.0.0.1:8008")).action == "forward"
    challenge = asked(rules, "GET", "/.well-known/acme-challenge/token", host(b"x.org"))
    assert (challenge.pool, challenge.candidates, challenge.fallback) == ("mas", ("mas",), ())


def test_a_condition_on_the_scheme_of_a_path() -> None:
    """Https is a condition as well, and an absolute target takes the scheme of the connection, not its own."""
    rules = plan(Route(path="/a", scheme="https", refuse=404))
    assert asked(rules, "GET", "/a", scheme="https").status == 404
    assert asked(rules, "GET", "/a").action == "forward"
    assert asked(rules, "GET", "http://x.org/a", host(b"x.org"), scheme="https").status == 404


def test_a_pool_brings_its_page() -> None:
    """For every request that goes there, with a key and without; other pools have none."""
    page = Sorry(body="<p>Sorry</p>")
    pools = {"bots": Pool(workers=("mas",), affinity="source", sorry=page), "web": Pool(workers=("mas",), sorry=page)}
    rules = plan_of(WORKERS, pools=pools, routes=(Route(path="/a", pool="bots"), Route(path="/b", pool="web")))
    for path in ("/a", "/b"):
        assert asked(rules, "GET", path).settings.sorry is page
    assert asked(rules, "GET", "/_matrix/client/versions").settings.sorry is None


PREFLIGHT = Headers([(b"origin", b"https://app.test"), (b"access-control-request-method", b"PUT")])


@pytest.mark.parametrize(
    "route",
    [
        Route(path="/x", refuse=403),
        Route(path="/x", respond=Respond(status=410, body="gone")),
        Route(path="/x", redirect=Redirect(to="https://h.test{target}")),
        Route(path="/x", pool="nobody"),
    ],
)
def test_a_preflight_of_what_is_not_forwarded_is_allowed(route: Route) -> None:
    """The page can then read the refusal. Without the question of a browser, OPTIONS gets what any method gets."""
    pools = {"nobody": Pool(workers=("mas",))}
    rules = plan_of({**SPLIT, "mas": client(serves="", weight=0)}, pools=pools, routes=(route,))
    plain, other = asked(rules, "OPTIONS", "/x"), asked(rules, "PUT", "/x", PREFLIGHT)
    assert (plain.action, plain.status) == (other.action, other.status) != ("respond", 204)
    preflight = asked(rules, "OPTIONS", "/x", PREFLIGHT)
    assert (preflight.action, preflight.status, preflight.headers, preflight.body) == ("respond", 204, (), b"")
    assert preflight.reason.startswith("a preflight is allowed")


def test_cors_headers_of_a_route_count_for_its_preflight() -> None:
    """Other headers are those of the response itself."""
    headers = {"Content-Type": "text/plain", "Access-Control-Allow-Origin": "https://app.test"}
    rules = plan(Route(path="/x", respond=Respond(body="x", headers=headers)))
    preflight = asked(rules, "OPTIONS", "/x", PREFLIGHT)
    assert (preflight.status, preflight.headers) == (204, (("Access-Control-Allow-Origin", "https://app.test"),))


def test_a_route_for_options_answers_preflights_itself() -> None:
    """The operator has said what becomes of them."""
    rules = plan(Route(path="/x", method=("OPTIONS",), refuse=403), Route(path="/x", respond=Respond(body="x")))
    assert asked(rules, "OPTIONS", "/x", PREFLIGHT).status == 403


def test_workers_whose_listeners_lack_it() -> None:
    """A route may send an endpoint to Synapse workers that do not serve it, which is told."""
    workers = {**WORKERS, "fed9": client(serves="federation")}
    pools = {**POOLS, "odd": Pool(workers=("bots1", "fed9", "mas"))}
    rules = plan_of(workers, pools=pools, routes=(Route(path="/_matrix/client/versions", pool="odd"),))
    assert asked(rules, "GET", "/_matrix/client/versions").strangers == ("fed9",)
    assert asked(plan(), "GET", "/_matrix/client/versions").strangers == ()


@pytest.mark.parametrize(
    ("route", "all_of_them"),
    [
        (Route(path="/a", pool="mas"), True),
        (Route(path="/a", method=("GET",), pool="mas"), True),
        (Route(path="/a", scheme="https", pool="mas"), False),
        (Route(path="/a", host=("example.org",), pool="mas"), False),
        (Route(path="/a", source=(ip_network("192.0.2.0/24"),), pool="mas"), False),
        (Route(path="/a", header={"x-a": None}, pool="mas"), False),
        (Route(path="/a", query={"a": None}, pool="mas"), False),
    ],
)
def test_a_route_with_no_condition_but_path_and_method_takes_all(route: Route, all_of_them: bool) -> None:
    """What it takes, no row of the table gets."""
    assert rule(0, route).takes_all is all_of_them


@pytest.mark.parametrize(
    ("pattern", "value", "holds"),
    [
        ("*element*", b"Mozilla Element/1.2", True),
        ("*element*", b"Elemen", False),
        ("Element*iOS*", b"element/1 (iPhone; IOS 17)", True),
        ("Element*iOS*", b"X Element iOS", False),
        ("*bot", b"a bot", True),
        ("*bot", b"bots", False),
        ("bot", b"BOT", True),
        ("bot", b"robot", False),
        ("a*a", b"a", False),
        ("a*b*b", b"ab", False),
        ("*", b"", True),
    ],
)
def test_a_field_is_like_a_pattern(pattern: str, value: bytes, holds: bool) -> None:
    """The whole value, without case; `*` stands for any text."""
    rules = plan(Route(header_like={"User-Agent": pattern}, pool="bots"))
    assert (asked(rules, "GET", "/x", Headers([(b"user-agent", value)])).pool == "bots") is holds
    assert asked(rules, "GET", "/x").pool == "main"


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=5), st.text("abAB", max_size=12))
def test_patterns_mean_what_expressions_do(parts: list[str], value: str) -> None:
    """As the regular expression with `.*` in place of each `*`."""
    pattern = "*".join(parts)
    expected = re.fullmatch(".*".join(map(re.escape, parts)), value, re.IGNORECASE) is not None
    assert is_like(value.encode(), parts_of(pattern)) is expected


def test_a_pattern_costs_one_pass() -> None:
    """What would take an expression longer than anybody waits."""
    parts = parts_of("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b")
    assert not is_like(b"a" * 100_000, parts)


def test_what_is_changed_of_whom() -> None:
    """Answers to clients are compressed; not media, rendezvous, pages of logins, servers, nor what nobody knows."""
    routes = (
        Route(path="/app/**", pool="mas"),
        Route(path="/plain/**", pool="mas", compress=False),
        Route(path="/_matrix/federation/v1/version", pool="mas", compress=True),
        Route(path="/_synapse/client/rendezvous/**", pool="mas", compress=True),
    )
    compress = Compress()
    rules = plan_of(WORKERS, pools=POOLS, routes=routes, compress=compress)

    def changed(method: str, target: str) -> bool:
        changes = asked(rules, method, target).changes
        return changes is not None and changes.compress is compress

    assert changed("GET", "/_matrix/client/v3/sync")
    assert changed("GET", "/_matrix/client/v3/sync?since=s1")
    assert changed("GET", "/app/config.json")
    assert changed("GET", "/_matrix/federation/v1/version")
    for target in (
        "/plain/a",
        "/_matrix/federation/v1/event/$a",
        "/_matrix/key/v2/server",
        "/_matrix/client/v1/media/download/x/y",
        "/_matrix/media/v3/config",
        "/_synapse/client/rendezvous/a",
        "/_synapse/client/pick_idp",
        "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/a",
        "/nobody/knows",
    ):
        assert not changed("GET", target), target
    servers = plan_of(WORKERS, pools=POOLS, compress=Compress(federation=True))
    assert asked(servers, "GET", "/_matrix/federation/v1/event/$a").changes
    assert asked(plan(), "GET", "/_matrix/client/v3/sync").changes is None


def test_a_service_with_another_path_is_never_replaced_by_synapse() -> None:
    """Not even where Synapse knows the path as clients send it."""
    pools = {"mas": Pool(workers=("mas",), strip_prefix="/_matrix")}
    rules = plan_of(WORKERS, pools=pools, routes=(Route(path="/_matrix/client/{version}/login", pool="mas"),))
    decision = asked(rules, "POST", "/_matrix/client/v3/login")
    assert (decision.candidates, decision.fallback, decision.main_knows) == (("mas",), (), False)
    assert decision.changes is not None
    assert decision.changes.strip == b"/_matrix"
