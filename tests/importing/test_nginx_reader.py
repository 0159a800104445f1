"""Our reader of nginx.conf beside the real nginx: every request must be answered as the reader says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import crossplane
import pytest
from parity.systems import find, place
from processes import PATIENCE, Running, await_listener, free_port

from sidecar.importing.asked import Asked, ProxyVerdict
from sidecar.importing.nginx_site import NginxSite, nginx_site
from sidecar.importing.nginx_tree import tree

NAMES = ("a", "b", "c", "d1", "d2", "d3", "literal")
"""Workers are servers of the same nginx, on sockets, that answer with their name."""

CONFIGURATION = r"""
daemon off; master_process off; pid @PLACE@/pid; error_log stderr; events {}
http {
access_log off; client_body_temp_path @PLACE@; proxy_temp_path @PLACE@;
fastcgi_temp_path @PLACE@; uwsgi_temp_path @PLACE@; scgi_temp_path @PLACE@;
map $arg_kind $by_kind { default a; Guest b; "~^x(?<digit>\d)$" $picked; "~*^bot" c; "\default" b; }
map $digit $picked { 1 b; 2 c; default a; }
map $host $by_host { hostnames; default a; *.wild.example.org b; .dot.example.org c; exact.example.org a; mail.* c; }
map $http_cookie $nothing { }
upstream a { server unix:@PLACE@/a.sock; }
upstream b { server unix:@PLACE@/b.sock weight=2; server unix:@PLACE@/c.sock backup; }
upstream c { server unix:@PLACE@/c.sock; keepalive 2; }
upstream d { hash $arg_k consistent; server unix:@PLACE@/d1.sock; server unix:@PLACE@/d2.sock;
  server unix:@PLACE@/d3.sock; }
upstream e { ip_hash; server unix:@PLACE@/d1.sock; server unix:@PLACE@/d2.sock; }
include backends.conf;
set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
server {
  listen 127.0.0.1:@PORT@ default_server;
  server_name main.example.org;
  if ($http_x_block) { return 403; }
  if ($request_method = TRACK) { return 405; }
  location / { proxy_pass http://a; }
  location = /exact { proxy_pass http://b; }
  location /prefix/ { proxy_pass http://b; }
  location /prefix/longer/ { proxy_pass http://c; location ~ \.txt$ { proxy_pass http://b; } }
  location ^~ /firm/ { proxy_pass http://b; location /firm/in/ { proxy_pass http://c; } }
  location ~ ^/firm/.*\.js$ { proxy_pass http://a; }
  location ~ ^/case { proxy_pass http://b; }
  location ~* ^/nocase { proxy_pass http://c; }
  location ~ ^/(?<which>up|down)/(\w+)$ { set $name ${which}_$2; if ($name = up_b) { return 204; }
    proxy_pass http://$2; }
  location ~ /\.\.secret { return 404; }
  location /kind { proxy_pass http://$by_kind; }
  location /host { proxy_pass http://$by_host; }
  location /gone { return 410 "gone"; }
  location /away { return 308 https://$host$request_uri; }
  location /short { return https://other.example.org/; }
  location /old/ { rewrite ^/old/(.*)$ https://new.example.org/$1 permanent; proxy_pass http://a; }
  location /moved { rewrite ^ /elsewhere redirect; }
  location /options { if ($request_method = OPTIONS) { return 204; } if ($arg_kind ~* "^guest$") { return 402; }
    if ($arg_kind !~ "^guest$") { set $seen yes; } if ($cookie_user != "") { return 406; } if ($seen = yes) { break; }
    proxy_pass http://b; }
  location /closed/ { allow 198.51.100.0/24; allow 2001:db8::/32; deny all; proxy_pass http://b;
    location /closed/open/ { allow all; proxy_pass http://c; } location /closed/in/ { proxy_pass http://c; } }
  location /mixed/ { deny 198.51.100.7; allow all; proxy_pass http://b; }
  location /hash { proxy_pass http://d; }
  location /iphash { proxy_pass http://e; }
  location /direct/ { proxy_pass http://unix:@PLACE@/literal.sock; }
  location /port/ { proxy_pass http://127.0.0.1:@OTHER@; }
  location /forwarded { if ($proxy_add_x_forwarded_for = "192.0.2.9, 192.0.2.9") { return 418; } return 200; }
  location /slash/ { proxy_pass http://b; }
  location /deep/ { location = /deep/x { proxy_pass http://c; } proxy_pass http://b; }
}
server { listen 127.0.0.1:@PORT@; server_name *.wild.example.org; merge_slashes off;
  location / { return 421; } location /a//b { return 422; } }
server { listen 127.0.0.1:@PORT@; server_name .dot.example.org; return 423; }
server { listen 127.0.0.1:@PORT@; server_name mail.* exact.example.org; location / { return 424; } }
server { listen 127.0.0.1:@PORT@; server_name ~^re\d+\.; rewrite ^/x https://x.example.org/ redirect;
  location / { return 426; } }
server { listen unix:@PLACE@/own.sock; location / { return 200; } }
}
"""
BACKENDS = "".join(f'server {{ listen unix:@PLACE@/{name}.sock; return 200 "{name}"; }}\n' for name in NAMES)
BACKENDS += 'server { listen 127.0.0.1:@OTHER@; return 200 "literal"; }\n'

TARGETS = """
/ /x /exact /exact/ /prefix/ /prefix /prefix/x /prefix/longer/y /prefix/longer/y.txt /prefix/longer /firm/x.js
/firm/in/x.js /firm/in /case /CASE /NoCase /up/a /up/b /down/c /down/none! /%2e.secret /..secret /kind
/kind?kind=guest /kind?KIND=GUEST /kind?kind=x1 /kind?kind=x2 /kind?kind=x3 /kind?kind=BOT7
/kind?a=b&kind=default /kind?kindness=x1 /gone /away?b=c /short /old/a/b /old/ /moved /options
/options?kind=GUEST /options?kind=guest /closed/ /closed/open/x /closed/in/x /closed /mixed/ /direct/x /port/y
/forwarded /slash /slash/ /deep/x /deep/y /deep /a/../exact /a/.. /../exact /%65xact /exact%2F /%00 /%zz
/prefix%2Fx //exact /./exact /a/. /exact#f /exact?a#b /hash?k=1 /hash /iphash /prefix/%25
"""
HOSTS = (
    *("main.example.org", "MAIN.example.org:8008", "x.wild.example.org", "wild.example.org", "dot.example.org"),
    *("a.dot.example.org", "mail.any", "exact.example.org", "re12.any", "unknown"),
)
FIELDS: tuple[dict[str, str], ...] = ({}, {"X-Block": "1"}, {"Cookie": "a=b; user=x"}, {"X-Block": "0"})
SOURCES = ("192.0.2.9", "198.51.100.7", "2001:db8::1", "1.2.3.4, 198.51.100.8", "nonsense")


def requests() -> Iterator[Asked]:
    """Every target, and what varies besides with some of them."""
    for target in TARGETS.split():
        yield _asked("GET", target)
    for host in HOSTS:
        for target in ("/", "/host", "/a//b", "/x"):
            yield _asked("GET", target, {"Host": host})
    for fields in FIELDS:
        for target in ("/x", "/options", "/exact"):
            yield _asked("GET", target, fields)
    for source in SOURCES:
        for target in ("/closed/x", "/closed/open/", "/closed/in/", "/mixed/x", "/forwarded", "/iphash"):
            yield _asked("GET", target, {"X-Forwarded-For": source})
    for method in ("OPTIONS", "TRACK", "DELETE"):
        for target in ("/options", "/x"):
            yield _asked(method, target)
    for key in range(12):
        for _ in range(3):
            yield _asked("GET", f"/hash?x=y&k={key}")


def _asked(method: str, target: str, fields: dict[str, str] | None = None) -> Asked:
    given = {"Host": "main.example.org", "X-Forwarded-For": "192.0.2.9", **(fields or {})}
    return Asked(
        method=method,
        target=target,
        fields={name.lower(): value for name, value in given.items()},
        source="127.0.0.1",
    )


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[NginxSite, int]]:
    """The reader's view, and the port of the real one."""
    program = find("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    with place() as directory:
        port, other = free_port(), free_port()
        for name, text in (("nginx.conf", CONFIGURATION), ("backends.conf", BACKENDS)):
            for key, value in (("PLACE", str(directory)), ("PORT", str(port)), ("OTHER", str(other))):
                text = text.replace(f"@{key}@", value)
            (directory / name).write_text(text)
        read = crossplane.parse(str(directory / "nginx.conf"), comments=False)
        assert read["errors"] == []
        arguments = ["-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]
        with Running(arguments, directory, prefix=[program]) as process:
            await_listener(port, process)
            yield nginx_site(tree(read["config"])), port


def test_every_answer_is_the_one_that_the_reader_foretold(running: tuple[NginxSite, int]) -> None:
    """Which worker, or which status and Location; and requests of one key always on one server."""
    site, port = running
    wrong: list[str] = []
    keys: dict[tuple[str, str], set[str]] = {}
    for asked in requests():
        status, location, body = _ask(port, asked)
        verdict = site.verdict(asked)
        if not _agrees(site, verdict, status, location, body):
            wrong.append(f"{asked.method} {asked.target} {asked.fields}: {verdict}, really {status} {location} {body}")
        if verdict.key is not None:
            keys.setdefault((verdict.pool, verdict.key), set()).add(body)
    assert "\n".join(wrong) == ""
    assert len(keys) >= 12
    assert {key: bodies for key, bodies in keys.items() if len(bodies) > 1} == {}


def _agrees(site: NginxSite, verdict: ProxyVerdict, status: int, location: str, body: str) -> bool:
    if verdict.action == "forward":
        servers = site.upstreams[verdict.pool].servers if verdict.pool in site.upstreams else ()
        names = {Path(server.name).stem for server in servers if not server.backup}
        return status == 200 and (body in names or (body == "literal" and "127.0.0.1" in verdict.pool))
    if verdict.action == "redirect" and not location.endswith(verdict.location.replace("$", "")):
        return False
    return status == verdict.status


def _ask(port: int, asked: Asked) -> tuple[int, str, str]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in asked.fields.items())
    request = f"{asked.method} {asked.target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection, connection.makefile("rb") as answers:
        connection.sendall(request.encode("latin-1"))
        answer = answers.read()
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    return int(head.split(" ")[1]), fields.get("Location", ""), body
