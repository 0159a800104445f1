"""Whatever a file says: its import is a report and a draft that can be read, and never an exception."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.importing.asked import Position
from sidecar.importing.assessment import Examined, Foreign, examine
from sidecar.importing.haproxy_lines import haproxy_foreign
from sidecar.importing.haproxy_words import sections
from sidecar.importing.nginx_lines import nginx_foreign
from sidecar.importing.nginx_tree import Directive
from sidecar.importing.report import amiss, differences, doubts, faults, told
from sidecar.synapse.endpoint_rows import load_endpoints

TABLE = load_endpoints("1.163")
SMALL = evolve(TABLE, endpoints=TABLE.endpoints[::25])

NAMES = st.sampled_from(["main", "synapse", "mas", "scanner", "element", "w1", "a-b.c", "$x", "", "é", "a b"])
HOSTS = st.sampled_from(["matrix.example.org", "*.example.org", ".example.org", "www.*", "_", "~^m", "a", "$h", "x:1"])
PATHS = st.sampled_from(
    [
        *("/", "/_matrix", "/_matrix/", "/_matrix/client/", "/_synapse", "/.well-known/matrix/server", "/a b", "/é"),
        *("^/_matrix/client/(r0|v3)/sync$", "^/_matrix/client/(.*)/(login|logout)", "^/(a", "(", "^/$", r"\.php$", "["),
        *("^/((((a)?b)?c)?d)?", "^/.*/.*/.*/.*/x", "^/_matrix/client/[^/]+/rooms/", "/{x}", "/**", "?", "@named", ""),
    ]
)
ADDRESSES = st.sampled_from(
    [
        *("127.0.0.1:8008", "synapse:8008", "unix:/run/a.sock", "[::1]:80", "$host:80", "a:99999", ":", "", "[", "::1"),
        *(
            "http://main",
            "https://x.example.org",
            "http://$x",
            "$proto://$app:$port",
            "http://main/",
            "http://127.0.0.1:1/a$uri",
        ),
    ]
)
WORDS = st.one_of(
    NAMES,
    HOSTS,
    PATHS,
    ADDRESSES,
    st.sampled_from(["200", "404", "444", "abc", "if", "!", "=", "{", "}", "1m", "0", "all"]),
)
ARGS = st.lists(WORDS, max_size=4).map(tuple)


def directive(name: str, args: tuple[str, ...], block: list[Directive] | None = None) -> Directive:
    return Directive(name, args, Position("nginx.conf", 1), None if block is None else tuple(block))


LEAVES = st.one_of(
    st.builds(directive, st.sampled_from(["proxy_pass", "return", "rewrite", "set", "allow", "deny", "listen"]), ARGS),
    st.builds(
        directive, st.sampled_from(["server_name", "hash", "server", "add_header", "auth_basic", "limit_req"]), ARGS
    ),
    st.builds(
        directive, st.sampled_from(["client_max_body_size", "try_files", "default_type", "real_ip_header"]), ARGS
    ),
    st.builds(
        directive, st.sampled_from(["set_real_ip_from", "default", "merge_slashes", "break", "odd", "root"]), ARGS
    ),
    st.builds(lambda address: directive("proxy_pass", (address,)), ADDRESSES),
    st.builds(
        lambda port: directive("listen", (port, "ssl")), st.sampled_from(["443", "[::]:8448", "80", "quic", "x"])
    ),
)
BLOCKS = ["location", "server", "upstream", "map", "if", "http", "limit_except", "geo", "split_clients", "types"]
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(directive, st.sampled_from(BLOCKS), ARGS, st.lists(inner, max_size=4)),
    max_leaves=16,
)


def whole(foreign: Foreign) -> Examined:
    """Everything that the command does with what was read, but for printing it."""
    examined = examine(foreign, SMALL, None)
    for lines in (told(examined), amiss(examined), differences(examined), doubts(examined), faults(examined)):
        assert all(lines)
    assert examined.draft.text("a test").startswith("# matrix-sidecar")
    known = set(examined.foreign.proxy.upstreams)
    for each in examined.elsewhere:
        if each.answered.verdict.action == "forward":
            pool = each.answered.verdict.pool
            assert pool in known
            servers = examined.foreign.proxy.upstreams[pool].servers
            assert all(server.address or (server.fault and server.place) for server in servers)
        assert each.ours
    return examined


FORWARDING = directive("upstream", ("main",), [directive("server", ("127.0.0.1:8008",))])


@settings(max_examples=60)
@given(st.lists(TREES, max_size=5), st.lists(LEAVES, max_size=4), PATHS)
def test_any_file_of_nginx_gives_a_report(trees: list[Directive], leaves: list[Directive], path: str) -> None:
    """With an upstream, because a file without one is told so before."""
    where = directive("location", (path,), [directive("proxy_pass", ("http://main",))])
    server = directive("server", (), [*leaves, where, *(each for each in trees if each.name in ("location", "if"))])
    whole(nginx_foreign([FORWARDING, server, *trees]))


SAMPLES = st.sampled_from(
    [
        *("path", "path_beg", "path_reg", "path -i -m reg", "path -m reg -M -f /none", "hdr(host)", "hdr_dom(host) -i"),
        *(
            "hdr_beg(host)",
            "ssl_fc",
            "nbsrv(main) ge",
            "method",
            "src",
            "url_param(x)",
            "base,map(/none,x)",
            "var(txn.a)",
        ),
        *(
            "path,regsub(^/,\\9)",
            "path,field(2,/)",
            "path,concat(a,b,c)",
            "unheard(x)",
            "hdr_cnt(host)",
            "(",
            "dst_port",
        ),
    ]
)
TESTS = st.builds(lambda sample, words: f"{sample} {' '.join(words)}", SAMPLES, st.lists(WORDS, max_size=3))
TERMS = st.one_of(
    st.builds("{{ {} }}".format, TESTS),
    st.builds("!{{ {} }}".format, TESTS),
    st.sampled_from(["a", "!a", "METH_GET", "b"]),
)
CONDITIONS = st.one_of(
    st.just(""),
    st.builds(
        lambda word, terms, sign: f" {word} {sign.join(terms)}",
        st.sampled_from(["if", "unless"]),
        st.lists(TERMS, max_size=3),
        st.sampled_from([" ", " || ", " or "]),
    ),
)
ACTIONS = st.sampled_from(
    [
        *(
            "use_backend main",
            "use_backend other",
            "use_backend %[path,word(1,/)]",
            "use_backend",
            "default_backend main",
        ),
        *(
            "http-request deny",
            "http-request deny deny_status abc",
            "http-request return status 200 string x",
            "redirect",
        ),
        *(
            "http-request redirect scheme https",
            "redirect location /x code 999",
            "http-request set-path /x",
            "stick on",
        ),
        *(
            "http-request set-var(txn.a) hdr(host)",
            "http-request auth realm x",
            "http-request use-service x",
            "http-request",
        ),
        *(
            "server s 127.0.0.1:8009",
            "server s",
            "server-template w 2 x:1 send-proxy",
            "bind :443 ssl",
            "bind",
            "mode tcp",
        ),
        *("acl a path_beg /_matrix", "acl", "acl b", "balance hash path", "timeout client 0", "option forwardfor"),
    ]
)
LINES = st.builds(lambda action, rest: f"  {action}{rest}\n", ACTIONS, CONDITIONS)
HEADS = st.sampled_from(
    [
        "frontend f",
        "frontend g from d",
        "backend other",
        "listen l",
        "defaults d",
        "defaults",
        "listen",
        "peers p",
        "global",
    ]
)
SECTIONS = st.builds(lambda head, body: f"{head}\n{''.join(body)}", HEADS, st.lists(LINES, max_size=6))


@settings(max_examples=60)
@given(st.lists(SECTIONS, max_size=4), st.lists(LINES, max_size=6))
def test_any_file_of_haproxy_gives_a_report(parts: list[str], lines: list[str]) -> None:
    """With a backend, because a file without one is told so before."""
    text = f"frontend first\n  bind :80\n{''.join(lines)}{''.join(parts)}backend main\n  server m 127.0.0.1:8008\n"
    whole(haproxy_foreign(sections(text, "haproxy.cfg")))
