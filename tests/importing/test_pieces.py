"""What the real programs cannot show: odd words, unknown things, and that nothing whatever raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.importing.asked import Asked, Position
from sidecar.importing.expressions import compiled
from sidecar.importing.haproxy_site import haproxy_site
from sidecar.importing.haproxy_upstreams import endpoint as haproxy_endpoint
from sidecar.importing.haproxy_words import lines, sections
from sidecar.importing.nginx_routes import admin_networks, own_routes, trusted_networks
from sidecar.importing.nginx_rules import target_of
from sidecar.importing.nginx_site import NginxSite, nginx_site
from sidecar.importing.nginx_tree import Directive, tree
from sidecar.importing.nginx_upstreams import endpoint
from sidecar.importing.nginx_uri import normalized
from sidecar.importing.paths import of_exact, of_expression, of_prefix
from sidecar.importing.prefixes import of_places, of_replacement

NOWHERE = Position("x", 1)
TARGETS = st.text(st.sampled_from("/.%2fFab!:~#?&=0\xe9é$@"), max_size=30).map(lambda text: f"/{text}")


def directive(name: str, *args: str, block: tuple[Directive, ...] | None = None) -> Directive:
    return Directive(name, args, NOWHERE, block)


def site(*directives: Directive, inside: tuple[Directive, ...] = ()) -> NginxSite:
    server = directive("server", block=(directive("location", "/", block=directives), *inside))
    return nginx_site((directive("http", block=(server,)),))


def asked(target: str = "/", **fields: str) -> Asked:
    return Asked(method="GET", target=target, fields={"host": "x.example.org", **fields})


@given(TARGETS)
def test_a_normalized_path_is_normal(target: str) -> None:
    """It begins with a slash, has none twice and no dot segments, and is its own normal form if nothing is encoded."""
    path = normalized(target.partition("?")[0])
    if path is None:
        return
    assert path.startswith("/")
    assert "//" not in path
    assert not {".", ".."} & set(path.split("/"))
    if "%" not in path and "#" not in path and "?" not in path:
        assert normalized(path) == path


@pytest.mark.parametrize(
    ("path", "found"),
    [("*", None), ("/%4", None), ("/a%00", None), ("/a/b/..", "/a/"), ("/%25", "/%"), ("/a%3Fb", "/a?b"), ("/.", "/")],
)
def test_paths_as_nginx_has_them(path: str, found: str | None) -> None:
    """None where it answers 400."""
    assert normalized(path) == found


@pytest.mark.parametrize(
    ("expression", "text", "fits"),
    [
        (r"^(?<a>x)\k<a>$", "xx", None),
        (r"(?'n'\d)\/", "1/", True),
        (r"^[[:alpha:]]+\z", "ab", True),
        (r"^[[:word:]]+$", "a b", False),
        (r"a\h+b", "a\t b", True),
        (r"^a\Z", "a\n", True),
        ("[", "[", None),
        ("(?<=a)b", "ab", True),
        (r"[[:nothing:]]", ":]", True),
    ],
)
def test_expressions(expression: str, text: str, fits: bool | None) -> None:
    """What Python has is the same, what it has not is None."""
    pattern = compiled(expression)
    assert (None if pattern is None else bool(pattern.search(text))) is fits


@given(st.text(st.sampled_from("abc \t\"'\\#\n{}!|$%[]"), max_size=60))
def test_any_text_can_be_read_as_lines(text: str) -> None:
    """Every line has a word, and the lines count up."""
    found = list(lines(text, "x"))
    assert all(line.words for line in found)
    assert [line.place.line for line in found] == sorted(line.place.line for line in found)


def test_words_of_haproxy() -> None:
    """Quotes, escapes, comments, and lines that go on."""
    text = 'global # x\n a "b c" \'d"e\' f\\ g h\\\n  i\n\\t\\#x "\\$y" \\\\ \\q\nstray\n'
    (section,) = sections(text, "x")
    assert [line.words for line in section.lines] == [
        ("a", "b c", 'd"e', "f g", "h", "i"),
        ("\t#x", "$y", "\\", "\\q"),
        ("stray",),
    ]
    assert [line.place.line for line in section.lines] == [2, 4, 5]
    (loose,) = sections("maxconn 5\n", "x")
    assert (loose.kind, str(loose.lines[0])) == ("", "maxconn 5")


@given(TARGETS, st.text(max_size=8), st.sampled_from(["GET", "PUT", "OPTIONS"]))
def test_no_request_makes_the_readers_raise(target: str, host: str, method: str) -> None:
    """Whatever its octets."""
    request = Asked(method=method, target=target, fields={"host": host, "authorization": host, "cookie": target})
    assert NGINX.verdict(request).action
    assert HAPROXY.verdict(request).action


NGINX = nginx_site(
    (
        directive("map", "$uri$arg_x", "$who", block=(directive("~*^/(.)", "$1"), directive("default", "$cookie_a"))),
        directive("location", "~", "^/([^/]*)", block=(directive("proxy_pass", "http://$who$1${http_host}"),)),
    )
)
HAPROXY = haproxy_site(
    sections(
        "frontend f\n acl a path,url_dec,word(2,/) -m reg -i a+\n use_backend %[path,word(1,/)] if a or { cook(a) b }\n"
        " http-request set-var(txn.a) url\n default_backend b\nbackend b\n balance uri\n server s 127.0.0.1:1\n",
        "x",
    )
)


def test_what_is_not_known_is_a_doubt() -> None:
    """A verdict is given all the same, and says what it does not rest on."""
    assert site(directive("proxy_pass", "http://$unheard_of")).verdict(asked()).doubts != ()
    cyclic = nginx_site(
        (
            directive("map", "$a", "$b", block=()),
            directive("map", "$b", "$a", block=(directive("default", "$b"),)),
            directive("map", "$c", "$c", block=(directive("default", "$c"),)),
            directive("location", "/", block=(directive("proxy_pass", "http://$c"),)),
        )
    )
    assert "maps that refer to each other" in cyclic.verdict(asked()).doubts
    files = directive("if", "-f", "$request_filename", block=(directive("return", "404"),))
    assert site(files, directive("proxy_pass", "http://a")).verdict(asked()).doubts == ("an `if` that tests for files",)
    odd = directive("if", "$uri", block=(directive("proxy_pass", "http://b"),))
    assert "besides answering" in site(odd, directive("proxy_pass", "http://a")).verdict(asked()).doubts[0]
    rewriting = directive("rewrite", "^/x", "/y", "break")
    assert "changes the path" in site(rewriting, directive("proxy_pass", "http://a")).verdict(asked("/x")).rewrites
    replacing = site(directive("proxy_pass", "http://a/b"))
    assert "replaces the path with /b" in replacing.verdict(asked()).rewrites
    assert replacing.verdict(asked()).prefixes is None
    spoken = site(directive("fastcgi_pass", "unix:/x"))
    assert spoken.verdict(asked()).action == "unclear"
    assert nginx_site(()).verdict(asked()).action == "unclear"
    for fault in ("acl a nowhere(x) y", "acl a path,unheard x", "acl a path -f /none", "acl a ( x"):
        found = haproxy_site(sections(f"frontend f\n {fault}\n use_backend b if a\n use_backend b if nobody\n", "x"))
        verdict = found.verdict(asked())
        assert (verdict.action, verdict.status) == ("refuse", 503)
        assert verdict.doubts != ()
    assert haproxy_site(()).verdict(asked()).action == "unclear"
    changing = (
        "frontend f\n http-request set-path /x if { path /a }\n http-request set-src hdr(x-from)\n default_backend b\n"
    )
    guarded = " use_backend b if { src 10.0.0.0/8 }\n acl broken src 10.0.0.0/x\n use_backend %[unheard] if broken\n"
    found = haproxy_site(sections(f"{changing}{guarded}backend b\n balance source\n server s 127.0.0.1:1\n", "x"))
    verdict = found.verdict(asked("/a", **{"x-from": "10.1.1.1"}))
    assert (verdict.pool, verdict.key, verdict.doubts) == ("b", "balance source 10.1.1.1", ())
    assert "`set-path` in x:2 changes the path" in verdict.rewrites


def test_addresses() -> None:
    """As endpoint strings of Twisted; empty where they are none."""
    assert endpoint("unix:/run/a.sock") == "unix:/run/a.sock"
    assert endpoint("10.0.0.1") == "tcp:10.0.0.1:80"
    assert endpoint("[2001:db8::1]:81") == r"tcp:2001\:db8\:\:1:81"
    assert endpoint("$host:80") == ""
    assert haproxy_endpoint("/run/a.sock") == haproxy_endpoint("unix@/run/a.sock") == "unix:/run/a.sock"
    assert haproxy_endpoint("ipv4@10.0.0.1:80") == "tcp:10.0.0.1:80"
    assert haproxy_endpoint(":80") == haproxy_endpoint("a") == ""
    assert target_of("http://unix:/run/a.sock:/x").rest == "/x"
    assert target_of("http://a/b/c").rest == "/b/c"


def test_places_as_path_patterns() -> None:
    """Prefixes, exact ones, and expressions that are hardly more; None for any other."""
    assert of_prefix("/a/") == ["/a/**"]
    assert of_prefix("/a") == ["/a", "/a/**"]
    assert of_prefix("/") is None
    assert of_prefix("/a b") is None
    assert of_exact("/a{b}") is None
    assert of_expression(r"^/\.well-known/matrix$") == ["/.well-known/matrix"]
    assert of_expression("^/a/.*$") == ["/a/**"]
    assert of_expression("^/a(/|$)") == ["/a/**", "/a"]
    assert of_expression("^/$") == ["/"]
    assert of_expression("^/(a|b)") == ["/a", "/a/**", "/b", "/b/**"]
    assert of_expression("a") is None


def test_realip_in_its_variants() -> None:
    """The last address, or recursively the last that is not trusted; a field that holds none changes nothing."""

    def address(*settings: Directive, **fields: str) -> str:
        closed = (directive("return", "200", "$remote_addr"),)
        found = site(*closed, inside=(directive("set_real_ip_from", "192.0.2.0/24"), *settings)).verdict(
            asked(**fields)
        )
        return found.body

    recursive = directive("real_ip_recursive", "on")
    forwarded = directive("real_ip_header", "X-Forwarded-For")
    chain = {"x-forwarded-for": "203.0.113.1, 192.0.2.7"}
    assert address(forwarded, **chain) == "192.0.2.7"
    assert address(forwarded, recursive, **chain) == "203.0.113.1"
    assert address(forwarded, recursive, **{"x-forwarded-for": "192.0.2.8"}) == "192.0.2.8"
    assert address(**{"x-real-ip": "203.0.113.5"}) == "203.0.113.5"
    assert address(forwarded, **{"x-forwarded-for": "nobody"}) == "192.0.2.1"
    assert address(directive("set_real_ip_from", "unix:"), **chain) == "192.0.2.1"


def test_variables_of_nginx() -> None:
    """Those of the request that decide nothing elsewhere in these tests."""
    template = "$args $query_string $is_args $document_uri $request $scheme$https $server_port $server_name"
    body = site(directive("return", "200", f"{template} $server_protocol $content_type $cookie_b")).verdict(
        asked("/x?a=b", cookie="a=1; b=2", **{"content-type": "t"})
    )
    assert body.body == "a=b a=b ? /x GET /x?a=b HTTP/1.1 http  x.example.org HTTP/1.1 t 2"
    assert site(directive("return", "https://a/")).verdict(asked()).status == 302
    assert site(directive("if", "$host", "=", "x.example.org", block=()), directive("return", "204")).verdict(asked())


def test_an_include_stands_for_what_it_names() -> None:
    """Files in place of what includes them; one that includes itself is read once."""
    files = [
        {"file": "a", "parsed": [{"directive": "include", "line": 1, "args": ["b"], "includes": [1]}]},
        {
            "file": "b",
            "parsed": [
                {"directive": "#", "line": 1, "args": []},
                {"directive": "include", "line": 2, "args": ["a"], "includes": [0]},
                {"directive": "return", "line": 3, "args": ["200", r"a\tb\\c\d\""]},
            ],
        },
    ]
    again, last = tree(files)
    assert (again.name, str(again.place)) == ("include", "b:2")
    assert (last.args[1], str(last.place)) == ('a\tb\\c\\d"', "b:3")


def test_who_may_come_and_who_is_believed() -> None:
    """Words that are no networks are passed over; without `deny all` nobody is told apart."""
    closed = directive(
        "location",
        "/_synapse/",
        block=(directive("allow", "10.0.0.0/8"), directive("allow", "x"), directive("deny", "all")),
    )
    assert admin_networks(site(inside=(closed,))) == ["10.0.0.0/8"]
    assert admin_networks(site()) == admin_networks(nginx_site(())) == []
    assert trusted_networks(site(inside=(directive("set_real_ip_from", "unix:"),))) == []
    assert trusted_networks(nginx_site(())) == []
    assert list(own_routes(nginx_site(()))) == []
    assert haproxy_site(()).entrances == nginx_site(()).entrances == ()


def test_files_and_odd_outcomes_are_told() -> None:
    """What is in files is 404 here, with a remark; what no pattern can say is lost, with the reason."""
    found = list(own_routes(site(inside=(directive("location", "/files", block=()),))))
    files = [each for each in found if str(each.conditions.get("path")).startswith("/files")]
    assert [each.outcome for each in files] == [{"refuse": 404}, {"refuse": 404}]
    assert all("serves files" in each.remark for each in files)
    assert not site(directive("allow", "all")).verdict(asked()).pool
    odd = own_routes(site(inside=(directive("location", "=", "/x y", block=()),)))
    assert next(each for each in odd if each.why_not).why_not.startswith("no path pattern can express")


@pytest.mark.parametrize(
    ("expression", "replacement", "prefixes"),
    [
        ("^/a/(.*)$", "/$1", ("/a", "")),
        ("/a/b/(.*)", r"/\1", ("/a/b", "")),
        ("^/a(/.*)", r"\1", ("/a", "")),
        ("^/a(/.*)$", "/b$1", ("/a", "/b")),
        ("^/a/(.*)", "/b/c/$1", ("/a", "/b/c")),
        ("^/a/(.*)", "$1", None),
        ("^/a(/.*)", "/$1", None),
        ("^/(a|b)/(.*)", "/$2", None),
        ("^/a/(.*)", "/b", None),
        ("^/a/(.*)", "https://x/$1", None),
    ],
)
def test_prefixes_of_expressions(expression: str, replacement: str, prefixes: tuple[str, str] | None) -> None:
    """Where all that follows a plain beginning of the path is kept behind another one."""
    assert of_replacement(expression, replacement) == prefixes


@pytest.mark.parametrize(
    ("outside", "inside", "prefixes"),
    [
        ("/a/", "/", ("/a", "")),
        ("/a/", "/b/", ("/a", "/b")),
        ("/", "/b/", ("", "/b")),
        ("/a", "/b", ("/a", "/b")),
        ("/a", "/", None),
        ("/a/", "/b", None),
        ("/a b/", "/", None),
    ],
)
def test_prefixes_of_places(outside: str, inside: str, prefixes: tuple[str, str] | None) -> None:
    """nginx puts one in place of the other: slashes at their ends have to be alike."""
    assert of_places(outside, inside) == prefixes
