"""Our reader of haproxy.cfg beside the real HAProxy: every request must be answered as the reader says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from busy import AnsweringWorker
from parity.systems import find, place
from processes import PATIENCE, Running, await_listener, free_port

from sidecar.importing.asked import Asked
from sidecar.importing.haproxy_site import HaproxySite, haproxy_site
from sidecar.importing.haproxy_words import sections

WORKERS = ("w1", "w2", "w3")

CONFIGURATION = r"""
global
    maxconn 200
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
    default_backend rest
frontend main
    bind 127.0.0.1:@PORT@
    http-response set-header X-Chosen %[be_name]
    acl is_api path_beg /api/ "/quoted path" /es\ caped
    acl is_api path_end -i .JSON
    acl sub path_sub needle
    acl dir path_dir inner/dir
    acl len path_len ge 40
    acl short path -m len 2:3
    acl exact path /exact /exacter
    acl exacti path -i /nocase
    acl words path,word(2,/) -m str second
    acl fields path,field(3,/),lower -m beg th
    acl last path,word(-1,/) last
    acl host_dom hdr_dom(host) dom.example.org
    acl host_beg hdr_beg(host) -i begin.
    acl host_end hdr_end(host) .end.example.org
    acl host_is req.hdr(host),lower exact.example.org
    acl listed hdr(x-list) two
    acl has_token hdr(authorization) -m found
    acl param url_param(since) -m found
    acl kind urlp(kind) guest
    acl query query -m sub a=b
    acl cookie cook(user) alice
    acl inside src 127.0.0.3 127.0.0.4/31
    acl never always_false
    acl filed path -f @PLACE@/paths.list
    acl re path_reg ^/re/(a|b)\d+$
    acl rei path_reg -i ^/REI/
    acl url_all url_beg /url?
    acl dec path,url_dec -m str "/a b"
    acl sized req.hdr(x-list),length 3
    acl long req.hdr(x-list),length gt 8
    acl crowded hdr(x-crowd),nbsrv ge 3
    acl empty hdr(x-crowd),nbsrv lt 1
    acl paired str(st),concat(ick,txn.none,2),nbsrv eq 2
    http-request deny if { path /denied }
    http-request deny deny_status 429 if { path /limited } METH_POST
    http-request redirect location https://x.example.org/%[path] code 301 if { path_beg /away }
    http-request return status 200 content-type text/plain string "own" if { path /own }
    http-request set-var(txn.who) hdr(x-who),upper
    http-request set-header X-Other 1 if never
    redirect prefix https://p.example.org code 308 if { path_beg /prefix }
    redirect scheme https if { hdr(host) -i secure.example.org }
    use_backend be1 if is_api !METH_POST
    use_backend be2 if is_api
    use_backend be3 if sub || dir
    use_backend be1 if len or short
    use_backend be2 if exact
    use_backend be3 if exacti
    use_backend be1 if words fields
    use_backend be2 unless !last
    use_backend be3 if host_dom
    use_backend be1 if host_beg
    use_backend be2 if host_end
    use_backend be3 if host_is
    use_backend be1 if listed
    use_backend be2 if param !{ url_param(since) s0 }
    use_backend be3 if kind
    use_backend be1 if query
    use_backend be2 if cookie
    use_backend be3 if inside { path /from }
    use_backend be1 if filed
    use_backend be2 if re
    use_backend be3 if rei
    use_backend be1 if url_all
    use_backend be2 if dec
    use_backend be3 if sized
    use_backend be2 if long
    use_backend be3 if crowded
    use_backend be2 if empty
    use_backend be2 if paired { path /paired }
    use_backend main if { path /namesake }
    use_backend be1 if { var(txn.who) -m str ALICE }
    use_backend be2 if never
    use_backend %[path,map_reg(@PLACE@/routes.map)] if { path_beg /mapped/ }
    use_backend %[path,map_beg(@PLACE@/routes.map,be3)] if { path_beg /begun/ }
    use_backend %[hdr(x-list),map(@PLACE@/routes.map)] if { hdr(x-list) exactly }
    use_backend %[hdr(x-backend)] if { hdr(x-backend) -m found }
    use_backend stick if { path_beg /stick } has_token
    use_backend stick2 if { path_beg /room/ }
    use_backend hashed if { path_beg /hashed }
    use_backend guarded if { path_beg /guarded }
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
listen both
    bind 127.0.0.1:@OTHER@
    http-response set-header X-Chosen %[be_name]
    acl special path_beg /special
    use_backend be1 if special
    balance source
    server w1 unix@@PLACE@/w1.sock
    server w2 unix@@PLACE@/w2.sock
backend be1
    server w1 unix@@PLACE@/w1.sock
backend be2
    server w2 unix@@PLACE@/w2.sock
backend be3
    server w3 unix@@PLACE@/w3.sock
backend main
    server w3 unix@@PLACE@/w3.sock
backend bare
    balance roundrobin
backend rest
    server w1 unix@@PLACE@/w1.sock
backend stick
    stick-table type string len 100 size 1k
    stick on hdr(authorization)
    server w1 unix@@PLACE@/w1.sock
    server w2 unix@@PLACE@/w2.sock
    server w3 unix@@PLACE@/w3.sock
backend stick2
    stick-table type string len 100 size 1k
    stick on path,word(2,/) if { path_beg /room/! }
    stick on path
    server w1 unix@@PLACE@/w1.sock
    server w2 unix@@PLACE@/w2.sock
backend hashed
    balance hdr(x-key)
    server w1 unix@@PLACE@/w1.sock weight 3
    server w2 unix@@PLACE@/w2.sock
backend guarded
    http-request deny deny_status 410 if { path_end .secret }
    redirect location /elsewhere if { path_end .moved }
    server w2 unix@@PLACE@/w2.sock
"""
ROUTES = "# keys and values\n^/mapped/[a-c]+$ be1\n/begun/two  be2\nexactly be3\n/mapped/ be2\nalone\n"
PATHS = "# paths, one a line\n\n/listed/one\n/listed/two\n"

TARGETS = (
    *(
        "/",
        "/api/x",
        "/api",
        "/quoted%20path",
        "/x/a.json",
        "/x.JSON?y",
        "/a/needle/b",
        "/z/inner/dir",
        "/z/inner/dirt",
    ),
    *(
        "/" + "x" * 45,
        "/ab",
        "/exact",
        "/exacter",
        "/exact/",
        "/NoCase",
        "/first/second/THird",
        "/first/second/x",
        "/a/last",
    ),
    *("/last", "/lasting", "/listed/one", "/listed/three", "/re/a12", "/re/c12", "/rei/x", "/url?x", "/url", "/denied"),
    *(
        "/away/x",
        "/prefix/y?z=1",
        "/own",
        "/a%20b",
        "/q?a=b",
        "/q?since=",
        "/q?since=s1",
        "/q?since=s0",
        "/q?x&since=s1",
        "/mapped/abc",
        "/mapped/xyz",
        "/begun/two/x",
        "/begun/y",
        "/q?kind=guest",
    ),
    *(
        "/q?Kind=guest",
        "/guarded/x",
        "/guarded/x.secret",
        "/guarded/x.moved",
        "//api/x",
        "/%61pi/x",
        "/api/../x",
        "/paired",
        "/namesake",
    ),
)
FIELDS: tuple[dict[str, str], ...] = (
    {"Host": "dom.example.org"}, {"Host": "a.dom.example.org:80"}, {"Host": "xdom.example.org"}, {"Host": "BEGIN.any"},
    {"Host": "a.end.example.org"}, {"Host": "EXACT.example.org"}, {"Host": "secure.example.org"},
    {"X-List": "one, two"},
    {"X-List": "onetwo"}, {"X-List": "exactly"}, {"X-List": "abc"}, {"Cookie": "x=y; user=alice"},
    {"Cookie": "user=bob"}, {"X-Who": "alice"},
    {"X-Backend": "be3"}, {"X-Backend": "nowhere"}, {}, {"X-List": "elongated"},
    {"X-Crowd": "stick"}, {"X-Crowd": "be1"}, {"X-Crowd": "bare"}, {"X-Crowd": "nowhere"},
)  # fmt: skip


def requests() -> Iterator[Asked]:
    """Every target, every set of fields, and repeated ones where something is kept."""
    for target in TARGETS:
        yield _asked(target)
    for fields in FIELDS:
        yield _asked("/plain", **fields)
    for method in ("POST", "OPTIONS"):
        for target in ("/api/x", "/limited", "/plain"):
            yield _asked(target, method)
    for source in ("127.0.0.2", "127.0.0.3", "127.0.0.5"):
        yield _asked("/from", source=source)
    for _ in range(3):
        for key in "abcdef":
            yield _asked("/stick", Authorization=f"Bearer {key}")
            yield _asked(f"/room/!{key}/send")
            yield _asked(f"/room/!{key}/state")
            yield _asked(f"/room/{key}/state")
            yield _asked("/hashed", **{"X-Key": key})
    yield _asked("/stick")
    yield _asked("/hashed")


def _asked(target: str, method: str = "GET", source: str = "127.0.0.1", **fields: str) -> Asked:
    given = {"Host": "any.example.com", **fields}
    return Asked(
        method=method, target=target, fields={name.lower(): value for name, value in given.items()}, source=source
    )


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[HaproxySite, int, int]]:
    """The reader's view, the port of the real one's frontend, and that of its `listen` section."""
    program = find("haproxy")
    if program is None:
        pytest.skip("haproxy is not installed")
    with place() as directory, ExitStack() as stack:
        for name in WORKERS:
            stack.callback(AnsweringWorker(directory, name).close)
        port, other = free_port(), free_port()
        text = CONFIGURATION.replace("@PORT@", str(port)).replace("@OTHER@", str(other))
        text = text.replace("@PLACE@", str(directory))
        (directory / "haproxy.cfg").write_text(text)
        texts = {str(directory / "paths.list"): PATHS, str(directory / "routes.map"): ROUTES}
        for name, text_of_file in texts.items():
            Path(name).write_text(text_of_file)

        def patterns(name: str) -> list[str]:
            return [line for line in texts[name].splitlines() if line and not line.startswith("#")]

        arguments = ["-db", "-f", str(directory / "haproxy.cfg")]
        process = stack.enter_context(Running(arguments, directory, prefix=[program]))
        await_listener(port, process)
        yield haproxy_site(sections(text, "haproxy.cfg"), patterns), port, other


def test_every_answer_is_the_one_that_the_reader_foretold(running: tuple[HaproxySite, int, int]) -> None:
    """Which backend, or which status and Location; and requests of one key always on one server."""
    site, port, _ = running
    wrong: list[str] = []
    keys: dict[tuple[str, str], list[str]] = {}
    for asked in requests():
        status, fields, body = _ask(port, asked)
        verdict = site.verdict(asked)
        said = verdict.pool if verdict.action == "forward" else f"{verdict.status} {verdict.location}"
        real = fields.get("x-chosen", "") if body in WORKERS else f"{status} {fields.get('location', '')}"
        if said != real or verdict.doubts:
            wrong.append(f"{asked.method} {asked.target} {asked.fields}: {verdict}, really {real}")
        if verdict.key is not None:
            keys.setdefault((verdict.pool, verdict.key), []).append(body)
    assert "\n".join(wrong) == ""
    assert sum(len(bodies) > 2 for bodies in keys.values()) == 24
    assert {key: bodies for key, bodies in keys.items() if len(set(bodies)) > 1} == {}


def test_a_listen_section_is_a_frontend_and_a_backend(running: tuple[HaproxySite, int, int]) -> None:
    """It forwards to its own servers what none of its rules takes, and keeps sources there."""
    site, _, other = running
    for target, backend in (("/special/x", "be1"), ("/x", "both")):
        asked = Asked(method="GET", target=target, fields={"host": "x"}, source="127.0.0.1", port=other)
        verdict = site.verdict(asked)
        status, fields, _ = _ask(other, asked)
        assert (status, fields["x-chosen"]) == (200, backend)
        assert (verdict.pool, verdict.key) == (backend, None if backend == "be1" else "balance source 127.0.0.1")


def _ask(port: int, asked: Asked) -> tuple[int, dict[str, str], str]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in asked.fields.items())
    request = f"{asked.method} {asked.target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
    address = ("127.0.0.1", port)
    with socket.create_connection(address, PATIENCE, (asked.source, 0)) as connection:
        connection.sendall(request.encode("latin-1"))
        with connection.makefile("rb") as answers:
            head, _, body = answers.read().decode("latin-1").partition("\r\n\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
    return int(head.split(" ")[1]), fields, body
